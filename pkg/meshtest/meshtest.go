// Package meshtest is a mesh inside a test: a real control plane and real
// sidecars, in one process, on loopback addresses of their own.
package meshtest

import (
	"context"
	"fmt"
	"math/rand/v2"
	"net"
	"net/http"
	"net/netip"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/outrigger-mesh/outrigger/pkg/control"
	"github.com/outrigger-mesh/outrigger/pkg/mesh"
	"github.com/outrigger-mesh/outrigger/pkg/meshtest/free"
	"github.com/outrigger-mesh/outrigger/pkg/sidecar"
)

const (
	trustDomain = "cluster.local"
	namespace   = "tools"
	// ServicePort is the port of the server's service.
	ServicePort = 80
	// Service is the server's name in the mesh.
	Service = "server.tools.svc.cluster.local"

	hbonePort = 15008
	readyPort = 15021
	patience  = 20 * time.Second
)

// Config says what is in the mesh.
type Config struct {
	Policy string // YAML documents besides the workloads; %d is the app's port
	// TTL of certificates; 0 means an hour.
	TTL time.Duration
	// AppAddress is where the server's sidecar is told that the app listens, if it is elsewhere than on the workload's address.
	AppAddress string
	// DeclareMCP tells the server's sidecar that the app's port speaks MCP.
	DeclareMCP bool
	// Adjust changes the configuration of the sidecar of a service account.
	Adjust func(account string, c *sidecar.Config)
	// WithoutControl leaves the control plane down until StartControl.
	WithoutControl bool
}

// A Mesh is an agent's sidecar and a server's sidecar under a control plane.
type Mesh struct {
	Dir string
	// Agent is the address that the agent calls; what arrives there goes to Service.
	Agent string
	// App is where the server must listen.
	App netip.AddrPort
	// AgentIP and ServerIP are the workloads' addresses.
	AgentIP, ServerIP netip.Addr

	t         testing.TB
	config    Config
	control   string // its address
	status    string
	stopPlane func()
	sidecars  []*process
}

type process struct {
	cancel context.CancelFunc
	done   chan struct{}
	err    error
}

func (p *process) stop(t testing.TB, what string) {
	p.cancel()
	select {
	case <-p.done:
		if p.err != nil {
			t.Errorf("%s: %v", what, p.err)
		}
	case <-time.After(patience):
		t.Errorf("%s did not end within %v", what, patience)
	}
}

// New starts a mesh that ends with the test. The app is the test's to start.
func New(t testing.TB, c Config) *Mesh {
	t.Helper()
	base := netip.AddrFrom4([4]byte{127, byte(20 + rand.IntN(200)), byte(rand.IntN(256)), 0}).As4()
	at := func(last byte) netip.Addr { base[3] = last; return netip.AddrFrom4(base) }
	m := &Mesh{
		Dir: t.TempDir(), AgentIP: at(11), ServerIP: at(21), App: netip.AddrPortFrom(at(21), appPort(t)), t: t, config: c,
		Agent: netip.AddrPortFrom(at(11), 8080).String(), control: netip.AddrPortFrom(at(1), 15012).String(), status: netip.AddrPortFrom(at(1), 15014).String(),
	}
	if m.config.TTL == 0 {
		m.config.TTL = time.Hour
	}
	m.WritePolicy(c.Policy)
	m.write("mesh.yaml", m.workloads())
	for _, account := range []string{"agents/agent", "tools/server", "agents/other"} {
		ns, sa, _ := strings.Cut(account, "/")
		if _, err := control.IssueToken(filepath.Join(m.Dir, control.StateTokens), ns, sa); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := control.OpenAuthority(filepath.Join(m.Dir, control.StateCA), trustDomain); err != nil {
		t.Fatal(err)
	}
	m.writeRoot()
	if !c.WithoutControl {
		m.StartControl()
	}
	m.startSidecar("agents", "agent", m.AgentIP, sidecar.Forward{Listen: m.Agent, Host: Service, Port: ServicePort})
	m.startSidecar(namespace, "server", m.ServerIP)
	t.Cleanup(m.stop)
	if !c.WithoutControl {
		m.WaitReady()
	}
	return m
}

// appPort is a port that nobody has, be it on all addresses, and that is not of those
// that tests give to sidecars.
func appPort(t testing.TB) uint16 {
	t.Helper()
	for {
		ports, err := free.Ports(1)
		if err != nil {
			t.Fatal(err)
		}
		if port := uint16(ports[0]); port < 15000 || port >= 19000 {
			return port
		}
	}
}

func (m *Mesh) stop() {
	for _, s := range m.sidecars {
		s.stop(m.t, "sidecar")
	}
	m.StopControl()
	http.DefaultClient.CloseIdleConnections()
}

// WritePolicy replaces the policy file, which the control plane watches.
func (m *Mesh) WritePolicy(policy string) {
	if strings.Contains(policy, "%d") {
		policy = fmt.Sprintf(policy, m.App.Port())
	}
	m.write("policy.yaml", policy)
}

func (m *Mesh) write(name, content string) {
	m.t.Helper()
	dir := filepath.Join(m.Dir, "config")
	if err := os.MkdirAll(dir, 0o700); err != nil {
		m.t.Fatal(err)
	}
	temporary := filepath.Join(m.Dir, name+".new")
	if err := os.WriteFile(temporary, []byte(content), 0o600); err != nil {
		m.t.Fatal(err)
	}
	if err := os.Rename(temporary, filepath.Join(dir, name)); err != nil {
		m.t.Fatal(err)
	}
}

func (m *Mesh) writeRoot() {
	a, err := control.OpenAuthority(filepath.Join(m.Dir, control.StateCA), trustDomain)
	if err != nil {
		m.t.Fatal(err)
	}
	if err := os.WriteFile(m.root(), a.RootPEM(), 0o600); err != nil {
		m.t.Fatal(err)
	}
}

func (m *Mesh) root() string { return filepath.Join(m.Dir, "root-cert.pem") }

func (m *Mesh) workloads() string {
	const workload = `apiVersion: outrigger.dev/v1alpha1
kind: Workload
metadata: {name: %[1]s, namespace: %[2]s}
spec:
  addresses: [%[3]s]
  tunnelProtocol: HBONE
  trustDomain: cluster.local
  serviceAccount: %[1]s
%[4]s---
`
	return fmt.Sprintf(workload, "agent", "agents", m.AgentIP, "") +
		fmt.Sprintf(workload, "server", namespace, m.ServerIP,
			fmt.Sprintf("  services:\n    %s/%s: {ports: [{servicePort: %d, targetPort: %d}]}\n", namespace, Service, ServicePort, m.App.Port())) +
		fmt.Sprintf(`apiVersion: outrigger.dev/v1alpha1
kind: Service
metadata: {name: server, namespace: %s}
spec:
  hostname: %s
  ports: [{servicePort: %d, targetPort: %d}]
`, namespace, Service, ServicePort, m.App.Port())
}

// StartControl starts the control plane.
func (m *Mesh) StartControl() {
	m.t.Helper()
	plane, err := control.New(control.Config{
		Listen: m.control, Status: m.status, Paths: []string{filepath.Join(m.Dir, "config")},
		CADir: filepath.Join(m.Dir, control.StateCA), Tokens: filepath.Join(m.Dir, control.StateTokens), TrustDomain: trustDomain,
	})
	if err != nil {
		m.t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	wg.Go(func() {
		if err := plane.Run(ctx); err != nil && ctx.Err() == nil {
			m.t.Errorf("control plane: %v", err)
		}
	})
	m.stopPlane = func() { cancel(); wg.Wait() }
}

// ControlAddr is where sidecars look for the control plane.
func (m *Mesh) ControlAddr() string { return m.control }

// StopControl stops the control plane, if it is running.
func (m *Mesh) StopControl() {
	if m.stopPlane != nil {
		m.stopPlane()
		m.stopPlane = nil
	}
}

func (m *Mesh) startSidecar(ns, account string, ip netip.Addr, forwards ...sidecar.Forward) {
	m.t.Helper()
	c := sidecar.DefaultConfig()
	c.Workload = sidecar.WorkloadConfig{
		Name: account, Namespace: ns, ServiceAccount: account, TrustDomain: trustDomain, Addresses: []string{ip.String()},
		ClusterID: "Kubernetes", ClusterDomain: "cluster.local", RootNamespace: "istio-system", Labels: map[string]string{},
	}
	c.Identity.TTL = sidecar.Duration(m.config.TTL)
	c.Discovery = sidecar.DiscoveryConfig{
		Address: m.control, Root: m.root(), Name: "istiod.istio-system.svc", Token: filepath.Join(m.Dir, control.StateTokens, ns, account),
	}
	port := func(n uint16) string { return netip.AddrPortFrom(ip, n).String() }
	c.Inbound.HBONE, c.Inbound.Plain, c.Outbound.Capture = port(hbonePort), port(15006), sidecar.Off
	c.Outbound.Forwards = forwards
	if account == "server" {
		c.Inbound.App = m.config.AppAddress
	}
	if m.config.DeclareMCP && account == "server" {
		c.Inbound.MCPPorts = []string{strconv.Itoa(int(m.App.Port()))}
	}
	c.Admin = sidecar.AdminConfig{Address: port(15000), Metrics: port(15020), Readiness: port(readyPort)}
	c.Records = sidecar.RecordsConfig{AccessLog: m.file("access-" + account), Audit: m.Audit(account), Format: "json", Level: "warn"}
	c.Drain.Deadline = sidecar.Duration(time.Second)
	if m.config.Adjust != nil {
		m.config.Adjust(account, &c)
	}
	s, err := sidecar.New(c, sidecar.Options{Version: "test", Log: testLog{m.t}})
	if err != nil {
		m.t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	p := &process{cancel: cancel, done: make(chan struct{})}
	go func() {
		p.err = s.Run(ctx)
		close(p.done)
	}()
	m.sidecars = append(m.sidecars, p)
}

type testLog struct{ t testing.TB }

func (l testLog) Write(p []byte) (int, error) {
	l.t.Logf("%s", strings.TrimSpace(string(p)))
	return len(p), nil
}

func (m *Mesh) file(name string) string { return filepath.Join(m.Dir, name) }

// Audit is the audit file of the sidecar of a service account.
func (m *Mesh) Audit(account string) string { return m.file("audit-" + account) }

// Ready is what the readiness endpoint of a workload's sidecar says, and whether that is yes.
func (m *Mesh) Ready(ip netip.Addr) (string, bool) {
	client := &http.Client{Timeout: time.Second, Transport: &http.Transport{DisableKeepAlives: true}}
	res, err := client.Get("http://" + netip.AddrPortFrom(ip, readyPort).String() + "/healthz/ready")
	if err != nil {
		return err.Error(), false
	}
	defer res.Body.Close()
	var text [1024]byte
	n, _ := res.Body.Read(text[:])
	return string(text[:n]), res.StatusCode == http.StatusOK
}

// WaitReady waits until both sidecars are ready.
func (m *Mesh) WaitReady() {
	m.t.Helper()
	for _, ip := range []netip.Addr{m.AgentIP, m.ServerIP} {
		m.Eventually(func() error {
			if text, ok := m.Ready(ip); !ok {
				return fmt.Errorf("sidecar %v: %s", ip, text)
			}
			return nil
		})
	}
}

// Eventually calls check until it returns nil, and fails the test if it never does.
func (m *Mesh) Eventually(check func() error) {
	m.t.Helper()
	deadline := time.Now().Add(patience)
	for {
		err := check()
		if err == nil {
			return
		}
		if time.Now().After(deadline) {
			m.t.Fatalf("still not after %v: %v", patience, err)
		}
		time.Sleep(10 * time.Millisecond)
	}
}

// Hop is the tunnel end of the server's sidecar, with an authority.
func (m *Mesh) Hop(authority string) mesh.Hop {
	return mesh.Hop{
		Address: netip.AddrPortFrom(m.ServerIP, hbonePort), Authority: authority,
		Expected: []mesh.Principal{mesh.NewPrincipal(trustDomain, namespace, "server")},
	}
}

// ListenApp listens where the server must.
func (m *Mesh) ListenApp() net.Listener {
	m.t.Helper()
	ln, err := net.Listen("tcp", m.App.String())
	if err != nil {
		m.t.Fatal(err)
	}
	return ln
}
