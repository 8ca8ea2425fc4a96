package identity

import (
	"bytes"
	"crypto"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"os"
	"time"

	"github.com/outrigger-mesh/outrigger/pkg/mesh"
)

const (
	maxPEM   = 1 << 20
	maxRoots = 256
)

// ParseSVID reads an SVID from PEM: the chain with the leaf first, its key, and
// the roots of its own trust domain. The key must be the leaf's, and the leaf
// one that we would admit as a peer, now or later; else it would be of no use.
func ParseSVID(certPEM, keyPEM, rootsPEM []byte) (*SVID, error) {
	pair, err := tls.X509KeyPair(certPEM, keyPEM)
	if err != nil {
		return nil, fmt.Errorf("read certificate and key: %w", err)
	}
	roots, err := parseCertificates(rootsPEM)
	if err != nil {
		return nil, fmt.Errorf("read roots: %w", err)
	}
	return newSVID(pair.Certificate, pair.PrivateKey, roots)
}

// newSVID checks that the parts belong together.
func newSVID(der [][]byte, key crypto.PrivateKey, roots []*x509.Certificate) (*SVID, error) {
	chain := make([]*x509.Certificate, len(der))
	for i := range der {
		var err error
		if chain[i], err = x509.ParseCertificate(der[i]); err != nil {
			return nil, fmt.Errorf("parse certificate %d: %w", i+1, err)
		}
	}
	if len(chain) == 0 || len(chain) > maxChain {
		return nil, fmt.Errorf("the chain has %d certificates, 1 to %d are allowed", len(chain), maxChain)
	}
	p, err := identify(chain[0])
	if err != nil {
		return nil, fmt.Errorf("our own certificate would be refused: %w", err)
	}
	pool, err := newPool(roots)
	if err != nil {
		return nil, err
	}
	if err := leadsTo(chain, pool); err != nil {
		return nil, fmt.Errorf("certificate of %v does not lead to the roots it came with: %w", p, err)
	}
	leaf := chain[0]
	return &SVID{
		Principal:   p,
		Certificate: &tls.Certificate{Certificate: der, PrivateKey: key, Leaf: leaf},
		Bundles:     map[string]*x509.CertPool{p.TrustDomain(): pool},
		Roots:       roots,
		NotBefore:   leaf.NotBefore,
		NotAfter:    leaf.NotAfter,
	}, nil
}

// leadsTo checks the chain for both uses at a moment when the leaf is valid:
// whether it is valid now is for SVID() to tell.
func leadsTo(chain []*x509.Certificate, roots *x509.CertPool) error {
	at := time.Now()
	if leaf := chain[0]; at.After(leaf.NotAfter) || at.Before(leaf.NotBefore) {
		at = leaf.NotBefore
	}
	for _, usage := range []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth, x509.ExtKeyUsageServerAuth} {
		if _, err := paths(chain, roots, usage, at); err != nil {
			return err
		}
	}
	return nil
}

func newPool(roots []*x509.Certificate) (*x509.CertPool, error) {
	if len(roots) == 0 || len(roots) > maxRoots {
		return nil, fmt.Errorf("a bundle has %d roots, 1 to %d are allowed", len(roots), maxRoots)
	}
	pool := x509.NewCertPool()
	for _, root := range roots {
		if !root.IsCA {
			return nil, fmt.Errorf("a bundle has %q, which is not a certificate authority", root.Subject)
		}
		pool.AddCert(root)
	}
	return pool, nil
}

// parseCertificates reads PEM blocks of type CERTIFICATE, and nothing else.
func parseCertificates(data []byte) ([]*x509.Certificate, error) {
	var certs []*x509.Certificate
	for rest := data; len(bytes.TrimSpace(rest)) > 0; {
		var block *pem.Block
		block, rest = pem.Decode(rest)
		if block == nil || block.Type != "CERTIFICATE" {
			return nil, errors.New("there is something else than PEM blocks of type CERTIFICATE, or it is cut off")
		}
		cert, err := x509.ParseCertificate(block.Bytes)
		if err != nil {
			return nil, fmt.Errorf("parse certificate %d: %w", len(certs)+1, err)
		}
		certs = append(certs, cert)
	}
	if len(certs) == 0 {
		return nil, errors.New("there is no certificate")
	}
	return certs, nil
}

// with is the same SVID with roots of other trust domains, which never displace its own.
func (s *SVID) with(foreign map[string]*x509.CertPool) *SVID {
	if len(foreign) == 0 {
		return s
	}
	c := *s
	c.Bundles = make(map[string]*x509.CertPool, len(foreign)+1)
	for domain, pool := range foreign {
		c.Bundles[domain] = pool
	}
	own := s.Principal.TrustDomain()
	c.Bundles[own] = s.Bundles[own]
	return &c
}

// expect refuses an SVID that does not prove want, unless want is nobody.
func (s *SVID) expect(want mesh.Principal) error {
	if want.IsZero() || s.Principal == want {
		return nil
	}
	return fmt.Errorf("the certificate is that of %v, and %v is configured", s.Principal, want)
}

// validNow refuses an SVID that is of no use at present. A clock that is wrong
// is the most likely reason.
func (s *SVID) validNow() error {
	now := time.Now()
	switch {
	case now.After(s.NotAfter):
		return fmt.Errorf("the certificate ended at %v and it is %v now", s.NotAfter, now)
	case now.Add(clockSkew).Before(s.NotBefore):
		return fmt.Errorf("the certificate begins at %v and it is %v now: compare the clocks", s.NotBefore, now)
	}
	return nil
}

func readFile(path string, limit int64) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	data, err := io.ReadAll(io.LimitReader(f, limit+1))
	if err != nil {
		return nil, err
	}
	if int64(len(data)) > limit {
		return nil, fmt.Errorf("%s has more than %d bytes", path, limit)
	}
	return data, nil
}
