package policy

import (
	"reflect"
	"slices"
	"strings"
	"testing"
)

func TestExplainDecidesAsCall(t *testing.T) {
	rules := []AgentRule{
		{Name: "no-drop", Action: ActionDeny, Tools: []string{"drop_*"}},
		{Name: "no-main", Action: ActionDeny, Tools: []string{"push"}, Arguments: []AgentArgument{{Path: "branch", Exact: ptr("main")}}},
		{Name: "fails", Action: ActionDeny, Tools: []string{"odd"}, When: []string{"mcp.tool.arguments.nosuch == 1"}},
		{Name: "team", Action: ActionRequire, Tools: []string{"push"}, When: []string{`request.headers["x-team"] == "a"`}},
		{Name: "write", Action: ActionAllow, Tools: []string{"create"}, Scopes: []string{"w"}},
		{Name: "planner", Action: ActionAllow, Source: &AgentSource{Namespaces: []string{"agents"}}, Tools: []string{"push", "get_*", "odd", "drop_all"}},
		{Name: "audit", Action: ActionDeny, AuditOnly: true, Tools: []string{"get_secret"}},
	}
	p := termsPolicies(t, termsSpec("a", rules...))
	for _, name := range []string{"push", "get_issue", "get_secret", "odd", "drop_all", "create", "other"} {
		for _, args := range []string{`{"branch":"main"}`, `{"branch":"x"}`, `{}`} {
			for _, team := range []string{"a", "b"} {
				for _, scope := range []string{"w", ""} {
					c := termsCall("tools/call", Object{KindTool, name}, map[string]any{"scope": scope})
					c.Arguments = []byte(args)
					c.HTTP.Header = map[string][]string{"X-Team": {team}}
					checkExplained(t, p, c)
				}
			}
		}
	}
	for _, method := range []string{"tools/list", "initialize", "custom/method", "resources/read"} {
		checkExplained(t, p, termsCall(method, Object{}, nil))
	}
	checkExplained(t, nil, termsCall("tools/list", Object{}, nil))
}

func checkExplained(t *testing.T, p *Policies, c *Call) {
	t.Helper()
	want, got := p.Call(c), p.Explain(&Recorded{Call: *c})
	if !got.Certain || !reflect.DeepEqual(got.Decision, want) {
		t.Errorf("%s %v %s\nexplained as %+v\ndecided as   %+v", c.Method, c.Object, c.Arguments, got, want)
	}
	for _, o := range got.Rules {
		if o.Decides && (o.Rule != want.Rule || o.Acts != Yes && o.Acts != Failed) {
			t.Errorf("%+v decides, not %s", o, want.Rule)
		}
	}
}

func TestExplainSaysWhatDependsOnWhatIsNotRecorded(t *testing.T) {
	tool := Object{KindTool, "push"}
	allow := AgentRule{Name: "allow", Action: ActionAllow}
	rule := func(a Action, change func(*AgentRule)) AgentRule {
		r := AgentRule{Name: "r", Action: a, Tools: []string{"push"}}
		change(&r)
		return r
	}
	when := func(text string) func(*AgentRule) { return func(r *AgentRule) { r.When = []string{text} } }
	branch := func(r *AgentRule) { r.Arguments = []AgentArgument{{Path: "branch", Exact: ptr("main")}} }
	all := Lacks{true, true, true, true, true, true}
	for _, c := range []struct {
		name    string
		rules   []AgentRule
		lacks   Lacks
		certain bool
		allowed bool
		acts    Truth // of r
	}{
		{"a denied argument", []AgentRule{rule(ActionDeny, branch), allow}, all, false, true, Unknown},
		{"but nothing lacks", []AgentRule{rule(ActionDeny, branch), allow}, Lacks{Headers: true}, true, true, No},
		{"a required argument", []AgentRule{rule(ActionRequire, branch), allow}, all, false, true, Unknown},
		{"an allowed argument", []AgentRule{rule(ActionAllow, branch)}, all, false, false, Unknown},
		{"an allowed argument that does not matter", []AgentRule{rule(ActionAllow, branch), allow}, all, true, true, Unknown},
		{"another claim", []AgentRule{rule(ActionDeny, when(`jwt.group == "x"`)), allow}, all, false, true, Unknown},
		{"a claim among those that are known", []AgentRule{rule(ActionDeny, when(`jwt.sub == "alice" && jwt["iss"] == "i"`)), allow}, all, true, false, Yes},
		{"all claims", []AgentRule{rule(ActionDeny, when(`jwt.sub == "alice" && size(jwt) > 3`)), allow}, all, false, true, Unknown},
		{"a scope", []AgentRule{rule(ActionRequire, func(r *AgentRule) { r.Scopes = []string{"w"} }), allow}, all, true, true, No},
		{"a header", []AgentRule{rule(ActionDeny, when(`request.headers["x"] == "y"`)), allow}, all, false, true, Unknown},
		{"a header that does not matter", []AgentRule{rule(ActionDeny, when(`request.path == "/x" && request.headers["x"] == "y"`)), allow}, all, true, true, No},
		{"a session", []AgentRule{rule(ActionDeny, when(`mcp.sessionId == "y"`)), allow}, all, false, true, Unknown},
		{"capabilities", []AgentRule{rule(ActionDeny, when(`has(mcp.client.capabilities.roots)`)), allow}, all, false, true, Unknown},
		{"a url", []AgentRule{rule(ActionDeny, when(`mcp.elicitation.url == "x"`)), allow}, all, false, true, Unknown},
	} {
		call := termsCall("tools/call", tool, map[string]any{"iss": "i", "sub": "alice", "scope": "w"})
		got := termsPolicies(t, termsSpec("a", c.rules...)).Explain(&Recorded{Call: *call, Lacks: c.lacks})
		i := slices.IndexFunc(got.Rules, func(o RuleOutcome) bool { return o.Rule == "r" })
		if got.Certain != c.certain || got.Decision.Allowed != c.allowed || got.Rules[i].Acts != c.acts {
			t.Errorf("%s: %+v", c.name, got)
		}
	}
}

func TestExplainNamesEachStep(t *testing.T) {
	p := termsPolicies(t, termsSpec("a", AgentRule{Name: "r", Action: ActionAllow, Methods: []string{"@tools"}, Tools: []string{"get_*"},
		Source: &AgentSource{Namespaces: []string{"agents"}}, Scopes: []string{"w"}, When: []string{`destination.port == 9000`, `jwt.sub == "x"`}}))
	c := termsCall("tools/call", Object{KindTool, "get_x"}, map[string]any{"scope": "w", "sub": "y"})
	var lines []string
	for _, s := range p.Explain(&Recorded{Call: *c}).Rules[0].Steps {
		lines = append(lines, s.What+": "+s.Holds.String())
	}
	if got, want := strings.Join(lines, "\n"), `method: yes
object: yes
source: yes
scopes w: yes
when[0] destination.port == 9000: yes
when[1] jwt.sub == "x": no`; got != want {
		t.Errorf("got\n%s", got)
	}
}
