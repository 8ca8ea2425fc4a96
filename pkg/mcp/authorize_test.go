package mcp

import (
	"strings"
	"testing"

	"github.com/outrigger-mesh/outrigger/pkg/inspect"
	"github.com/outrigger-mesh/outrigger/pkg/policy"
)

const meta2607 = `"_meta":{"io.modelcontextprotocol/protocolVersion":"2026-07-28"}`

func TestEveryMethodIsAuthorized(t *testing.T) {
	for _, c := range []struct {
		method, params string
		object         policy.Object // the one that decides
		args           string
		legacy, modern int // JSON-RPC code of the denial; 0: not in this era, answered without policy
	}{
		{"tools/call", `"name":"danger","arguments":{"a":1}`, policy.Object{Kind: policy.KindTool, Name: "danger"}, `{"a":1}`, -32602, -32602},
		{"tools/list", `"cursor":""`, policy.Object{}, "", -32601, -32601},
		{"resources/list", ``, policy.Object{}, "", -32601, -32601},
		{"resources/templates/list", ``, policy.Object{}, "", -32601, -32601},
		{"resources/read", `"uri":"file:///a\u002fb"`, policy.Object{Kind: policy.KindResource, Name: "file:///a/b"}, "", -32002, -32602},
		{"resources/directory/read", `"uri":"file:///a"`, policy.Object{Kind: policy.KindResource, Name: "file:///a"}, "", -32002, -32602},
		{"resources/subscribe", `"uri":"file:///a"`, policy.Object{Kind: policy.KindResource, Name: "file:///a"}, "", -32002, 0},
		{"resources/unsubscribe", `"uri":"file:///a"`, policy.Object{Kind: policy.KindResource, Name: "file:///a"}, "", -32002, 0},
		{"prompts/list", ``, policy.Object{}, "", -32601, -32601},
		{"prompts/get", `"name":"p","arguments":{}`, policy.Object{Kind: policy.KindPrompt, Name: "p"}, "{}", -32602, -32602},
		{"completion/complete", `"ref":{"type":"ref/prompt","name":"p"},"argument":{"name":"a","value":""}`, policy.Object{Kind: policy.KindPrompt, Name: "p"}, "", -32602, -32602},
		{"completion/complete", `"ref":{"type":"ref/resource","uri":"file:///{p}"}`, policy.Object{Kind: policy.KindTemplate, Name: "file:///{p}"}, "", -32002, -32602},
		{"completion/complete", `"ref":{"type":"ref/resource","uri":"file:///p"}`, policy.Object{Kind: policy.KindResource, Name: "file:///p"}, "", -32002, -32602},
		{"subscriptions/listen", `"notifications":{"toolsListChanged":true}`, policy.Object{}, "", -32601, -32601},
		{"subscriptions/listen", `"notifications":{"resourceSubscriptions":["file:///ok","file:///no"]}`, policy.Object{Kind: policy.KindResource, Name: "file:///no"}, "", -32002, -32602},
		{"subscriptions/listen", `"notifications":{"taskIds":["t1"]}`, policy.Object{Kind: policy.KindTask, Name: "t1"}, "", -32602, -32602},
		{"tasks/get", `"taskId":"t"`, policy.Object{Kind: policy.KindTask, Name: "t"}, "", -32602, -32602},
		{"tasks/cancel", `"taskId":"t"`, policy.Object{Kind: policy.KindTask, Name: "t"}, "", -32602, -32602},
		{"tasks/update", `"taskId":"t","inputResponses":{}`, policy.Object{Kind: policy.KindTask, Name: "t"}, "", -32602, -32602},
		{"tasks/result", `"taskId":"t"`, policy.Object{Kind: policy.KindTask, Name: "t"}, "", -32602, 0},
		{"tasks/list", ``, policy.Object{}, "", -32601, 0},
		{"skills/get", `"uri":"skill://a"`, policy.Object{Kind: policy.KindResource, Name: "skill://a"}, "", -32002, -32602},
		{"skills/list", ``, policy.Object{}, "", -32601, -32601},
		{"server/discover", ``, policy.Object{}, "", -32601, -32601},
		{"initialize", `"protocolVersion":"2025-11-25"`, policy.Object{}, "", -31403, 0},
		{"ping", ``, policy.Object{}, "", -32601, 0},
		{"logging/setLevel", `"level":"info"`, policy.Object{}, "", -32601, 0},
		{"custom/thing", ``, policy.Object{Kind: policy.KindUnknown}, "", -32601, -32601},
	} {
		for _, era := range []string{rev2511, rev2607} {
			t.Run(era+"/"+c.method+"/"+c.object.Name, func(t *testing.T) {
				checkMethod(t, era, c.method, c.params, c.args, c.object, map[string]int{rev2511: c.legacy, rev2607: c.modern}[era])
			})
		}
	}
}

func checkMethod(t *testing.T, era, method, params, args string, object policy.Object, code int) {
	headers := []string{versionHeader + ": " + era}
	if era == rev2607 {
		headers = append(headers, "Mcp-Method: "+method)
		if lookup(method).is(named) {
			headers = append(headers, "Mcp-Name: "+object.Name)
		}
		if params != "" {
			params += ","
		}
		params += meta2607
	}
	body := rpc(`"x\u0031"`, method, "{"+params+"}")
	b := denying(method + " " + object.Name)
	h := newHarness(t, b, Config{})
	a := h.send("POST", body, headers...)
	wantStatus := 200
	if code == 0 || code == -32601 && era == rev2607 {
		wantStatus = 404
	}
	isError(t, a, wantStatus, map[bool]int{true: -32601, false: code}[code == 0], `"x\u0031"`)
	if len(h.got) != 0 {
		t.Error("a denied message reached the server")
	}
	if code == 0 {
		return
	}
	last := b.asked[len(b.asked)-1]
	if last.Method != method || last.Object != object || string(last.Arguments) != args || last.Protocol != era || last.Source != planner ||
		last.HTTP.Header.Get("Content-Type") != "application/json" {
		t.Errorf("policy was asked %+v", last)
	}
	if object.Kind != policy.KindUnknown {
		checkAllowed(t, body, headers)
	}
	rs := h.records()
	if len(rs) != 1 || rs[0].MCP.Method != method || rs[0].MCP.Name != object.Name || rs[0].Decision.Allowed || rs[0].Decision.Reason != "in the book" ||
		rs[0].Result.Code != code || rs[0].Result.Status != wantStatus || rs[0].Snapshot != 7 || rs[0].MCP.Protocol != era {
		t.Errorf("recorded %+v", rs)
	}
}

func checkAllowed(t *testing.T, body string, headers []string) {
	h := newHarness(t, denying(), Config{})
	h.server = func(*seen) *inspect.Response {
		return jsonReply(200, ` {"jsonrpc":"2.0","id":"x1","result":{"x" : 1}} `)
	}
	a := h.send("POST", body, headers...)
	if a.status != 200 || a.body != ` {"jsonrpc":"2.0","id":"x1","result":{"x" : 1}} ` {
		t.Errorf("got %d %q", a.status, a.body)
	}
	if len(h.got) != 1 || h.got[0].body != body || h.got[0].length != int64(len(body)) {
		t.Errorf("the server got %+v", h.got)
	}
}

func TestRemovedMethodsAreNotFoundWhateverTheyName(t *testing.T) {
	h := newHarness(t, denying(), Config{})
	isError(t, h.send("POST", rpc("1", "resources/subscribe", "{"+meta2607+"}"), versionHeader+": 2026-07-28", "Mcp-Method: resources/subscribe"), 404, codeMethodNotFound, "1")
}

func TestHiddenToolIsAnsweredAsOneThatDoesNotExist(t *testing.T) {
	deny := denying("tools/call hidden", "tools/call absent")
	h := newHarness(t, deny, Config{})
	ask := func(name string) string {
		return strings.ReplaceAll(h.send("POST", rpc("5", "tools/call", `{"name":"`+name+`"}`)).body, name, "NAME")
	}
	if a, b := ask("hidden"), ask("absent"); a != b || a != `{"jsonrpc":"2.0","id":5,"error":{"code":-32602,"message":"unknown tool \"NAME\""}}` {
		t.Errorf("hidden: %s, absent: %s", a, b)
	}
	for _, own := range []string{
		`{"jsonrpc":"2.0","id":1,"result":{"content":[{"type":"text","text":"MCP error -32602: Tool nosuch not found"}],"isError":true}}`,
		`{"jsonrpc":"2.0","id":1,"error":{"code":-32601,"message":"Unknown tool: nosuch"}}`,
	} {
		h = newHarness(t, deny, Config{})
		h.server = func(*seen) *inspect.Response { return jsonReply(200, own) }
		if a := h.send("POST", rpc("1", "tools/call", `{"name":"nosuch"}`)); a.body != own {
			t.Errorf("the server's own answer became %s", a.body)
		}
		want := strings.ReplaceAll(strings.Replace(own, `"id":1`, `"id":5`, 1), "nosuch", "NAME")
		if a, b := ask("hidden"), ask("absent"); a != b || a != want {
			t.Errorf("hidden: %s, absent: %s, want %s", a, b, want)
		}
	}
}

func TestOnlyTheBareAnswerIsTakenForAnotherTool(t *testing.T) {
	for _, own := range []string{
		`"error":{"code":-32602,"message":"unknown tool \"nosuch\"","data":"secret of the first caller"}`,
		`"error":{"code":-32000,"message":"nosuch: tool for customer 4711 not found"}`,
		`"error":{"code":-32602,"message":"tool nosuch not found in /home/secret"}`,
		`"result":{"isError":true,"content":[{"type":"text","text":"tool nosuch not found"},{"type":"text","text":"secret"}]}`,
		`"result":{"isError":true,"content":[{"type":"text","text":"tool nosuch not found"}],"structuredContent":{"secret":1}}`,
		`"result":{"isError":true,"content":[{"type":"text","text":"tool nosuch not found","_meta":{"secret":1}}]}`,
		`"result":{"content":[{"type":"text","text":"tool nosuch not found"}]}`,
	} {
		h := newHarness(t, denying("tools/call hidden"), Config{})
		h.server = func(*seen) *inspect.Response { return jsonReply(200, `{"jsonrpc":"2.0","id":1,`+own+`}`) }
		h.send("POST", rpc("1", "tools/call", `{"name":"nosuch"}`))
		if a := h.send("POST", rpc("1", "tools/call", `{"name":"hidden"}`)); a.body != `{"jsonrpc":"2.0","id":1,"error":{"code":-32602,"message":"unknown tool \"hidden\""}}` {
			t.Errorf("%s was taken for a form: %s", own, a.body)
		}
	}
}

func TestNotificationsAreRefusedWithAnErrorStatus(t *testing.T) {
	h := newHarness(t, denying("notifications/cancelled"), Config{})
	h.send("POST", rpc("1", "ping", ""))
	h.got = nil
	isError(t, h.send("POST", notify("notifications/cancelled", `{"requestId":1}`)), 403, codeRefused, "null")
	isError(t, h.send("POST", notify("notifications/custom", `{}`)), 403, codeRefused, "null")
	h.server = func(*seen) *inspect.Response { return &inspect.Response{Status: 202} }
	if a := h.send("POST", notify("notifications/initialized", `{}`)); a.status != 202 || a.body != "" {
		t.Errorf("got %+v", a)
	}
	if len(h.got) != 1 {
		t.Errorf("the server got %d messages", len(h.got))
	}
}

func TestOtherPathsAndMethodsAreRefused(t *testing.T) {
	h := newHarness(t, denying("GET"), Config{})
	x := h.exchange("POST", rpc("1", "ping", ""))
	x.Request.Path = "/mcp/"
	if a := h.do(x); a.status != 404 {
		t.Errorf("path: %+v", a)
	}
	for _, method := range []string{"PUT", "OPTIONS", "HEAD", "PATCH", "GET", "DELETE"} {
		if a := h.send(method, ""); a.status != 405 || a.header.Get("Allow") != "POST" {
			t.Errorf("%s: %+v", method, a)
		}
	}
	if a := h.send("GET", "", versionHeader+": 2026-07-28"); a.status != 405 {
		t.Errorf("modern GET: %+v", a)
	}
	if len(h.got) != 0 {
		t.Errorf("the server got %+v", h.got)
	}
}

func TestPortsWithoutMCPPassBy(t *testing.T) {
	h := newHarness(t, denying("*"), Config{})
	h.port = policy.Port{Protocol: policy.ProtocolOpaque}
	h.server = func(*seen) *inspect.Response { return &inspect.Response{Status: 204} }
	if a := h.send("PUT", "x"); a.status != 204 || len(h.got) != 1 {
		t.Errorf("got %+v", a)
	}
}

func TestTasksBelongToWhoMadeThem(t *testing.T) {
	h := newHarness(t, denying(), Config{})
	h.server = func(*seen) *inspect.Response {
		return jsonReply(200, `{"jsonrpc":"2.0","id":1,"result":{"task":{"taskId":"t-1","status":"working"}}}`)
	}
	h.send("POST", rpc("1", "tools/call", `{"name":"slow","task":{}}`))
	h.server = func(*seen) *inspect.Response {
		return jsonReply(200, `{"jsonrpc":"2.0","id":1,"result":{"taskId":"t-1"}}`)
	}
	if a := h.send("POST", rpc("1", "tasks/get", `{"taskId":"t-1"}`)); strings.Contains(a.body, "error") {
		t.Errorf("the owner got %s", a.body)
	}
	h.source = stealer
	isError(t, h.send("POST", rpc("1", "tasks/result", `{"taskId":"t-1"}`)), 200, -32602, "1")
	h.server = func(*seen) *inspect.Response {
		return jsonReply(200, `{"jsonrpc":"2.0","id":1,"result":{"tasks":[{"taskId":"t-1"},{"taskId":"t-2"}]}}`)
	}
	if a := h.send("POST", rpc("1", "tasks/list", `{}`)); a.body != `{"jsonrpc":"2.0","id":1,"result":{"tasks":[{"taskId":"t-2"}]}}` {
		t.Errorf("the list is %s", a.body)
	}
}

func TestBatchIsAllOrNothing(t *testing.T) {
	open := func(h *harness, version string) {
		h.server = func(*seen) *inspect.Response {
			return jsonReply(200, `{"jsonrpc":"2.0","id":1,"result":{"protocolVersion":"`+version+`"}}`, inspect.Field{Name: sessionHeader, Value: "s"})
		}
		h.send("POST", rpc("1", "initialize", `{"protocolVersion":"`+version+`"}`))
		h.got = nil
	}
	batch := `[` + rpc("1", "tools/call", `{"name":"safe"}`) + `,` + rpc(`"b"`, "tools/call", `{"name":"danger"}`) + `,` + notify("notifications/initialized", `{}`) + `]`
	h := newHarness(t, denying("tools/call danger"), Config{})
	open(h, rev2503)
	a := h.send("POST", batch, sessionHeader+": s")
	want := `[{"jsonrpc":"2.0","id":1,"error":{"code":-31403,"message":"not executed: another element of the batch was refused"}},` +
		`{"jsonrpc":"2.0","id":"b","error":{"code":-32602,"message":"unknown tool \"danger\""}}]`
	if a.status != 200 || a.body != want || len(h.got) != 0 {
		t.Errorf("got %d %s", a.status, a.body)
	}
	h.judge = denying("* hidden")
	h.server = func(*seen) *inspect.Response {
		return jsonReply(200, `[{"jsonrpc":"2.0","id":"b","result":{}}, {"jsonrpc":"2.0","id":1,"result":{"tools":[{"name":"hidden"},{"name":"safe"}]}}]`)
	}
	batch = `[` + rpc("1", "tools/list", `{}`) + `,` + rpc(`"b"`, "tools/call", `{"name":"danger"}`) + `]`
	if a = h.send("POST", batch, sessionHeader+": s"); a.body != `[{"jsonrpc":"2.0","id":"b","result":{}},{"jsonrpc":"2.0","id":1,"result":{"tools":[{"name":"safe"}]}}]` || h.got[0].body != batch {
		t.Errorf("got %d %s", a.status, a.body)
	}
	for name, refused := range map[string]string{
		"initialize": `[` + rpc("1", "initialize", `{}`) + `]`, "empty": `[]`, "nested": `[[` + rpc("1", "ping", "") + `]]`,
		"same id": `[` + rpc("1", "ping", "") + `,` + rpc("1", "ping", "") + `]`,
	} {
		h.got = nil
		if a := h.send("POST", refused, sessionHeader+": s"); a.status != 400 || len(h.got) != 0 {
			t.Errorf("%s: got %d %s", name, a.status, a.body)
		}
	}
	later := newHarness(t, denying(), Config{})
	open(later, rev2511)
	for _, headers := range [][]string{{sessionHeader + ": s"}, {sessionHeader + ": s", versionHeader + ": 2025-03-26"}, {}} {
		if a := later.send("POST", batch, headers...); a.status != 400 || len(later.got) != 0 {
			t.Errorf("%v: a batch outside 2025-03-26 got %d %s", headers, a.status, a.body)
		}
	}
	off := newHarness(t, denying(), Config{NoBatches: true})
	open(off, rev2503)
	if a := off.send("POST", batch, sessionHeader+": s"); a.status != 400 || len(off.got) != 0 {
		t.Errorf("a batch with NoBatches got %d %s", a.status, a.body)
	}
}

func TestWithoutPoliciesNothingIsAllowed(t *testing.T) {
	h := newHarness(t, nil, Config{})
	h.layer = New(Config{})
	isError(t, h.send("POST", rpc("1", "tools/call", `{"name":"a"}`)), 200, -32602, "1")
	isError(t, h.send("POST", rpc("1", "initialize", `{}`)), 200, codeRefused, "1")
	if a := h.send("GET", ""); a.status != 405 || len(h.got) != 0 {
		t.Errorf("got %+v", a)
	}
}
