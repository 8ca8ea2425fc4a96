package policy

import (
	"net/http"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/outrigger-mesh/outrigger/pkg/mesh"
)

func ptr[T any](v T) *T { return &v }

// agentSpec is an inbound policy with MCP on 8080.
func agentSpec(rules ...AgentRule) AgentSpec {
	for i := range rules {
		if rules[i].Name == "" {
			rules[i].Name = "r" + string(rune('0'+i))
		}
	}
	return AgentSpec{Name: "p", Namespace: "tools", Version: "3",
		Ports: []AgentPort{{Number: 8080, Protocol: ProtocolMCP}}, Rules: rules}
}

func agentPolicies(t testing.TB, specs ...AgentSpec) *Policies {
	t.Helper()
	var compiled []*Agent
	for _, s := range specs {
		compiled = append(compiled, mustAgent(t, s))
	}
	return New(testSelf(), testWorkload(), nil, compiled)
}

func inboundCall(who mesh.Principal, method string, o Object) *Call {
	return &Call{
		Direction: Inbound, Source: who, SourceAddr: netip.MustParseAddrPort("10.0.0.1:40000"),
		Destination: Destination{Service: mesh.Name{Namespace: "tools", Hostname: "github.tools.svc.cluster.local"},
			Workload: testWorkload(), Address: netip.MustParseAddrPort("10.0.0.9:8080")},
		Protocol: "2025-11-25", Session: "s1", Method: method, Object: o,
		HTTP: HTTPRequest{Method: "POST", Path: "/mcp", Host: "github", Header: http.Header{"X-Team": {"a", "b"}}},
		Time: time.Date(2026, 11, 25, 9, 0, 0, 0, time.UTC),
	}
}

func toolCall(who mesh.Principal, name, arguments string) *Call {
	c := inboundCall(who, "tools/call", Object{KindTool, name})
	if arguments != "" {
		c.Arguments = []byte(arguments)
	}
	return c
}

func sourceOf(ids ...mesh.Principal) *AgentSource {
	s := &AgentSource{}
	for _, id := range ids {
		s.SPIFFE = append(s.SPIFFE, id.String())
	}
	return s
}

func TestCallCombination(t *testing.T) {
	allowAll := AgentRule{Name: "all", Action: ActionAllow}
	denyDelete := AgentRule{Name: "no-delete", Action: ActionDeny, Tools: []string{"delete_*"}}
	requirePlanner := AgentRule{Name: "planner-only", Action: ActionRequire, Tools: []string{"merge"}, Source: sourceOf(planner)}
	for _, c := range []struct {
		name  string
		rules []AgentRule
		call  *Call
		want  bool
		rule  string
	}{
		{"no rules deny", nil, toolCall(planner, "x", ""), false, ""},
		{"allow", []AgentRule{allowAll}, toolCall(planner, "x", ""), true, "all"},
		{"allow, nobody authenticated", []AgentRule{allowAll}, toolCall(nobody, "x", ""), true, "all"},
		{"deny beats an allow before it", []AgentRule{allowAll, denyDelete}, toolCall(planner, "delete_repo", ""), false, "no-delete"},
		{"deny of another tool", []AgentRule{allowAll, denyDelete}, toolCall(planner, "get_repo", ""), true, "all"},
		{"require holds", []AgentRule{allowAll, requirePlanner}, toolCall(planner, "merge", ""), true, "all"},
		{"require does not hold", []AgentRule{allowAll, requirePlanner}, toolCall(writer, "merge", ""), false, "planner-only"},
		{"require of another tool", []AgentRule{allowAll, requirePlanner}, toolCall(writer, "get", ""), true, "all"},
		{"require alone allows nothing", []AgentRule{requirePlanner}, toolCall(planner, "merge", ""), false, ""},
		{"deny is asked before require", []AgentRule{requirePlanner, {Name: "d", Action: ActionDeny}}, toolCall(writer, "merge", ""), false, "d"},
		{"the first rule that allows is named", []AgentRule{{Name: "a", Action: ActionAllow, Tools: []string{"*"}}, {Name: "b", Action: ActionAllow, Tools: []string{"x"}}}, toolCall(planner, "x", ""), true, "a"},
		{"the first rule that denies is named", []AgentRule{{Name: "b", Action: ActionDeny, Tools: []string{"x"}}, {Name: "a", Action: ActionDeny, Source: sourceOf(planner)}}, toolCall(planner, "x", ""), false, "b"},
	} {
		t.Run(c.name, func(t *testing.T) {
			d := agentPolicies(t, agentSpec(c.rules...)).Call(c.call)
			if d.Allowed != c.want || d.Rule != c.rule {
				t.Errorf("got %v by %q, want %v by %q: %s", d.Allowed, d.Rule, c.want, c.rule, d.Reason)
			}
			if c.rule != "" && (d.Policy != "tools/p" || d.Version != "3") || d.Reason == "" {
				t.Errorf("policy %q version %q reason %q", d.Policy, d.Version, d.Reason)
			}
		})
	}
}

func TestAuditOnlyRulesAreRecordedAndDecideNothing(t *testing.T) {
	audit := func(r AgentRule) AgentRule { r.AuditOnly = true; return r }
	rules := []AgentRule{
		audit(AgentRule{Name: "deny-x", Action: ActionDeny, Tools: []string{"x"}}),
		audit(AgentRule{Name: "require-writer", Action: ActionRequire, Source: sourceOf(writer)}),
		audit(AgentRule{Name: "allow-y", Action: ActionAllow, Tools: []string{"y"}}),
		audit(AgentRule{Name: "deny-failing", Action: ActionDeny, When: []string{"mcp.tool.arguments.gone == 1"}}),
		audit(AgentRule{Name: "allow-failing", Action: ActionAllow, When: []string{"mcp.tool.arguments.gone == 1"}}),
		{Name: "all", Action: ActionAllow, Tools: []string{"x"}},
	}
	p := agentPolicies(t, agentSpec(rules...))
	d := p.Call(toolCall(planner, "x", "{}"))
	want := []Audit{{"tools/p", "deny-x", "3", ActionDeny}, {"tools/p", "require-writer", "3", ActionRequire}, {"tools/p", "deny-failing", "3", ActionDeny}}
	if !d.Allowed || !slices.Equal(d.Audits, want) {
		t.Errorf("got %+v", d)
	}
	d = p.Call(toolCall(writer, "y", "{}"))
	want = []Audit{{"tools/p", "allow-y", "3", ActionAllow}, {"tools/p", "deny-failing", "3", ActionDeny}}
	if d.Allowed || !slices.Equal(d.Audits, want) {
		t.Errorf("got %+v", d)
	}
	if d = p.Call(inboundCall(planner, "ping", Object{})); !d.Allowed {
		t.Errorf("the source of the enforced rule admits anybody: %+v", d)
	}
}

func TestAnAuditOnlyRuleIsRecordedOnce(t *testing.T) {
	// The lookup finds the rule by the caller and by the caller's namespace.
	source := sourceOf(planner)
	source.Namespaces = []string{"agents"}
	s := agentSpec(AgentRule{Name: "r", Action: ActionAllow, AuditOnly: true, Source: source})
	if d := agentPolicies(t, s).Call(toolCall(planner, "x", "")); len(d.Audits) != 1 {
		t.Errorf("audits = %+v", d.Audits)
	}
}

func TestSources(t *testing.T) {
	spire, _ := mesh.ParsePrincipal("spiffe://cluster.local/spire/agent")
	for _, c := range []struct {
		name   string
		source *AgentSource
		who    mesh.Principal
		want   bool
	}{
		{"nobody is not in a list", &AgentSource{SPIFFE: []string{"spiffe://cluster.local/*"}}, nobody, false},
		{"service account", &AgentSource{ServiceAccounts: []ServiceAccount{{"agents", "planner"}}}, planner, true},
		{"service account of another trust domain", &AgentSource{ServiceAccounts: []ServiceAccount{{"agents", "planner"}}}, stranger, false},
		{"another service account", &AgentSource{ServiceAccounts: []ServiceAccount{{"agents", "planner"}}}, writer, false},
		{"service account in the policy's namespace", &AgentSource{ServiceAccounts: []ServiceAccount{{"", "github"}}}, mesh.NewPrincipal("cluster.local", "tools", "github"), true},
		{"all service accounts", &AgentSource{ServiceAccounts: []ServiceAccount{{"agents", "*"}}}, writer, true},
		{"namespace", &AgentSource{Namespaces: []string{"agents"}}, writer, true},
		{"namespace in another trust domain", &AgentSource{Namespaces: []string{"agents"}}, stranger, false},
		{"not a Kubernetes identity", &AgentSource{Namespaces: []string{"agents"}}, spire, false},
		{"any entry of any list", &AgentSource{SPIFFE: []string{"spiffe://x/y"}, Namespaces: []string{"agents"}}, writer, true},
		{"below a path", &AgentSource{SPIFFE: []string{"spiffe://other.org/ns/*"}}, stranger, true},
	} {
		t.Run(c.name, func(t *testing.T) {
			p := agentPolicies(t, agentSpec(AgentRule{Action: ActionAllow, Source: c.source, Tools: []string{"x"}}))
			if d := p.Call(toolCall(c.who, "x", "")); d.Allowed != c.want {
				t.Errorf("tool allowed = %v, want %v: %s", d.Allowed, c.want, d.Reason)
			}
			// Base protocol methods follow the source, and so does every kind of lookup.
			if d := p.Call(inboundCall(c.who, "initialize", Object{})); d.Allowed != c.want {
				t.Errorf("initialize allowed = %v, want %v: %s", d.Allowed, c.want, d.Reason)
			}
			p = agentPolicies(t, agentSpec(AgentRule{Action: ActionAllow, Source: c.source}))
			if d := p.Call(toolCall(c.who, "x", "")); d.Allowed != c.want {
				t.Errorf("call allowed = %v, want %v: %s", d.Allowed, c.want, d.Reason)
			}
		})
	}
}

func TestMethodsAndObjects(t *testing.T) {
	tool, resource, prompt := Object{KindTool, "get_issue"}, Object{KindResource, "file:///docs/a"}, Object{KindPrompt, "review"}
	template, task := Object{KindTemplate, "file:///docs/{name}"}, Object{KindTask, "t1"}
	anything := AgentRule{}
	methods := func(m ...string) AgentRule { return AgentRule{Methods: m} }
	tools := func(n ...string) AgentRule { return AgentRule{Tools: n} }
	resources := func(n ...string) AgentRule { return AgentRule{Resources: n} }
	for _, c := range []struct {
		name   string
		rule   AgentRule
		method string
		object Object
		want   bool // the Allow rule matches
	}{
		{"nothing set", anything, "tools/call", tool, true},
		{"nothing set, nothing named", anything, "ping", Object{}, true},
		{"nothing set, unknown method", anything, "vendor/x", Object{Kind: KindUnknown}, false},
		{"nothing set, a method that only the caller thinks known", anything, "vendor/x", Object{}, false},
		{"unknown method named", methods("vendor/x"), "vendor/x", Object{Kind: KindUnknown}, true},
		{"unknown method by glob", methods("vendor/*"), "vendor/x", Object{Kind: KindUnknown}, true},
		{"unknown method by star", methods("*"), "vendor/x", Object{Kind: KindUnknown}, true},
		{"unknown method by group", methods("@tools"), "tools/other", Object{Kind: KindUnknown}, false},
		{"unknown method by tool", tools("*"), "tools/other", Object{KindUnknown, "get_issue"}, false},
		{"method exact", methods("tools/call"), "tools/call", tool, true},
		{"method in another case", methods("Tools/call"), "tools/call", tool, false},
		{"method glob", methods("tools/*"), "tools/list", Object{}, true},
		{"group tools", methods("@tools"), "tools/call", tool, true},
		{"group tools, list", methods("@tools"), "tools/list", Object{}, true},
		{"group tools, resource", methods("@tools"), "resources/read", resource, false},
		{"group resources, template list", methods("@resources"), "resources/templates/list", Object{}, true},
		{"group resources, completion", methods("@resources"), "completion/complete", template, true},
		{"group resources, subscription element", methods("@resources"), "subscriptions/listen", resource, true},
		{"group resources, update", methods("@resources"), "notifications/resources/updated", resource, true},
		{"group prompts", methods("@prompts"), "prompts/get", prompt, true},
		{"group prompts, completion", methods("@prompts"), "completion/complete", prompt, true},
		{"group tasks", methods("@tasks"), "tasks/result", task, true},
		{"group tasks, status", methods("@tasks"), "notifications/tasks/status", task, true},
		{"group server", methods("@server"), "sampling/createMessage", Object{}, true},
		{"group server, roots", methods("@server"), "roots/list", Object{}, true},
		{"group server, elicitation", methods("@server"), "elicitation/create", Object{}, true},
		{"group server, ping", methods("@server"), "ping", Object{}, false},
		{"group base", methods("@base"), "DELETE", Object{}, true},
		{"group base, call", methods("@base"), "tools/call", tool, false},
		{"completion as prompts/get", methods("prompts/get"), "completion/complete", prompt, true},
		{"completion of a template as resources/read", methods("resources/read"), "completion/complete", template, true},
		{"completion of a prompt is not a resource", methods("resources/read"), "completion/complete", prompt, false},
		{"completion of nothing", methods("prompts/get"), "completion/complete", Object{}, false},
		{"listening as subscribing", methods("resources/subscribe"), "subscriptions/listen", resource, true},
		{"tool exact", tools("get_issue"), "tools/call", tool, true},
		{"tool glob", tools("x", "get_*"), "tools/call", tool, true},
		{"another tool", tools("get_repo"), "tools/call", tool, false},
		{"tools do not select what names nothing", tools("*"), "sampling/createMessage", Object{}, false},
		{"tools do not select prompts", tools("*"), "prompts/get", prompt, false},
		{"tools do not select tasks", tools("*"), "tasks/get", task, false},
		{"method and tool", AgentRule{Methods: []string{"tools/*"}, Tools: []string{"get_*"}}, "tools/call", tool, true},
		{"method and another tool", AgentRule{Methods: []string{"tools/*"}, Tools: []string{"set_*"}}, "tools/call", tool, false},
		{"another method and tool", AgentRule{Methods: []string{"prompts/*"}, Tools: []string{"get_*"}}, "tools/call", tool, false},
		{"resource", resources("file:///docs/*"), "resources/read", resource, true},
		{"resource outside", resources("file:///docs/*"), "resources/read", Object{KindResource, "file:///etc/a"}, false},
		{"template by its text", resources("file:///docs/*"), "completion/complete", template, true},
		{"template that could leave", resources("file:///docs/*"), "completion/complete", Object{KindTemplate, "file:///{path}"}, false},
		{"exact template", resources("file:///docs/{name}"), "completion/complete", template, true},
		{"two kinds", AgentRule{Tools: []string{"a"}, Prompts: []string{"review"}}, "prompts/get", prompt, true},
	} {
		t.Run(c.name, func(t *testing.T) {
			c.rule.Action, c.rule.Source = ActionAllow, sourceOf(planner)
			s := agentSpec(c.rule)
			s.BaseMethods = BaseMethodsSkip
			d := agentPolicies(t, s).Call(inboundCall(planner, c.method, c.object))
			if d.Allowed != c.want {
				t.Errorf("allowed = %v, want %v: %s", d.Allowed, c.want, d.Reason)
			}
		})
	}
}

func TestDenyReachesFurtherThanAllow(t *testing.T) {
	all := AgentRule{Name: "all", Action: ActionAllow, Methods: []string{"*"}}
	for _, c := range []struct {
		name string
		deny AgentRule
		call *Call
		want bool // allowed
	}{
		{"everything, unknown methods included", AgentRule{}, inboundCall(planner, "vendor/x", Object{Kind: KindUnknown}), false},
		{"a template that could stand for it", AgentRule{Resources: []string{"file:///secret/*"}}, inboundCall(planner, "completion/complete", Object{KindTemplate, "file:///{path}"}), false},
		{"one uri of a template", AgentRule{Resources: []string{"file:///secret/a"}}, inboundCall(planner, "completion/complete", Object{KindTemplate, "file:///{+path}"}), false},
		{"a template that could not", AgentRule{Resources: []string{"file:///secret/*"}}, inboundCall(planner, "completion/complete", Object{KindTemplate, "https:///{path}"}), true},
		{"a prompt by completion", AgentRule{Methods: []string{"prompts/get"}, Prompts: []string{"review"}}, inboundCall(planner, "completion/complete", Object{KindPrompt, "review"}), false},
		{"base protocol methods of a source", AgentRule{Source: sourceOf(planner)}, inboundCall(planner, "initialize", Object{}), false},
	} {
		t.Run(c.name, func(t *testing.T) {
			c.deny.Action, c.deny.Name = ActionDeny, "deny"
			if d := agentPolicies(t, agentSpec(c.deny, all)).Call(c.call); d.Allowed != c.want {
				t.Errorf("allowed = %v, want %v: %s", d.Allowed, c.want, d.Reason)
			}
		})
	}
}

func TestBaseProtocolMethods(t *testing.T) {
	grant := AgentRule{Name: "grant", Action: ActionAllow, Source: sourceOf(planner), Tools: []string{"x"}}
	audit := AgentRule{Name: "audit", Action: ActionAllow, AuditOnly: true, Source: sourceOf(writer)}
	match := agentPolicies(t, agentSpec(grant, audit))
	s := agentSpec(grant, audit)
	s.BaseMethods = BaseMethodsSkip
	skip := agentPolicies(t, s)
	for _, method := range []string{"initialize", "ping", "server/discover", "tools/list", "resources/list", "resources/templates/list",
		"prompts/list", "tasks/list", "notifications/initialized", "notifications/cancelled", "notifications/progress",
		"logging/setLevel", "subscriptions/listen", "GET", "DELETE"} {
		if d := match.Call(inboundCall(planner, method, Object{})); !d.Allowed || d.Rule != "grant" {
			t.Errorf("%s is denied to an admitted caller: %s", method, d.Reason)
		}
		if d := match.Call(inboundCall(writer, method, Object{})); d.Allowed {
			t.Errorf("%s is allowed to a caller that only an audit-only rule admits", method)
		}
		if d := skip.Call(inboundCall(planner, method, Object{})); d.Allowed {
			t.Errorf("%s is allowed although the base protocol methods are skipped", method)
		}
	}
	for _, method := range []string{"tools/call", "sampling/createMessage", "notifications/vendor", "completion/complete", "tasks/get", "vendor/x", ""} {
		if d := match.Call(inboundCall(planner, method, Object{})); d.Allowed {
			t.Errorf("%s is not a base protocol method", method)
		}
	}
}

func TestArguments(t *testing.T) {
	is := func(path string, a AgentArgument) AgentArgument { a.Path = path; return a }
	exact := func(s string) AgentArgument { return AgentArgument{Exact: &s} }
	for _, c := range []struct {
		name        string
		argument    AgentArgument
		arguments   string
		allow, deny bool // whether an Allow rule allows, whether a Deny rule denies
	}{
		{"exact string", is("repo", exact("a")), `{"repo":"a"}`, true, true},
		{"escaped string and name", is("repo", exact("a/b")), `{"r\u0065po":"a\/\u0062"}`, true, true},
		{"another string", is("repo", exact("a")), `{"repo":"A"}`, false, false},
		{"nested", is("r.owner", exact("a")), `{"r":{"x":1,"owner":"a"}}`, true, true},
		{"name with a dot", is(`r\.owner`, exact("a")), `{"r.owner":"a"}`, true, true},
		{"not into arrays", is("r.owner", exact("a")), `{"r":[{"owner":"a"}]}`, false, false},
		{"integer", is("n", exact("10")), `{"n":10}`, true, true},
		{"integer by value", is("n", exact("10")), `{"n":1.0e1}`, true, true},
		{"fraction by value", is("n", exact("0.1")), `{"n":1e-1}`, true, true},
		{"minus zero", is("n", exact("0")), `{"n":-0.0}`, true, true},
		{"number as a string", is("n", exact("10")), `{"n":"10"}`, true, true},
		{"string is compared as text", is("n", exact("10")), `{"n":"1e1"}`, false, false},
		{"equal only when rounded", is("n", exact("9007199254740992")), `{"n":9007199254740993}`, false, true},
		{"huge", is("n", exact("1e400")), `{"n":1e401}`, false, true},
		{"boolean", is("force", exact("true")), `{"force":true}`, true, true},
		{"boolean differs", is("force", exact("true")), `{"force":false}`, false, false},
		{"object equals nothing", is("r", exact("{}")), `{"r":{}}`, false, false},
		{"absent", is("r", exact("a")), `{}`, false, false},
		{"no arguments", is("r", exact("a")), ``, false, false},
		{"null", is("r", exact("null")), `{"r":null}`, false, false},
		{"in", is("r", AgentArgument{In: []string{"a", "b"}}), `{"r":"b"}`, true, true},
		{"not in", is("r", AgentArgument{In: []string{"a", "b"}}), `{"r":"c"}`, false, false},
		{"glob", is("r", AgentArgument{Glob: ptr("docs/*")}), `{"r":"docs/x"}`, true, true},
		{"glob of a number", is("r", AgentArgument{Glob: ptr("*")}), `{"r":1}`, false, false},
		{"present", is("r", AgentArgument{Present: ptr(true)}), `{"r":0}`, true, true},
		{"not present", is("r", AgentArgument{Present: ptr(true)}), `{}`, false, false},
		{"absent as asked", is("r", AgentArgument{Present: ptr(false)}), `{}`, true, true},
		{"not absent", is("r", AgentArgument{Present: ptr(false)}), `{"r":1}`, false, false},
		{"null is not present to Allow, and is to Deny", is("r", AgentArgument{Present: ptr(true)}), `{"r":null}`, false, true},
		{"null is not absent to Allow, and is to Deny", is("r", AgentArgument{Present: ptr(false)}), `{"r":null}`, false, true},
		{"below a string", is("r.x", AgentArgument{Present: ptr(false)}), `{"r":"s"}`, true, true},
		{"twice", is("r", exact("a")), `{"r":"a","r":"b"}`, false, true},
		{"twice, once escaped", is("r", exact("b")), `{"r":"a","\u0072":"b"}`, false, true},
		{"not JSON", is("r", exact("a")), `{"r":"a"`, false, true},
		{"not an object", is("r", exact("a")), `[1]`, false, true},
		{"trailing bytes", is("r", exact("a")), `{"r":"a"} x`, false, true},
		{"too deep", is("r", exact("a")), `{"r":"a","d":` + strings.Repeat("[", 200) + strings.Repeat("]", 200) + `}`, false, true},
	} {
		t.Run(c.name, func(t *testing.T) {
			rule := AgentRule{Name: "r", Action: ActionAllow, Tools: []string{"x"}, Arguments: []AgentArgument{c.argument}}
			if d := agentPolicies(t, agentSpec(rule)).Call(toolCall(planner, "x", c.arguments)); d.Allowed != c.allow {
				t.Errorf("allowed = %v, want %v: %s", d.Allowed, c.allow, d.Reason)
			}
			all := AgentRule{Name: "all", Action: ActionAllow}
			rule.Action = ActionRequire
			if d := agentPolicies(t, agentSpec(rule, all)).Call(toolCall(planner, "x", c.arguments)); d.Allowed != c.allow {
				t.Errorf("requirement met = %v, want %v: %s", d.Allowed, c.allow, d.Reason)
			}
			rule.Action = ActionDeny
			if d := agentPolicies(t, agentSpec(rule, all)).Call(toolCall(planner, "x", c.arguments)); d.Allowed == c.deny {
				t.Errorf("denied = %v, want %v: %s", !d.Allowed, c.deny, d.Reason)
			}
		})
	}
}

func TestNoArgumentIsInAReason(t *testing.T) {
	p := agentPolicies(t, agentSpec(AgentRule{Action: ActionAllow, Tools: []string{"x"},
		Arguments: []AgentArgument{{Path: "a", Exact: ptr("1")}}, When: []string{"mcp.tool.arguments.a == 'hunter2'"}}))
	if d := p.Call(toolCall(planner, "x", `{"a":"hunter3"}`)); d.Allowed || strings.Contains(d.Reason, "hunter") {
		t.Errorf("reason: %s", d.Reason)
	}
	long := p.Call(toolCall(planner, "\x1b[31m"+strings.Repeat("x", 10000), ``))
	if len(long.Reason) > 500 || strings.Contains(long.Reason, "\x1b") {
		t.Errorf("the caller wrote %d bytes of the reason", len(long.Reason))
	}
}
