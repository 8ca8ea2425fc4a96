package outage

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	discoveryv3 "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	"go.uber.org/goleak"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/test/bufconn"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/anypb"

	"github.com/outrigger-mesh/outrigger/pkg/discovery"
	"github.com/outrigger-mesh/outrigger/pkg/mesh"
	"github.com/outrigger-mesh/outrigger/pkg/policy"
	"github.com/outrigger-mesh/outrigger/pkg/route"
	"github.com/outrigger-mesh/outrigger/pkg/store"
	"github.com/outrigger-mesh/outrigger/pkg/xds"
	workloadpb "github.com/outrigger-mesh/outrigger/proto/istio/workload"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const (
	uid      = "Kubernetes//Pod/agents/agent-1"
	hostname = "server.tools.svc.cluster.local"
)

var (
	self = mesh.Self{Principal: mesh.NewPrincipal("cluster.local", "agents", "agent"), Name: "agent-1", Namespace: "agents",
		ClusterID: "Kubernetes", ClusterDomain: "cluster.local", Addresses: []netip.Addr{netip.MustParseAddr("10.0.0.1")}, Labels: map[string]string{}}
	service = route.Destination{Hostname: hostname, Port: 80}
	nowhere = route.Destination{Address: netip.MustParseAddrPort("10.9.9.9:80")}
)

// A plane is a control plane in memory that can be away.
type plane struct {
	discoveryv3.UnimplementedAggregatedDiscoveryServiceServer
	dials atomic.Int32

	mu       sync.Mutex // guards what follows
	listener *bufconn.Listener
	server   *grpc.Server
	serving  sync.WaitGroup
}

func (p *plane) start() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.listener, p.server = bufconn.Listen(1<<20), grpc.NewServer()
	discoveryv3.RegisterAggregatedDiscoveryServiceServer(p.server, p)
	server, listener := p.server, p.listener
	p.serving.Go(func() { server.Serve(listener) })
}

func (p *plane) stop() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.server.Stop()
	p.serving.Wait()
	p.listener = nil
}

func (p *plane) dial(ctx context.Context, _ string) (net.Conn, error) {
	p.dials.Add(1)
	p.mu.Lock()
	listener := p.listener
	p.mu.Unlock()
	if listener == nil {
		return nil, errors.New("connection refused")
	}
	return listener.DialContext(ctx)
}

func resources() map[string]proto.Message {
	w := &workloadpb.Workload{Uid: "Kubernetes//Pod/tools/server-1", Name: "server-1", Namespace: "tools", Addresses: [][]byte{{10, 0, 0, 2}},
		TunnelProtocol: workloadpb.TunnelProtocol_HBONE, Services: map[string]*workloadpb.PortList{"tools/" + hostname: {}}}
	return map[string]proto.Message{
		uid: &workloadpb.Address{Type: &workloadpb.Address_Workload{Workload: &workloadpb.Workload{
			Uid: uid, Name: "agent-1", Namespace: "agents", ServiceAccount: "agent", Addresses: [][]byte{{10, 0, 0, 1}}}}},
		w.Uid: &workloadpb.Address{Type: &workloadpb.Address_Workload{Workload: w}},
		"tools/" + hostname: &workloadpb.Address{Type: &workloadpb.Address_Service{Service: &workloadpb.Service{
			Name: "server", Namespace: "tools", Hostname: hostname, Ports: []*workloadpb.Port{{ServicePort: 80, TargetPort: 8080}}}}},
	}
}

// DeltaAggregatedResources answers names with what has them, and wildcards with nothing.
func (p *plane) DeltaAggregatedResources(s grpc.BidiStreamingServer[discoveryv3.DeltaDiscoveryRequest, discoveryv3.DeltaDiscoveryResponse]) error {
	for n := 0; ; n++ {
		r, err := s.Recv()
		if err != nil {
			return err
		}
		if r.GetResponseNonce() != "" {
			continue
		}
		answer := &discoveryv3.DeltaDiscoveryResponse{TypeUrl: r.GetTypeUrl(), Nonce: fmt.Sprint("n", n)}
		all := resources()
		names := r.GetResourceNamesSubscribe()
		if slices.Contains(names, "tools/"+hostname) {
			names = append(names, "Kubernetes//Pod/tools/server-1")
		}
		for _, name := range names {
			if m := all[name]; m != nil {
				body, err := anypb.New(m)
				if err != nil {
					return err
				}
				answer.Resources = append(answer.Resources, &discoveryv3.Resource{Name: name, Version: "1", Resource: body})
			} else if name != "*" {
				answer.RemovedResources = append(answer.RemovedResources, name)
			}
		}
		if err := s.Send(answer); err != nil {
			return err
		}
	}
}

// A sidecar is what of one decides where calls go and whether they may.
type sidecar struct {
	store  *store.Store
	demand *discovery.Demand
	routes *route.Resolver
	client *xds.Client
}

func newSidecar(t *testing.T, p *plane) *sidecar {
	must := func(err error) {
		if err != nil {
			t.Fatal(err)
		}
	}
	s := &sidecar{store: store.New(store.Config{Self: self, Expect: []string{store.KindWorkloads, store.KindAuthorizations, discovery.CarrierMesh.Kind()}})}
	d, err := discovery.New(discovery.Config{Store: s.store, Self: self})
	must(err)
	s.client, err = xds.New(xds.Config{Target: "passthrough:///istiod", Credentials: insecure.NewCredentials(), Dial: p.dial,
		Node:    &corev3.Node{Id: "ztunnel~10.0.0.1~agent-1.agents~agents.svc.cluster.local"},
		Types:   []xds.Type{{URL: discovery.AddressType, OnDemand: true}, {URL: discovery.AuthorizationType}, {URL: discovery.AgentPolicyType}},
		Handler: d})
	must(err)
	s.demand, err = d.NewDemand(discovery.DemandConfig{Subscriber: s.client}, self)
	must(err)
	s.routes, err = route.New(route.Config{Self: &self})
	must(err)
	return s
}

// call decides about one call, as a connection of the app does.
func (s *sidecar) call(ctx context.Context, to route.Destination) error {
	if err := s.demand.Find(ctx, s.routes.Needs(s.store.Snapshot(), to)...); err != nil {
		return err
	}
	snap := s.store.Snapshot()
	rt, err := s.routes.Resolve(snap, to)
	if err != nil {
		return err
	}
	if d := snap.Policies().Connect(&policy.Connection{Direction: policy.Outbound, Source: self.Principal, Service: rt.Service.Key()}); !d.Allowed {
		return errors.New(d.Reason)
	}
	return nil
}

// In an hour without control plane, at a call a second, no call fails, what does
// not exist goes on not to exist, and the control plane is not stormed. After
// it, all goes on.
func TestAnHourWithoutControlPlane(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := &plane{}
		p.start()
		s := newSidecar(t, p)
		ctx, cancel := context.WithCancel(t.Context())
		var running sync.WaitGroup
		running.Go(func() { s.client.Run(ctx) })
		running.Go(func() { s.demand.Run(ctx) })
		time.Sleep(time.Second)
		calls := func(long time.Duration) {
			t.Helper()
			for end := time.Now().Add(long); time.Now().Before(end); time.Sleep(time.Second) {
				if err := s.call(ctx, service); err != nil {
					t.Fatalf("a call failed: %v (pending %v)", err, s.store.Snapshot().Pending())
				}
				if err := s.call(ctx, nowhere); !errors.Is(err, route.ErrNoRoute) {
					t.Fatalf("a call to nowhere: %v", err)
				}
			}
		}
		calls(time.Minute)
		if n := p.dials.Load(); n != 1 {
			t.Fatalf("dialled %d times", n)
		}
		p.stop()
		calls(time.Hour)
		// Waits are drawn between 100 ms and three times the one before, at most 30 s.
		if n := p.dials.Load(); n < 100 || n > 800 {
			t.Errorf("dialled %d times in an hour", n)
		}
		p.start()
		back := time.Now()
		for !s.client.Status().Connected {
			time.Sleep(time.Second)
		}
		if gap := time.Since(back); gap > time.Minute {
			t.Errorf("was back after %v", gap)
		}
		n := p.dials.Load()
		calls(time.Hour)
		if again := p.dials.Load() - n; again != 0 {
			t.Errorf("dialled %d times in a good hour", again)
		}
		p.stop()
		cancel()
		running.Wait()
	})
}
