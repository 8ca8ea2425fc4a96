//go:build istiod && linux

package istiod_test

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"os/exec"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/outrigger-mesh/outrigger/pkg/hbone"
	"github.com/outrigger-mesh/outrigger/pkg/identity"
	"github.com/outrigger-mesh/outrigger/pkg/mesh"
	"github.com/outrigger-mesh/outrigger/pkg/meshtest/istiod"
	"github.com/outrigger-mesh/outrigger/pkg/sample"
)

// outside: a ServiceEntry leads out of the mesh, to a name that DNS knows.
func (w *town) outside() {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		w.Fatal(err)
	}
	ctx, cancel := context.WithCancel(w.Context())
	var running sync.WaitGroup
	running.Go(func() { (&sample.Server{}).Serve(ctx, ln) })
	defer func() { cancel(); running.Wait() }()
	entry := fmt.Sprintf(`---
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {namespace: agents, name: outside}
spec:
  hosts: [%s]
  location: MESH_EXTERNAL
  resolution: DNS
  ports: [{number: 80, name: tcp, protocol: TCP, targetPort: %d}]
  endpoints: [{address: localhost}]
`, outsideName, ln.Addr().(*net.TCPAddr).Port)
	w.apply(entry)
	w.eventually(func() error {
		tools, err := w.tools(8084)
		if err == nil && !slices.Contains(tools, "delete_repository") {
			err = fmt.Errorf("outside of the mesh one sees %q", tools)
		}
		return err
	})
	w.delete(entry)
}

// strict: what STRICT becomes refuses who has no certificate, by the server's own
// word, and nobody else.
func (w *town) strict() {
	strict := "---\napiVersion: security.istio.io/v1\nkind: PeerAuthentication\nmetadata: {namespace: tools, name: strict}\nspec: {mtls: {mode: STRICT}}\n"
	w.apply(strict)
	w.eventually(func() error {
		return w.explain("none", "istio-system/istio_converted_static_strict")
	})
	if err := w.explain("spiffe://cluster.local/ns/agents/sa/agent", "by L4 authorization: allowed"); err != nil {
		w.Error(err)
	}
	w.sees("echo")
	w.delete(strict)
	w.eventually(func() error { return w.explain("none", "by L4 authorization: allowed") })
}

// explain asks `outrigger explain` who would refuse a peer of the server, and
// looks for what it must say.
func (w *town) explain(from, says string) error {
	client := &http.Client{Timeout: 5 * time.Second, Transport: &http.Transport{DisableKeepAlives: true}}
	response, err := client.Get("http://" + netip.AddrPortFrom(w.server, 15000).String() + "/config_dump")
	if err != nil {
		return err
	}
	defer response.Body.Close()
	cmd := exec.CommandContext(w.Context(), w.outrigger, "explain", "-", "--from", from, "--port", fmt.Sprint(appPort))
	cmd.Stdin = response.Body
	out, _ := cmd.CombinedOutput() // that somebody refuses is an exit status
	if !strings.Contains(string(out), says) {
		return fmt.Errorf("explain does not say %q: %s", says, out)
	}
	return nil
}

// waypoint: what istiod sends through a waypoint goes through it, and nowhere
// else when nobody is there; what was open before is cut. Its pod stays: without,
// istiod itself soon says that the service has no waypoint any more.
func (w *town) waypoint() {
	before := w.hold(8080)
	address := w.successor.Next()
	pod := istiod.Pod{Namespace: "tools", Name: "waypoint-1", ServiceAccount: "waypoint", Address: address.String(), HBONE: true,
		Labels: map[string]string{"gateway.networking.k8s.io/gateway-name": "waypoint"}}
	w.apply(pod.YAML(), `---
apiVersion: v1
kind: Service
metadata: {namespace: tools, name: waypoint}
spec: {clusterIP: 10.96.77.9, clusterIPs: [10.96.77.9], selector: {gateway.networking.k8s.io/gateway-name: waypoint}, ports: [{name: hbone, port: 15008, targetPort: 15008, protocol: TCP}]}
---
apiVersion: gateway.networking.k8s.io/v1
kind: Gateway
metadata: {namespace: tools, name: waypoint, labels: {istio.io/waypoint-for: service}}
spec:
  gatewayClassName: istio-waypoint
  listeners: [{name: mesh, port: 15008, protocol: HBONE}]
status:
  addresses: [{type: IPAddress, value: 10.96.77.9}]
`)
	asked, stop := w.serveWaypoint(address)
	defer func() { stop() }()
	w.apply(serverService("{istio.io/use-waypoint: waypoint}"))
	w.eventually(func() error {
		tools, err := w.tools(8080)
		if err == nil && asked() == "" {
			err = fmt.Errorf("the agent sees %q without the waypoint", tools)
		}
		return err
	})
	if got := asked(); got != virtual+":80" {
		w.Errorf("the waypoint was asked for %q", got)
	}
	if _, err := before.Read(make([]byte, 1)); !errors.Is(err, io.EOF) && !errors.Is(err, syscall.ECONNRESET) {
		w.Errorf("what was open before there was a waypoint: %v", err)
	}
	http.DefaultClient.CloseIdleConnections() // some may be cut just now, and every session below is to begin with a connection
	stop()
	stop = func() {}
	for range 10 {
		if tools, err := w.tools(8080); err == nil {
			w.Errorf("without the waypoint the agent sees %q", tools)
		}
	}
	w.apply(serverService("{}"))
	w.sees("echo")
	w.delete(pod.Reference())
}

// hold opens a connection to the agent's listener of a port, with a call that
// was answered, and keeps it open.
func (w *town) hold(port uint16) net.Conn {
	c, err := net.Dial("tcp", w.forward(port))
	if err != nil {
		w.Fatal(err)
	}
	w.Cleanup(func() { c.Close() })
	c.SetDeadline(time.Now().Add(2 * patience))
	if _, err := io.WriteString(c, "GET / HTTP/1.1\r\nHost: server\r\n\r\n"); err != nil {
		w.Fatal(err)
	}
	response, err := http.ReadResponse(bufio.NewReader(c), nil)
	if err != nil {
		w.Fatal(err)
	}
	if _, err := io.Copy(io.Discard, response.Body); err != nil || response.Close {
		w.Fatalf("the connection does not stay open: %v, %v", response.Status, err)
	}
	return c
}

// serveWaypoint is a waypoint in the place of Istio's: it passes on to the
// server's app whatever it is asked for, and remembers that.
func (w *town) serveWaypoint(address netip.Addr) (asked func() string, stop func()) {
	token, err := w.TokenFile(w.Context(), "tools", "waypoint")
	if err != nil {
		w.Fatal(err)
	}
	ca, err := identity.NewCA(identity.CAConfig{
		ControlPlane: identity.ControlPlane{Address: w.Secure, RootCA: w.RootFile, ServerName: istiod.ServerName, TokenFile: token},
		Principal:    mesh.NewPrincipal("cluster.local", "tools", "waypoint"), TTL: time.Hour, Logger: slog.New(slog.DiscardHandler),
	})
	if err != nil {
		w.Fatal(err)
	}
	server, err := hbone.NewServer(hbone.ServerConfig{Mutual: &identity.Mutual{Source: ca}, Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		w.Fatal(err)
	}
	ln, err := net.Listen("tcp", netip.AddrPortFrom(address, 15008).String())
	if err != nil {
		w.Fatal(err)
	}
	var mu sync.Mutex
	var last string
	handle := func(ctx context.Context, in *hbone.Incoming) {
		mu.Lock()
		last = in.Authority
		mu.Unlock()
		app, err := (&net.Dialer{}).DialContext(ctx, "tcp", netip.AddrPortFrom(w.server, appPort).String())
		if err != nil {
			return
		}
		defer app.Close()
		tunnel, err := in.Accept(hbone.Header{})
		if err != nil {
			return
		}
		defer tunnel.Close()
		var back sync.WaitGroup
		back.Go(func() { io.Copy(tunnel, app); tunnel.CloseWrite() })
		io.Copy(app, tunnel)
		app.(*net.TCPConn).CloseWrite()
		back.Wait()
	}
	ctx, cancel := context.WithCancel(w.Context())
	var running sync.WaitGroup
	running.Go(func() { ca.Run(ctx) })
	running.Go(func() { server.Serve(ctx, ctx, ln, handle) })
	w.eventually(func() error { _, err := ca.SVID(); return err })
	return func() string { mu.Lock(); defer mu.Unlock(); return last }, func() { cancel(); running.Wait() }
}
