package inbound_test

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"io"
	"net"
	"net/netip"
	"strconv"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/outrigger-mesh/outrigger/pkg/admission"
	"github.com/outrigger-mesh/outrigger/pkg/authority"
	"github.com/outrigger-mesh/outrigger/pkg/hbone"
	"github.com/outrigger-mesh/outrigger/pkg/identity"
	"github.com/outrigger-mesh/outrigger/pkg/inbound"
	"github.com/outrigger-mesh/outrigger/pkg/mesh"
	"github.com/outrigger-mesh/outrigger/pkg/store"
	"github.com/outrigger-mesh/outrigger/pkg/telemetry"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

var (
	self   = mesh.NewPrincipal("cluster.local", "tools", "server")
	caller = mesh.NewPrincipal("cluster.local", "agents", "caller")
	own    = netip.MustParseAddr("127.0.9.1") // the workload's; 127.0.0.1 is nobody's
)

// name is that of a service of the namespace tools.
func name(s string) mesh.Name {
	return mesh.Name{Namespace: "tools", Hostname: s + ".tools.svc.cluster.local"}
}

// issue returns an identity of the test's authority.
func issue(t *testing.T, ca *authority.Authority, p mesh.Principal) *identity.Mutual {
	t.Helper()
	s, err := ca.Issue(p, time.Hour)
	if err != nil {
		t.Fatal(err)
	}
	cert, err := tls.X509KeyPair(s.CertPEM, s.KeyPEM)
	if err != nil {
		t.Fatal(err)
	}
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(ca.RootPEM())
	return &identity.Mutual{Source: identity.NewMemory(&identity.SVID{
		Principal: p, Certificate: &cert, Bundles: map[string]*x509.CertPool{"cluster.local": roots},
		NotBefore: cert.Leaf.NotBefore, NotAfter: cert.Leaf.NotAfter,
	})}
}

// listen opens a port of an address for an app that sends back what it gets, after its own name.
func listen(t *testing.T, address, who string) uint16 {
	t.Helper()
	ln, err := net.Listen("tcp", address+":0")
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		for {
			c, err := ln.Accept()
			if err != nil {
				return
			}
			got, _ := io.ReadAll(c)
			_, _ = c.Write(append([]byte(who), got...))
			c.Close()
		}
	}()
	t.Cleanup(func() { ln.Close(); <-done })
	return uint16(ln.Addr().(*net.TCPAddr).Port)
}

// A world is one sidecar's way in, with all that stands behind it.
type world struct {
	address netip.AddrPort
	dialer  *hbone.Dialer
	ca      *authority.Authority
}

func newWorld(t *testing.T, change store.Change, reserved ...uint16) *world {
	t.Helper()
	w := &world{}
	s := store.New(store.Config{Self: mesh.Self{Principal: self, Name: "server", Namespace: "tools", Addresses: []netip.Addr{own}}})
	s.Apply(change)
	recorder, err := telemetry.New(telemetry.Config{})
	if err != nil {
		t.Fatal(err)
	}
	d := &net.Dialer{}
	proxy, err := inbound.New(inbound.Config{
		Self:  mesh.Self{Principal: self, Name: "server", Namespace: "tools", Addresses: []netip.Addr{own}},
		Store: s, Register: admission.NewRegister(s), Recorder: recorder, ReservedPorts: reserved,
		Dial: func(ctx context.Context, app netip.AddrPort) (net.Conn, error) {
			return d.DialContext(ctx, "tcp", app.String())
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	ca, err := authority.New("cluster.local", time.Hour)
	if err != nil {
		t.Fatal(err)
	}
	w.ca = ca
	server, err := hbone.NewServer(hbone.ServerConfig{Mutual: issue(t, ca, self)})
	if err != nil {
		t.Fatal(err)
	}
	if w.dialer, err = hbone.NewDialer(hbone.DialerConfig{Mutual: issue(t, ca, caller)}); err != nil {
		t.Fatal(err)
	}
	ln, err := net.Listen("tcp", own.String()+":0")
	if err != nil {
		t.Fatal(err)
	}
	w.address = netip.MustParseAddrPort(ln.Addr().String())
	ctx, stop := context.WithCancel(context.Background())
	served := make(chan error, 1)
	go func() { served <- server.Serve(ctx, ctx, ln, proxy.Tunnel) }()
	t.Cleanup(func() {
		w.dialer.Close()
		stop()
		if err := <-served; err != nil {
			t.Error(err)
		}
		recorder.Close()
	})
	return w
}

// ask sends a word through a tunnel and returns what comes back, or the status
// of the refusal.
func (w *world) ask(t *testing.T, authority string, h hbone.Header) (string, int) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	tun, err := w.dialer.Dial(ctx, mesh.Hop{Address: w.address, Authority: authority, Expected: []mesh.Principal{self}}, h)
	var status *hbone.StatusError
	if errors.As(err, &status) {
		return "", status.Status
	}
	if err != nil {
		t.Fatal(err)
	}
	defer tun.Close()
	_, _ = tun.Write([]byte("word"))
	_ = tun.CloseWrite()
	got, err := io.ReadAll(tun)
	if err != nil {
		t.Fatal(err)
	}
	return string(got), 200
}

func workload(change func(*mesh.Workload)) map[string]*mesh.Workload {
	w := &mesh.Workload{
		UID: "server", Name: "server", Namespace: "tools", ServiceAccount: "server", TrustDomain: "cluster.local",
		Tunnel: mesh.TunnelHBONE, Capacity: 1, Addresses: []netip.Addr{own}, Services: map[mesh.Name][]mesh.PortMapping{},
	}
	change(w)
	return map[string]*mesh.Workload{w.UID: w}
}

func service(s, vip string, ports ...mesh.PortMapping) *mesh.Service {
	svc := &mesh.Service{Name: s, Namespace: "tools", Hostname: name(s).Hostname, Ports: ports}
	if vip != "" {
		svc.VIPs = []mesh.VIP{{Prefix: netip.MustParsePrefix(vip)}}
	}
	return svc
}

func TestAuthoritiesLeadToTheAppAndNowhereElse(t *testing.T) {
	first, second := listen(t, own.String(), "first "), listen(t, own.String(), "second ")
	hostname := func(s string, port int) string { return name(s).Hostname + ":" + strconv.Itoa(port) }
	at := func(ip string, port uint16) string { return netip.AddrPortFrom(netip.MustParseAddr(ip), port).String() }
	w := newWorld(t, store.Change{
		Workloads: workload(func(w *mesh.Workload) {
			w.Services[name("web")] = nil
			// A named port of the service is another number in this workload.
			w.Services[name("named")] = []mesh.PortMapping{{Service: 80, Target: second}}
			w.Services[name("loop")] = nil
		}),
		Services: map[mesh.Name]*mesh.Service{
			name("web"):   service("web", "10.1.0.1/32", mesh.PortMapping{Service: 80, Target: first}),
			name("named"): service("named", "10.1.0.2/32", mesh.PortMapping{Service: 80, Target: first}),
			name("loop"):  service("loop", "10.1.0.3/32", mesh.PortMapping{Service: 80, Target: 15008}),
			name("other"): service("other", "10.1.0.4/32", mesh.PortMapping{Service: 80, Target: first}),
		},
	}, 15008, 15006, 15001)
	for authority, want := range map[string]any{
		at("127.0.9.1", first):  "first word",
		at("127.0.9.1", second): "second word",
		hostname("web", 80):     "first word",
		hostname("named", 80):   "second word",
		hostname("web", 81):     503, // no port mapping
		hostname("other", 80):   503, // not a service of this workload
		hostname("nobody", 80):  503,
		hostname("loop", 80):    503,
		at("127.0.9.1", 15008):  503,
		at("127.0.9.1", 15006):  503,
		at("127.0.9.1", 15001):  503,
		at("127.0.9.2", first):  400, // not the address that was connected to
		at("10.1.0.1", 80):      400,
	} {
		got, status := w.ask(t, authority, hbone.Header{})
		if s, ok := want.(string); ok && (got != s || status != 200) || !ok && status != want {
			t.Errorf("%s: %q %d, want %v", authority, got, status, want)
		}
	}
}

// What a peer says of itself changes nothing but the record.
func TestWhatAPeerClaimsIsNotTrusted(t *testing.T) {
	app := listen(t, own.String(), "")
	change := store.Change{Workloads: workload(func(*mesh.Workload) {})}
	w := newWorld(t, change)
	authority := netip.AddrPortFrom(own, app).String()
	claims := hbone.Header{
		Baggage: "k8s.namespace.name=istio-system,k8s.deployment.name=admin", Forwarded: `for="127.0.9.1:1";host=other.tools.svc.cluster.local`,
		Network: "elsewhere", IstioSource: "gateway", Hops: hbone.MaxHops, TraceParent: "00-0123456789abcdef0123456789abcdef-0123456789abcdef-00",
	}
	if got, status := w.ask(t, authority, claims); status != 200 || got != "word" {
		t.Errorf("%q %d", got, status)
	}
	if _, status := w.ask(t, "127.0.9.2:80", claims); status != 400 {
		t.Errorf("claims opened another workload's door: %d", status)
	}
}

// The PROXY header, as ztunnel writes it, and the service besides.
func TestAnAppThatIsAProxyIsToldWhoSpeaks(t *testing.T) {
	app := listen(t, "127.0.0.1", "")
	w := newWorld(t, store.Change{
		Workloads: workload(func(w *mesh.Workload) { w.ApplicationTunnel = &mesh.ApplicationTunnel{Proxy: true, Port: app} }),
		Services: map[mesh.Name]*mesh.Service{
			name("web"):     service("web", "10.1.0.1/32", mesh.PortMapping{Service: 80, Target: 8080}),
			name("nowhere"): service("nowhere", "", mesh.PortMapping{Service: 80, Target: 8080}),
		},
	})
	principal := "\xd0\x00" + string(rune(len(caller.String()))) + caller.String()
	host := "\xd1\x00" + string(rune(len(name("web").Hostname))) + name("web").Hostname
	for authority, want := range map[string]struct {
		destination, fields string
	}{
		"127.0.9.1:80":               {"\x7f\x00\x09\x01", principal},
		"10.1.0.1:80":                {"\x0a\x01\x00\x01", principal + host},
		name("web").Hostname + ":80": {"\x0a\x01\x00\x01", principal + host},
	} {
		got, status := w.ask(t, authority, hbone.Header{})
		const fixed = "\r\n\r\n\x00\r\nQUIT\n\x21\x11"
		if status != 200 || len(got) < 28 || !strings.HasPrefix(got, fixed) {
			t.Errorf("%s: %q %d", authority, got, status)
			continue
		}
		if from := got[16:20]; from != "\x7f\x00\x00\x01" && from != "\x7f\x00\x09\x01" {
			t.Errorf("%s: from %q", authority, from)
		}
		if to := got[20:24]; to != want.destination || got[26:28] != "\x00\x50" {
			t.Errorf("%s: to %q port %q", authority, to, got[26:28])
		}
		if rest := got[28:]; rest != want.fields+"word" {
			t.Errorf("%s: %q, want %q", authority, rest, want.fields+"word")
		}
	}
	for authority, want := range map[string]int{
		"10.9.9.9:80":                    400, // the mesh knows nothing there
		name("nowhere").Hostname + ":80": 503, // no address to tell
		name("nobody").Hostname + ":80":  503,
	} {
		if _, status := w.ask(t, authority, hbone.Header{}); status != want {
			t.Errorf("%s: %d, want %d", authority, status, want)
		}
	}
}

// An application tunnel without PROXY only says which port takes it all.
func TestAnApplicationTunnelHasItsPort(t *testing.T) {
	app := listen(t, own.String(), "")
	w := newWorld(t, store.Change{
		Workloads: workload(func(w *mesh.Workload) { w.ApplicationTunnel = &mesh.ApplicationTunnel{Port: app} }),
		Services:  map[mesh.Name]*mesh.Service{name("web"): service("web", "10.1.0.1/32")},
	})
	for _, authority := range []string{"127.0.9.1:80", "10.1.0.1:443", name("web").Hostname + ":1"} {
		if got, status := w.ask(t, authority, hbone.Header{}); got != "word" {
			t.Errorf("%s: %q %d", authority, got, status)
		}
	}
}
