package identity

import (
	"bytes"
	"crypto/x509"
	"net/url"
	"testing"
	"time"

	"github.com/outrigger-mesh/outrigger/pkg/mesh"
)

// FuzzPrincipalOfNames: whatever a SAN extension holds, a principal comes out
// only if it has one URI name that is that principal byte for byte, and then
// net/url and crypto/x509, which others use, see the same.
func FuzzPrincipalOfNames(f *testing.F) {
	w := &world{root: newRoot("mesh", nil)}
	for _, s := range badNames {
		leaf, err := x509.ParseCertificate(s.make(w).Certificate[0])
		if err != nil {
			continue // net/url will not have it
		}
		for _, e := range leaf.Extensions {
			if e.Id.Equal(subjectAltName) {
				f.Add(e.Value)
			}
		}
	}
	f.Add(sanValue(general(uriTag, plannerID), general(2, "x")))
	f.Add(sanValue(general(uriTag, plannerID), general(uriTag, plannerID)))
	f.Add(sanValue(general(uriTag, "spiffe://a/b%2f")))
	f.Add([]byte{0x30, 0x80, 0x86, 0x00, 0x00, 0x00})
	f.Fuzz(func(t *testing.T, value []byte) {
		names, err := uriNames(value)
		if err != nil || len(names) != 1 {
			return
		}
		p, err := mesh.ParsePrincipal(names[0])
		if err != nil {
			return
		}
		if p.String() != names[0] || !bytes.Contains(value, []byte(names[0])) {
			t.Errorf("%q became %q", names[0], p)
		}
		if u, err := url.Parse(names[0]); err != nil || u.String() != names[0] || u.Host != p.TrustDomain() {
			t.Errorf("net/url sees %q in %q", u, names[0])
		}
	})
}

// FuzzCertificate: no bytes make check panic, and none but what our root signed are admitted.
func FuzzCertificate(f *testing.F) {
	w := newWorld(f)
	good := w.root.leaf(plannerID, newKey(), nil).Certificate[0]
	f.Add(good)
	for _, s := range badLeaf {
		f.Add(s.make(w).Certificate[0])
	}
	f.Fuzz(func(t *testing.T, der []byte) {
		cert, err := x509.ParseCertificate(der)
		if err != nil {
			return
		}
		p, err := w.mutual.check([]*x509.Certificate{cert}, x509.ExtKeyUsageClientAuth, nil)
		if err == nil && cert.CheckSignatureFrom(w.root.cert) != nil && cert.CheckSignatureFrom(w.partner.cert) != nil {
			t.Errorf("admitted %v without a signature", p.Principal)
		}
	})
}

// FuzzCRL: no bytes make the reader or the question panic, and what it took it takes again.
func FuzzCRL(f *testing.F) {
	root := newRoot("mesh", nil)
	leaf := must(x509.ParseCertificate(root.leaf(plannerID, newKey(), nil).Certificate[0]))
	f.Add(root.crl(nil, leaf))
	f.Add(crlPEM(root.crl(nil, leaf), root.crl(nil)))
	f.Add([]byte(nil))
	f.Add([]byte("-----BEGIN X509 CRL-----\n"))
	f.Add(certPEM(root.cert))
	f.Fuzz(func(t *testing.T, data []byte) {
		r, err := parseRevocations(data)
		if err != nil {
			return
		}
		if r.count() == 0 && len(bytes.TrimSpace(data)) > 0 {
			t.Error("data without a CRL was taken for an empty set")
		}
		_, _ = r.admit([]*x509.Certificate{leaf, root.cert}, time.Now(), true)
	})
}

// FuzzCAAnswer: no answer of the CA makes a panic, and none is taken that is
// not for our key and name.
func FuzzCAAnswer(f *testing.F) {
	a := newAuthority(f, local)
	key := newKey()
	chain := must(a.Sign(must(newCSR(key, planner)), planner, time.Hour))
	f.Add(string(chain[0]), string(a.RootPEM()))
	f.Add("", "")
	f.Add(string(a.RootPEM()), string(chain[0]))
	f.Fuzz(func(t *testing.T, first, last string) {
		svid, err := readAnswer([]string{first, last}, key, planner)
		if err == nil && (svid.Principal != planner || !key.PublicKey.Equal(svid.Certificate.Leaf.PublicKey)) {
			t.Errorf("took a certificate of %v", svid.Principal)
		}
	})
}
