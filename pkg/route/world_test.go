package route_test

import (
	"net/netip"
	"testing"

	"github.com/outrigger-mesh/outrigger/pkg/mesh"
	"github.com/outrigger-mesh/outrigger/pkg/route"
	"github.com/outrigger-mesh/outrigger/pkg/store"
)

// The world as agents/planner in network "home" sees it.
var planner = &mesh.Self{
	Principal: mesh.NewPrincipal("cluster.local", "agents", "planner"), Name: "planner", Namespace: "agents",
	Network: "home", ClusterID: "c1", Addresses: []netip.Addr{ip("10.0.0.1")},
}

func ip(s string) netip.Addr            { return netip.MustParseAddr(s) }
func at(s string) netip.AddrPort        { return netip.MustParseAddrPort(s) }
func home(s string) mesh.NetworkAddress { return mesh.NetworkAddress{Network: "home", Address: ip(s)} }

func account(namespace, name string) mesh.Principal {
	return mesh.NewPrincipal("cluster.local", namespace, name)
}

func workload(name, address string, change ...func(*mesh.Workload)) *mesh.Workload {
	w := &mesh.Workload{
		UID: "c1//Pod/tools/" + name, Name: name, Namespace: "tools", ServiceAccount: name, TrustDomain: "cluster.local",
		Network: "home", ClusterID: "c1", Tunnel: mesh.TunnelHBONE, Capacity: 1, Services: map[mesh.Name][]mesh.PortMapping{},
	}
	if address != "" {
		w.Addresses = []netip.Addr{ip(address)}
	}
	for _, c := range change {
		c(w)
	}
	return w
}

func in(services ...string) func(*mesh.Workload) {
	return func(w *mesh.Workload) {
		for _, name := range services {
			w.Services[tools(name)] = nil
		}
	}
}

func plain(w *mesh.Workload)     { w.Tunnel = mesh.TunnelNone }
func unhealthy(w *mesh.Workload) { w.Unhealthy = true }
func far(gw *mesh.GatewayAddress) func(*mesh.Workload) {
	return func(w *mesh.Workload) { w.Network, w.NetworkGateway = "far", gw }
}
func behind(gw *mesh.GatewayAddress) func(*mesh.Workload) {
	return func(w *mesh.Workload) { w.Waypoint = gw }
}

func tools(name string) mesh.Name {
	return mesh.Name{Namespace: "tools", Hostname: name + ".tools.svc.cluster.local"}
}

func byName(name string) *mesh.GatewayAddress { return &mesh.GatewayAddress{Hostname: tools(name)} }
func byAddress(s string) *mesh.GatewayAddress {
	return &mesh.GatewayAddress{Address: home(s), HBONEPort: 15008}
}

func service(name, vip string, change ...func(*mesh.Service)) *mesh.Service {
	n := tools(name)
	s := &mesh.Service{Name: name, Namespace: n.Namespace, Hostname: n.Hostname,
		Ports: []mesh.PortMapping{{Service: 80, Target: 8080}, {Service: 15008, Target: 15008}}}
	if vip != "" {
		p, err := netip.ParsePrefix(vip)
		if err != nil {
			p = netip.PrefixFrom(ip(vip), ip(vip).BitLen())
		}
		s.VIPs = []mesh.VIP{{Network: "home", Prefix: p}}
	}
	for _, c := range change {
		c(s)
	}
	return s
}

func over(gw *mesh.GatewayAddress) func(*mesh.Service) {
	return func(s *mesh.Service) { s.Waypoint = gw }
}
func balance(mode mesh.BalanceMode, scopes ...mesh.Scope) func(*mesh.Service) {
	return func(s *mesh.Service) { s.LoadBalancing.Mode, s.LoadBalancing.Preference = mode, scopes }
}
func vouches(p ...mesh.Principal) func(*mesh.Service) {
	return func(s *mesh.Service) { s.SubjectAltNames = p }
}

func snapshot(all ...any) *store.Snapshot {
	st := store.New(store.Config{Self: *planner, Expect: []string{"never"}})
	c := store.Change{Workloads: map[string]*mesh.Workload{}, Services: map[mesh.Name]*mesh.Service{}}
	me := workload("planner", "10.0.0.1", func(w *mesh.Workload) {
		w.Namespace, w.Locality, w.Node = "agents", mesh.Locality{Region: "r1", Zone: "z1", Subzone: "s1"}, "n1"
	})
	c.Workloads[me.UID] = me
	for _, thing := range all {
		switch thing := thing.(type) {
		case *mesh.Workload:
			c.Workloads[thing.UID] = thing
		case *mesh.Service:
			c.Services[thing.Key()] = thing
		}
	}
	return st.Apply(c)
}

func resolver(t testing.TB, c route.Config) *route.Resolver {
	t.Helper()
	if c.Self == nil {
		c.Self = planner
	}
	r, err := route.New(c)
	if err != nil {
		t.Fatal(err)
	}
	return r
}
