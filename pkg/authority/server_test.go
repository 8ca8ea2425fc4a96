package authority

import (
	"crypto/x509"
	"errors"
	"net/netip"
	"testing"
	"time"
)

func TestServerCertificateNamesNoPrincipal(t *testing.T) {
	a := newAuthority(t)
	svid, err := a.IssueServer([]string{"istiod.istio-system.svc"}, []netip.Addr{netip.MustParseAddr("127.0.0.1")}, time.Minute)
	if err != nil {
		t.Fatal(err)
	}
	leaf := parse(t, svid.CertPEM)
	pool := x509.NewCertPool()
	pool.AddCert(parse(t, svid.RootPEM))
	for _, name := range []string{"istiod.istio-system.svc", "127.0.0.1"} {
		if _, err := leaf.Verify(x509.VerifyOptions{Roots: pool, DNSName: name}); err != nil {
			t.Errorf("verify %s: %v", name, err)
		}
	}
	if _, err := leaf.Verify(x509.VerifyOptions{Roots: pool, KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}}); err == nil {
		t.Error("it authenticates a client")
	}
	if len(leaf.URIs) != 0 || leaf.IsCA {
		t.Errorf("names %v, CA %v", leaf.URIs, leaf.IsCA)
	}
	if _, err := a.IssueServer(nil, nil, time.Minute); err == nil {
		t.Error("issued for no name")
	}
	if _, err := a.IssueServer([]string{"a"}, nil, 0); !errors.Is(err, ErrBadRequest) {
		t.Errorf("no lifetime: %v", err)
	}
}
