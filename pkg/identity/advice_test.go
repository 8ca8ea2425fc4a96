package identity

import (
	"context"
	"crypto/tls"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/spiffe/go-spiffe/v2/proto/spiffe/workload"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/status"

	"github.com/outrigger-mesh/outrigger/pkg/mesh"
	"github.com/outrigger-mesh/outrigger/pkg/meshtest/badcert"
)

// says fails the test unless err names all of parts.
func says(t *testing.T, err error, parts ...string) {
	t.Helper()
	if err == nil {
		t.Error("no error")
		return
	}
	for _, part := range parts {
		if !strings.Contains(err.Error(), part) {
			t.Errorf("%q does not say %q", err, part)
		}
	}
}

// closedPort is an address on which nobody listens.
func closedPort(t *testing.T) string {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	do(t, err)
	do(t, ln.Close())
	return ln.Addr().String()
}

// notACA serves gRPC with the CA's own certificate, but not the CA's call.
func notACA(t *testing.T, s *caServer) string {
	t.Helper()
	cert := s.front.Leaf("spiffe://x/y", badcert.NewKey(), onLoopback)
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	do(t, err)
	server := grpc.NewServer(grpc.Creds(credentials.NewTLS(&tls.Config{Certificates: []tls.Certificate{*cert}})))
	background(t, func(ctx context.Context) error {
		defer context.AfterFunc(ctx, server.Stop)()
		return server.Serve(ln)
	})
	return ln.Addr().String()
}

func TestWhoSetsUpTheCAIsToldWhatToMend(t *testing.T) {
	s := newCAServer(t)
	good := s.config(t).ControlPlane
	for _, c := range []struct {
		name   string
		change func(*ControlPlane)
		want   []string
	}{
		{"no token file", func(p *ControlPlane) { p.TokenFile += ".gone" }, []string{good.TokenFile + ".gone", "no such file", "mount", "istio-ca"}},
		{"no token configured", func(p *ControlPlane) { p.TokenFile = "" }, []string{s.address, "authentication failure", "configure a token file"}},
		{"token for another audience", func(*ControlPlane) { s.token = "only this" }, []string{s.address, "authentication failure", good.TokenFile, "audience", "istio-ca"}},
		{"nobody there", func(p *ControlPlane) { p.Address = closedPort(t) }, []string{"connection refused", "check the address"}},
		{"other roots", func(p *ControlPlane) { p.RootCA = string(certPEM(badcert.NewRoot("front", nil).Cert)) }, []string{s.address, "x509", "roots in the configuration"}},
		{"other name", func(p *ControlPlane) { p.ServerName = "evil.example" }, []string{s.address, "x509", good.RootCA, `bear the name "evil.example"`}},
		{"no roots", func(p *ControlPlane) { p.RootCA += ".gone" }, []string{good.RootCA + ".gone", "no such file", "istio-ca-root-cert"}},
		{"something else there", func(p *ControlPlane) { p.Address = notACA(t, s) }, []string{"no Istio CA", "check the address"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			plane := good
			c.change(&plane)
			_, err := fetch(t, CAConfig{ControlPlane: plane, Principal: planner, Logger: quiet})
			says(t, err, c.want...)
		})
	}
}

func TestWhoSetsUpTheWorkloadAPIIsToldWhatToMend(t *testing.T) {
	root := badcert.NewRoot("mesh", nil)
	trouble := func(t *testing.T, address string, want mesh.Principal) error {
		t.Helper()
		source := must(NewWorkloadAPI(WorkloadAPIConfig{Address: address, Principal: want, Logger: quiet}))
		background(t, source.Run)
		until(t, func() bool { return source.Err().Error() != ErrNoIdentity.Error() })
		return source.Err()
	}
	t.Run("no socket", func(t *testing.T) {
		address := "unix://" + filepath.Join(t.TempDir(), "agent.sock")
		says(t, trouble(t, address, planner), address, "no such file", "agent runs", "mounted")
	})
	t.Run("no entry", func(t *testing.T) {
		a := newAgent(t)
		a.offer(nil, status.Error(codes.PermissionDenied, "no identity issued"))
		says(t, trouble(t, "unix://"+a.socket, planner), a.socket, "no identity issued", "register an entry", plannerID)
	})
	t.Run("entry for somebody else", func(t *testing.T) {
		a := newAgent(t)
		a.offer(&workload.X509SVIDResponse{Svids: []*workload.X509SVID{offered(github.String(), root, time.Hour)}}, nil)
		says(t, trouble(t, "unix://"+a.socket, planner), "1 SVIDs are offered", plannerID, "register an entry")
	})
}

func TestABadCRLNamesItsFileAndWhatBelongsThere(t *testing.T) {
	path := filepath.Join(t.TempDir(), "crl.pem")
	for name, content := range map[string][]byte{"garbage": []byte("hello"), "a certificate": certPEM(badcert.NewRoot("x", nil).Cert)} {
		do(t, os.WriteFile(path, content, 0o600))
		crl := must(NewCRL(CRLConfig{Path: path, Logger: quiet}))
		says(t, crl.Err(), path, "X509 CRL", "DER")
		if _, _, ok := crl.Lists(); ok {
			t.Errorf("%s: it counts as read", name)
		}
	}
}
