package inbound_test

import (
	"context"
	"io"
	"net"
	"net/netip"
	"sync"
	"testing"
	"time"

	"github.com/outrigger-mesh/outrigger/pkg/admission"
	"github.com/outrigger-mesh/outrigger/pkg/capture"
	"github.com/outrigger-mesh/outrigger/pkg/hbone"
	"github.com/outrigger-mesh/outrigger/pkg/mesh"
	"github.com/outrigger-mesh/outrigger/pkg/outbound"
	"github.com/outrigger-mesh/outrigger/pkg/relay"
	"github.com/outrigger-mesh/outrigger/pkg/route"
	"github.com/outrigger-mesh/outrigger/pkg/store"
	"github.com/outrigger-mesh/outrigger/pkg/telemetry"
)

var gatewayID = mesh.NewPrincipal("cluster.local", "istio-system", "eastwest")

// gateway passes the bytes of tunnels for a hostname on to a sidecar of its network, unread.
func gateway(t *testing.T, far *world) (at netip.AddrPort, asked chan *hbone.Incoming) {
	asked = make(chan *hbone.Incoming, 1)
	server, err := hbone.NewServer(hbone.ServerConfig{Mutual: issue(t, far.ca, gatewayID)})
	if err != nil {
		t.Fatal(err)
	}
	ln, err := net.Listen("tcp", "127.0.9.2:0")
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(context.Background())
	served := make(chan error, 1)
	go func() {
		served <- server.Serve(ctx, ctx, ln, func(ctx context.Context, in *hbone.Incoming) {
			asked <- in
			inner, err := net.Dial("tcp", far.address.String())
			if err != nil {
				t.Error(err)
				return
			}
			outer, err := in.Accept(hbone.Header{})
			if err != nil {
				inner.Close()
				return
			}
			relay.Copy(ctx, outer, inner.(*net.TCPConn))
		})
	}()
	t.Cleanup(func() {
		stop()
		if err := <-served; err != nil {
			t.Error(err)
		}
	})
	return netip.MustParseAddrPort(ln.Addr().String()), asked
}

// From one sidecar's app to that of another, in another network: a tunnel in a tunnel.
func TestAnotherNetworkIsReachedThroughItsGateway(t *testing.T) {
	app := listen(t, own.String(), "far ")
	web := service("web", "10.1.0.1/32", mesh.PortMapping{Service: 80, Target: app})
	web.SubjectAltNames = []mesh.Principal{self}
	far := newWorld(t, store.Change{
		Workloads: workload(func(w *mesh.Workload) { w.Services[name("web")] = nil }),
		Services:  map[mesh.Name]*mesh.Service{name("web"): web},
	})
	at, asked := gateway(t, far)
	remote := workload(func(w *mesh.Workload) {
		w.Network, w.Services[name("web")] = "far", nil
		w.NetworkGateway = &mesh.GatewayAddress{Address: mesh.NetworkAddress{Address: at.Addr()}, HBONEPort: at.Port()}
	})
	remote["gateway"] = &mesh.Workload{
		UID: "gateway", Name: "gateway", Namespace: "istio-system", ServiceAccount: "eastwest", TrustDomain: "cluster.local",
		Tunnel: mesh.TunnelHBONE, Capacity: 1, Addresses: []netip.Addr{at.Addr()},
	}
	here := mesh.Self{Principal: caller, Name: "caller", Namespace: "agents", Addresses: []netip.Addr{netip.MustParseAddr("127.0.9.3")}}
	s := store.New(store.Config{Self: here})
	s.Apply(store.Change{Workloads: remote, Services: map[mesh.Name]*mesh.Service{name("web"): web}})
	recorder, err := telemetry.New(telemetry.Config{})
	if err != nil {
		t.Fatal(err)
	}
	balancer := route.NewBalancer(route.BalancerConfig{})
	routes, err := route.New(route.Config{Self: &here, HBONEPort: 15008, Balancer: balancer})
	if err != nil {
		t.Fatal(err)
	}
	proxy, err := outbound.New(outbound.Config{
		Self: here, Store: s, Register: admission.NewRegister(s), Recorder: recorder, Routes: routes, Balancer: balancer, Tunnels: far.dialer,
		Dial: func(_ context.Context, to netip.AddrPort) (net.Conn, error) {
			t.Errorf("%s was dialled without a tunnel", to)
			return nil, net.ErrClosed
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	agent, taken := pair(t)
	var served sync.WaitGroup
	served.Go(func() {
		proxy.Serve(context.Background(), &capture.Conn{TCPConn: taken, Source: netip.MustParseAddrPort("127.0.9.3:4711"), Forward: name("web").Hostname + ":80"})
	})
	t.Cleanup(func() { agent.Close(); served.Wait(); recorder.Close() })
	_ = agent.SetDeadline(time.Now().Add(20 * time.Second)) // fails only on a closed connection
	if _, err := agent.Write([]byte("word")); err != nil {
		t.Fatal(err)
	}
	if err := agent.CloseWrite(); err != nil {
		t.Fatal(err)
	}
	if got, err := io.ReadAll(agent); err != nil || string(got) != "far word" {
		t.Fatalf("%q %v", got, err)
	}
	if in := <-asked; in.Authority != name("web").Hostname+":80" || in.Peer.Principal != caller || in.Header.Network != "" {
		t.Errorf("the gateway was asked for %s by %s, from network %q", in.Authority, in.Peer.Principal, in.Header.Network)
	}
}

// pair is both ends of a TCP connection.
func pair(t *testing.T) (a, b *net.TCPConn) {
	ln, err := net.Listen("tcp", "127.0.9.3:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	c, err := net.Dial("tcp", ln.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	d, err := ln.Accept()
	if err != nil {
		t.Fatal(err)
	}
	return c.(*net.TCPConn), d.(*net.TCPConn)
}
