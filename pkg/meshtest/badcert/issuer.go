package badcert

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"math/big"
	"net/url"
	"time"
)

// An Issuer is a certificate authority that signs whatever it is told to.
type Issuer struct {
	Cert  *x509.Certificate
	Key   *ecdsa.PrivateKey
	Chain []*x509.Certificate // the issuer and those above it, without the root
}

// NewKey is a P-256 key.
func NewKey() *ecdsa.PrivateKey { return must(ecdsa.GenerateKey(elliptic.P256(), rand.Reader)) }

// NewRoot makes a root; change, if given, spoils it.
func NewRoot(name string, change func(*x509.Certificate)) *Issuer {
	r := &Issuer{Key: NewKey()}
	t := caTemplate(name)
	if change != nil {
		change(t)
	}
	der := must(x509.CreateCertificate(rand.Reader, t, t, r.Key.Public(), r.Key))
	r.Cert = must(x509.ParseCertificate(der))
	return r
}

// Intermediate makes an issuer below i; change, if given, spoils it.
func (i *Issuer) Intermediate(name string, change func(*x509.Certificate)) *Issuer {
	r := &Issuer{Key: NewKey()}
	t := caTemplate(name)
	if change != nil {
		change(t)
	}
	der := must(x509.CreateCertificate(rand.Reader, t, i.Cert, r.Key.Public(), i.Key))
	r.Cert = must(x509.ParseCertificate(der))
	r.Chain = append([]*x509.Certificate{r.Cert}, i.Chain...)
	return r
}

func caTemplate(name string) *x509.Certificate {
	return &x509.Certificate{
		SerialNumber: newSerial(), Subject: pkix.Name{Organization: []string{name}},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(24 * time.Hour),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign | x509.KeyUsageCRLSign,
	}
}

func leafTemplate(id string) *x509.Certificate {
	return &x509.Certificate{
		SerialNumber: newSerial(),
		NotBefore:    time.Now().Add(-2 * time.Minute), NotAfter: time.Now().Add(time.Hour),
		BasicConstraintsValid: true, KeyUsage: x509.KeyUsageDigitalSignature,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
		URIs:        []*url.URL{must(url.Parse(id))},
	}
}

// Leaf signs a workload certificate for key; change, if given, spoils it.
func (i *Issuer) Leaf(id string, key any, change func(*x509.Certificate)) *tls.Certificate {
	t := leafTemplate(id)
	if change != nil {
		change(t)
	}
	return i.sign(t, key)
}

func (i *Issuer) sign(t *x509.Certificate, key any) *tls.Certificate {
	public := key.(crypto.Signer).Public()
	der := must(x509.CreateCertificate(rand.Reader, t, i.Cert, public, i.Key))
	c := &tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}
	for _, above := range i.Chain {
		c.Certificate = append(c.Certificate, above.Raw)
	}
	return c
}

// CRL signs a list of what it revokes.
func (i *Issuer) CRL(change func(*x509.RevocationList), revoked ...*x509.Certificate) []byte {
	t := &x509.RevocationList{Number: newSerial(), ThisUpdate: time.Now().Add(-time.Hour), NextUpdate: time.Now().Add(time.Hour)}
	for _, c := range revoked {
		t.RevokedCertificateEntries = append(t.RevokedCertificateEntries,
			x509.RevocationListEntry{SerialNumber: c.SerialNumber, RevocationTime: time.Now().Add(-time.Minute)})
	}
	if change != nil {
		change(t)
	}
	return must(x509.CreateRevocationList(rand.Reader, t, i.Cert, i.Key))
}

// Reissue signs another certificate for the name and key of one that i signed.
func (i *Issuer) Reissue(other *Issuer) *x509.Certificate {
	t := *other.Cert
	t.SerialNumber = newSerial()
	return must(x509.ParseCertificate(must(x509.CreateCertificate(rand.Reader, &t, i.Cert, other.Key.Public(), i.Key))))
}

func newSerial() *big.Int { return must(rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 120))) }
