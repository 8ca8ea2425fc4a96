package admin

import (
	"net/netip"
	"reflect"
	"testing"

	"github.com/outrigger-mesh/outrigger/pkg/mesh"
)

func TestADumpIsReadAsWhatItShows(t *testing.T) {
	gateway := &mesh.GatewayAddress{Hostname: mesh.Name{Namespace: "istio-system", Hostname: "gw.istio-system.svc.cluster.local"}, HBONEPort: 15008}
	direct := &mesh.GatewayAddress{Address: mesh.NetworkAddress{Network: "east", Address: netip.MustParseAddr("10.9.9.9")}, HBONEPort: 15009}
	svc := mesh.Name{Namespace: "tools", Hostname: "github.tools.svc.cluster.local"}
	for _, w := range []*mesh.Workload{
		{UID: "plain"},
		{
			UID: "full", Name: "n", Namespace: "ns", ServiceAccount: "sa", WorkloadName: "wn", WorkloadType: "deployment", CanonicalName: "cn",
			CanonicalRevision: "v1", ClusterID: "c", TrustDomain: "td", Locality: mesh.Locality{Region: "r", Zone: "z", Subzone: "s"}, Node: "node",
			Network: "west", Unhealthy: true, Hostname: "example.com", Capacity: 7, NativeTunnel: true, Tunnel: mesh.TunnelHBONE, HostNetwork: true,
			AuthorizationPolicies: []string{"ns/a"}, Addresses: []netip.Addr{netip.MustParseAddr("10.1.2.3"), netip.MustParseAddr("fd00::1")},
			Waypoint: gateway, NetworkGateway: direct, ApplicationTunnel: &mesh.ApplicationTunnel{Proxy: true, Port: 15088},
			Services: map[mesh.Name][]mesh.PortMapping{svc: {{Service: 80, Target: 8080}, {Service: 443, Target: 8443}}},
		},
	} {
		shown := Workloads([]*mesh.Workload{w})[0]
		got, err := shown.Restore()
		if err != nil || !reflect.DeepEqual(got, w) {
			t.Errorf("workload\ngot  %+v %v\nwant %+v", got, err, w)
		}
	}
	for _, s := range []*mesh.Service{
		{Namespace: "tools", Hostname: "plain"},
		{
			Name: "github", Namespace: "tools", Hostname: svc.Hostname, IPFamilies: "DUAL", Canonical: true, NamespaceOnly: true,
			VIPs: []mesh.VIP{{Network: "west", Prefix: netip.MustParsePrefix("10.96.0.1/32")}, {Prefix: netip.MustParsePrefix("10.98.0.0/16")},
				{Prefix: netip.MustParsePrefix("fd00::/64")}},
			Ports:           []mesh.PortMapping{{Service: 80, Target: 8080, AppProtocol: "HTTP11"}, {Service: 443, Target: 0}},
			SubjectAltNames: []mesh.Principal{mesh.NewPrincipal("cluster.local", "tools", "github")}, Waypoint: gateway,
			WeightedWaypoints: []mesh.WeightedWaypoint{{Gateway: *gateway, Weight: 3}, {Gateway: *direct, Weight: 1}},
			LoadBalancing:     mesh.LoadBalancing{Mode: mesh.BalanceFailover, Preference: []mesh.Scope{mesh.ScopeNetwork, mesh.ScopeRegion}, AllowUnhealthy: true},
		},
	} {
		shown := Services([]*mesh.Service{s}, nil)[0]
		got, err := shown.Restore()
		if err != nil || !reflect.DeepEqual(got, s) {
			t.Errorf("service\ngot  %+v %v\nwant %+v", got, err, s)
		}
	}
}

func TestWhatADumpCannotShowIsNamed(t *testing.T) {
	for _, w := range []Workload{{WorkloadIPs: []string{"x"}}, {Waypoint: &GatewayAddress{Destination: "x"}}, {Services: map[string]map[string]uint16{"a/b": {"x": 1}}}} {
		if got, err := w.Restore(); err == nil {
			t.Errorf("%+v was read as %+v", w, got)
		}
	}
	for _, s := range []Service{{VIPs: []string{"x"}}, {VIPs: []string{"/10.0.0.0/99"}}, {Ports: map[string]uint16{"70000": 1}}, {SubjectAltNames: []string{"x"}}} {
		if got, err := s.Restore(); err == nil {
			t.Errorf("%+v was read as %+v", s, got)
		}
	}
}
