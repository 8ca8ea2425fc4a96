package control

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"net/url"
	"os"
	"path/filepath"
	"testing"
	"time"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	discoveryv3 "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/structpb"

	"github.com/outrigger-mesh/outrigger/pkg/authority"
	"github.com/outrigger-mesh/outrigger/pkg/mesh"
	authpb "github.com/outrigger-mesh/outrigger/proto/istio/v1/auth"
)

// ask opens a stream as node and answers how the first answer went.
func (l *lab) ask(conn *grpc.ClientConn, node *corev3.Node) codes.Code {
	l.t.Helper()
	s, err := discoveryv3.NewAggregatedDiscoveryServiceClient(conn).DeltaAggregatedResources(l.t.Context())
	if err != nil {
		return status.Code(err)
	}
	// An error of Send shows in Recv.
	_ = s.Send(&discoveryv3.DeltaDiscoveryRequest{TypeUrl: AgentPolicyType, Node: node})
	_, err = s.Recv()
	return status.Code(err)
}

func newCSR(t testing.TB, key any, uri string) string {
	t.Helper()
	r := &x509.CertificateRequest{}
	if uri != "" {
		u, err := url.Parse(uri)
		if err != nil {
			t.Fatal(err)
		}
		r.URIs = []*url.URL{u}
	}
	der, err := x509.CreateCertificateRequest(rand.Reader, r, key)
	if err != nil {
		t.Fatal(err)
	}
	return string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE REQUEST", Bytes: der}))
}

func newKey(t testing.TB) *ecdsa.PrivateKey {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

// clientCert is a certificate of p by the authority in dir.
func clientCert(t testing.TB, a *authority.Authority, p mesh.Principal) *tls.Certificate {
	t.Helper()
	svid, err := a.Issue(p, time.Hour)
	if err != nil {
		t.Fatal(err)
	}
	pair, err := tls.X509KeyPair(svid.CertPEM, svid.KeyPEM)
	if err != nil {
		t.Fatal(err)
	}
	return &pair
}

func TestCallersAreAuthenticated(t *testing.T) {
	l := newLab(t, nil)
	l.start()
	good, other := l.token("agents", "planner"), l.token("tools", "github")
	planner := mesh.NewPrincipal("cluster.local", "agents", "planner")
	own := clientCert(t, l.plane.authority, planner)
	foreignCA, err := authority.New("cluster.local", time.Hour)
	if err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		name  string
		cert  *tls.Certificate
		token string
		want  codes.Code
	}{
		{"token", nil, good, codes.OK},
		{"nothing", nil, "", codes.Unauthenticated},
		{"unknown token", nil, "0123456789abcdef0123456789abcdef", codes.Unauthenticated},
		{"prefix of a token", nil, good[:len(good)-1], codes.Unauthenticated},
		{"certificate of this authority", own, "", codes.OK},
		{"certificate and token of one", own, good, codes.OK},
		{"certificate and token of two", own, other, codes.Unauthenticated},
		{"certificate and a bad token", own, "nonsense", codes.Unauthenticated},
		{"certificate of another authority", clientCert(t, foreignCA, planner), "", codes.Unavailable},
	} {
		t.Run(tt.name, func(t *testing.T) {
			conn := l.dial(tt.cert, tt.token)
			if got := l.ask(conn, nodeOf("agents", "planner")); got != tt.want {
				t.Errorf("xDS: %v, want %v", got, tt.want)
			}
			r, err := authpb.NewIstioCertificateServiceClient(conn).CreateCertificate(t.Context(), &authpb.IstioCertificateRequest{Csr: newCSR(t, newKey(t), "")})
			if status.Code(err) != tt.want || err != nil && r != nil {
				t.Errorf("CA: %v, want %v", err, tt.want)
			}
		})
	}
}

func TestTokenFilesAreReadAgain(t *testing.T) {
	l := newLab(t, nil)
	l.start()
	node := nodeOf("agents", "late")
	token := l.token("agents", "late")
	eventually(t, "a new token is known", func() bool { return l.ask(l.dial(nil, token), node) == codes.OK })
	path := filepath.Join(l.config.Tokens, "agents", "late")
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	eventually(t, "a removed one is not", func() bool { return l.ask(l.dial(nil, token), node) == codes.Unauthenticated })
	for name, content := range map[string]string{"short": "secret", "empty": ""} {
		if err := os.WriteFile(filepath.Join(l.config.Tokens, "agents", name), []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	l.plane.callers.tokens.load()
	if got := l.ask(l.dial(nil, "secret"), nodeOf("agents", "short")); got != codes.Unauthenticated {
		t.Errorf("a short token: %v", got)
	}
}

func TestATokenOfTwoIsNobodys(t *testing.T) {
	l := newLab(t, nil)
	token := l.token("agents", "planner")
	for _, name := range []string{"intern", "third"} {
		if err := os.WriteFile(filepath.Join(l.config.Tokens, "agents", name), []byte(token), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	l.start()
	for _, name := range []string{"planner", "intern", "third"} {
		if got := l.ask(l.dial(nil, token), nodeOf("agents", name)); got != codes.Unauthenticated {
			t.Errorf("%s: %v", name, got)
		}
	}
}

func TestNodeMustBeWhoTheTokenSays(t *testing.T) {
	l := newLab(t, nil)
	l.start()
	conn := l.dial(nil, l.token("agents", "planner"))
	fields := func(kv ...string) *structpb.Struct {
		s := &structpb.Struct{Fields: map[string]*structpb.Value{}}
		for i := 0; i < len(kv); i += 2 {
			s.Fields[kv[i]] = structpb.NewStringValue(kv[i+1])
		}
		return s
	}
	const id = "sidecar~10.0.0.1~p.agents~agents.svc.cluster.local"
	for _, tt := range []struct {
		name string
		node *corev3.Node
		want codes.Code
	}{
		{"matching", nodeOf("agents", "planner"), codes.OK},
		{"ztunnel", &corev3.Node{Id: "ztunnel~10.0.0.1~p.agents~x"}, codes.OK},
		{"namespace of the ID", &corev3.Node{Id: id}, codes.OK},
		{"no service account", &corev3.Node{Id: id, Metadata: fields("NAMESPACE", "agents")}, codes.OK},
		{"no node", nil, codes.InvalidArgument},
		{"other namespace", nodeOf("other", "planner"), codes.PermissionDenied},
		{"other namespace beside a good ID", &corev3.Node{Id: id, Metadata: fields("NAMESPACE", "other")}, codes.PermissionDenied},
		{"other namespace in the ID", &corev3.Node{Id: "sidecar~10.0.0.1~p.other~x"}, codes.PermissionDenied},
		{"other service account", nodeOf("agents", "intern"), codes.PermissionDenied},
		{"agentgateway", &corev3.Node{Id: "agentgateway~10.0.0.1~p.agents~x"}, codes.InvalidArgument},
		{"three parts", &corev3.Node{Id: "sidecar~10.0.0.1~p.agents"}, codes.InvalidArgument},
		{"no address", &corev3.Node{Id: "sidecar~~p.agents~x"}, codes.InvalidArgument},
		{"addresses in the metadata", &corev3.Node{Id: "sidecar~~p.agents~x", Metadata: fields("INSTANCE_IPS", "10.0.0.1")}, codes.OK},
		{"no namespace", &corev3.Node{Id: "sidecar~10.0.0.1~p~x"}, codes.InvalidArgument},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if got := l.ask(conn, tt.node); got != tt.want {
				t.Errorf("%v, want %v", got, tt.want)
			}
		})
	}
}

func TestNodeCannotChangeDuringAStream(t *testing.T) {
	l := newLab(t, nil)
	l.start()
	s, err := discoveryv3.NewAggregatedDiscoveryServiceClient(l.dial(nil, l.token("agents", "planner"))).DeltaAggregatedResources(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for _, node := range []*corev3.Node{nodeOf("agents", "planner"), nodeOf("tools", "github")} {
		if err := s.Send(&discoveryv3.DeltaDiscoveryRequest{TypeUrl: AgentPolicyType, Node: node}); err != nil {
			t.Fatal(err)
		}
	}
	for err == nil {
		_, err = s.Recv()
	}
	if status.Code(err) != codes.PermissionDenied {
		t.Errorf("%v", err)
	}
}

func TestOnlyDeltaIsServed(t *testing.T) {
	l := newLab(t, nil)
	l.start()
	s, err := discoveryv3.NewAggregatedDiscoveryServiceClient(l.dial(nil, l.token("agents", "planner"))).StreamAggregatedResources(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := s.Recv(); status.Code(err) != codes.Unimplemented {
		t.Errorf("state of the world: %v", err)
	}
}

func TestCertificatesAreSignedForTheCallerOnly(t *testing.T) {
	l := newLab(t, func(c *Config) { c.MaxTTL = time.Hour })
	l.start()
	ca := authpb.NewIstioCertificateServiceClient(l.dial(nil, l.token("agents", "planner")))
	const own = "spiffe://cluster.local/ns/agents/sa/planner"
	weak, err := rsa.GenerateKey(rand.Reader, 1024)
	if err != nil {
		t.Fatal(err)
	}
	block, _ := pem.Decode([]byte(newCSR(t, newKey(t), own)))
	block.Bytes[len(block.Bytes)-1] ^= 1
	impersonate := &structpb.Struct{Fields: map[string]*structpb.Value{"ImpersonatedIdentity": structpb.NewStringValue(own)}}
	for _, tt := range []struct {
		name    string
		request *authpb.IstioCertificateRequest
		want    codes.Code
		ttl     time.Duration
	}{
		{"own name", &authpb.IstioCertificateRequest{Csr: newCSR(t, newKey(t), own), ValidityDuration: 600}, codes.OK, 10 * time.Minute},
		{"no name", &authpb.IstioCertificateRequest{Csr: newCSR(t, newKey(t), "")}, codes.OK, time.Hour},
		{"another's name", &authpb.IstioCertificateRequest{Csr: newCSR(t, newKey(t), "spiffe://cluster.local/ns/istio-system/sa/istiod"), ValidityDuration: 60}, codes.OK, time.Minute},
		{"a life longer than ours", &authpb.IstioCertificateRequest{Csr: newCSR(t, newKey(t), ""), ValidityDuration: 90 * 24 * 3600}, codes.OK, time.Hour},
		{"too long a life", &authpb.IstioCertificateRequest{Csr: newCSR(t, newKey(t), ""), ValidityDuration: 90*24*3600 + 1}, codes.InvalidArgument, 0},
		{"a life that overflows", &authpb.IstioCertificateRequest{Csr: newCSR(t, newKey(t), ""), ValidityDuration: 1<<63 - 1}, codes.InvalidArgument, 0},
		{"a negative life", &authpb.IstioCertificateRequest{Csr: newCSR(t, newKey(t), ""), ValidityDuration: -1}, codes.InvalidArgument, 0},
		{"no CSR", &authpb.IstioCertificateRequest{}, codes.InvalidArgument, 0},
		{"broken signature", &authpb.IstioCertificateRequest{Csr: string(pem.EncodeToMemory(block))}, codes.InvalidArgument, 0},
		{"RSA 1024", &authpb.IstioCertificateRequest{Csr: newCSR(t, weak, own)}, codes.InvalidArgument, 0},
		{"huge CSR", &authpb.IstioCertificateRequest{Csr: string(make([]byte, 1<<20))}, codes.InvalidArgument, 0},
		{"impersonation", &authpb.IstioCertificateRequest{Csr: newCSR(t, newKey(t), own), Metadata: impersonate}, codes.Unauthenticated, 0},
	} {
		t.Run(tt.name, func(t *testing.T) {
			before := time.Now()
			r, err := ca.CreateCertificate(t.Context(), tt.request)
			if status.Code(err) != tt.want {
				t.Fatalf("%v, want %v", err, tt.want)
			}
			if tt.want != codes.OK {
				return
			}
			chain := r.GetCertChain()
			if len(chain) != 2 || chain[1] != string(l.plane.RootPEM()) {
				t.Fatalf("chain of %d", len(chain))
			}
			b, _ := pem.Decode([]byte(chain[0]))
			leaf, err := x509.ParseCertificate(b.Bytes)
			if err != nil {
				t.Fatal(err)
			}
			if len(leaf.URIs) != 1 || leaf.URIs[0].String() != own {
				t.Errorf("signed for %v", leaf.URIs)
			}
			if life := leaf.NotAfter.Sub(before); life < tt.ttl-2*time.Second || life > tt.ttl+30*time.Second {
				t.Errorf("lives %v, want %v", life, tt.ttl)
			}
		})
	}
}

func TestIssueWritesWhatAPeerNeeds(t *testing.T) {
	l := newLab(t, nil)
	l.start()
	out := filepath.Join(t.TempDir(), "svid")
	p := mesh.NewPrincipal("cluster.local", "agents", "planner")
	if err := Issue(l.dir, p, time.Hour, out); err != nil {
		t.Fatal(err)
	}
	pair, err := tls.LoadX509KeyPair(filepath.Join(out, "cert.pem"), filepath.Join(out, "key.pem"))
	if err != nil {
		t.Fatal(err)
	}
	if info, err := os.Stat(filepath.Join(out, "key.pem")); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("key: %v %v", info.Mode(), err)
	}
	if bundle, err := os.ReadFile(filepath.Join(out, "bundle.pem")); err != nil || string(bundle) != string(l.plane.RootPEM()) {
		t.Errorf("bundle: %v", err)
	}
	if got := l.ask(l.dial(&pair, ""), nodeOf("agents", "planner")); got != codes.OK {
		t.Errorf("the control plane does not take it: %v", got)
	}
	if err := Issue(t.TempDir(), p, time.Hour, out); err == nil {
		t.Error("issued without an authority")
	}
	if err := Issue(l.dir, mesh.NewPrincipal("other.example", "a", "b"), time.Hour, out); err == nil {
		t.Error("issued for another trust domain")
	}
	if info, err := os.Stat(filepath.Join(l.dir, StateCA, authority.KeyFile)); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("root key: %v %v", info, err)
	}
}

func TestOpenAuthorityNeverReplacesOne(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "ca")
	first, err := OpenAuthority(dir, "")
	if err != nil || first.TrustDomain() != "cluster.local" {
		t.Fatal(err)
	}
	if _, err := OpenAuthority(dir, "other.example"); err == nil {
		t.Error("took an authority of another trust domain")
	}
	again, err := OpenAuthority(dir, "cluster.local")
	if err != nil || string(again.RootPEM()) != string(first.RootPEM()) {
		t.Errorf("another authority: %v", err)
	}
	if err := os.Remove(filepath.Join(dir, authority.CertFile)); err != nil {
		t.Fatal(err)
	}
	if _, err := OpenAuthority(dir, ""); err == nil {
		t.Error("replaced half an authority")
	}
}

func TestServerCertificateCoversItsNames(t *testing.T) {
	l := newLab(t, func(c *Config) { c.ServerNames = []string{"control.example", "192.0.2.7"} })
	l.start()
	pool := x509.NewCertPool()
	pool.AppendCertsFromPEM(l.plane.RootPEM())
	for _, name := range []string{"istiod.istio-system.svc", "localhost", "127.0.0.1", "::1", "control.example", "192.0.2.7"} {
		c, err := tls.Dial("tcp", l.plane.Addr().String(), &tls.Config{RootCAs: pool, ServerName: name, NextProtos: []string{"h2"}})
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		c.Close()
	}
	if c, err := tls.Dial("tcp", l.plane.Addr().String(), &tls.Config{RootCAs: pool, ServerName: "evil.example"}); err == nil {
		c.Close()
		t.Error("any name is covered")
	}
}
