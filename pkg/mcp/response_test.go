package mcp

import (
	"errors"
	"io"
	"strings"
	"testing"
	"testing/iotest"

	"github.com/outrigger-mesh/outrigger/pkg/inspect"
)

func TestListsAreFilteredPageByPage(t *testing.T) {
	for _, c := range []struct{ name, method, in, want string }{
		{"tools", "tools/list", `{"jsonrpc":"2.0","id":1,"result":{"tools":[{"name":"a"},{"name":"hidden"} , {"x":1,"name":"b"}],"nextCursor":"c\u0031","x":null}}`,
			`{"jsonrpc":"2.0","id":1,"result":{"tools":[{"name":"a"}, {"x":1,"name":"b"}],"nextCursor":"c\u0031","x":null}}`},
		{"escaped", "tools/list", `{"jsonrpc":"2.0","id":1,"result":{"tools":[{"name":"hi\u0064den"}],"nextCursor":""}}`,
			`{"jsonrpc":"2.0","id":1,"result":{"tools":[],"nextCursor":""}}`},
		{"nameless", "tools/list", `{"jsonrpc":"2.0","id":1,"result":{"tools":[{"title":"a"},{"name":1},3]}}`, `{"jsonrpc":"2.0","id":1,"result":{"tools":[]}}`},
		{"resources", "resources/list", `{"jsonrpc":"2.0","id":1,"result":{"resources":[{"uri":"hidden"},{"uri":"b"}]}}`, `{"jsonrpc":"2.0","id":1,"result":{"resources":[{"uri":"b"}]}}`},
		{"templates", "resources/templates/list", `{"jsonrpc":"2.0","id":1,"result":{"resourceTemplates":[{"uriTemplate":"b{x}"},{"uriTemplate":"hidden"}]}}`,
			`{"jsonrpc":"2.0","id":1,"result":{"resourceTemplates":[{"uriTemplate":"b{x}"}]}}`},
		{"prompts", "prompts/list", `{"jsonrpc":"2.0","id":1,"result":{"prompts":[{"name":"hidden"}]}}`, `{"jsonrpc":"2.0","id":1,"result":{"prompts":[]}}`},
		{"nothing hidden", "tools/list", ` { "jsonrpc":"2.0","id":1,"result":{"tools" :[ {"name":"a"} ]}}`, ` { "jsonrpc":"2.0","id":1,"result":{"tools" :[ {"name":"a"} ]}}`},
		{"cache before", "tools/list", `{"jsonrpc":"2.0","id":1,"result":{"cacheScope":"public","tools":[{"name":"hidden"},{"name":"a"}],"ttlMs":5}}`,
			`{"jsonrpc":"2.0","id":1,"result":{"cacheScope":"private","tools":[{"name":"a"}],"ttlMs":5}}`},
		{"cache behind", "tools/list", `{"jsonrpc":"2.0","id":1,"result":{"tools":[{"name":"hidden"},{"name":"a"}],"cacheScope" : "public"}}`,
			`{"jsonrpc":"2.0","id":1,"result":{"tools":[{"name":"a"}],"cacheScope" : "private"}}`},
		{"cached read", "resources/read", `{"jsonrpc":"2.0","id":1,"result":{"contents":[{"uri":"u","text":"x"}],"cacheScope":"public"}}`,
			`{"jsonrpc":"2.0","id":1,"result":{"contents":[{"uri":"u","text":"x"}],"cacheScope":"private"}}`},
		{"read another", "resources/read", `{"jsonrpc":"2.0","id":1,"result":{"contents":[{"uri":"u","text":"x"},{"uri":"hidden","text":"secret"}]}}`,
			`{"jsonrpc":"2.0","id":1,"error":{"code":-32002,"message":"Resource not found","data":{"uri":"u"}}}`},
	} {
		for _, form := range []string{"json", "events"} {
			t.Run(c.name+"/"+form, func(t *testing.T) {
				h := newHarness(t, denying("* hidden"), Config{})
				h.server = func(*seen) *inspect.Response { return jsonReply(200, c.in) }
				want := c.want
				if form == "events" {
					h.server = func(*seen) *inspect.Response { return eventReply("id: 1\r\ndata: " + c.in + "\r\n\r\n") }
					want = "id: 1\ndata: " + c.want + "\n\n"
				}
				if a := h.send("POST", rpc("1", c.method, `{"uri":"u"}`)); a.body != want || a.status != 200 {
					t.Errorf("got %d %q, want %q", a.status, a.body, want)
				}
				if r := h.records()[0]; r.Result.Hidden != strings.Count(c.in, "{")-strings.Count(c.want, "{") && !strings.Contains(c.name, "read") && c.name != "nameless" {
					t.Errorf("recorded %+v", r)
				}
			})
		}
	}
}

func TestWhatCannotBeInspectedIsRefused(t *testing.T) {
	big := `{"jsonrpc":"2.0","id":1,"result":{"x":"` + strings.Repeat("x", 2000) + `"}}`
	for name, r := range map[string]*inspect.Response{
		"gzip":             jsonReply(200, `{"jsonrpc":"2.0","id":1,"result":{}}`, inspect.Field{Name: "Content-Encoding", Value: "gzip"}),
		"two types":        jsonReply(200, `{"jsonrpc":"2.0","id":1,"result":{}}`, inspect.Field{Name: "Content-Type", Value: "text/event-stream"}),
		"html":             inspect.Reply(200, "text/html", []byte("<html>")),
		"no type":          {Status: 200, Body: io.NopCloser(strings.NewReader("x")), ContentLength: -1},
		"other id":         jsonReply(200, `{"jsonrpc":"2.0","id":2,"result":{}}`),
		"string id":        jsonReply(200, `{"jsonrpc":"2.0","id":"1","result":{}}`),
		"batch":            jsonReply(200, `[{"jsonrpc":"2.0","id":1,"result":{}}]`),
		"request":          jsonReply(200, `{"jsonrpc":"2.0","id":1,"method":"ping"}`),
		"not JSON":         jsonReply(200, `{"jsonrpc":"2.0","id":1,"result":{}`),
		"duplicate":        jsonReply(200, `{"jsonrpc":"2.0","id":1,"result":{"tools":[],"tools":[{"name":"x"}]}}`),
		"twin":             jsonReply(200, `{"jsonrpc":"2.0","id":1,"result":{"Tools":[{"name":"x"}]}}`),
		"twin in item":     jsonReply(200, `{"jsonrpc":"2.0","id":1,"result":{"tools":[{"name":"x","Name":"y"}]}}`),
		"list not array":   jsonReply(200, `{"jsonrpc":"2.0","id":1,"result":{"tools":{"name":"x"}}}`),
		"result and error": jsonReply(200, `{"jsonrpc":"2.0","id":1,"result":{},"error":{"code":1,"message":""}}`),
		"result with 400":  jsonReply(400, `{"jsonrpc":"2.0","id":1,"result":{}}`),
		"too large":        jsonReply(200, big),
		"breaks off":       {Status: 200, Header: inspect.Header{{Name: "Content-Type", Value: "application/json"}}, Body: io.NopCloser(iotest.ErrReader(errors.New("reset"))), ContentLength: -1},
	} {
		t.Run(name, func(t *testing.T) {
			h := newHarness(t, denying(), Config{MessageBytes: 1000})
			h.server = func(*seen) *inspect.Response { return r }
			isError(t, h.send("POST", rpc("1", "tools/list", "")), 502, codeInternalError, "1")
			if r := h.records()[0]; r.Result.Status != 502 {
				t.Errorf("recorded %+v", r)
			}
		})
	}
}

func TestHTTPErrorsKeepTheirStatus(t *testing.T) {
	for name, c := range map[string]struct {
		r    *inspect.Response
		want answer
	}{
		"json":             {jsonReply(400, `{"jsonrpc":"2.0","id":1,"error":{"code":-32022,"message":"x"}}`), answer{status: 400, body: `{"jsonrpc":"2.0","id":1,"error":{"code":-32022,"message":"x"}}`}},
		"json to nobody":   {jsonReply(400, `{"jsonrpc":"2.0","error":{"code":-32000,"message":"x"},"id":null}`), answer{status: 400, body: `{"jsonrpc":"2.0","error":{"code":-32000,"message":"x"},"id":null}`}},
		"plain":            {inspect.Reply(404, "text/plain; charset=utf-8", []byte("session not found\n")), answer{status: 404, body: "session not found\n"}},
		"plain like json":  {inspect.Reply(400, "text/plain", []byte(` {"jsonrpc":"2.0","id":1,"result":{}}`)), answer{status: 400}},
		"html":             {inspect.Reply(404, "text/html", []byte("<html>")), answer{status: 404}},
		"nothing":          {&inspect.Response{Status: 401, Header: inspect.Header{{Name: "WWW-Authenticate", Value: "Bearer"}}}, answer{status: 401}},
		"accepted":         {&inspect.Response{Status: 202}, answer{status: 202}},
		"empty event body": {&inspect.Response{Status: 202, Body: io.NopCloser(strings.NewReader("")), ContentLength: -1}, answer{status: 202}},
	} {
		h := newHarness(t, denying(), Config{})
		h.server = func(*seen) *inspect.Response { return c.r }
		if a := h.send("POST", rpc("1", "tools/list", "")); a.status != c.want.status || a.body != c.want.body || a.err != nil {
			t.Errorf("%s: got %+v", name, a)
		}
	}
}

func TestToolErrorsAreRecorded(t *testing.T) {
	h := newHarness(t, denying(), Config{})
	h.server = func(*seen) *inspect.Response {
		return jsonReply(200, `{"jsonrpc":"2.0","id":1,"result":{"isError":true,"content":[]}}`)
	}
	h.send("POST", rpc("1", "tools/call", `{"name":"a"}`))
	h.server = func(*seen) *inspect.Response {
		return eventReply("data: {\"jsonrpc\":\"2.0\",\"id\":1,\"error\":{\"code\":-5,\"message\":\"\"}}\n\n")
	}
	h.send("POST", rpc("1", "tools/call", `{"name":"a"}`))
	rs := h.records()
	if len(rs) != 2 || !rs[0].Result.IsError || rs[1].Result.Code != -5 || !rs[1].Decision.Allowed || rs[0].MCP.Name != "a" {
		t.Errorf("recorded %+v", rs)
	}
}

func TestServerIsAskedForIdentityEncoding(t *testing.T) {
	h := newHarness(t, denying(), Config{})
	h.send("POST", rpc("1", "ping", ""), "Accept-Encoding: gzip, br", "Origin: http://o.test")
	if got := h.got[0].header; got.Get("Accept-Encoding") != "identity" || got.Get("Origin") != "http://o.test" {
		t.Errorf("the server got %v", got)
	}
}

func TestInputThatPolicyForbidsIsNotAskedFor(t *testing.T) {
	ask := `{"jsonrpc":"2.0","id":1,"result":{"resultType":"input_required","inputRequests":{"a":{"method":"elicitation/create","params":{}},"b":{"method":"roots/list"}},"requestState":"s"}}`
	headers := []string{versionHeader + ": 2026-07-28", "Mcp-Method: tools/call", "Mcp-Name: a"}
	body := rpc("1", "tools/call", `{"name":"a",`+meta2607+`}`)
	h := newHarness(t, denying(), Config{})
	h.server = func(*seen) *inspect.Response { return jsonReply(200, ask) }
	if a := h.send("POST", body, headers...); a.body != ask {
		t.Errorf("got %s", a.body)
	}
	h.judge = denying("roots/list ")
	isError(t, h.send("POST", body, headers...), 200, codeRefused, "1")
}

func TestModernRequestsCarryNoSession(t *testing.T) {
	h := newHarness(t, denying(), Config{})
	h.server = func(*seen) *inspect.Response {
		return jsonReply(200, `{"jsonrpc":"2.0","id":1,"result":{}}`, inspect.Field{Name: sessionHeader, Value: "minted"})
	}
	a := h.send("POST", rpc("1", "tools/list", "{"+meta2607+"}"), versionHeader+": 2026-07-28", "Mcp-Method: tools/list", sessionHeader+": stolen")
	if a.status != 200 || h.got[0].header.Has(sessionHeader) || a.header.Has(sessionHeader) {
		t.Errorf("got %+v, the server %+v", a, h.got)
	}
}
