package discovery

import (
	"errors"
	"net/netip"
	"testing"

	"google.golang.org/protobuf/types/known/anypb"

	"github.com/outrigger-mesh/outrigger/pkg/mesh"
	"github.com/outrigger-mesh/outrigger/pkg/policy"
	"github.com/outrigger-mesh/outrigger/pkg/store"
	"github.com/outrigger-mesh/outrigger/pkg/xds"
	securitypb "github.com/outrigger-mesh/outrigger/proto/istio/security"
	workloadpb "github.com/outrigger-mesh/outrigger/proto/istio/workload"
	policypb "github.com/outrigger-mesh/outrigger/proto/outrigger/policy/v1alpha1"
)

// connects tells whether anybody may connect to the workload's port 8080.
func connects(s *store.Snapshot) bool {
	return s.Policies().Connect(&policy.Connection{
		Source:      mesh.NewPrincipal("cluster.local", "agents", "planner"),
		SourceAddr:  netip.MustParseAddrPort("10.0.0.1:999"),
		Destination: netip.MustParseAddrPort("10.0.0.2:8080"),
	}).Allowed
}

func ready(t *testing.T) (*Discovery, *store.Store) {
	t.Helper()
	d, st := newDiscovery(t, store.KindWorkloads, store.KindAuthorizations, CarrierMesh.Kind())
	d.Apply(AddressType, []xds.Resource{resource(t, githubUID, githubWorkload())}, nil, true)
	d.Apply(AuthorizationType, nil, nil, true)
	d.Apply(AgentPolicyType, nil, nil, true)
	if !connects(st.Snapshot()) {
		t.Fatal("without policies nobody connects")
	}
	return d, st
}

func TestBadPoliciesFailClosed(t *testing.T) {
	garbage := func(url, name string) xds.Resource {
		return xds.Resource{Name: name, Body: &anypb.Any{TypeUrl: url, Value: []byte{0xff, 0xff, 0xff}}}
	}
	authorization := func(change func(*securitypb.Authorization)) xds.Resource {
		a := &securitypb.Authorization{Name: "policy", Namespace: "tools", Scope: securitypb.Scope_NAMESPACE, Action: securitypb.Action_DENY}
		change(a)
		return resource(t, "tools/policy", a)
	}
	matching := func(m *securitypb.Match) func(*securitypb.Authorization) {
		return func(a *securitypb.Authorization) {
			a.Groups = []*securitypb.Group{{Rules: []*securitypb.Rules{{Matches: []*securitypb.Match{m}}}}}
		}
	}
	agent := func(change func(*policypb.AgentPolicySpec)) xds.Resource {
		return resource(t, "tools/policy", goodAgentPolicy(func(p *policypb.AgentPolicy) { change(p.Spec) }))
	}
	stranger := &securitypb.Match{Principals: []*securitypb.StringMatch{{MatchType: &securitypb.StringMatch_Exact{Exact: "cluster.local/ns/x/sa/y"}}}}
	goodAuthorization := authorization(matching(stranger)) // denies somebody else
	for fact, test := range map[string]struct {
		bad  xds.Resource
		good xds.Resource
		url  string
	}{
		"authorization that is garbage":            {garbage(AuthorizationType, "tools/policy"), goodAuthorization, AuthorizationType},
		"authorization that is no resource":        {xds.Resource{Name: "tools/policy", Err: errors.New("twice")}, goodAuthorization, AuthorizationType},
		"authorization of unknown action":          {authorization(func(a *securitypb.Authorization) { a.Action = 77 }), goodAuthorization, AuthorizationType},
		"authorization of unknown scope":           {authorization(func(a *securitypb.Authorization) { a.Scope = 77 }), goodAuthorization, AuthorizationType},
		"authorization for a port beyond all":      {authorization(matching(&securitypb.Match{DestinationPorts: []uint32{65536 + 8080}})), goodAuthorization, AuthorizationType},
		"authorization with a bad range":           {authorization(matching(&securitypb.Match{SourceIps: []*securitypb.Address{{Address: []byte{1}, Length: 8}}})), goodAuthorization, AuthorizationType},
		"authorization with an unset condition":    {authorization(matching(&securitypb.Match{Principals: []*securitypb.StringMatch{{}}})), goodAuthorization, AuthorizationType},
		"authorization with an unknown field":      {authorization(func(a *securitypb.Authorization) { newer(a) }), goodAuthorization, AuthorizationType},
		"authorization with an unknown group":      {authorization(func(a *securitypb.Authorization) { a.Groups = []*securitypb.Group{newer(&securitypb.Group{})} }), goodAuthorization, AuthorizationType},
		"authorization with an unknown condition":  {authorization(matching(newer(&securitypb.Match{}))), goodAuthorization, AuthorizationType},
		"authorization with an extended condition": {authorization(matching(&securitypb.Match{Extensions: []*workloadpb.Extension{{Name: "x"}}})), goodAuthorization, AuthorizationType},
		"agent policy of an emptied scope":         {agent(func(s *policypb.AgentPolicySpec) { s.Rules[0].Mcp = &policypb.MCPAttributes{} }), resource(t, "tools/policy", goodAgentPolicy()), AgentPolicyType},
		"agent policy that is garbage":             {garbage(AgentPolicyType, "tools/policy"), resource(t, "tools/policy", goodAgentPolicy()), AgentPolicyType},
		"agent policy that is no resource":         {xds.Resource{Name: "tools/policy", Err: errors.New("twice")}, resource(t, "tools/policy", goodAgentPolicy()), AgentPolicyType},
		"agent policy without a spec":              {resource(t, "tools/policy", &policypb.AgentPolicy{Name: "policy", Namespace: "tools"}), resource(t, "tools/policy", goodAgentPolicy()), AgentPolicyType},
		"agent policy with an unknown field":       {agent(func(s *policypb.AgentPolicySpec) { newer(s.Rules[0]) }), resource(t, "tools/policy", goodAgentPolicy()), AgentPolicyType},
		"agent policy of unknown direction":        {agent(func(s *policypb.AgentPolicySpec) { s.Direction = 77 }), resource(t, "tools/policy", goodAgentPolicy()), AgentPolicyType},
		"agent policy with an unknown mode":        {agent(func(s *policypb.AgentPolicySpec) { s.Rules[0].Mode = 77 }), resource(t, "tools/policy", goodAgentPolicy()), AgentPolicyType},
		"agent policy with bad CEL":                {agent(func(s *policypb.AgentPolicySpec) { s.Rules[0].When = []string{"1 +"} }), resource(t, "tools/policy", goodAgentPolicy()), AgentPolicyType},
		"agent policy without an action":           {agent(func(s *policypb.AgentPolicySpec) { s.Rules[0].Action = 0 }), resource(t, "tools/policy", goodAgentPolicy()), AgentPolicyType},
	} {
		t.Run(fact, func(t *testing.T) {
			d, st := ready(t)
			for range 2 { // a bad version of a bad one is no better
				if bad := d.Apply(test.url, []xds.Resource{test.bad}, nil, false); len(bad) != 1 || bad[0].Name != "tools/policy" {
					t.Fatalf("rejected %v", bad)
				}
				if connects(st.Snapshot()) {
					t.Fatal("a new policy that is bad denies nothing")
				}
			}
			if bad := d.Apply(test.url, []xds.Resource{test.good}, nil, false); bad != nil {
				t.Fatal(bad)
			}
			if !connects(st.Snapshot()) || len(d.Rejected()) != 0 {
				t.Fatalf("mended, and still denied; status tells %v", d.Rejected())
			}
			before := st.Snapshot()
			if bad := d.Apply(test.url, []xds.Resource{test.bad}, nil, false); len(bad) != 1 {
				t.Fatalf("rejected %v", bad)
			}
			s := st.Snapshot()
			if s.Authorization("tools/policy") != before.Authorization("tools/policy") || s.AgentPolicy("tools/policy") != before.AgentPolicy("tools/policy") {
				t.Fatal("a bad version displaced a good one")
			}
			if len(d.Rejected()) != 1 {
				t.Errorf("status tells %v", d.Rejected())
			}
			d.Apply(test.url, nil, []string{"tools/policy"}, false)
			if c := st.Snapshot().Counts(); c.Authorizations+c.AgentPolicies != 0 || len(d.Rejected()) != 0 {
				t.Errorf("removed, and there is still %+v, %v", c, d.Rejected())
			}
		})
	}
}

func TestPoliciesReachTheirDecisions(t *testing.T) {
	d, st := ready(t)
	deny := &securitypb.Authorization{Name: "deny", Namespace: "tools", Scope: securitypb.Scope_NAMESPACE, Action: securitypb.Action_DENY,
		Groups: []*securitypb.Group{{Rules: []*securitypb.Rules{{Matches: []*securitypb.Match{{
			Principals:       []*securitypb.StringMatch{{MatchType: &securitypb.StringMatch_Prefix{Prefix: "cluster.local/ns/agents/"}}},
			SourceIps:        []*securitypb.Address{{Address: ip("10.0.0.0"), Length: 24}},
			DestinationPorts: []uint32{8080},
		}}}}}}}
	if bad := d.Apply(AuthorizationType, []xds.Resource{resource(t, "tools/deny", deny)}, nil, false); bad != nil || connects(st.Snapshot()) {
		t.Fatalf("connects in spite of a deny; %v", bad)
	}
	if bad := d.Apply(AuthorizationType, nil, []string{"tools/deny"}, false); bad != nil || !connects(st.Snapshot()) {
		t.Fatalf("does not connect after the deny was removed; %v", bad)
	}
	d.Apply(AgentPolicyType, []xds.Resource{resource(t, "tools/policy", goodAgentPolicy())}, nil, false)
	if got := st.Snapshot().AgentPolicy("tools/policy").Version(); got != "v1" {
		t.Errorf("version %q, want the carrier's", got)
	}
	port := st.Snapshot().Policies().Port(policy.Inbound, policy.Destination{Address: netip.MustParseAddrPort("10.0.0.2:8080")})
	if port.Protocol != policy.ProtocolMCP {
		t.Errorf("port is %v", port)
	}
}
