package identity

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	"github.com/outrigger-mesh/outrigger/pkg/authority"
	"github.com/outrigger-mesh/outrigger/pkg/mesh"
	"github.com/outrigger-mesh/outrigger/pkg/meshtest/badcert"
	authpb "github.com/outrigger-mesh/outrigger/proto/istio/v1/auth"
)

// A caServer is a mesh CA on a real socket: it knows the caller by a token and
// takes the identity from there, as istiod does.
type caServer struct {
	authpb.UnimplementedIstioCertificateServiceServer
	authority *authority.Authority
	front     *badcert.Issuer // signed the server's own certificate
	address   string
	token     string

	mu     sync.Mutex // guards what follows
	answer func(chain []string) []string
	seen   metadata.MD
	calls  int
	server *grpc.Server
	done   chan error
}

func newCAServer(t *testing.T) *caServer {
	t.Helper()
	s := &caServer{authority: newAuthority(t, local), front: badcert.NewRoot("front", nil), token: "token-1", address: "127.0.0.1:0"}
	s.start(t)
	t.Cleanup(s.stop)
	return s
}

// start serves on the address of the first time.
func (s *caServer) start(t *testing.T) {
	t.Helper()
	cert := s.front.Leaf("spiffe://x/y", badcert.NewKey(), onLoopback)
	ln, err := net.Listen("tcp", s.address)
	do(t, err)
	s.address = ln.Addr().String()
	s.server = grpc.NewServer(grpc.Creds(credentials.NewTLS(&tls.Config{Certificates: []tls.Certificate{*cert}})))
	authpb.RegisterIstioCertificateServiceServer(s.server, s)
	s.done = make(chan error, 1)
	go func(g *grpc.Server, done chan error) { done <- g.Serve(ln) }(s.server, s.done)
}

// onLoopback makes a certificate that of a CA on this host.
func onLoopback(c *x509.Certificate) {
	c.URIs, c.IPAddresses, c.DNSNames = nil, []net.IP{net.IPv4(127, 0, 0, 1)}, []string{"istiod.istio-system.svc"}
}

func (s *caServer) stop() {
	s.server.Stop()
	<-s.done
}

func (s *caServer) CreateCertificate(ctx context.Context, r *authpb.IstioCertificateRequest) (*authpb.IstioCertificateResponse, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.calls++
	s.seen, _ = metadata.FromIncomingContext(ctx)
	if got := s.seen.Get("authorization"); len(got) != 1 || got[0] != "Bearer "+s.token {
		return nil, status.Error(codes.Unauthenticated, "authentication failure")
	}
	chain, err := s.authority.Sign([]byte(r.Csr), planner, time.Duration(r.ValidityDuration)*time.Second)
	if err != nil {
		return nil, status.Error(codes.InvalidArgument, err.Error())
	}
	answer := []string{string(chain[0]), string(s.authority.RootPEM())}
	if s.answer != nil {
		answer = s.answer(answer)
	}
	return &authpb.IstioCertificateResponse{CertChain: answer}, nil
}

func (s *caServer) config(t *testing.T) CAConfig {
	t.Helper()
	dir := t.TempDir()
	do(t, os.WriteFile(filepath.Join(dir, "root.pem"), certPEM(s.front.Cert), 0o600))
	do(t, os.WriteFile(filepath.Join(dir, "token"), []byte(s.token+"\n"), 0o600))
	return CAConfig{
		ControlPlane: ControlPlane{Address: "https://" + s.address, RootCA: filepath.Join(dir, "root.pem"),
			TokenFile: filepath.Join(dir, "token"), Headers: map[string]string{"ClusterID": "Kubernetes"}},
		Principal: planner, Logger: quiet,
	}
}

func fetch(t *testing.T, c CAConfig) (*SVID, error) {
	t.Helper()
	return must(NewCA(c)).fetch(t.Context(), 20*time.Second)
}

// await waits until source answers as good says.
func await(t *testing.T, source Source, good func(*SVID, error) bool) *SVID {
	t.Helper()
	limit := time.After(20 * time.Second)
	for {
		changed := source.Changed()
		svid, err := source.SVID()
		if good(svid, err) {
			return svid
		}
		select {
		case <-changed:
		case <-limit:
			t.Fatalf("the source still answers %v, %v", svid, err)
		}
	}
}

func present(s *SVID, err error) bool { return err == nil }
func missing(s *SVID, err error) bool { return errors.Is(err, ErrNoIdentity) }

func TestTheCASignsOverARealSocket(t *testing.T) {
	s := newCAServer(t)
	config := s.config(t)
	config.TTL = time.Hour
	ca := must(NewCA(config))
	background(t, ca.Run)
	svid := await(t, ca, present)
	if svid.Principal != planner || svid.Bundles[local] == nil || len(svid.Bundles) != 1 {
		t.Errorf("%v with roots of %d domains", svid.Principal, len(svid.Bundles))
	}
	if key, ok := svid.Certificate.PrivateKey.(*ecdsa.PrivateKey); !ok || key.Curve != elliptic.P256() {
		t.Errorf("the key is a %T", svid.Certificate.PrivateKey)
	}
	if life := time.Until(svid.NotAfter); life > time.Hour || life < 50*time.Minute {
		t.Errorf("life of %v", life)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if got := s.seen.Get("clusterid"); len(got) != 1 || got[0] != "Kubernetes" {
		t.Errorf("header: %v", got)
	}
	server := &Mutual{Source: NewMemory(issue(t, s.authority, github, time.Hour))}
	c, r := handshake(t, &Mutual{Source: ca}, server, github)
	do(t, errors.Join(c.err, r.err))
}

func TestTheTokenFileIsReadForEachCall(t *testing.T) {
	s := newCAServer(t)
	config := s.config(t)
	must(fetch(t, config))
	s.token = "token-2"
	if _, err := fetch(t, config); status.Code(errors.Unwrap(err)) != codes.Unauthenticated {
		t.Errorf("with the old token: %v", err)
	}
	do(t, os.WriteFile(config.ControlPlane.TokenFile, []byte("token-2"), 0o600))
	must(fetch(t, config))
	for _, bad := range []string{"", "\n", "two tokens", "two\ntokens", strings.Repeat("x", maxToken+1)} {
		do(t, os.WriteFile(config.ControlPlane.TokenFile, []byte(bad), 0o600))
		if _, err := fetch(t, config); err == nil {
			t.Errorf("token %.20q was sent", bad)
		}
	}
	do(t, os.Remove(config.ControlPlane.TokenFile))
	if _, err := fetch(t, config); err == nil {
		t.Error("no token file, and no error")
	}
}

func TestTheCAMustProveItself(t *testing.T) {
	s := newCAServer(t)
	good := s.config(t)
	root := string(certPEM(s.front.Cert))
	for _, c := range []struct {
		name   string
		change func(*ControlPlane)
		ok     bool
	}{
		{"root from a file", func(p *ControlPlane) {}, true},
		{"root inline", func(p *ControlPlane) { p.RootCA = root }, true},
		{"name overridden", func(p *ControlPlane) { p.ServerName = "istiod.istio-system.svc" }, true},
		{"address without scheme", func(p *ControlPlane) { p.Address = s.address }, true},
		{"system roots", func(p *ControlPlane) { p.RootCA = "SYSTEM" }, false},
		{"another root", func(p *ControlPlane) { p.RootCA = string(certPEM(badcert.NewRoot("front", nil).Cert)) }, false},
		{"another name", func(p *ControlPlane) { p.ServerName = "evil.example" }, false},
		{"root file absent", func(p *ControlPlane) { p.RootCA += ".gone" }, false},
		{"root file of garbage", func(p *ControlPlane) { p.RootCA = good.ControlPlane.TokenFile }, false},
		{"root is no CA", func(p *ControlPlane) {
			p.RootCA = string(certPEM(must(x509.ParseCertificate(s.front.Leaf("spiffe://x/y", badcert.NewKey(), nil).Certificate[0]))))
		}, false},
	} {
		config := good
		c.change(&config.ControlPlane)
		if _, err := fetch(t, config); (err == nil) != c.ok {
			t.Errorf("%s: %v", c.name, err)
		}
	}
}

func TestBadAnswersOfTheCAAreRefused(t *testing.T) {
	s := newCAServer(t)
	config := s.config(t)
	issued := func(p mesh.Principal, a *authority.Authority) string {
		return string(must(a.Issue(p, time.Hour)).CertPEM)
	}
	other := newAuthority(t, local)
	for name, answer := range map[string]func([]string) []string{
		"nothing":            func([]string) []string { return nil },
		"leaf without roots": func(c []string) []string { return c[:1] },
		"roots without leaf": func(c []string) []string { return []string{c[1], c[1]} },
		"empty leaf":         func(c []string) []string { return []string{"", c[1]} },
		"empty roots":        func(c []string) []string { return []string{c[0], ""} },
		"garbage":            func(c []string) []string { return []string{"x", "y"} },
		"key among the roots": func(c []string) []string {
			return []string{c[0], c[1] + "-----BEGIN PRIVATE KEY-----\n-----END PRIVATE KEY-----\n"}
		},
		"leaf cut off":              func(c []string) []string { return []string{c[0][:100], c[1]} },
		"leaf for another key":      func(c []string) []string { return []string{issued(planner, s.authority), c[1]} },
		"leaf of another authority": func(c []string) []string { return []string{issued(planner, other), c[1]} },
		"roots of another":          func(c []string) []string { return []string{c[0], string(other.RootPEM())} },
		"leaf as root":              func(c []string) []string { return []string{c[0], c[0]} },
		"too many":                  func(c []string) []string { return append(make([]string, maxEntries), c...) },
		"over the size limit":       func(c []string) []string { return append(c, strings.Repeat("x", maxAnswer)) },
	} {
		s.answer = answer
		if svid, err := fetch(t, config); err == nil {
			t.Errorf("%s: got %v", name, svid.Principal)
		}
	}
	s.answer = nil
	config.Principal = github // the token's identity is planner
	if _, err := fetch(t, config); err == nil {
		t.Error("a certificate for another identity was taken")
	}
	config.Principal, config.TTL = planner, 100*365*24*time.Hour
	if _, err := fetch(t, config); status.Code(errors.Unwrap(err)) != codes.InvalidArgument {
		t.Errorf("a century: %v", err)
	}
}

// TestARealCAOutage: the certificate serves until its own end, then nothing
// passes, then the CA comes back.
func TestARealCAOutage(t *testing.T) {
	s := newCAServer(t)
	config := s.config(t)
	config.TTL = 10 * time.Second
	ca := must(NewCA(config))
	background(t, ca.Run)
	await(t, ca, present)
	s.stop()
	peer := &Mutual{Source: NewMemory(issue(t, s.authority, github, time.Hour))}
	c, r := handshake(t, &Mutual{Source: ca}, peer, github)
	do(t, errors.Join(c.err, r.err))
	await(t, ca, missing)
	c, _ = handshake(t, &Mutual{Source: ca}, peer, github)
	if Flag(c.err) != "IDENTITY_ERROR" {
		t.Errorf("after the end: %v", c.err)
	}
	s.start(t)
	await(t, ca, present) // how soon is TestAnOutagePastTheEnd…'s matter
	c, r = handshake(t, &Mutual{Source: ca}, peer, github)
	do(t, errors.Join(c.err, r.err))
}

func TestACAThatIsSilentIsNotWaitedForLong(t *testing.T) {
	ln, err := net.Listen("tcp", "127.0.0.1:0") // accepts by backlog, answers nothing
	do(t, err)
	defer ln.Close()
	client := &caClient{plane: ControlPlane{Address: ln.Addr().String(), RootCA: "SYSTEM"}, principal: planner, ttl: time.Hour}
	if _, err := client.fetch(t.Context(), 50*time.Millisecond); status.Code(errors.Unwrap(err)) != codes.Unavailable {
		t.Errorf("silent CA: %v", err)
	}
}

func TestFederatedRootsComeAndGoWithTheirFile(t *testing.T) {
	s := newCAServer(t)
	partner := newAuthority(t, remote)
	config := s.config(t)
	path := filepath.Join(t.TempDir(), "sub", "partner.pem")
	config.Federated = map[string]string{remote: path}
	ca := must(NewCA(config))
	background(t, ca.Run)
	if svid := await(t, ca, present); svid.Bundles[remote] != nil {
		t.Error("a partner is trusted without roots")
	}
	m := &Mutual{Source: ca}
	friend := issue(t, partner, mesh.NewPrincipal(remote, "agents", "planner"), time.Hour)
	friend.Bundles[local] = must(ca.SVID()).Bundles[local]
	peer := &Mutual{Source: NewMemory(friend)}
	if _, r := handshake(t, peer, m, planner); reason(r.err) != ReasonTrustDomain {
		t.Errorf("before: %v", r.err)
	}
	do(t, os.MkdirAll(filepath.Dir(path), 0o755))
	do(t, os.WriteFile(path, partner.RootPEM(), 0o600))
	trusting := await(t, ca, func(s *SVID, err error) bool { return err == nil && s.Bundles[remote] != nil })
	c, r := handshake(t, peer, m, planner)
	do(t, errors.Join(c.err, r.err))
	do(t, os.WriteFile(path, []byte("garbage"), 0o600))
	ca.federation.load(remote, path, func() { t.Error("garbage changed something") })
	do(t, os.WriteFile(path, newAuthority(t, remote).RootPEM(), 0o600))
	await(t, ca, func(s *SVID, err error) bool { return err == nil && s.Bundles[remote] != trusting.Bundles[remote] })
	if err := m.Recheck(&r.conn.Peer); reason(err) != ReasonChain {
		t.Errorf("after the partner's roots changed: %v", err)
	}
}
