package policy

import "testing"

func TestConditions(t *testing.T) {
	for _, c := range []struct {
		when        []string
		arguments   string
		allow, deny bool // whether an Allow rule allows, whether a Deny rule denies
	}{
		{[]string{`source.spiffeId == "spiffe://cluster.local/ns/agents/sa/planner"`}, "{}", true, true},
		{[]string{`source.identity.trustDomain == "cluster.local" && source.identity.namespace == "agents" && source.identity.serviceAccount == "planner"`}, "{}", true, true},
		{[]string{`source.address == "10.0.0.1"`}, "{}", true, true},
		{[]string{`destination.service == "github.tools.svc.cluster.local" && destination.workload == "github-1" && destination.namespace == "tools" && destination.port == 8080`}, "{}", true, true},
		{[]string{`mcp.methodName == "tools/call" && mcp.protocolVersion == "2025-11-25" && mcp.sessionId == "s1"`}, "{}", true, true},
		{[]string{`mcp.tool.name == "x" && mcp.resource.uri == "" && mcp.prompt.name == "" && mcp.task.id == ""`}, "{}", true, true},
		{[]string{`request.method == "POST" && request.path == "/mcp" && request.host == "github" && request.headers["x-team"] == "a,b"`}, "{}", true, true},
		{[]string{`request.time < timestamp("2026-11-25T10:00:00Z") && request.time.getHours() == 9`}, "{}", true, true},
		{[]string{`jwt.sub == "alice" && "admin" in jwt.groups`}, "{}", true, true},
		{[]string{`mcp.tool.arguments.repo == "a" && mcp.tool.arguments["n"] > 1 && mcp.tool.arguments.list.exists(x, x == 2)`}, `{"repo":"a","n":1.5,"list":[1,2]}`, true, true},
		{[]string{`mcp.tool.arguments.n == 2 && mcp.tool.arguments.n <= 2u`}, `{"n":2}`, true, true},
		{[]string{`size(mcp.prompt.arguments) == 0`}, `{"n":2}`, true, true},
		{[]string{`has(mcp.tool.arguments.repo) && mcp.tool.arguments.repo == "a"`}, `{}`, false, false},
		{[]string{`mcp.tool.arguments.repo == null`}, `{"repo":null}`, true, true},
		{[]string{`mcp.tool.arguments.repo.matches("^docs/[a-z]+$")`}, `{"repo":"docs/a"}`, true, true},
		{[]string{`mcp.tool.name == "y"`}, "{}", false, false},
		// What cannot be evaluated: Allow does not allow, Deny denies.
		{[]string{`mcp.tool.arguments.gone == "a"`}, "{}", false, true},
		{[]string{`jwt.gone == "a"`}, "{}", false, true},
		{[]string{`mcp.tool.arguments.n > 1`}, `{"n":"x"}`, false, true},
		{[]string{`mcp.tool.arguments.n`, `true`}, ``, false, false}, // rejected, see below
		{[]string{`mcp.tool.arguments.n == 1`}, `{"n":1`, false, true},
		{[]string{`mcp.tool.arguments.l.all(a, mcp.tool.arguments.l.all(b, mcp.tool.arguments.l.all(c, a + b + c > 0)))`}, `{"l":[` + numbers(200) + `]}`, false, true},
		{[]string{`mcp.tool.arguments.all(name, true)`}, `{"a":{"b":1,"b":2}}`, false, true},
		{[]string{`mcp.tool.arguments == {"a": 1}`}, `{"a":{"b":1,"b":2}}`, false, true},
		{[]string{`type(mcp.tool.arguments.a) == map`, `mcp.tool.arguments.a.exists(name, true)`}, `{"a":{"b":{"c":1,"c":2}}}`, false, true},
		// false beats what cannot be evaluated, wherever it stands.
		{[]string{`mcp.tool.arguments.gone == "a"`, `mcp.tool.name == "y"`}, "{}", false, false},
		{[]string{`mcp.tool.name == "y"`, `mcp.tool.arguments.gone == "a"`}, "{}", false, false},
	} {
		if c.arguments == "" {
			continue
		}
		rule := AgentRule{Name: "r", Action: ActionAllow, Tools: []string{"x"}, When: c.when}
		call := toolCall(planner, "x", c.arguments)
		call.Claims = map[string]any{"sub": "alice", "groups": []any{"admin"}}
		if d := agentPolicies(t, agentSpec(rule)).Call(call); d.Allowed != c.allow {
			t.Errorf("%q: allowed = %v, want %v: %s", c.when, d.Allowed, c.allow, d.Reason)
		}
		all := AgentRule{Name: "all", Action: ActionAllow}
		rule.Action = ActionRequire
		if d := agentPolicies(t, agentSpec(rule, all)).Call(call); d.Allowed != c.allow {
			t.Errorf("%q: requirement met = %v, want %v: %s", c.when, d.Allowed, c.allow, d.Reason)
		}
		rule.Action = ActionDeny
		if d := agentPolicies(t, agentSpec(rule, all)).Call(call); d.Allowed == c.deny {
			t.Errorf("%q: denied = %v, want %v: %s", c.when, !d.Allowed, c.deny, d.Reason)
		}
	}
}

func numbers(n int) string {
	s := "1"
	for range n - 1 {
		s += ",1"
	}
	return s
}

func TestConditionsThatAreRejected(t *testing.T) {
	for _, text := range []string{
		"", "1", `"true"`, "mcp.tool.arguments.n", "mcp.tool.nmae == 'x'", "source.identity == 1", "unknown == 1",
		"mcp.tool.name == 1", "mcp.tool.name.matches('(')", "timestamp('yesterday') < request.time", "has(mcp.tool.name)",
		"((((((((((((((((((((((((((((((((((((((((((((((((((((((((((((((((((((((1 == 1" + "))",
		"[1].all(a, [1].all(b, [1].all(c, [1].all(d, true))))",
	} {
		if _, err := newCondition(text); err == nil {
			t.Errorf("%q is accepted", text)
		}
	}
	if _, err := newCondition("mcp.tool.name == '" + string(make([]byte, maxCondition)) + "'"); err == nil {
		t.Error("an endless expression is accepted")
	}
}

func TestExpressionsSeeHeadersOnceAndInLowerCase(t *testing.T) {
	call := toolCall(planner, "x", "")
	call.HTTP.Header = map[string][]string{"X-Team": {"a", "b"}, "x-team": {"c"}}
	p := agentPolicies(t, agentSpec(AgentRule{Action: ActionAllow, Tools: []string{"x"},
		When: []string{`request.headers["x-team"] == "a,b,c"`, `size(request.headers) == 1`}}))
	if d := p.Call(call); !d.Allowed {
		t.Error(d.Reason)
	}
}

func TestExpressionsOfTwoRulesSeeTheirOwnCall(t *testing.T) {
	p := agentPolicies(t, agentSpec(
		AgentRule{Action: ActionDeny, When: []string{`mcp.tool.name == "x" && mcp.tool.arguments.a == 1`}},
		AgentRule{Action: ActionAllow, When: []string{`mcp.tool.name == "x" && mcp.tool.arguments.a == 2`}}))
	for arguments, want := range map[string]bool{`{"a":1}`: false, `{"a":2}`: true, `{"a":3}`: false} {
		if d := p.Call(toolCall(planner, "x", arguments)); d.Allowed != want {
			t.Errorf("%s: %+v", arguments, d)
		}
	}
}
