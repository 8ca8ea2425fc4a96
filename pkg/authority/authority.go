// Package authority signs SPIFFE workload certificates. It knows how such a
// certificate must look and keeps the root's key; who may have which identity
// it refuses to know: its caller has authenticated the workload.
package authority

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"math/big"
	"net/url"
	"time"

	"github.com/outrigger-mesh/outrigger/pkg/mesh"
)

const (
	// MaxTTL is the longest life of a workload certificate, as istiod's is (2160 h).
	MaxTTL = 90 * 24 * time.Hour
	// Backdate is how long before now a certificate begins, for peers whose clock is behind.
	Backdate = 2 * time.Minute

	maxRootTTL = 20 * 365 * 24 * time.Hour
	maxCSR     = 64 << 10
)

var (
	// ErrBadRequest means that the CSR or the lifetime asked for is unacceptable:
	// asking again for the same will not help.
	ErrBadRequest = errors.New("bad certificate request")
	// ErrForeignPrincipal means a principal that this authority does not speak for.
	ErrForeignPrincipal = errors.New("principal is not of the authority's trust domain")
)

// An Authority is the certificate authority of one trust domain. It never changes.
type Authority struct {
	trustDomain string
	root        *x509.Certificate
	key         *ecdsa.PrivateKey
}

// New makes an authority with a self-signed P-256 root that lives for ttl
// (at most 20 years).
func New(trustDomain string, ttl time.Duration) (*Authority, error) {
	if err := validTrustDomain(trustDomain); err != nil {
		return nil, err
	}
	if ttl <= 0 || ttl > maxRootTTL {
		return nil, fmt.Errorf("root lifetime %v is not within (0, %v]", ttl, maxRootTTL)
	}
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, fmt.Errorf("make root key: %w", err)
	}
	now := time.Now()
	template := &x509.Certificate{
		SerialNumber:          newSerial(),
		Subject:               pkix.Name{Organization: []string{trustDomain}},
		NotBefore:             now.Add(-Backdate),
		NotAfter:              now.Add(ttl),
		IsCA:                  true,
		BasicConstraintsValid: true,
		KeyUsage:              x509.KeyUsageCertSign | x509.KeyUsageCRLSign,
		URIs:                  []*url.URL{{Scheme: "spiffe", Host: trustDomain}},
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		return nil, fmt.Errorf("sign root: %w", err)
	}
	root, err := x509.ParseCertificate(der)
	if err != nil {
		return nil, fmt.Errorf("parse root: %w", err)
	}
	return &Authority{trustDomain, root, key}, nil
}

// TrustDomain is the domain whose principals the authority vouches for.
func (a *Authority) TrustDomain() string { return a.trustDomain }

// NotAfter is when the root, and with it everything it signed, ends.
func (a *Authority) NotAfter() time.Time { return a.root.NotAfter }

// RootPEM is the root certificate: what peers must trust.
func (a *Authority) RootPEM() []byte {
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: a.root.Raw})
}

// Sign certifies the CSR's key for p, for ttl from now but never longer than
// the root lives. It answers the chain, leaf first, one certificate per entry,
// without the root. Of the CSR only the key counts, and its signature must
// prove possession of it: names in it are ignored. Errors wrap ErrBadRequest
// or ErrForeignPrincipal where the caller asked for what cannot be given.
func (a *Authority) Sign(csrPEM []byte, p mesh.Principal, ttl time.Duration) ([][]byte, error) {
	csr, err := parseCSR(csrPEM)
	if err != nil {
		return nil, err
	}
	leaf, err := a.certify(csr.PublicKey, p, ttl)
	if err != nil {
		return nil, err
	}
	return [][]byte{leaf}, nil
}

// An IssuedSVID is a workload certificate with its key, as PEM files hold them.
type IssuedSVID struct {
	CertPEM []byte // leaf, then intermediates
	KeyPEM  []byte // PKCS#8
	RootPEM []byte
}

// Issue makes a P-256 key and certifies it for p, as Sign does.
func (a *Authority) Issue(p mesh.Principal, ttl time.Duration) (*IssuedSVID, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, fmt.Errorf("make key: %w", err)
	}
	leaf, err := a.certify(key.Public(), p, ttl)
	if err != nil {
		return nil, err
	}
	keyPEM, err := encodeKey(key)
	if err != nil {
		return nil, err
	}
	return &IssuedSVID{CertPEM: leaf, KeyPEM: keyPEM, RootPEM: a.RootPEM()}, nil
}

func (a *Authority) certify(key any, p mesh.Principal, ttl time.Duration) ([]byte, error) {
	if p.TrustDomain() != a.trustDomain {
		return nil, fmt.Errorf("%w: %v, and the domain is %q", ErrForeignPrincipal, p, a.trustDomain)
	}
	if _, err := mesh.ParsePrincipal(p.String()); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrBadRequest, err)
	}
	if ttl <= 0 || ttl > MaxTTL {
		return nil, fmt.Errorf("%w: lifetime %v is not within (0, %v]", ErrBadRequest, ttl, MaxTTL)
	}
	now := time.Now()
	if !now.Before(a.root.NotAfter) {
		return nil, fmt.Errorf("the authority's root ended at %v", a.root.NotAfter)
	}
	notAfter := now.Add(ttl)
	if notAfter.After(a.root.NotAfter) {
		notAfter = a.root.NotAfter
	}
	// The subject stays empty: RFC 5280 §4.2.1.6 then makes the SAN critical,
	// and no reader can take the identity from anywhere else.
	template := &x509.Certificate{
		SerialNumber:          newSerial(),
		NotBefore:             now.Add(-Backdate),
		NotAfter:              notAfter,
		BasicConstraintsValid: true,
		KeyUsage:              x509.KeyUsageDigitalSignature,
		ExtKeyUsage:           []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
		URIs:                  []*url.URL{{Scheme: "spiffe", Host: p.TrustDomain(), Path: p.Path()}},
	}
	der, err := x509.CreateCertificate(rand.Reader, template, a.root, key, a.key)
	if err != nil {
		return nil, fmt.Errorf("sign certificate of %v: %w", p, err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), nil
}

// newSerial is never 0 and random in 127 of its 128 bits; RFC 5280 §4.1.2.2
// allows 20 octets.
func newSerial() *big.Int {
	var b [16]byte
	rand.Read(b[:]) // never fails since Go 1.24
	serial := new(big.Int).SetBytes(b[:])
	return serial.SetBit(serial, 0, 1)
}

// validTrustDomain asks mesh, which knows the grammar, by way of a principal.
func validTrustDomain(trustDomain string) error {
	p, err := mesh.ParsePrincipal("spiffe://" + trustDomain + "/x")
	if err != nil || p.TrustDomain() != trustDomain {
		return fmt.Errorf("%q is not a trust domain: it has 1 to 255 of a-z, 0-9, '.', '-' and '_'", trustDomain)
	}
	return nil
}
