package policy

import (
	"slices"
	"strings"
	"testing"
)

func TestCompileAgentNamesTheFieldAndTheRemedy(t *testing.T) {
	rule := func(change func(*AgentRule)) func(*AgentSpec) {
		return func(s *AgentSpec) { change(&s.Rules[0]) }
	}
	argument := func(a AgentArgument) func(*AgentSpec) {
		return rule(func(r *AgentRule) { r.Arguments = []AgentArgument{a} })
	}
	for _, c := range []struct {
		field  string
		change func(*AgentSpec)
	}{
		{"metadata.name", func(s *AgentSpec) { s.Name = "Bad" }},
		{"metadata.namespace", func(s *AgentSpec) { s.Namespace = "" }},
		{"spec.foo", func(s *AgentSpec) { s.Unknown = []string{"spec.foo"} }},
		{"spec.direction", func(s *AgentSpec) { s.Direction = 9 }},
		{"spec.mcpBaseProtocolMethodsOption", func(s *AgentSpec) { s.BaseMethods = 9 }},
		{"spec.target.selector.matchLabels", func(s *AgentSpec) { s.Target.MatchLabels = map[string]string{"app": "a b"} }},
		{"spec.target.selector.matchLabels", func(s *AgentSpec) { s.Target.MatchLabels = map[string]string{"": "a"} }},
		{"spec.target.services[1]", func(s *AgentSpec) { s.Target.Services = []string{"github", "git hub"} }},
		{"spec.ports", func(s *AgentSpec) { s.Ports = nil }},
		{"spec.ports[0].number", func(s *AgentSpec) { s.Ports[0].Number = 0 }},
		{"spec.ports[0].number", func(s *AgentSpec) { s.Ports[0].Number = 70000 }},
		{"spec.ports[1].number", func(s *AgentSpec) { s.Ports = append(s.Ports, s.Ports[0]) }},
		{"spec.ports[0].protocol", func(s *AgentSpec) { s.Ports[0].Protocol = 0 }},
		{"spec.ports[0].paths", func(s *AgentSpec) { s.Ports[0].Protocol = ProtocolOpaque; s.Ports[0].Paths = []string{"/"} }},
		{"spec.ports[0].paths[0]", func(s *AgentSpec) { s.Ports[0].Paths = []string{"mcp"} }},
		{"spec.ports[0].paths[0]", func(s *AgentSpec) { s.Ports[0].Paths = []string{"/a/../b"} }},
		{"spec.ports[0].paths[0]", func(s *AgentSpec) { s.Ports[0].Paths = []string{"/mcp?x"} }},
		{"spec.rules[0].name", rule(func(r *AgentRule) { r.Name = "-a" })},
		{"spec.rules[0].mcp", rule(func(r *AgentRule) { r.EmptyScope = true })},
		{"spec.rules[0].name", rule(func(r *AgentRule) { r.Name = "A" })},
		{"spec.rules[0].name", rule(func(r *AgentRule) { r.Name = strings.Repeat("a", 64) })},
		{"spec.rules[1].name", func(s *AgentSpec) { s.Rules = append(s.Rules, s.Rules[0]) }},
		{"spec.rules[0].action", rule(func(r *AgentRule) { r.Action = 0 })},
		{"spec.rules[0].source", rule(func(r *AgentRule) { r.Source = &AgentSource{} })},
		{"spec.rules[0].source.spiffe[0]", rule(func(r *AgentRule) { r.Source = &AgentSource{SPIFFE: []string{"spiffe://td/ns/a*"}} })},
		{"spec.rules[0].source.spiffe[0]", rule(func(r *AgentRule) { r.Source = &AgentSource{SPIFFE: []string{"td/ns/a/sa/b"}} })},
		{"spec.rules[0].source.spiffe[0]", rule(func(r *AgentRule) { r.Source = &AgentSource{SPIFFE: []string{"spiffe://TD/ns/a/sa/b"}} })},
		{"spec.rules[0].source.serviceAccounts[0].name", rule(func(r *AgentRule) { r.Source = &AgentSource{ServiceAccounts: []ServiceAccount{{"a", "b*"}}} })},
		{"spec.rules[0].source.serviceAccounts[0].namespace", rule(func(r *AgentRule) { r.Source = &AgentSource{ServiceAccounts: []ServiceAccount{{"*", "b"}}} })},
		{"spec.rules[0].source.namespaces[0]", rule(func(r *AgentRule) { r.Source = &AgentSource{Namespaces: []string{"*"}} })},
		{"spec.rules[0].mcp.methods[1]", rule(func(r *AgentRule) { r.Methods = []string{"ping", "@tool"} })},
		{"spec.rules[0].mcp.methods[0]", rule(func(r *AgentRule) { r.Methods = []string{""} })},
		{"spec.rules[0].mcp.tools[0]", rule(func(r *AgentRule) { r.Tools = []string{`a\b`} })},
		{"spec.rules[0].mcp.resources[0]", rule(func(r *AgentRule) { r.Resources = []string{"\xff"} })},
		{"spec.rules[0].mcp.prompts[0]", rule(func(r *AgentRule) { r.Prompts = []string{""} })},
		{"spec.rules[0].mcp.arguments[0].path", argument(AgentArgument{Present: ptr(true)})},
		{"spec.rules[0].mcp.arguments[0].path", argument(AgentArgument{Path: "a..b", Present: ptr(true)})},
		{"spec.rules[0].mcp.arguments[0].path", argument(AgentArgument{Path: `a\b`, Present: ptr(true)})},
		{"spec.rules[0].mcp.arguments[0].path", argument(AgentArgument{Path: strings.Repeat("a.", 16) + "a", Present: ptr(true)})},
		{"spec.rules[0].mcp.arguments[0]", argument(AgentArgument{Path: "a"})},
		{"spec.rules[0].mcp.arguments[0]", argument(AgentArgument{Path: "a", Exact: ptr("x"), Present: ptr(true)})},
		{"spec.rules[0].mcp.arguments[0].glob", argument(AgentArgument{Path: "a", Glob: ptr(`\`)})},
		{"spec.rules[0].mcp.arguments[0].in.values", argument(AgentArgument{Path: "a", In: []string{}})},
		{"spec.rules[0].when[1]", rule(func(r *AgentRule) { r.When = []string{"true", "1"} })},
		{"spec.rules[0].when", rule(func(r *AgentRule) { r.When = slices.Repeat([]string{"true"}, 17) })},
		{"spec.rules[0]", rule(func(r *AgentRule) { r.Action = ActionRequire })},
		{"spec.rules[0].mcp", rule(func(r *AgentRule) {
			r.Action, r.Arguments = ActionRequire, []AgentArgument{{Path: "a", Present: ptr(true)}}
		})},
		{"spec.rules", func(s *AgentSpec) { s.Rules = slices.Repeat(s.Rules, maxRules+1) }},
	} {
		s := agentSpec(AgentRule{Name: "r", Action: ActionAllow})
		c.change(&s)
		_, err := CompileAgent(s)
		all := Problems(err)
		if len(all) != 1 || all[0].Field != c.field || all[0].Problem == "" || all[0].Remedy == "" {
			t.Errorf("%s: got %v", c.field, err)
		}
	}
}

func TestCompileAgentReportsEverything(t *testing.T) {
	s := agentSpec(AgentRule{Name: "r"})
	s.Name, s.Ports = "", nil
	_, err := CompileAgent(s)
	if len(Problems(err)) != 3 || !strings.Contains(err.Error(), "spec.rules[0].action: is not set; write Allow, Deny or Require") {
		t.Errorf("got %v", err)
	}
	s.Rules = slices.Repeat([]AgentRule{{}}, 100)
	if _, err = CompileAgent(s); len(Problems(err)) != maxProblems || !strings.Contains(err.Error(), "more problems") {
		t.Errorf("%d problems: %v", len(Problems(err)), err)
	}
}

func TestVersionIsADigestIfTheCarrierHasNone(t *testing.T) {
	s := agentSpec(AgentRule{Action: ActionAllow})
	if v := mustAgent(t, s).Version(); v != "3" {
		t.Errorf("version = %q", v)
	}
	s.Version = ""
	a, b := mustAgent(t, s).Version(), mustAgent(t, s).Version()
	s.Rules[0].Tools = []string{"x"}
	if c := mustAgent(t, s).Version(); a != b || a == c || !strings.HasPrefix(a, "sha256:") {
		t.Errorf("versions %q, %q and %q", a, b, c)
	}
	if d := agentPolicies(t, s).Call(toolCall(planner, "x", "")); d.Version != mustAgent(t, s).Version() {
		t.Errorf("decision has version %q", d.Version)
	}
}
