package meshtest_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/outrigger-mesh/outrigger/pkg/hbone"
	"github.com/outrigger-mesh/outrigger/pkg/identity"
	"github.com/outrigger-mesh/outrigger/pkg/mesh"
	"github.com/outrigger-mesh/outrigger/pkg/meshtest"
	"github.com/outrigger-mesh/outrigger/pkg/sidecar"
)

// leadingTo gives the agent a listener for each destination, on the ports from
// 8081 up, and lets its sidecar be configured further.
func leadingTo(more func(c *sidecar.Config), destinations ...string) func(string, *sidecar.Config) {
	return func(account string, c *sidecar.Config) {
		if account != "agent" {
			return
		}
		for i, host := range destinations {
			listen := netip.AddrPortFrom(netip.MustParseAddr(c.Workload.Addresses[0]), uint16(8081+i)).String()
			c.Outbound.Forwards = append(c.Outbound.Forwards, sidecar.Forward{Listen: listen, Host: host, Port: 80})
		}
		if more != nil {
			more(c)
		}
	}
}

// ask connects to the agent's listener of a port and answers who is at the other end.
func ask(m *meshtest.Mesh, port uint16) (string, error) {
	c, err := net.DialTimeout("tcp", netip.AddrPortFrom(m.AgentIP, port).String(), limit)
	if err != nil {
		return "", err
	}
	defer c.Close()
	c.SetDeadline(time.Now().Add(limit))
	text, err := io.ReadAll(io.LimitReader(c, 1024))
	if err == nil && len(text) == 0 {
		err = errors.New("nobody answered")
	}
	return string(text), err
}

// answers waits until who answers at the agent's listener of a port is want.
func answers(m *meshtest.Mesh, port uint16, want string) {
	m.Eventually(func() error {
		if got, err := ask(m, port); err != nil || got != want {
			return fmt.Errorf("port %d: %q, %v", port, got, err)
		}
		return nil
	})
}

// refuses waits until nobody answers at the agent's listener of a port, and no longer did.
func refuses(m *meshtest.Mesh, port uint16) {
	m.Eventually(func() error {
		if got, err := ask(m, port); err == nil {
			return fmt.Errorf("port %d: %q", port, got)
		}
		return nil
	})
}

// announce listens at an address and says to everybody what it is called.
func announce(t *testing.T, address, name string) netip.AddrPort {
	t.Helper()
	ln, err := net.Listen("tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	serveEach(t, ln, func(c net.Conn) { io.WriteString(c, name) })
	return netip.MustParseAddrPort(ln.Addr().String())
}

const (
	serviceDocument  = "---\napiVersion: outrigger.dev/v1alpha1\nkind: Service\nmetadata: {name: %s, namespace: tools}\nspec: %s\n"
	workloadDocument = "---\napiVersion: outrigger.dev/v1alpha1\nkind: Workload\nmetadata: {name: %s, namespace: tools}\nspec: %s\n"
)

// An endpoint that has a hostname instead of an address is found by DNS and, as
// it is outside of the mesh, reached by plain TCP. One whose name DNS does not
// know is an error, and so is what the name no longer leads to.
func TestAnEndpointWithAHostnameIsFoundByDNS(t *testing.T) {
	m := meshtest.New(t, meshtest.Config{Adjust: leadingTo(nil, "outside.tools", "nowhere.tools")})
	at := announce(t, "127.0.0.1:0", "outside")
	documents := fmt.Sprintf(serviceDocument, "outside", "{ports: [{servicePort: 80}]}") +
		fmt.Sprintf(workloadDocument, "outside", fmt.Sprintf("{hostname: localhost, services: {tools/outside.tools.svc.cluster.local: {ports: [{servicePort: 80, targetPort: %d}]}}}", at.Port())) +
		fmt.Sprintf(serviceDocument, "nowhere", "{ports: [{servicePort: 80, targetPort: 80}]}") +
		fmt.Sprintf(workloadDocument, "nowhere", "{hostname: nowhere.invalid, services: {tools/nowhere.tools.svc.cluster.local: {}}}")
	m.WritePolicy(documents)
	answers(m, 8081, "outside")
	refuses(m, 8082)
	record(m, "agent", `"dst.service":"nowhere.tools.svc.cluster.local"`, "look up nowhere.invalid")

	m.WritePolicy(strings.Replace(documents, "hostname: localhost", "hostname: nowhere.invalid", 1))
	refuses(m, 8081)
}

// An endpoint that cannot be connected to costs no connection: another is tried,
// and after some failures it is left alone. The sidecar says which, why and until when.
func TestAnEndpointThatKeepsFailingIsLeftAlone(t *testing.T) {
	const name = "half.tools.svc.cluster.local"
	m := meshtest.New(t, meshtest.Config{Adjust: leadingTo(nil, "half.tools")})
	at := announce(t, "127.0.0.1:0", "alive")
	endpoint := func(pod, address string) string {
		return fmt.Sprintf(workloadDocument, pod, fmt.Sprintf("{addresses: [%s], services: {tools/%s: {ports: [{servicePort: 80, targetPort: %d}]}}}", address, name, at.Port()))
	}
	m.WritePolicy(fmt.Sprintf(serviceDocument, "half", "{ports: [{servicePort: 80}]}") + endpoint("alive", "127.0.0.1") + endpoint("dead", "127.0.0.3"))
	answers(m, 8081, "alive")
	const uid = "Kubernetes//Pod/tools/dead"
	m.Eventually(func() error {
		if got, err := ask(m, 8081); err != nil || got != "alive" {
			t.Fatalf("beside a dead endpoint: %q, %v", got, err)
		}
		d, err := configDump(m.AgentIP)
		if err != nil || len(d.Ejections) != 1 || d.Ejections[0].WorkloadUID != uid {
			return fmt.Errorf("the dump says %+v, %v", d.Ejections, err)
		}
		if e := d.Ejections[0]; e.Failures < 5 || !strings.Contains(e.Problem, "connection refused") || e.Until == "" {
			t.Errorf("the dump says %+v", e)
		}
		return nil
	})
	for path, says := range map[string]string{":15020/metrics": "outrigger_ejected_targets 1", ":15000/": "left alone</th><td>" + uid + " until "} {
		if text, err := get("http://" + m.AgentIP.String() + path); err != nil || !strings.Contains(text, says) {
			t.Errorf("%s does not say %q: %v: %s", path, says, err, text)
		}
	}
}

// A waypoint is a peer that takes tunnels, keeps what they asked for, and says
// to all that it is the waypoint.
type waypoint struct {
	mu    sync.Mutex // guards what follows
	asked []string
}

func (w *waypoint) serve(_ context.Context, in *hbone.Incoming) {
	w.mu.Lock()
	w.asked = append(w.asked, in.Authority)
	w.mu.Unlock()
	if tunnel, err := in.Accept(hbone.Header{}); err == nil {
		io.WriteString(tunnel, "waypoint")
		tunnel.CloseWrite()
		io.Copy(io.Discard, tunnel)
		tunnel.Close()
	}
}

func (w *waypoint) last() string {
	w.mu.Lock()
	defer w.mu.Unlock()
	if len(w.asked) == 0 {
		return ""
	}
	return w.asked[len(w.asked)-1]
}

// startWaypoint starts one at an address, with a certificate of the mesh for a service account.
func startWaypoint(t *testing.T, m *meshtest.Mesh, at netip.AddrPort, account string) *waypoint {
	t.Helper()
	issued, err := meshAuthority(t, m.Dir).Issue(mesh.NewPrincipal("cluster.local", "tools", account), time.Hour)
	if err != nil {
		t.Fatal(err)
	}
	svid, err := identity.ParseSVID(issued.CertPEM, issued.KeyPEM, issued.RootPEM)
	if err != nil {
		t.Fatal(err)
	}
	server, err := hbone.NewServer(hbone.ServerConfig{Mutual: &identity.Mutual{Source: identity.NewMemory(svid)}, Logger: quiet()})
	if err != nil {
		t.Fatal(err)
	}
	ln, err := net.Listen("tcp", at.String())
	if err != nil {
		t.Fatal(err)
	}
	w := new(waypoint)
	ctx, cancel := context.WithCancel(context.Background())
	var serving sync.WaitGroup
	serving.Go(func() {
		if err := server.Serve(ctx, ctx, ln, w.serve); err != nil && ctx.Err() == nil {
			t.Error(err)
		}
	})
	t.Cleanup(func() { cancel(); serving.Wait() })
	return w
}

// Whatever is the matter with a waypoint, what must pass it is refused and
// never goes straight to the workload that could be reached; when the waypoint
// is there, all goes through it.
func TestAWaypointIsNeverBypassed(t *testing.T) {
	const guarded = "guarded.tools.svc.cluster.local"
	m := meshtest.New(t, meshtest.Config{Adjust: leadingTo(nil, "guarded.tools")})
	announce(t, m.App.String(), "bypassed")
	at := netip.AddrPortFrom(m.ServerIP.Next(), 15008)
	w := startWaypoint(t, m, at, "waypoint")
	// The guarded service has an endpoint of its own at the server, besides the server's service.
	guard := func(address netip.Addr, waypoint string) string {
		return fmt.Sprintf(serviceDocument, "guarded", fmt.Sprintf("{ports: [{servicePort: 80, targetPort: %d}], addresses: [10.96.0.9]%s}", m.App.Port(), waypoint)) +
			fmt.Sprintf(workloadDocument, "guarded", fmt.Sprintf("{addresses: [%s], services: {tools/%s: {}}}", address, guarded))
	}
	app := announce(t, netip.AddrPortFrom(m.ServerIP.Next().Next(), m.App.Port()).String(), "bypassed").Addr()
	const named = ", waypoint: tools/waypoint.tools.svc.cluster.local"
	service := fmt.Sprintf(serviceDocument, "waypoint", "{ports: [{servicePort: 15008, targetPort: 15008}]}")
	gateway := func(account, health string) string {
		return fmt.Sprintf(workloadDocument, "waypoint", fmt.Sprintf(
			"{addresses: [%s], serviceAccount: %s, tunnelProtocol: HBONE%s, services: {tools/waypoint.tools.svc.cluster.local: {}}}", at.Addr(), account, health))
	}

	m.WritePolicy(guard(app, ""))
	answers(m, 8081, "bypassed") // so the way that must not be taken exists

	for _, c := range []struct{ name, documents, says string }{
		{"no such service", guard(app, named), "waypoint not found: tools/waypoint.tools.svc.cluster.local"},
		{"no such address", guard(app, ", waypoint: 10.9.8.7"), "waypoint not found: 10.9.8.7"},
		{"a service without endpoints", guard(app, named) + service, "has none for port 15008 (0 known)"},
		{"an endpoint that is not healthy", guard(app, named) + service + gateway("waypoint", ", status: UNHEALTHY"), "has none for port 15008"},
		{"a waypoint that is somebody else", guard(app, named) + service + gateway("impostor", ""), "refused (unexpected)"},
		{"every weighted one is missing", guard(app, ", weightedWaypoints: [{destination: tools/weighted.tools.svc.cluster.local, weight: 1}]"), "waypoint not found: tools/weighted"},
	} {
		m.WritePolicy(c.documents)
		m.Eventually(func() error {
			if got, err := ask(m, 8081); err == nil {
				return fmt.Errorf("%s: %q", c.name, got)
			}
			return said(m, "agent", c.says)
		})
	}
	if asked := w.last(); asked != "" {
		t.Errorf("the waypoint was asked for %s", asked)
	}

	m.WritePolicy(guard(app, named) + service + gateway("waypoint", ""))
	answers(m, 8081, "waypoint")
	if asked := w.last(); asked != "10.96.0.9:80" {
		t.Errorf("the waypoint was asked for %q", asked)
	}
	m.WritePolicy(guard(app, named) + service)
	refuses(m, 8081)
	for range 20 {
		if got, err := ask(m, 8081); err == nil {
			t.Fatalf("without the waypoint: %q", got)
		}
	}
}

// A connection that is open when its service gets a waypoint is cut: what it
// carries further would pass the waypoint by.
func TestAnOpenConnectionDoesNotStayBesideAWaypoint(t *testing.T) {
	const guarded = "guarded.tools.svc.cluster.local"
	m := meshtest.New(t, meshtest.Config{Adjust: leadingTo(nil, "guarded.tools")})
	app, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	serveEach(t, app, func(c net.Conn) { io.Copy(c, c) })
	guard := func(ports, waypoint string) string {
		return fmt.Sprintf(serviceDocument, "guarded", "{ports: ["+ports+"], addresses: [10.96.0.9]"+waypoint+"}") +
			fmt.Sprintf(workloadDocument, "guarded", fmt.Sprintf("{addresses: [127.0.0.1], services: {tools/%s: {ports: [{servicePort: 80, targetPort: %d}]}}}", guarded, app.Addr().(*net.TCPAddr).Port))
	}
	m.WritePolicy(guard("{servicePort: 80}", ""))
	var c net.Conn
	echo := func() error {
		if _, err := io.WriteString(c, "echo"); err != nil {
			return err
		}
		_, err := io.ReadFull(c, make([]byte, 4))
		return err
	}
	m.Eventually(func() (err error) {
		if c, err = net.DialTimeout("tcp", netip.AddrPortFrom(m.AgentIP, 8081).String(), limit); err != nil {
			return err
		}
		c.SetDeadline(time.Now().Add(limit))
		if err = echo(); err != nil {
			c.Close()
		}
		return err
	})
	defer c.Close()

	m.WritePolicy(guard("{servicePort: 80}, {servicePort: 81}", "")) // another change leaves it alone
	m.Eventually(func() error {
		d, err := configDump(m.AgentIP)
		if err != nil {
			return err
		}
		for _, svc := range d.Services {
			if svc.Hostname == guarded && len(svc.Ports) == 2 {
				return nil
			}
		}
		return errors.New("the change has not arrived")
	})
	if err := echo(); err != nil {
		t.Fatalf("before there is a waypoint: %v", err)
	}
	m.WritePolicy(guard("{servicePort: 80}", ", waypoint: tools/waypoint.tools.svc.cluster.local"))
	if _, err := io.ReadFull(c, make([]byte, 1)); err == nil || isTimeout(err) {
		t.Errorf("beside the waypoint: %v", err)
	}
	record(m, "agent", `"dst.service":"`+guarded+`"`, "this connection passes it by")
}

func isTimeout(err error) bool {
	timeout, ok := errors.AsType[net.Error](err)
	return ok && timeout.Timeout()
}
