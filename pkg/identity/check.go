package identity

import (
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/rsa"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/outrigger-mesh/outrigger/pkg/mesh"
)

const (
	// clockSkew is how far ahead of ours an issuer's clock may be. There is
	// none for the end of a certificate.
	clockSkew  = time.Minute
	maxChain   = 10
	minRSABits = 2048
	maxRSABits = 8192
)

var (
	h2Only      = []string{protocol}
	tls12Suites = []uint16{
		tls.TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384, tls.TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256,
		tls.TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384, tls.TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256,
	}
	errResumed = errors.New("the session was resumed, which is never offered")
)

// check decides about a peer, wherever one is decided about: it answers who
// the peer is, or a *PeerError, or an error that wraps ErrNoIdentity if we have
// no roots to check against. chain is what the peer sent. expected counts when
// the peer is the server.
func (m *Mutual) check(chain []*x509.Certificate, usage x509.ExtKeyUsage, expected []mesh.Principal) (Peer, error) {
	self, err := m.Source.SVID()
	if err != nil {
		return Peer{}, fmt.Errorf("check peer: %w", err)
	}
	if len(chain) == 0 || len(chain) > maxChain {
		return Peer{}, &PeerError{Reason: ReasonCertificate, Err: fmt.Errorf("%d certificates were sent, 1 to %d are allowed", len(chain), maxChain)}
	}
	v, err := m.verify(self, chain, usage)
	if err != nil {
		return Peer{}, err
	}
	if usage != x509.ExtKeyUsageClientAuth && !m.isOneOf(self, v.principal, expected) {
		return Peer{}, &PeerError{Reason: ReasonUnexpected, Principal: v.principal, Err: unexpected(expected)}
	}
	return Peer{Principal: v.principal, NotAfter: chain[0].NotAfter, Chain: chain, usage: usage, expected: expected}, nil
}

// verify establishes the identity that chain proves. What it found holds for
// the same chain, roots and CRL until one of the certificates ends, and is
// remembered for so long.
func (m *Mutual) verify(self *SVID, chain []*x509.Certificate, usage x509.ExtKeyUsage) (verdict, error) {
	now := time.Now()
	crl, err := m.CRL.current()
	if err != nil {
		return verdict{}, &PeerError{Reason: ReasonRevocation, Err: err}
	}
	key := keyOf(chain, usage)
	if v, ok := m.verified.get(key); ok && v.crl == crl && v.holds(now) && v.roots == m.roots(self, v.principal) {
		return v, nil
	}
	p, err := identify(chain[0])
	if err != nil {
		return verdict{}, err
	}
	roots := m.roots(self, p)
	if roots == nil {
		return verdict{}, &PeerError{Reason: ReasonTrustDomain, Principal: p, Err: fmt.Errorf("no roots are known for trust domain %q", p.TrustDomain())}
	}
	paths, err := paths(chain, roots, usage, now)
	if err != nil {
		return verdict{}, &PeerError{Reason: reasonOf(err), Principal: p, Err: err}
	}
	v := verdict{principal: p, roots: roots, crl: crl}
	for _, path := range paths {
		var until time.Time
		if until, err = crl.admit(path, now, m.RequireRevocationStatus); err != nil {
			continue // another path may avoid a revoked intermediate
		}
		v.from, v.until = window(path, until)
		m.verified.put(key, v)
		return v, nil
	}
	err.(*PeerError).Principal = p
	return verdict{}, err
}

// roots are those of p's own trust domain and of no other; nil if there are none.
func (m *Mutual) roots(self *SVID, p mesh.Principal) *x509.CertPool {
	return self.Bundles[m.home(self, p.TrustDomain())]
}

// home is the trust domain that vouches for the principals of domain: itself,
// or ours if it is an alias.
func (m *Mutual) home(self *SVID, domain string) string {
	if self.Bundles[domain] == nil && slices.Contains(m.Aliases, domain) {
		return self.Principal.TrustDomain()
	}
	return domain
}

func (m *Mutual) isOneOf(self *SVID, p mesh.Principal, expected []mesh.Principal) bool {
	for _, e := range expected {
		if p == e || p.Path() == e.Path() && m.home(self, p.TrustDomain()) == m.home(self, e.TrustDomain()) {
			return true
		}
	}
	return false
}

func unexpected(expected []mesh.Principal) error {
	switch len(expected) {
	case 0:
		return errors.New("nobody is expected there")
	case 1:
		return fmt.Errorf("expected %v", expected[0])
	}
	return fmt.Errorf("expected %v or one of %d others", expected[0], len(expected)-1)
}

// identify reads the identity that a leaf claims, once the leaf has the shape
// that the X509-SVID specification §5.2 and RFC 5280 demand.
func identify(leaf *x509.Certificate) (mesh.Principal, error) {
	p, err := principalOf(leaf)
	if err != nil {
		return mesh.Principal{}, &PeerError{Reason: ReasonName, Err: err}
	}
	if err := checkLeaf(leaf); err != nil {
		return mesh.Principal{}, &PeerError{Reason: ReasonCertificate, Principal: p, Err: err}
	}
	return p, nil
}

func checkLeaf(leaf *x509.Certificate) error {
	switch {
	case leaf.Version != 3:
		return fmt.Errorf("X.509 version %d, version 3 is required", leaf.Version)
	case leaf.IsCA:
		return errors.New("it is a certificate authority's, not a workload's")
	case leaf.KeyUsage&(x509.KeyUsageCertSign|x509.KeyUsageCRLSign) != 0:
		return errors.New("its key may sign certificates or CRLs, as no workload's may")
	case leaf.KeyUsage != 0 && leaf.KeyUsage&x509.KeyUsageDigitalSignature == 0:
		return errors.New("its key usage lacks digital signature")
	}
	return checkKey(leaf)
}

func checkKey(cert *x509.Certificate) error {
	switch key := cert.PublicKey.(type) {
	case *ecdsa.PublicKey:
		if key.Curve.Params().BitSize < 256 {
			return fmt.Errorf("its ECDSA key on %s is too weak", key.Curve.Params().Name)
		}
	case *rsa.PublicKey:
		if n := key.N.BitLen(); n < minRSABits || n > maxRSABits {
			return fmt.Errorf("its RSA key has %d bits, %d to %d are allowed", n, minRSABits, maxRSABits)
		}
	case ed25519.PublicKey:
	default:
		return fmt.Errorf("its key is of an unknown kind, %T", key)
	}
	return nil
}

// paths are the ways from the leaf to one of roots, the root last.
func paths(chain []*x509.Certificate, roots *x509.CertPool, usage x509.ExtKeyUsage, now time.Time) ([][]*x509.Certificate, error) {
	options := x509.VerifyOptions{Roots: roots, CurrentTime: now, KeyUsages: []x509.ExtKeyUsage{usage}}
	if len(chain) > 1 {
		options.Intermediates = x509.NewCertPool()
		for _, c := range chain[1:] {
			if err := checkKey(c); err != nil {
				return nil, fmt.Errorf("intermediate %q: %w", c.Subject, err)
			}
			options.Intermediates.AddCert(c)
		}
	}
	found, err := chain[0].Verify(options)
	if err != nil && reasonOf(err) == ReasonValidity {
		// Valid at now+skew but not now: it begins within the skew. What has
		// ended by now has also ended by then.
		options.CurrentTime = now.Add(clockSkew)
		if late, lateErr := chain[0].Verify(options); lateErr == nil {
			return late, nil
		}
	}
	return found, err
}

func reasonOf(err error) Reason {
	var invalid x509.CertificateInvalidError
	if errors.As(err, &invalid) && invalid.Reason == x509.Expired {
		return ReasonValidity
	}
	return ReasonChain
}

// window is when all of path is valid, by the same leave as paths grants it,
// and not after until, unless that is zero.
func window(path []*x509.Certificate, until time.Time) (from, to time.Time) {
	to = until
	for _, c := range path {
		if begin := c.NotBefore.Add(-clockSkew); begin.After(from) {
			from = begin
		}
		if to.IsZero() || c.NotAfter.Before(to) {
			to = c.NotAfter
		}
	}
	return from, to
}
