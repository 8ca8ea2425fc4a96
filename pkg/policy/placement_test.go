package policy

import (
	"errors"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"github.com/outrigger-mesh/outrigger/pkg/mesh"
)

func at(port uint16) Destination {
	return Destination{Workload: testWorkload(), Address: netip.AddrPortFrom(netip.MustParseAddr("10.0.0.9"), port)}
}

func TestPort(t *testing.T) {
	with := func(name string, ports ...AgentPort) AgentSpec {
		return AgentSpec{Name: name, Namespace: "tools", Ports: ports}
	}
	mcp := func(paths ...string) AgentPort { return AgentPort{8080, ProtocolMCP, paths} }
	opaque := AgentPort{8080, ProtocolOpaque, nil}
	plain := AgentPort{8080, ProtocolHTTP, nil}
	guard := AgentSpec{Name: "guard", Namespace: "istio-system", AllMCPPorts: true}
	for _, c := range []struct {
		name  string
		specs []AgentSpec
		want  Port
	}{
		{"no policy", nil, Port{}},
		{"another port", []AgentSpec{with("a", AgentPort{9090, ProtocolMCP, nil})}, Port{}},
		{"MCP", []AgentSpec{with("a", mcp())}, Port{ProtocolMCP, nil}},
		{"opaque", []AgentSpec{with("a", opaque)}, Port{ProtocolOpaque, nil}},
		{"MCP over opaque", []AgentSpec{with("a", mcp("/mcp")), with("b", opaque)}, Port{ProtocolMCP, []string{"/mcp"}}},
		{"MCP over HTTP", []AgentSpec{with("a", plain), with("b", mcp("/mcp"))}, Port{ProtocolMCP, []string{"/mcp"}}},
		{"HTTP over opaque", []AgentSpec{with("a", plain), with("b", opaque)}, Port{ProtocolHTTP, nil}},
		{"paths are united", []AgentSpec{with("a", mcp("/b", "/a")), with("b", mcp("/a"))}, Port{ProtocolMCP, []string{"/a", "/b"}}},
		{"every path", []AgentSpec{with("a", mcp("/b")), with("b", mcp())}, Port{ProtocolMCP, nil}},
		{"a guard declares nothing", []AgentSpec{guard}, Port{}},
		{"a guard beside MCP", []AgentSpec{guard, with("a", mcp("/a"))}, Port{ProtocolMCP, []string{"/a"}}},
	} {
		t.Run(c.name, func(t *testing.T) {
			got := agentPolicies(t, c.specs...).Port(Inbound, at(8080))
			if got.Protocol != c.want.Protocol || !slices.Equal(got.Paths, c.want.Paths) {
				t.Errorf("got %+v, want %+v", got, c.want)
			}
			if out := agentPolicies(t, c.specs...).Port(Outbound, at(8080)); out.Protocol != ProtocolUndeclared {
				t.Errorf("an inbound policy declares %+v outbound", out)
			}
		})
	}
}

func TestPortsDifferByProtocolOrPaths(t *testing.T) {
	p := Port{ProtocolMCP, []string{"/mcp"}}
	if !p.Equal(Port{ProtocolMCP, []string{"/mcp"}}) || p.Equal(Port{ProtocolMCP, nil}) || p.Equal(Port{ProtocolOpaque, p.Paths}) {
		t.Error("ports are told apart by something else")
	}
}

func TestCallOnAPortThatIsNotMCPIsDenied(t *testing.T) {
	s := agentSpec(AgentRule{Action: ActionAllow})
	s.Ports[0].Protocol = ProtocolOpaque
	p := agentPolicies(t, s)
	if p.Call(toolCall(planner, "x", "")).Allowed {
		t.Error("rules apply to an opaque port")
	}
	if agentPolicies(t).Call(toolCall(planner, "x", "")).Allowed {
		t.Error("an undeclared port allows calls")
	}
	c := toolCall(planner, "x", "")
	c.Direction = 0
	if agentPolicies(t, agentSpec(AgentRule{Action: ActionAllow})).Call(c).Allowed {
		t.Error("a call without direction is allowed")
	}
}

func TestPoliciesApplyTogether(t *testing.T) {
	allow := agentSpec(AgentRule{Name: "allow", Action: ActionAllow})
	guard := AgentSpec{Name: "guard", Namespace: "istio-system", AllMCPPorts: true,
		Rules: []AgentRule{{Name: "no-x", Action: ActionDeny, Tools: []string{"x"}}}}
	p := agentPolicies(t, allow, guard)
	if d := p.Call(toolCall(planner, "x", "")); d.Allowed || d.Policy != "istio-system/guard" || d.Rule != "no-x" {
		t.Errorf("got %+v", d)
	}
	if d := p.Call(toolCall(planner, "y", "")); !d.Allowed || d.Policy != "tools/p" {
		t.Errorf("got %+v", d)
	}
	empty := agentSpec()
	empty.Name = "empty"
	if d := agentPolicies(t, empty).Call(inboundCall(planner, "initialize", Object{})); d.Allowed || !strings.Contains(d.Reason, "tools/empty") {
		t.Errorf("a policy without rules allows: %+v", d)
	}
	opaque := agentSpec(AgentRule{Name: "everything", Action: ActionAllow})
	opaque.Name, opaque.Ports = "opaque", []AgentPort{{8080, ProtocolOpaque, nil}}
	if d := agentPolicies(t, empty, opaque).Call(toolCall(planner, "x", "")); d.Allowed {
		t.Error("rules of a policy that says opaque apply to the port")
	}
}

func TestTarget(t *testing.T) {
	for _, c := range []struct {
		name      string
		namespace string
		target    AgentTarget
		applies   bool
	}{
		{"own namespace", "tools", AgentTarget{}, true},
		{"root namespace", "istio-system", AgentTarget{}, true},
		{"another namespace", "agents", AgentTarget{}, false},
		{"labels", "tools", AgentTarget{MatchLabels: map[string]string{"app": "github", "tier": "gold"}}, true},
		{"another label", "tools", AgentTarget{MatchLabels: map[string]string{"app": "github", "tier": "tin"}}, false},
		{"absent label", "tools", AgentTarget{MatchLabels: map[string]string{"x": ""}}, false},
		{"hostname", "tools", AgentTarget{Services: []string{"github.tools.svc.cluster.local"}}, true},
		{"short name", "tools", AgentTarget{Services: []string{"other", "github"}}, true},
		{"short name of another namespace", "istio-system", AgentTarget{Services: []string{"github"}}, false},
		{"another service", "tools", AgentTarget{Services: []string{"other"}}, false},
		{"service and label", "tools", AgentTarget{Services: []string{"github"}, MatchLabels: map[string]string{"app": "x"}}, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := agentSpec()
			s.Namespace, s.Target = c.namespace, c.target
			got := agentPolicies(t, s).Port(Inbound, at(8080)).Protocol == ProtocolMCP
			if got != c.applies {
				t.Errorf("applies = %v, want %v", got, c.applies)
			}
		})
	}
}

func TestOutboundByService(t *testing.T) {
	github := mesh.Name{Namespace: "tools", Hostname: "github.tools.svc.cluster.local"}
	jira := mesh.Name{Namespace: "tools", Hostname: "jira.tools.svc.cluster.local"}
	spec := func(name, service, tool string, port uint32) AgentSpec {
		s := AgentSpec{Name: name, Namespace: "agents", Direction: Outbound, Ports: []AgentPort{{port, ProtocolMCP, nil}},
			Rules: []AgentRule{{Name: "r", Action: ActionAllow, Tools: []string{tool}}}}
		if service != "" {
			s.Target.Services = []string{service}
		}
		return s
	}
	self := &mesh.Self{Principal: planner, Namespace: "agents", Name: "planner-1"}
	p := New(self, nil, nil, []*Agent{
		mustAgent(t, spec("github", github.Hostname, "get", 80)), mustAgent(t, spec("jira", jira.Hostname, "ticket", 80)),
		mustAgent(t, spec("any", "", "echo", 80))})
	both := &mesh.Workload{Services: map[mesh.Name][]mesh.PortMapping{github: {{Service: 80, Target: 8080}}, jira: {{Service: 80, Target: 8080}}}}
	other := &mesh.Workload{Services: map[mesh.Name][]mesh.PortMapping{{Namespace: "x", Hostname: "x"}: nil}}
	for _, c := range []struct {
		name    string
		service mesh.Name
		w       *mesh.Workload
		port    uint16
		tools   string // those that are allowed
	}{
		{"by service", github, both, 80, "get echo"},
		{"by the other service", jira, nil, 80, "ticket echo"},
		{"by a service that nobody names", mesh.Name{Namespace: "x", Hostname: "x"}, nil, 80, "echo"},
		{"by address", mesh.Name{}, nil, 80, "echo"},
		{"by the address of an endpoint", mesh.Name{}, both, 80, "get ticket echo"},
		{"by the address and port of an endpoint", mesh.Name{}, both, 8080, "get ticket"},
		{"by the address of another workload", mesh.Name{}, other, 80, "echo"},
		{"another port", github, both, 81, ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			dst := Destination{Service: c.service, Workload: c.w, Address: netip.AddrPortFrom(netip.MustParseAddr("10.0.0.9"), c.port)}
			var allowed []string
			for range 2 { // the second time from memory
				allowed = nil
				for _, tool := range []string{"get", "ticket", "echo"} {
					call := &Call{Direction: Outbound, Source: planner, Destination: dst, Method: "tools/call", Object: Object{KindTool, tool}}
					if p.Call(call).Allowed {
						allowed = append(allowed, tool)
					}
				}
			}
			if got := strings.Join(allowed, " "); got != c.tools {
				t.Errorf("allowed %q, want %q", got, c.tools)
			}
			if declared := p.Port(Outbound, dst).Protocol == ProtocolMCP; declared != (c.tools != "") {
				t.Errorf("declared = %v", declared)
			}
		})
	}
}

func TestAPolicyAppliesOnceToAnEndpointOfTwoOfItsServices(t *testing.T) {
	s := AgentSpec{Name: "a", Namespace: "agents", Direction: Outbound, Ports: []AgentPort{{80, ProtocolMCP, nil}},
		Target: AgentTarget{Services: []string{"x", "y"}}, Rules: []AgentRule{{Name: "r", Action: ActionDeny, AuditOnly: true}}}
	p := New(&mesh.Self{Namespace: "agents"}, nil, nil, []*Agent{mustAgent(t, s)})
	w := &mesh.Workload{Services: map[mesh.Name][]mesh.PortMapping{
		{Namespace: "agents", Hostname: "x.agents.svc.cluster.local"}: nil, {Namespace: "agents", Hostname: "y.agents.svc.cluster.local"}: nil}}
	d := p.Call(&Call{Direction: Outbound, Method: "ping", Destination: Destination{Workload: w, Address: netip.MustParseAddrPort("10.0.0.9:80")}})
	if len(d.Audits) != 1 {
		t.Errorf("audits = %+v", d.Audits)
	}
}

func TestQuarantineOfAServiceReachesItsEndpointsOnlyWhenDialledDirectly(t *testing.T) {
	partial := &AgentSpec{Direction: Outbound, Target: AgentTarget{Services: []string{"x"}}}
	p := New(&mesh.Self{Namespace: "agents"}, nil, nil, []*Agent{QuarantineAgent("bad", "agents", errors.New("bad"), partial)})
	w := &mesh.Workload{Services: map[mesh.Name][]mesh.PortMapping{{Namespace: "agents", Hostname: "x.agents.svc.cluster.local"}: nil}}
	c := &Connection{Direction: Outbound, Workload: w}
	if p.Connect(c).Allowed {
		t.Error("an endpoint of the service is reached by its own address")
	}
	c.Service = mesh.Name{Namespace: "agents", Hostname: "other.agents.svc.cluster.local"}
	if d := p.Connect(c); !d.Allowed {
		t.Errorf("another service is closed: %s", d.Reason)
	}
}

func TestDirectDestinationsAreForgotten(t *testing.T) {
	s := AgentSpec{Name: "a", Namespace: "agents", Direction: Outbound, Ports: []AgentPort{{80, ProtocolMCP, nil}},
		Target: AgentTarget{Services: []string{"x"}}}
	p := New(&mesh.Self{Namespace: "agents"}, nil, nil, []*Agent{mustAgent(t, s)})
	services := map[mesh.Name][]mesh.PortMapping{{Namespace: "agents", Hostname: "x.agents.svc.cluster.local"}: nil}
	for range 3 * maxDirect {
		p.Port(Outbound, Destination{Workload: &mesh.Workload{Services: services}, Address: netip.MustParseAddrPort("10.0.0.9:80")})
	}
	if n := len(p.outbound.direct); n > maxDirect {
		t.Errorf("%d destinations are remembered", n)
	}
}

func TestQuarantinedAgentDeniesItsTarget(t *testing.T) {
	reason := errors.New("spec.rules[0].action: is not set; write Allow, Deny or Require")
	partial := func(change func(*AgentSpec)) *AgentSpec {
		s := &AgentSpec{}
		change(s)
		return s
	}
	labels := func(l map[string]string) *AgentSpec { return partial(func(s *AgentSpec) { s.Target.MatchLabels = l }) }
	for _, c := range []struct {
		name              string
		namespace         string
		partial           *AgentSpec
		inbound, outbound bool // denied
	}{
		{"nothing read", "tools", nil, true, true},
		{"nothing read, another namespace", "agents", nil, false, false},
		{"nothing read, root namespace", "istio-system", nil, true, true},
		{"not even a namespace", "", nil, true, true},
		{"inbound by default", "tools", &AgentSpec{}, true, false},
		{"outbound", "tools", partial(func(s *AgentSpec) { s.Direction = Outbound }), false, true},
		{"direction that makes no sense", "tools", partial(func(s *AgentSpec) { s.Direction = 7 }), true, true},
		{"direction that is unknown", "tools", partial(func(s *AgentSpec) { s.Unknown = []string{"spec.direction"} }), true, true},
		{"labels of another workload", "tools", labels(map[string]string{"app": "other"}), false, false},
		{"labels", "tools", labels(map[string]string{"app": "github"}), true, false},
		{"labels that make no sense", "tools", labels(map[string]string{"app": "a b"}), true, false},
		{"target that is unknown in part", "tools", partial(func(s *AgentSpec) {
			s.Target.MatchLabels, s.Unknown = map[string]string{"app": "other"}, []string{"spec.target.podSelector"}
		}), true, false},
		{"service", "tools", partial(func(s *AgentSpec) { s.Target.Services = []string{"github"} }), true, false},
		{"another service", "tools", partial(func(s *AgentSpec) { s.Target.Services = []string{"other"} }), false, false},
		{"outbound to a service", "tools", partial(func(s *AgentSpec) { s.Direction, s.Target.Services = Outbound, []string{"github"} }), false, true},
		{"outbound to another service", "tools", partial(func(s *AgentSpec) { s.Direction, s.Target.Services = Outbound, []string{"other"} }), false, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			good := mustAgent(t, agentSpec(AgentRule{Action: ActionAllow}))
			out := agentSpec(AgentRule{Action: ActionAllow})
			out.Name, out.Direction = "out", Outbound
			p := New(testSelf(), testWorkload(), nil, []*Agent{good, mustAgent(t, out), QuarantineAgent("bad", c.namespace, reason, c.partial)})
			service := mesh.Name{Namespace: "tools", Hostname: "github.tools.svc.cluster.local"}
			for d, denied := range map[Direction]bool{Inbound: c.inbound, Outbound: c.outbound} {
				connection := testConnection(planner)
				connection.Direction, connection.Service = d, service
				decision := p.Connect(connection)
				if decision.Allowed == denied {
					t.Errorf("direction %d: denied = %v, want %v: %s", d, !decision.Allowed, denied, decision.Reason)
				}
				if denied && (decision.Policy != c.namespace+"/bad" || !strings.Contains(decision.Reason, reason.Error())) {
					t.Errorf("decision does not name the policy and what to fix: %+v", decision)
				}
				call := toolCall(planner, "x", "")
				call.Direction, call.Destination.Service = d, service
				if p.Call(call).Allowed == denied || p.Visible(call, call.Object).Allowed == denied {
					t.Errorf("direction %d: calls are denied: %v", d, !denied)
				}
				undeclared := at(9999)
				undeclared.Service = service
				if got := p.Port(d, undeclared).Protocol == ProtocolMCP; got != denied {
					t.Errorf("direction %d: a port that nobody declared is closed: %v", d, got)
				}
			}
			if (c.inbound || c.outbound) && len(p.Problems()) != 1 {
				t.Errorf("problems: %v", p.Problems())
			}
		})
	}
}

func TestSelectorWithoutKnownLabelsIsQuarantined(t *testing.T) {
	self := testSelf()
	self.Labels = nil
	s := agentSpec(AgentRule{Action: ActionAllow})
	s.Target.MatchLabels = map[string]string{"app": "github"}
	d := New(self, testWorkload(), nil, []*Agent{mustAgent(t, s)}).Connect(testConnection(planner))
	if d.Allowed || d.Policy != "tools/p" || !strings.Contains(d.Reason, "labels") {
		t.Errorf("got %+v", d)
	}
	s.Namespace = "other"
	if d := New(self, testWorkload(), nil, []*Agent{mustAgent(t, s)}).Connect(testConnection(planner)); !d.Allowed {
		t.Errorf("a policy of another namespace denies: %+v", d)
	}
	self.Labels = map[string]string{}
	s.Namespace = "tools"
	if d := New(self, testWorkload(), nil, []*Agent{mustAgent(t, s)}).Connect(testConnection(planner)); !d.Allowed {
		t.Errorf("a pod without labels is selected: %+v", d)
	}
}

func TestInboundServicePolicyOfAnUnknownWorkloadIsQuarantined(t *testing.T) {
	s := agentSpec(AgentRule{Action: ActionAllow})
	s.Target.Services = []string{"github"}
	p := New(testSelf(), nil, nil, []*Agent{mustAgent(t, s)})
	if d := p.Call(toolCall(planner, "x", "")); d.Allowed || d.Policy != "tools/p" {
		t.Errorf("got %+v", d)
	}
}
