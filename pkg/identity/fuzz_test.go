package identity

import (
	"bytes"
	"crypto/x509"
	"net/url"
	"testing"
	"time"

	"github.com/outrigger-mesh/outrigger/pkg/mesh"
	"github.com/outrigger-mesh/outrigger/pkg/meshtest/badcert"
)

// FuzzPrincipalOfNames: whatever a SAN extension holds, a principal comes out
// only if it has one URI name that is that principal byte for byte, and then
// net/url and crypto/x509, which others use, see the same.
func FuzzPrincipalOfNames(f *testing.F) {
	w := badcert.NewWorld()
	for _, s := range badcert.Names() {
		leaf, err := x509.ParseCertificate(s.Make(w).Certificate[0])
		if err != nil {
			continue // net/url will not have it
		}
		for _, e := range leaf.Extensions {
			if e.Id.Equal(subjectAltName) {
				f.Add(e.Value)
			}
		}
	}
	f.Add(badcert.SANValue(badcert.General(uriTag, plannerID), badcert.General(2, "x")))
	f.Add(badcert.SANValue(badcert.General(uriTag, plannerID), badcert.General(uriTag, plannerID)))
	f.Add(badcert.SANValue(badcert.General(uriTag, "spiffe://a/b%2f")))
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
	good := w.Root.Leaf(plannerID, badcert.NewKey(), nil).Certificate[0]
	f.Add(good)
	for _, s := range badcert.Leaves() {
		f.Add(s.Make(w.World).Certificate[0])
	}
	f.Fuzz(func(t *testing.T, der []byte) {
		cert, err := x509.ParseCertificate(der)
		if err != nil {
			return
		}
		p, err := w.mutual.check([]*x509.Certificate{cert}, x509.ExtKeyUsageClientAuth, nil)
		if err == nil && cert.CheckSignatureFrom(w.Root.Cert) != nil && cert.CheckSignatureFrom(w.Partner.Cert) != nil {
			t.Errorf("admitted %v without a signature", p.Principal)
		}
	})
}

// FuzzCRL: no bytes make the reader or the question panic, and what it took it takes again.
func FuzzCRL(f *testing.F) {
	root := badcert.NewRoot("mesh", nil)
	leaf := must(x509.ParseCertificate(root.Leaf(plannerID, badcert.NewKey(), nil).Certificate[0]))
	f.Add(root.CRL(nil, leaf))
	f.Add(badcert.CRLPEM(root.CRL(nil, leaf), root.CRL(nil)))
	f.Add([]byte(nil))
	f.Add([]byte("-----BEGIN X509 CRL-----\n"))
	f.Add(certPEM(root.Cert))
	f.Fuzz(func(t *testing.T, data []byte) {
		r, err := parseRevocations(data)
		if err != nil {
			return
		}
		if r.count() == 0 && len(bytes.TrimSpace(data)) > 0 {
			t.Error("data without a CRL was taken for an empty set")
		}
		_, _ = r.admit([]*x509.Certificate{leaf, root.Cert}, time.Now(), true)
	})
}

// FuzzCAAnswer: no answer of the CA makes a panic, and none is taken that is
// not for our key and name.
func FuzzCAAnswer(f *testing.F) {
	a := newAuthority(f, local)
	key := badcert.NewKey()
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
