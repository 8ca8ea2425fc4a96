package policy

import "testing"

func TestVisible(t *testing.T) {
	all := AgentRule{Name: "all", Action: ActionAllow}
	allow := func(r AgentRule) []AgentRule { r.Action = ActionAllow; return []AgentRule{r} }
	deny := func(r AgentRule) []AgentRule { r.Action = ActionDeny; return []AgentRule{r, all} }
	require := func(r AgentRule) []AgentRule { r.Action = ActionRequire; return []AgentRule{r, all} }
	tool, template := Object{KindTool, "x"}, Object{KindTemplate, "file:///{path}"}
	argument := []AgentArgument{{Path: "a", Exact: ptr("1")}}
	for _, c := range []struct {
		name   string
		rules  []AgentRule
		object Object
		want   bool
	}{
		{"no rule", nil, tool, false},
		{"allowed tool", allow(AgentRule{Tools: []string{"x"}}), tool, true},
		{"another tool", allow(AgentRule{Tools: []string{"y"}}), tool, false},
		{"allowed to another caller", allow(AgentRule{Source: sourceOf(writer)}), tool, false},
		{"only the list is allowed", allow(AgentRule{Methods: []string{"tools/list"}}), tool, false},
		{"allowed with some arguments", allow(AgentRule{Arguments: argument}), tool, true},
		{"allowed with some arguments by CEL", allow(AgentRule{When: []string{`mcp.tool.arguments.a == 1`}}), tool, true},
		{"CEL is about the call, not the list", allow(AgentRule{When: []string{`mcp.methodName == "tools/call" && mcp.tool.name == "x"`}}), tool, true},
		{"CEL that arguments cannot save", allow(AgentRule{When: []string{`mcp.tool.arguments.a == 1 && mcp.tool.name == "y"`}}), tool, false},
		{"CEL beside that arguments cannot save", allow(AgentRule{When: []string{`mcp.tool.arguments.a == 1`, `mcp.tool.name == "y"`}}), tool, false},
		{"CEL that fails without arguments", allow(AgentRule{When: []string{`jwt.sub == "x"`}}), tool, false},
		{"CEL of a prompt's arguments on a tool", allow(AgentRule{When: []string{`mcp.prompt.arguments.a == 1`}}), tool, false},
		{"CEL of a prompt's arguments", allow(AgentRule{When: []string{`mcp.prompt.arguments.a == 1`}}), Object{KindPrompt, "p"}, true},
		{"denied tool", deny(AgentRule{Tools: []string{"x"}}), tool, false},
		{"denied with some arguments", deny(AgentRule{Arguments: argument}), tool, true},
		{"denied with some arguments by CEL", deny(AgentRule{When: []string{`mcp.tool.arguments.a == 1`}}), tool, true},
		{"denied whatever the arguments", deny(AgentRule{When: []string{`mcp.tool.arguments.a == 1 || mcp.tool.name == "x"`}}), tool, false},
		{"denied by CEL that fails", deny(AgentRule{When: []string{`jwt.sub == "x"`}}), tool, false},
		{"requirement that arguments can meet", require(AgentRule{Tools: []string{"x"}, Arguments: argument}), tool, true},
		{"requirement that nothing can meet", require(AgentRule{Tools: []string{"x"}, Source: sourceOf(writer)}), tool, false},
		{"denied list is not a denied tool", deny(AgentRule{Methods: []string{"tools/list"}}), tool, true},
		{"a template of which some is denied", deny(AgentRule{Resources: []string{"file:///secret/*"}}), template, true},
		{"a template of which all is denied", deny(AgentRule{Resources: []string{"file:///*"}}), template, false},
		{"a resource", allow(AgentRule{Resources: []string{"file:///docs/*"}}), Object{KindResource, "file:///docs/a"}, true},
		{"a task", allow(AgentRule{Methods: []string{"@tasks"}}), Object{KindTask, "t"}, true},
		{"nothing", []AgentRule{all}, Object{}, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			p := agentPolicies(t, agentSpec(c.rules...))
			list := inboundCall(planner, "tools/list", Object{})
			d := p.Visible(list, c.object)
			if d.Allowed != c.want {
				t.Errorf("visible = %v, want %v: %s", d.Allowed, c.want, d.Reason)
			}
			if list.Method != "tools/list" || list.Object != (Object{}) {
				t.Error("the call was changed")
			}
		})
	}
}
