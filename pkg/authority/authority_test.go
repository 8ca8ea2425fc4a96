package authority

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"io/fs"
	"net/url"
	"os"
	"path/filepath"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/outrigger-mesh/outrigger/pkg/mesh"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const domain = "cluster.local"

var planner = mesh.NewPrincipal(domain, "agents", "planner")

func newAuthority(t testing.TB) *Authority {
	t.Helper()
	a, err := New(domain, time.Hour)
	if err != nil {
		t.Fatal(err)
	}
	return a
}

func parse(t testing.TB, certPEM []byte) *x509.Certificate {
	t.Helper()
	block, rest := pem.Decode(certPEM)
	if block == nil || len(rest) > 0 {
		t.Fatalf("not exactly one PEM block: %q", certPEM)
	}
	cert, err := x509.ParseCertificate(block.Bytes)
	if err != nil {
		t.Fatal(err)
	}
	return cert
}

func newCSR(t testing.TB, key any, template x509.CertificateRequest) []byte {
	t.Helper()
	der, err := x509.CreateCertificateRequest(rand.Reader, &template, key)
	if err != nil {
		t.Fatal(err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE REQUEST", Bytes: der})
}

func newKey(t testing.TB, curve elliptic.Curve) *ecdsa.PrivateKey {
	t.Helper()
	key, err := ecdsa.GenerateKey(curve, rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

func TestIssuedCertificateIsAnX509SVID(t *testing.T) {
	a := newAuthority(t)
	before := time.Now()
	svid, err := a.Issue(planner, 10*time.Minute)
	after := time.Now()
	if err != nil {
		t.Fatal(err)
	}
	if _, err := tls.X509KeyPair(svid.CertPEM, svid.KeyPEM); err != nil {
		t.Fatalf("key pair: %v", err)
	}
	leaf, root := parse(t, svid.CertPEM), parse(t, svid.RootPEM)
	pool := x509.NewCertPool()
	pool.AddCert(root)
	for _, usage := range []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth, x509.ExtKeyUsageServerAuth} {
		if _, err := leaf.Verify(x509.VerifyOptions{Roots: pool, KeyUsages: []x509.ExtKeyUsage{usage}}); err != nil {
			t.Errorf("verify for usage %v: %v", usage, err)
		}
	}
	if len(leaf.URIs) != 1 || leaf.URIs[0].String() != planner.String() {
		t.Errorf("URI names %v, want only %v", leaf.URIs, planner)
	}
	if len(leaf.DNSNames)+len(leaf.IPAddresses)+len(leaf.EmailAddresses) > 0 || leaf.Subject.String() != "" {
		t.Errorf("names besides the URI: %v %v %q", leaf.DNSNames, leaf.IPAddresses, leaf.Subject)
	}
	if leaf.IsCA || !leaf.BasicConstraintsValid || leaf.KeyUsage != x509.KeyUsageDigitalSignature {
		t.Errorf("CA %v, constraints %v, usage %b", leaf.IsCA, leaf.BasicConstraintsValid, leaf.KeyUsage)
	}
	if from := leaf.NotBefore.Add(Backdate); from.Before(before.Add(-time.Second)) || from.After(after) {
		t.Errorf("backdated from %v, want %v from about %v", from, Backdate, before)
	}
	if n := leaf.SerialNumber.BitLen(); leaf.SerialNumber.Sign() <= 0 || n < 64 || n > 128 {
		t.Errorf("serial of %d bits", n)
	}
	if !bytes.Equal(leaf.AuthorityKeyId, root.SubjectKeyId) || len(root.SubjectKeyId) == 0 {
		t.Error("the leaf does not name its issuer's key")
	}
}

func TestRootIsACAOfItsTrustDomainOnly(t *testing.T) {
	root := parse(t, newAuthority(t).RootPEM())
	if !root.IsCA || root.KeyUsage&x509.KeyUsageDigitalSignature != 0 || root.KeyUsage&x509.KeyUsageCertSign == 0 {
		t.Errorf("CA %v, usage %b", root.IsCA, root.KeyUsage)
	}
	if len(root.URIs) != 1 || root.URIs[0].String() != "spiffe://"+domain {
		t.Errorf("URI names %v", root.URIs)
	}
	if err := root.CheckSignatureFrom(root); err != nil {
		t.Error(err)
	}
}

func TestSignTakesTheIdentityFromTheCallerNotFromTheCSR(t *testing.T) {
	a := newAuthority(t)
	admin, _ := url.Parse("spiffe://cluster.local/ns/istio-system/sa/admin")
	csr := newCSR(t, newKey(t, elliptic.P256()), x509.CertificateRequest{
		Subject:  pkix.Name{CommonName: "spiffe://cluster.local/ns/x/sa/y"},
		URIs:     []*url.URL{admin},
		DNSNames: []string{"istiod.istio-system.svc"},
	})
	chain, err := a.Sign(csr, planner, time.Minute)
	if err != nil {
		t.Fatal(err)
	}
	leaf := parse(t, chain[0])
	if len(chain) != 1 || len(leaf.URIs) != 1 || leaf.URIs[0].String() != planner.String() {
		t.Errorf("%d certificates, URI names %v", len(chain), leaf.URIs)
	}
	if len(leaf.DNSNames) > 0 || leaf.Subject.CommonName != "" {
		t.Errorf("took DNS names %v, CN %q from the CSR", leaf.DNSNames, leaf.Subject.CommonName)
	}
}

func TestSignRefuses(t *testing.T) {
	a := newAuthority(t)
	p256 := newKey(t, elliptic.P256())
	good := newCSR(t, p256, x509.CertificateRequest{})
	weak, err := rsa.GenerateKey(rand.Reader, 1024)
	if err != nil {
		t.Fatal(err)
	}
	block, _ := pem.Decode(good)
	forged := bytes.Clone(block.Bytes)
	forged[len(forged)-1] ^= 1
	big := append(bytes.Clone(good), bytes.Repeat([]byte("\n"), maxCSR)...)
	for _, c := range []struct {
		name string
		csr  []byte
		p    mesh.Principal
		ttl  time.Duration
		want error
	}{
		{"empty CSR", nil, planner, time.Minute, ErrBadRequest},
		{"DER instead of PEM", block.Bytes, planner, time.Minute, ErrBadRequest},
		{"a certificate instead of a CSR", a.RootPEM(), planner, time.Minute, ErrBadRequest},
		{"two CSRs", append(bytes.Clone(good), good...), planner, time.Minute, ErrBadRequest},
		{"broken signature", pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE REQUEST", Bytes: forged}), planner, time.Minute, ErrBadRequest},
		{"truncated CSR", pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE REQUEST", Bytes: block.Bytes[:40]}), planner, time.Minute, ErrBadRequest},
		{"huge CSR", big, planner, time.Minute, ErrBadRequest},
		{"RSA 1024", newCSR(t, weak, x509.CertificateRequest{}), planner, time.Minute, ErrBadRequest},
		{"P-224", newCSR(t, newKey(t, elliptic.P224()), x509.CertificateRequest{}), planner, time.Minute, ErrBadRequest},
		{"P-521", newCSR(t, newKey(t, elliptic.P521()), x509.CertificateRequest{}), planner, time.Minute, ErrBadRequest},
		{"no lifetime", good, planner, 0, ErrBadRequest},
		{"negative lifetime", good, planner, -time.Minute, ErrBadRequest},
		{"lifetime over the bound", good, planner, MaxTTL + 1, ErrBadRequest},
		{"nobody", good, mesh.Principal{}, time.Minute, ErrForeignPrincipal},
		{"other trust domain", good, mesh.NewPrincipal("evil.example", "a", "b"), time.Minute, ErrForeignPrincipal},
		{"sub-domain", good, mesh.NewPrincipal("x.cluster.local", "a", "b"), time.Minute, ErrForeignPrincipal},
		{"slash in service account", good, mesh.NewPrincipal(domain, "a", "b/../c"), time.Minute, ErrBadRequest},
		{"empty namespace", good, mesh.NewPrincipal(domain, "", "b"), time.Minute, ErrBadRequest},
		{"escape in namespace", good, mesh.NewPrincipal(domain, "a%2f", "b"), time.Minute, ErrBadRequest},
	} {
		t.Run(c.name, func(t *testing.T) {
			chain, err := a.Sign(c.csr, c.p, c.ttl)
			if !errors.Is(err, c.want) || chain != nil {
				t.Errorf("%d certificates, error %v; want %v", len(chain), err, c.want)
			}
		})
	}
}

func TestLeafNeverOutlivesTheRoot(t *testing.T) {
	a := newAuthority(t)
	svid, err := a.Issue(planner, 24*time.Hour)
	if err != nil {
		t.Fatal(err)
	}
	if leaf := parse(t, svid.CertPEM); !leaf.NotAfter.Equal(a.NotAfter()) {
		t.Errorf("leaf ends %v, root %v", leaf.NotAfter, a.NotAfter())
	}
}

func TestNewRefusesWhatIsNoTrustDomain(t *testing.T) {
	for _, d := range []string{"", "Cluster.Local", "a/b", "a:1", "user@a", "a b", "ü"} {
		if _, err := New(d, time.Hour); err == nil {
			t.Errorf("took %q", d)
		}
	}
	for _, ttl := range []time.Duration{0, -1, maxRootTTL + 1} {
		if _, err := New(domain, ttl); err == nil {
			t.Errorf("took a lifetime of %v", ttl)
		}
	}
}

func TestSaveAndLoad(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "state", "ca")
	if _, err := Load(dir); !errors.Is(err, fs.ErrNotExist) {
		t.Fatalf("load of nothing: %v, want fs.ErrNotExist", err)
	}
	first := newAuthority(t)
	if err := first.Save(dir); err != nil {
		t.Fatal(err)
	}
	entries, err := os.ReadDir(dir)
	if err != nil || len(entries) != 2 {
		t.Fatalf("files %v, %v", entries, err)
	}
	for _, e := range entries {
		if info, _ := e.Info(); info.Mode().Perm() != 0o600 {
			t.Errorf("%s has mode %v", e.Name(), info.Mode())
		}
	}
	again, err := Load(dir)
	if err != nil {
		t.Fatal(err)
	}
	if again.TrustDomain() != domain || !bytes.Equal(again.RootPEM(), first.RootPEM()) || !again.key.Equal(first.key) {
		t.Error("loaded another authority than was saved")
	}
	second := newAuthority(t)
	if err := second.Save(t.TempDir()); err != nil {
		t.Fatal(err)
	}
	os.WriteFile(filepath.Join(dir, CertFile), second.RootPEM(), 0o600)
	if _, err := Load(dir); err == nil {
		t.Error("loaded a root with the key of another")
	}
	svid, _ := first.Issue(planner, time.Minute)
	os.WriteFile(filepath.Join(dir, CertFile), svid.CertPEM, 0o600)
	os.WriteFile(filepath.Join(dir, KeyFile), svid.KeyPEM, 0o600)
	if _, err := Load(dir); err == nil {
		t.Error("loaded a workload certificate as a root")
	}
}

func FuzzParseCSR(f *testing.F) {
	f.Add(newCSR(f, newKey(f, elliptic.P256()), x509.CertificateRequest{}))
	f.Add([]byte("-----BEGIN CERTIFICATE REQUEST-----\n-----END CERTIFICATE REQUEST-----\n"))
	f.Fuzz(func(t *testing.T, data []byte) {
		csr, err := parseCSR(data)
		if err == nil && (checkKey(csr.PublicKey) != nil || csr.CheckSignature() != nil) {
			t.Error("accepted a key or a signature it should not have")
		}
		if err != nil && !errors.Is(err, ErrBadRequest) {
			t.Errorf("error is not ErrBadRequest: %v", err)
		}
	})
}

func BenchmarkIssue(b *testing.B) {
	a := newAuthority(b)
	b.ReportAllocs()
	for b.Loop() {
		if _, err := a.Issue(planner, time.Hour); err != nil {
			b.Fatal(err)
		}
	}
}
