package control

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"log/slog"
	"maps"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	"go.uber.org/goleak"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"
	"google.golang.org/protobuf/types/known/structpb"

	"github.com/outrigger-mesh/outrigger/pkg/xds"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const (
	workloadYAML = `apiVersion: outrigger.dev/v1alpha1
kind: Workload
metadata: {name: %s, namespace: %s}
spec: {addresses: [%s], tunnelProtocol: HBONE, serviceAccount: %[1]s}
---
`
	policyYAML = `apiVersion: outrigger.dev/v1alpha1
kind: AgentPolicy
metadata: {name: %s, namespace: %s}
spec:
  ports: [{number: 8080, protocol: MCP}]
  rules:
  - {name: everybody, action: Allow, mcp: {tools: [%q]}}
---
`
	denyYAML = `apiVersion: outrigger.dev/v1alpha1
kind: Authorization
metadata: {name: %s, namespace: %s}
spec:
  scope: GLOBAL
  action: DENY
  groups: [{rules: [{matches: [{notPrincipals: ["*"]}]}]}]
---
`
)

// A lab is a control plane in a temporary directory.
type lab struct {
	t      testing.TB
	dir    string
	config Config
	plane  *Plane
	stop   func()
}

func newLab(t testing.TB, change func(*Config)) *lab {
	t.Helper()
	l := &lab{t: t, dir: t.TempDir()}
	for _, d := range []string{"config", "tokens"} {
		if err := os.Mkdir(filepath.Join(l.dir, d), 0o700); err != nil {
			t.Fatal(err)
		}
	}
	l.config = Config{Listen: "127.0.0.1:0", Status: "127.0.0.1:0", Paths: []string{filepath.Join(l.dir, "config")},
		CADir: filepath.Join(l.dir, StateCA), Tokens: filepath.Join(l.dir, StateTokens),
		Logger: slog.New(slog.NewTextHandler(logWriter{t}, nil))}
	if change != nil {
		change(&l.config)
	}
	// Tokens that come later are known only after a moment.
	l.token("agents", "planner")
	l.token("tools", "github")
	return l
}

// logWriter keeps the log for when the test fails.
type logWriter struct{ t testing.TB }

func (w logWriter) Write(b []byte) (int, error) {
	if os.Getenv("CONTROL_TEST_LOG") != "" {
		fmt.Fprint(os.Stderr, string(b))
	}
	return len(b), nil
}

// start runs the plane until stop, or the end of the test.
func (l *lab) start() {
	l.t.Helper()
	p, err := New(l.config)
	if err != nil {
		l.t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- p.Run(ctx) }()
	l.plane = p
	l.config.Listen = p.Addr().String() // a restart comes back to the same place
	l.stop = sync.OnceFunc(func() {
		cancel()
		if err := <-done; err != nil {
			l.t.Errorf("Run: %v", err)
		}
	})
	l.t.Cleanup(l.stop)
}

func (l *lab) file(name string) string { return filepath.Join(l.dir, "config", name) }

func (l *lab) write(name, content string) {
	l.t.Helper()
	if err := writeFile(l.file(name), []byte(content), 0o644); err != nil {
		l.t.Fatal(err)
	}
}

func (l *lab) token(namespace, account string) string {
	l.t.Helper()
	path, err := IssueToken(l.config.Tokens, namespace, account)
	if err != nil {
		l.t.Fatal(err)
	}
	data, err := os.ReadFile(path)
	if err != nil {
		l.t.Fatal(err)
	}
	return strings.TrimSpace(string(data))
}

func (l *lab) tls(client *tls.Certificate) credentials.TransportCredentials {
	pool := x509.NewCertPool()
	pool.AppendCertsFromPEM(l.plane.RootPEM())
	c := &tls.Config{RootCAs: pool, ServerName: "istiod.istio-system.svc", MinVersion: tls.VersionTLS13}
	if client != nil {
		c.Certificates = []tls.Certificate{*client}
	}
	return credentials.NewTLS(c)
}

type bearerToken string

func (b bearerToken) GetRequestMetadata(context.Context, ...string) (map[string]string, error) {
	return map[string]string{"authorization": "Bearer " + string(b)}, nil
}

func (bearerToken) RequireTransportSecurity() bool { return true }

func (l *lab) dial(client *tls.Certificate, token string) *grpc.ClientConn {
	l.t.Helper()
	options := []grpc.DialOption{grpc.WithTransportCredentials(l.tls(client)), grpc.WithNoProxy()}
	if token != "" {
		options = append(options, grpc.WithPerRPCCredentials(bearerToken(token)))
	}
	conn, err := grpc.NewClient(l.plane.Addr().String(), options...)
	if err != nil {
		l.t.Fatal(err)
	}
	l.t.Cleanup(func() { conn.Close() })
	return conn
}

func nodeOf(namespace, account string) *corev3.Node {
	return &corev3.Node{Id: fmt.Sprintf("sidecar~10.0.0.1~%s-1.%s~%[2]s.svc.cluster.local", account, namespace),
		Metadata: &structpb.Struct{Fields: map[string]*structpb.Value{
			"NAMESPACE": structpb.NewStringValue(namespace), "SERVICE_ACCOUNT": structpb.NewStringValue(account)}}}
}

// A replica is what a sidecar would hold: it rejects what is called "bad...".
type replica struct {
	client *xds.Client
	mu     sync.Mutex
	held   map[string]map[string]string // version by name by type
	calls  int
	last   []string // names of the last update
}

func (r *replica) Apply(typeURL string, updated []xds.Resource, removed []string, _ bool) (rejected []xds.Rejection) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.calls++
	r.last = nil
	if r.held[typeURL] == nil {
		r.held[typeURL] = map[string]string{}
	}
	for _, u := range updated {
		r.last = append(r.last, u.Name)
		if strings.Contains(u.Name, "/bad") {
			rejected = append(rejected, xds.Rejection{Name: u.Name, Err: fmt.Errorf("rule 3 is bad")})
			continue
		}
		r.held[typeURL][u.Name] = u.Version
	}
	for _, name := range removed {
		delete(r.held[typeURL], name)
	}
	return rejected
}

func (r *replica) has(typeURL string, names ...string) func() bool {
	return func() bool {
		r.mu.Lock()
		defer r.mu.Unlock()
		if len(r.held[typeURL]) != len(names) {
			return false
		}
		for _, n := range names {
			if _, ok := r.held[typeURL][n]; !ok {
				return false
			}
		}
		return true
	}
}

func (r *replica) snapshot(typeURL string) map[string]string {
	r.mu.Lock()
	defer r.mu.Unlock()
	return maps.Clone(r.held[typeURL])
}

func (l *lab) client(namespace, account string, change func(*xds.Config)) *replica {
	l.t.Helper()
	r := &replica{held: map[string]map[string]string{}}
	c := xds.Config{Target: l.plane.Addr().String(), Credentials: l.tls(nil), PerRPC: bearerToken(l.token(namespace, account)),
		Node: nodeOf(namespace, account), Handler: r, Types: []xds.Type{{URL: AddressType}, {URL: AuthorizationType}, {URL: AgentPolicyType}}}
	if change != nil {
		change(&c)
	}
	client, err := xds.New(c)
	if err != nil {
		l.t.Fatal(err)
	}
	r.client = client
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- client.Run(ctx) }()
	l.t.Cleanup(func() { cancel(); <-done })
	return r
}

func eventually(t testing.TB, what string, ok func() bool) {
	t.Helper()
	for deadline := time.Now().Add(30 * time.Second); !ok(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("never: %s", what)
		}
	}
}
