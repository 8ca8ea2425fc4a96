package policy

import (
	"fmt"
	"sync"
	"testing"

	"github.com/outrigger-mesh/outrigger/pkg/mesh"
)

// manyAuthorizations are n policies, each of which allows one other agent and
// the last of which allows planner.
func manyAuthorizations(t testing.TB, n int) *Policies {
	var all []*Authorization
	for i := range n {
		principal := fmt.Sprintf("cluster.local/ns/agents/sa/agent-%d", i)
		if i == n-1 {
			principal = planner.WithoutScheme()
		}
		s := one(fmt.Sprintf("p%03d", i), ActionAllow, AuthorizationMatch{Principals: exact(principal), DestinationPorts: []uint32{8080}})
		if i%4 == 0 {
			s = one(s.Name, ActionDeny, AuthorizationMatch{Namespaces: exact(fmt.Sprintf("ns-%d", i))})
		}
		all = append(all, mustAuthorization(t, s))
	}
	return New(testSelf(), testWorkload(), all, nil)
}

// unkeyedAuthorizations are n policies that no lookup tells apart.
func unkeyedAuthorizations(t testing.TB, n int) *Policies {
	var all []*Authorization
	for i := range n {
		prefix := fmt.Sprintf("cluster.local/ns/team-%d/", i)
		if i == n-1 {
			prefix = "cluster.local/ns/agents/"
		}
		all = append(all, mustAuthorization(t, one(fmt.Sprintf("p%03d", i), ActionAllow,
			AuthorizationMatch{Principals: []StringMatch{{MatchPrefix, prefix}}})))
	}
	return New(testSelf(), testWorkload(), all, nil)
}

// manyRules is a policy with n rules, each for one agent and its tools.
func manyRules(t testing.TB, n int) *Policies {
	var rules []AgentRule
	for i := range n {
		rules = append(rules, AgentRule{Name: fmt.Sprintf("r%d", i), Action: ActionAllow,
			Source: sourceOf(mesh.NewPrincipal("cluster.local", "agents", fmt.Sprintf("agent-%d", i))), Tools: []string{fmt.Sprintf("get_%d", i), "search_*"}})
	}
	rules = append(rules, AgentRule{Name: "deny", Action: ActionDeny, Tools: []string{"delete_*"}},
		AgentRule{Name: "require", Action: ActionRequire, Tools: []string{"merge"}, Source: sourceOf(writer)},
		AgentRule{Name: "argument", Action: ActionAllow, Source: sourceOf(planner), Tools: []string{"get_file"},
			Arguments: []AgentArgument{{Path: "repository.owner", Exact: ptr("outrigger")}, {Path: "page", In: []string{"1", "2"}}}},
		AgentRule{Name: "cel", Action: ActionAllow, Source: sourceOf(planner), Tools: []string{"cel"},
			When: []string{`mcp.tool.arguments.repository.owner == "outrigger" && source.identity.namespace == "agents"`}},
		AgentRule{Name: "planner", Action: ActionAllow, Source: sourceOf(planner), Tools: []string{"get_issue"}})
	return agentPolicies(t, agentSpec(rules...))
}

const benchArguments = `{"query":"a","repository":{"name":"outrigger","owner":"outrigger"},"page":2,"labels":["a","b"]}`

func BenchmarkConnect(b *testing.B) {
	for name, p := range map[string]*Policies{"none": New(testSelf(), testWorkload(), nil, nil),
		"100": manyAuthorizations(b, 100), "100-prefixes": unkeyedAuthorizations(b, 100)} {
		b.Run(name, func(b *testing.B) {
			c := testConnection(planner)
			b.ReportAllocs()
			for b.Loop() {
				if !p.Connect(c).Allowed {
					b.Fatal("denied")
				}
			}
		})
	}
}

func BenchmarkCall(b *testing.B) {
	p := manyRules(b, 100)
	for _, c := range []struct {
		name string
		call *Call
	}{
		{"exact", toolCall(planner, "get_issue", benchArguments)},
		{"arguments", toolCall(planner, "get_file", benchArguments)},
		{"cel", toolCall(planner, "cel", benchArguments)},
		{"ping", inboundCall(planner, "ping", Object{})},
	} {
		b.Run(c.name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				if !p.Call(c.call).Allowed {
					b.Fatal("denied")
				}
			}
		})
	}
	b.Run("denied", func(b *testing.B) {
		call := toolCall(planner, "other", benchArguments)
		b.ReportAllocs()
		for b.Loop() {
			if p.Call(call).Allowed {
				b.Fatal("allowed")
			}
		}
	})
}

func BenchmarkVisible(b *testing.B) {
	p := manyRules(b, 100)
	list := inboundCall(planner, "tools/list", Object{})
	b.ReportAllocs()
	for b.Loop() {
		if !p.Visible(list, Object{KindTool, "get_issue"}).Allowed {
			b.Fatal("hidden")
		}
	}
}

func BenchmarkPort(b *testing.B) {
	p := manyRules(b, 100)
	dst := at(8080)
	b.ReportAllocs()
	for b.Loop() {
		if p.Port(Inbound, dst).Protocol != ProtocolMCP {
			b.Fatal("undeclared")
		}
	}
}

func BenchmarkNew(b *testing.B) {
	var all []*Authorization
	for i := range 100 {
		all = append(all, mustAuthorization(b, one(fmt.Sprintf("p%d", i), ActionAllow, AuthorizationMatch{Namespaces: exact("agents")})))
	}
	agent := mustAgent(b, agentSpec(AgentRule{Action: ActionAllow, Tools: []string{"x"}}))
	self, w := testSelf(), testWorkload()
	b.ReportAllocs()
	for b.Loop() {
		New(self, w, all, []*Agent{agent})
	}
}

func BenchmarkCompileAgent(b *testing.B) {
	s := agentSpec(AgentRule{Action: ActionAllow, Tools: []string{"x"}, When: []string{`mcp.tool.arguments.a == "b"`}})
	b.ReportAllocs()
	for b.Loop() {
		mustAgent(b, s)
	}
}

func TestAllowingWithoutCELAllocatesNothing(t *testing.T) {
	authorizations, rules := manyAuthorizations(t, 100), manyRules(t, 100)
	connection := testConnection(planner)
	list := inboundCall(planner, "tools/list", Object{})
	exactTool, withArguments := toolCall(planner, "get_issue", benchArguments), toolCall(planner, "get_file", benchArguments)
	for name, ask := range map[string]func() bool{
		"connect":   func() bool { return authorizations.Connect(connection).Allowed },
		"call":      func() bool { return rules.Call(exactTool).Allowed },
		"arguments": func() bool { return rules.Call(withArguments).Allowed },
		"list":      func() bool { return rules.Call(list).Allowed },
		"visible":   func() bool { return rules.Visible(list, Object{KindTool, "get_issue"}).Allowed },
		"port":      func() bool { return rules.Port(Inbound, at8080).Protocol == ProtocolMCP },
	} {
		if !ask() {
			t.Errorf("%s: denied", name)
		}
		if n := testing.AllocsPerRun(100, func() { ask() }); n != 0 {
			t.Errorf("%s: %v allocations", name, n)
		}
	}
}

var at8080 = at(8080)

func TestPoliciesMayBeAskedConcurrently(t *testing.T) {
	p := manyRules(t, 10)
	var asking sync.WaitGroup
	for range 8 {
		asking.Go(func() {
			for range 200 {
				if !p.Call(toolCall(planner, "cel", benchArguments)).Allowed || !p.Connect(testConnection(planner)).Allowed ||
					!p.Visible(inboundCall(planner, "tools/list", Object{}), Object{KindTool, "cel"}).Allowed {
					t.Error("denied")
				}
				p.Port(Outbound, at8080)
			}
		})
	}
	asking.Wait()
}
