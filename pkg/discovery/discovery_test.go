package discovery

import (
	"bytes"
	"fmt"
	"log/slog"
	"net/netip"
	"reflect"
	"slices"
	"strings"
	"testing"

	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/anypb"
	"google.golang.org/protobuf/types/known/wrapperspb"

	"github.com/outrigger-mesh/outrigger/pkg/mesh"
	"github.com/outrigger-mesh/outrigger/pkg/policy"
	"github.com/outrigger-mesh/outrigger/pkg/store"
	"github.com/outrigger-mesh/outrigger/pkg/xds"
	securitypb "github.com/outrigger-mesh/outrigger/proto/istio/security"
	workloadpb "github.com/outrigger-mesh/outrigger/proto/istio/workload"
	policypb "github.com/outrigger-mesh/outrigger/proto/outrigger/policy/v1alpha1"
)

var github = mesh.Self{
	Principal: mesh.NewPrincipal("cluster.local", "tools", "github"), Name: "github-1", Namespace: "tools",
	ClusterID: "Kubernetes", Addresses: []netip.Addr{netip.MustParseAddr("10.0.0.2")}, Labels: map[string]string{"app": "github"},
}

func newDiscovery(t testing.TB, expect ...string) (*Discovery, *store.Store) {
	t.Helper()
	st := store.New(store.Config{Self: github, Expect: expect})
	d, err := New(Config{Store: st, Self: github})
	if err != nil {
		t.Fatal(err)
	}
	return d, st
}

func resource(t testing.TB, name string, m proto.Message) xds.Resource {
	t.Helper()
	switch body := m.(type) {
	case *workloadpb.Workload:
		m = &workloadpb.Address{Type: &workloadpb.Address_Workload{Workload: body}}
	case *workloadpb.Service:
		m = &workloadpb.Address{Type: &workloadpb.Address_Service{Service: body}}
	}
	body, err := anypb.New(m)
	if err != nil {
		t.Fatal(err)
	}
	return xds.Resource{Name: name, Version: "v1", Body: body}
}

// newer adds a field to m that our schema does not have.
func newer[M proto.Message](m M) M {
	m.ProtoReflect().SetUnknown(protowire.AppendVarint(protowire.AppendTag(nil, 500, protowire.VarintType), 1))
	return m
}

func ip(s string) []byte { return netip.MustParseAddr(s).AsSlice() }

const githubUID = "Kubernetes//Pod/tools/github-1"

func githubWorkload(change ...func(*workloadpb.Workload)) *workloadpb.Workload {
	w := &workloadpb.Workload{Uid: githubUID, Name: "github-1", Namespace: "tools", ServiceAccount: "github", Addresses: [][]byte{ip("10.0.0.2")}}
	for _, c := range change {
		c(w)
	}
	return w
}

func githubService(change ...func(*workloadpb.Service)) *workloadpb.Service {
	s := &workloadpb.Service{Name: "github", Namespace: "tools", Hostname: "github.tools"}
	for _, c := range change {
		c(s)
	}
	return s
}

func TestWorkloadIsDecodedWhole(t *testing.T) {
	d, st := newDiscovery(t, "never")
	if bad := d.Apply(AddressType, []xds.Resource{resource(t, githubUID, &workloadpb.Workload{
		Uid: githubUID, Name: "github-1", Namespace: "tools", Addresses: [][]byte{ip("10.0.0.2"), ip("fd00::2")}, Hostname: "h",
		Network: "east", TunnelProtocol: workloadpb.TunnelProtocol_HBONE, TrustDomain: "td", ServiceAccount: "github",
		Waypoint:       &workloadpb.GatewayAddress{Destination: &workloadpb.GatewayAddress_Hostname{Hostname: &workloadpb.NamespacedHostname{Namespace: "tools", Hostname: "gate"}}, HboneMtlsPort: 15008},
		NetworkGateway: &workloadpb.GatewayAddress{Destination: &workloadpb.GatewayAddress_Address{Address: &workloadpb.NetworkAddress{Network: "east", Address: ip("10.9.9.9")}}},
		Node:           "n", CanonicalName: "github", CanonicalRevision: "v2", WorkloadType: workloadpb.WorkloadType_JOB, WorkloadName: "gh", NativeTunnel: true,
		ApplicationTunnel:     &workloadpb.ApplicationTunnel{Protocol: workloadpb.ApplicationTunnel_PROXY, Port: 15088},
		Services:              map[string]*workloadpb.PortList{"tools/github.tools": {Ports: []*workloadpb.Port{{ServicePort: 80, TargetPort: 8080, AppProtocol: workloadpb.AppProtocol_HTTP2}}}},
		AuthorizationPolicies: []string{"tools/strict"}, Status: workloadpb.WorkloadStatus_UNHEALTHY, ClusterId: "c2",
		Locality: &workloadpb.Locality{Region: "r", Zone: "z", Subzone: "s"}, NetworkMode: workloadpb.NetworkMode_HOST_NETWORK, Capacity: wrapperspb.UInt32(7),
	})}, nil, false); bad != nil {
		t.Fatal(bad)
	}
	want := &mesh.Workload{
		UID: githubUID, Name: "github-1", Namespace: "tools", ServiceAccount: "github", TrustDomain: "td", Network: "east", ClusterID: "c2", Node: "n",
		CanonicalName: "github", CanonicalRevision: "v2", WorkloadName: "gh", WorkloadType: "job",
		Addresses: []netip.Addr{netip.MustParseAddr("10.0.0.2"), netip.MustParseAddr("fd00::2")}, Hostname: "h",
		Tunnel: mesh.TunnelHBONE, NativeTunnel: true, HostNetwork: true, ApplicationTunnel: &mesh.ApplicationTunnel{Proxy: true, Port: 15088},
		Waypoint:              &mesh.GatewayAddress{Hostname: mesh.Name{Namespace: "tools", Hostname: "gate"}, HBONEPort: 15008},
		NetworkGateway:        &mesh.GatewayAddress{Address: mesh.NetworkAddress{Network: "east", Address: netip.MustParseAddr("10.9.9.9")}},
		Services:              map[mesh.Name][]mesh.PortMapping{{Namespace: "tools", Hostname: "github.tools"}: {{Service: 80, Target: 8080, AppProtocol: "HTTP2"}}},
		AuthorizationPolicies: []string{"tools/strict"}, Unhealthy: true, Capacity: 7, Locality: mesh.Locality{Region: "r", Zone: "z", Subzone: "s"},
	}
	if got := st.Snapshot().WorkloadByUID(githubUID); !reflect.DeepEqual(got, want) {
		t.Errorf("got  %+v\nwant %+v", got, want)
	}
}

func TestEmptyFieldsMeanWhatTheyMeanToIstiod(t *testing.T) {
	d, st := newDiscovery(t, "never")
	d.Apply(AddressType, []xds.Resource{resource(t, "u", &workloadpb.Workload{Uid: "u", Namespace: "ns"})}, nil, false)
	w := st.Snapshot().WorkloadByUID("u")
	if w == nil || w.Principal().String() != "spiffe://cluster.local/ns/ns/sa/default" || w.ClusterID != "Kubernetes" || w.Capacity != 1 || w.WorkloadType != "deployment" {
		t.Errorf("got %+v", w)
	}
}

func TestServiceIsDecodedWhole(t *testing.T) {
	d, st := newDiscovery(t, "never")
	gate := &workloadpb.GatewayAddress{Destination: &workloadpb.GatewayAddress_Hostname{Hostname: &workloadpb.NamespacedHostname{Namespace: "tools", Hostname: "gate"}}}
	if bad := d.Apply(AddressType, []xds.Resource{resource(t, "tools/github.tools", githubService(func(s *workloadpb.Service) {
		s.Addresses = []*workloadpb.NetworkAddress{{Network: "east", Address: ip("10.1.0.1")}, {Address: ip("10.2.3.4"), Length: proto.Uint32(16)}, {Address: ip("::ffff:10.3.0.0"), Length: proto.Uint32(112)}}
		s.Ports = []*workloadpb.Port{{ServicePort: 80, TargetPort: 8080}, {ServicePort: 81}}
		s.SubjectAltNames = []string{"spiffe://cluster.local/ns/tools/sa/github", "dns.example", "spiffe://Bad/x"}
		s.Waypoint, s.WeightedWaypoints = gate, []*workloadpb.WeightedWaypoint{{Destination: gate, Weight: 3}}
		s.LoadBalancing = &workloadpb.LoadBalancing{Mode: workloadpb.LoadBalancing_FAILOVER, HealthPolicy: workloadpb.LoadBalancing_ALLOW_ALL,
			RoutingPreference: []workloadpb.LoadBalancing_Scope{workloadpb.LoadBalancing_NETWORK, workloadpb.LoadBalancing_REGION}}
		s.IpFamilies, s.Canonical, s.Visibility = workloadpb.IPFamilies_DUAL, true, workloadpb.Service_NAMESPACE
	}))}, nil, false); bad != nil {
		t.Fatal(bad)
	}
	gw := mesh.GatewayAddress{Hostname: mesh.Name{Namespace: "tools", Hostname: "gate"}}
	want := &mesh.Service{
		Name: "github", Namespace: "tools", Hostname: "github.tools",
		VIPs:            []mesh.VIP{{Network: "east", Prefix: netip.MustParsePrefix("10.1.0.1/32")}, {Prefix: netip.MustParsePrefix("10.2.0.0/16")}, {Prefix: netip.MustParsePrefix("10.3.0.0/16")}},
		Ports:           []mesh.PortMapping{{Service: 80, Target: 8080}, {Service: 81}},
		SubjectAltNames: []mesh.Principal{mesh.NewPrincipal("cluster.local", "tools", "github")},
		Waypoint:        &gw, WeightedWaypoints: []mesh.WeightedWaypoint{{Gateway: gw, Weight: 3}},
		LoadBalancing: mesh.LoadBalancing{Mode: mesh.BalanceFailover, Preference: []mesh.Scope{mesh.ScopeNetwork, mesh.ScopeRegion}, AllowUnhealthy: true},
		IPFamilies:    "DUAL", Canonical: true, NamespaceOnly: true,
	}
	if got := st.Snapshot().Service(want.Key()); !reflect.DeepEqual(got, want) {
		t.Errorf("got  %+v\nwant %+v", got, want)
	}
}

// Every bad address names its field, is rejected by name, and leaves the good
// one that was there.
func TestBadAddressesAreRejected(t *testing.T) {
	w := func(change func(*workloadpb.Workload)) proto.Message { return githubWorkload(change) }
	s := func(change func(*workloadpb.Service)) proto.Message { return githubService(change) }
	for field, m := range map[string]proto.Message{
		"addresses[1]":                 w(func(w *workloadpb.Workload) { w.Addresses = append(w.Addresses, []byte{1, 2, 3}) }),
		"addresses[0]":                 w(func(w *workloadpb.Workload) { w.Addresses = [][]byte{{}} }),
		"tunnelProtocol":               w(func(w *workloadpb.Workload) { w.TunnelProtocol = workloadpb.TunnelProtocol_LEGACY_ISTIO_MTLS }),
		"workloadType":                 w(func(w *workloadpb.Workload) { w.WorkloadType = 77 }),
		"status":                       w(func(w *workloadpb.Workload) { w.Status = 77 }),
		"networkMode":                  w(func(w *workloadpb.Workload) { w.NetworkMode = 77 }),
		"applicationTunnel.protocol":   w(func(w *workloadpb.Workload) { w.ApplicationTunnel = &workloadpb.ApplicationTunnel{Protocol: 77} }),
		"applicationTunnel.port":       w(func(w *workloadpb.Workload) { w.ApplicationTunnel = &workloadpb.ApplicationTunnel{Port: 65536} }),
		"waypoint":                     w(func(w *workloadpb.Workload) { w.Waypoint = &workloadpb.GatewayAddress{} }),
		"networkGateway.hboneMtlsPort": w(func(w *workloadpb.Workload) { w.NetworkGateway = &workloadpb.GatewayAddress{HboneMtlsPort: 70000} }),
		"waypoint.hostname.namespace": w(func(w *workloadpb.Workload) {
			w.Waypoint = &workloadpb.GatewayAddress{Destination: &workloadpb.GatewayAddress_Hostname{Hostname: &workloadpb.NamespacedHostname{Hostname: "h"}}}
		}),
		"waypoint.address.address": w(func(w *workloadpb.Workload) {
			w.Waypoint = &workloadpb.GatewayAddress{Destination: &workloadpb.GatewayAddress_Address{Address: &workloadpb.NetworkAddress{}}}
		}),
		"services[github]": w(func(w *workloadpb.Workload) { w.Services = map[string]*workloadpb.PortList{"github": {}} }),
		"services[a/b].ports[0].servicePort": w(func(w *workloadpb.Workload) {
			w.Services = map[string]*workloadpb.PortList{"a/b": {Ports: []*workloadpb.Port{{TargetPort: 1}}}}
		}),
		"services[a/b].ports[0].targetPort": w(func(w *workloadpb.Workload) {
			w.Services = map[string]*workloadpb.PortList{"a/b": {Ports: []*workloadpb.Port{{ServicePort: 1, TargetPort: 65536}}}}
		}),
		"authorizationPolicies[0]": w(func(w *workloadpb.Workload) { w.AuthorizationPolicies = []string{"strict"} }),
		"namespace":                w(func(w *workloadpb.Workload) { w.Namespace = "" }),
		"serviceAccount":           w(func(w *workloadpb.Workload) { w.ServiceAccount = "a/b" }),

		"hostname":             s(func(s *workloadpb.Service) { s.Hostname = "" }),
		"ports[0].servicePort": s(func(s *workloadpb.Service) { s.Ports = []*workloadpb.Port{{ServicePort: 65536}} }),
		"ports[0].appProtocol": s(func(s *workloadpb.Service) { s.Ports = []*workloadpb.Port{{ServicePort: 1, AppProtocol: 77}} }),
		"addresses[0].address": s(func(s *workloadpb.Service) { s.Addresses = []*workloadpb.NetworkAddress{{Address: []byte{1}}} }),
		"addresses[0].length": s(func(s *workloadpb.Service) {
			s.Addresses = []*workloadpb.NetworkAddress{{Address: ip("10.0.0.0"), Length: proto.Uint32(33)}}
		}),
		"ipFamilies":                 s(func(s *workloadpb.Service) { s.IpFamilies = 77 }),
		"loadBalancing.mode":         s(func(s *workloadpb.Service) { s.LoadBalancing = &workloadpb.LoadBalancing{Mode: 77} }),
		"loadBalancing.healthPolicy": s(func(s *workloadpb.Service) { s.LoadBalancing = &workloadpb.LoadBalancing{HealthPolicy: 77} }),
		"loadBalancing.routingPreference[0]": s(func(s *workloadpb.Service) {
			s.LoadBalancing = &workloadpb.LoadBalancing{RoutingPreference: []workloadpb.LoadBalancing_Scope{0}}
		}),
		"weightedWaypoints[0].destination": s(func(s *workloadpb.Service) { s.WeightedWaypoints = []*workloadpb.WeightedWaypoint{{Weight: 1}} }),

		"type": &workloadpb.Address{},
	} {
		t.Run(field, func(t *testing.T) {
			d, st := newDiscovery(t, "never")
			d.Apply(AddressType, []xds.Resource{resource(t, githubUID, githubWorkload()), resource(t, "tools/github.tools", githubService())}, nil, true)
			name := githubUID
			if _, ok := m.(*workloadpb.Service); ok {
				name = "tools/github.tools"
			}
			bad := d.Apply(AddressType, []xds.Resource{resource(t, name, m), resource(t, "other", &workloadpb.Workload{Uid: "other", Namespace: "ns"})}, nil, false)
			if len(bad) != 1 || bad[0].Name != name {
				t.Fatalf("rejected %v", bad)
			}
			if problems := policy.Problems(bad[0].Err); len(problems) == 0 || problems[0].Field != field {
				t.Errorf("complains %v, want of %s", bad[0].Err, field)
			}
			s := st.Snapshot()
			if s.WorkloadByUID(githubUID) == nil || s.Service(mesh.Name{Namespace: "tools", Hostname: "github.tools"}) == nil || s.WorkloadByUID("other") == nil {
				t.Error("a bad resource displaced a good one, or kept one back")
			}
			if got := d.Rejected(); len(got) != 1 || got[0].Name != name {
				t.Errorf("status tells %v", got)
			}
			d.Apply(AddressType, []xds.Resource{resource(t, githubUID, githubWorkload()), resource(t, "tools/github.tools", githubService())}, nil, false)
			if got := d.Rejected(); len(got) != 0 {
				t.Errorf("status still tells %v", got)
			}
		})
	}
}

func TestResourcesAreWhatTheyAreCalled(t *testing.T) {
	d, st := newDiscovery(t, "never")
	for kind, r := range map[string]xds.Resource{
		AddressType:       resource(t, "other", githubWorkload()),
		AddressType + " ": resource(t, "tools/other", githubService()),
		AuthorizationType: resource(t, "tools/other", &securitypb.Authorization{Name: "deny", Namespace: "tools"}),
		AgentPolicyType:   resource(t, "tools/other", goodAgentPolicy()),
	} {
		if bad := d.Apply(strings.TrimSpace(kind), []xds.Resource{r}, nil, false); len(bad) != 1 || bad[0].Name != r.Name {
			t.Errorf("%s: rejected %v", kind, bad)
		}
	}
	if c := st.Snapshot().Counts(); c.Workloads+c.Services != 0 {
		t.Errorf("store holds %+v", c)
	}
	wrong := resource(t, "tools/policy", goodAgentPolicy())
	if bad := d.Apply(AuthorizationType, []xds.Resource{wrong}, nil, false); len(bad) != 1 {
		t.Errorf("a body of another type: %v", bad)
	}
	if bad := d.Apply("type.googleapis.com/unheard.Of", []xds.Resource{wrong}, nil, false); len(bad) != 1 {
		t.Errorf("an unheard-of type: %v", bad)
	}
	if bad := d.Apply(AddressType, []xds.Resource{{Name: "x"}}, nil, false); len(bad) != 1 {
		t.Errorf("no body: %v", bad)
	}
}

func TestRemovedNamesAreWorkloadsThenServices(t *testing.T) {
	d, st := newDiscovery(t, "never")
	// A workload may be called like a service.
	same := &workloadpb.Workload{Uid: "tools/github.tools", Namespace: "tools"}
	d.Apply(AddressType, []xds.Resource{resource(t, same.Uid, same), resource(t, "tools/github.tools", githubService())}, nil, false)
	for _, want := range []store.Counts{{Services: 1}, {}, {}} {
		if bad := d.Apply(AddressType, nil, []string{"tools/github.tools", "/10.9.9.9", "nobody"}, false); bad != nil {
			t.Fatal(bad)
		}
		if got := st.Snapshot().Counts(); got != want {
			t.Fatalf("store holds %+v, want %+v", got, want)
		}
	}
}

func TestUnknownFieldsOfWorkloadsAreToldOnce(t *testing.T) {
	var log bytes.Buffer
	st := store.New(store.Config{Self: github, Expect: []string{"never"}})
	d, _ := New(Config{Store: st, Self: github, Logger: slog.New(slog.NewTextHandler(&log, nil))})
	for range 3 {
		w := newer(githubWorkload(func(w *workloadpb.Workload) {
			w.Services = map[string]*workloadpb.PortList{"a/b": newer(&workloadpb.PortList{}), "c/d": newer(&workloadpb.PortList{})}
		}))
		if bad := d.Apply(AddressType, []xds.Resource{resource(t, githubUID, w)}, nil, false); bad != nil {
			t.Fatal(bad)
		}
	}
	if n := strings.Count(log.String(), "\n"); n != 2 { // one for the workload, one for its port lists
		t.Errorf("%d lines:\n%s", n, &log)
	}
	if bad := d.Apply(AddressType, []xds.Resource{resource(t, "tools/github.tools", githubService(func(s *workloadpb.Service) { s.Visibility = 77 }))}, nil, false); bad != nil {
		t.Errorf("a new kind of visibility: %v", bad)
	}
}

func goodAgentPolicy(change ...func(*policypb.AgentPolicy)) *policypb.AgentPolicy {
	p := &policypb.AgentPolicy{Name: "policy", Namespace: "tools", Spec: &policypb.AgentPolicySpec{
		Ports: []*policypb.Port{{Number: 8080, Protocol: policypb.Port_MCP}},
		Rules: []*policypb.Rule{{Name: "all", Action: policypb.Rule_Allow}},
	}}
	for _, c := range change {
		c(p)
	}
	return p
}

func TestFirstResponseMarksItsKindSynced(t *testing.T) {
	d, st := newDiscovery(t, store.KindWorkloads, store.KindAuthorizations, CarrierMesh.Kind())
	d.Apply(AddressType, []xds.Resource{resource(t, githubUID, githubWorkload())}, nil, true)
	d.Apply(AuthorizationType, nil, nil, false)
	if got := st.Snapshot().Pending(); !slices.Equal(got, []string{store.KindAuthorizations, CarrierMesh.Kind()}) {
		t.Fatalf("pending %v", got)
	}
	d.Apply(AuthorizationType, nil, nil, true)
	if st.Snapshot().Policies() != nil {
		t.Fatal("there are policies while agent policies are pending")
	}
	d.Apply(AgentPolicyType, nil, nil, true)
	if s := st.Snapshot(); len(s.Pending()) != 0 || s.Policies() == nil || s.PolicyVersion() != s.Version() {
		t.Fatalf("pending %v, policies %v of version %d of %d", s.Pending(), s.Policies(), s.PolicyVersion(), s.Version())
	}
	made := st.Snapshot()
	d.Apply(AddressType, []xds.Resource{resource(t, "other", &workloadpb.Workload{Uid: "other", Namespace: "ns"})}, nil, false)
	if s := st.Snapshot(); s.Policies() != made.Policies() || s.PolicyVersion() != made.PolicyVersion() || s.Version() == made.Version() {
		t.Error("policies were compiled again for somebody else's workload")
	}
	d.Apply(AddressType, []xds.Resource{resource(t, githubUID, githubWorkload(func(w *workloadpb.Workload) { w.AuthorizationPolicies = []string{"tools/x"} }))}, nil, false)
	if st.Snapshot().Policies() == made.Policies() {
		t.Error("policies were not compiled again when our workload lists others")
	}
}

func TestCheckFindsEveryProblem(t *testing.T) {
	err := Check(goodAgentPolicy(func(p *policypb.AgentPolicy) {
		newer(p)
		p.Name = "Not A Name"
		p.Spec.Ports[0].Number = 70000
		p.Spec.Rules[0].Action = 0
		p.Spec.Rules[0].When = []string{"nonsense("}
	}))
	var fields []string
	for _, p := range policy.Problems(err) {
		fields = append(fields, p.Field)
	}
	for _, want := range []string{"field 500", "name", "spec.ports[0].number", "spec.rules[0].action", "spec.rules[0].when[0]"} {
		if !slices.ContainsFunc(fields, func(f string) bool { return strings.HasSuffix(f, want) }) {
			t.Errorf("%s is not among %v\n%v", want, fields, err)
		}
	}
	for _, good := range []proto.Message{goodAgentPolicy(), githubWorkload(), githubService(), &securitypb.Authorization{Name: "a", Namespace: "b"}} {
		if err := Check(good); err != nil {
			t.Errorf("%T: %v", good, err)
		}
	}
	for _, bad := range []proto.Message{newer(githubWorkload()), newer(githubService()), &workloadpb.Address{}, &workloadpb.Port{},
		newer(&securitypb.Authorization{Name: "a", Namespace: "b"}), &securitypb.Authorization{}} {
		if Check(bad) == nil {
			t.Errorf("nothing is wrong with %v", bad)
		}
	}
}

func TestRejectedIsBounded(t *testing.T) {
	d, _ := newDiscovery(t, "never")
	var all []xds.Resource
	for i := range maxRejected + 10 {
		all = append(all, xds.Resource{Name: fmt.Sprint("x", i)})
	}
	if bad := d.Apply(AddressType, all, nil, false); len(bad) != len(all) || len(d.Rejected()) != maxRejected {
		t.Errorf("rejected %d, status tells %d", len(bad), len(d.Rejected()))
	}
}

func BenchmarkApplyAddresses(b *testing.B) {
	var all []xds.Resource
	for i := range 1000 {
		uid := fmt.Sprint("Kubernetes//Pod/tools/pod-", i)
		all = append(all, resource(b, uid, &workloadpb.Workload{
			Uid: uid, Name: fmt.Sprint("pod-", i), Namespace: "tools", ServiceAccount: "github", TrustDomain: "cluster.local", Node: "node-1",
			Addresses: [][]byte{{10, 0, byte(i >> 8), byte(i)}}, TunnelProtocol: workloadpb.TunnelProtocol_HBONE, ClusterId: "Kubernetes",
			CanonicalName: "github", CanonicalRevision: "v1", WorkloadName: "github", Locality: &workloadpb.Locality{Region: "r", Zone: "z"},
			Services: map[string]*workloadpb.PortList{"tools/github.tools.svc.cluster.local": {Ports: []*workloadpb.Port{{ServicePort: 80, TargetPort: 8080}}}},
		}))
	}
	d, _ := newDiscovery(b, "never")
	b.ReportAllocs()
	for b.Loop() {
		if bad := d.Apply(AddressType, all, nil, false); bad != nil {
			b.Fatal(bad)
		}
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N*len(all)), "ns/workload")
}
