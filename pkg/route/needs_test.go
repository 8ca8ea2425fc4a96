package route_test

import (
	"slices"
	"testing"

	"github.com/outrigger-mesh/outrigger/pkg/mesh"
	"github.com/outrigger-mesh/outrigger/pkg/route"
)

func TestNeeds(t *testing.T) {
	world := []any{
		service("github", "10.1.0.1"), workload("near", "10.0.0.2", in("github")),
		service("guarded", "10.1.0.3", over(byName("gate"))),
		service("remote", "10.1.0.4"), workload("far", "", in("remote"), far(byName("border"))),
		workload("external", "", in("named"), func(w *mesh.Workload) { w.Tunnel, w.Hostname = mesh.TunnelNone, "api.example.com" }),
		service("named", "10.1.0.5"),
		workload("direct", "10.0.0.9", func(w *mesh.Workload) { w.Waypoint = byName("gate") }),
	}
	farGate := append(slices.Clone(world), service("gate", ""), workload("gate", "", in("gate"), far(byName("border"))))
	for _, tt := range []struct {
		fact  string
		world []any
		to    route.Destination
		want  []string
	}{
		{"an unknown address", world, route.Destination{Address: at("10.9.9.9:80")}, []string{"home/10.9.9.9"}},
		{"a service", world, route.Destination{Address: at("10.1.0.1:80")}, []string{"home/10.1.0.1"}},
		{"a service's waypoint", world, route.Destination{Address: at("10.1.0.3:80")}, []string{"home/10.1.0.3", "tools/gate.tools.svc.cluster.local"}},
		{"and the gateway before it", farGate, route.Destination{Address: at("10.1.0.3:80")}, []string{"home/10.1.0.3", "tools/gate.tools.svc.cluster.local", "tools/border.tools.svc.cluster.local"}},
		{"a workload's waypoint", world, route.Destination{Address: at("10.0.0.9:80")}, []string{"home/10.0.0.9", "tools/gate.tools.svc.cluster.local"}},
		{"another network's gateway", world, route.Destination{Address: at("10.1.0.4:80")}, []string{"home/10.1.0.4", "tools/border.tools.svc.cluster.local"}},
		{"an endpoint's hostname", world, route.Destination{Address: at("10.1.0.5:80")}, []string{"home/10.1.0.5", "agents/api.example.com", "istio-system/api.example.com"}},
		{"a known name", world, route.Destination{Hostname: "github.tools", Port: 80}, []string{"tools/github.tools.svc.cluster.local"}},
		{"a Kubernetes name", nil, route.Destination{Hostname: "GitHub.tools.svc.cluster.local.", Port: 80}, []string{"tools/github.tools.svc.cluster.local"}},
		{"another name", nil, route.Destination{Hostname: "api.example.com", Port: 80}, []string{"agents/api.example.com", "istio-system/api.example.com"}},
	} {
		t.Run(tt.fact, func(t *testing.T) {
			self := *planner
			self.RootNamespace = "istio-system"
			c := route.Config{Self: &self}
			var got []string
			for _, ref := range resolver(t, c).Needs(snapshot(tt.world...), tt.to) {
				got = append(got, ref.String())
			}
			if !slices.Equal(got, tt.want) {
				t.Errorf("needs %v, want %v", got, tt.want)
			}
		})
	}
}

// ServiceEntries may name as endpoint what is another service of the mesh: its
// waypoint and policies must not be passed by.
func TestEndpointThatIsAnotherServiceIsRoutedAsThat(t *testing.T) {
	alias := func(hostname string) func(*mesh.Workload) {
		return func(w *mesh.Workload) { w.Tunnel, w.Hostname = mesh.TunnelNone, hostname }
	}
	same := func(s *mesh.Service) { s.Ports = []mesh.PortMapping{{Service: 80, Target: 80}} }
	snap := snapshot(service("alias", "10.1.0.1", same), workload("a", "", in("alias"), alias("github.tools.svc.cluster.local")),
		service("github", "10.1.0.2", over(byName("gate"))), workload("w", "10.0.0.2", in("github")),
		service("gate", ""), workload("gate", "10.0.0.7", in("gate")),
		service("loop", "10.1.0.3", same), workload("l", "", in("loop"), alias("pool.tools.svc.cluster.local")),
		service("pool", "", same), workload("p", "", in("pool"), alias("loop.tools.svc.cluster.local")),
		service("dns", "10.1.0.4"), workload("d", "", in("dns"), alias("dns.tools.svc.cluster.local")))
	r := resolver(t, route.Config{})
	rt := must(r.Resolve(snap, route.Destination{Address: at("10.1.0.1:80")}))
	if rt.Kind != route.Waypoint || rt.Service.Key() != tools("github") || rt.Via.Name != "gate" {
		t.Errorf("route %+v", rt)
	}
	for _, address := range []string{"10.1.0.3:80", "10.1.0.4:80"} { // names that lead back are DNS's
		if rt := must(r.Resolve(snap, route.Destination{Address: at(address)})); rt.Kind != route.Plain || rt.Hostname == "" {
			t.Errorf("%s: route %+v", address, rt)
		}
	}
}
