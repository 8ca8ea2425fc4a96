package mcp

import (
	"context"
	"io"
	"strings"
	"testing"

	"github.com/outrigger-mesh/outrigger/pkg/inspect"
)

// openStream opens an event stream and returns its body and the server's end.
func (h *harness) openStream(query ...string) (body io.ReadCloser, server *io.PipeWriter) {
	pr, pw := io.Pipe()
	handler := h.layer(inspect.HandlerFunc(func(ctx context.Context, x *inspect.Exchange) (*inspect.Response, error) {
		r := eventReply("")
		r.Body = pr
		return r, nil
	}))
	x := h.exchange("GET", "", "Accept: text/event-stream")
	x.Request.RawQuery = strings.Join(query, "&")
	r, err := handler.Do(h.t.Context(), x)
	if err != nil {
		h.t.Fatal(err)
	}
	return r.Body, pw
}

func (h *harness) next(body io.Reader, server io.Writer, event string) string {
	go io.WriteString(server, event)
	buf := make([]byte, 4096)
	n, err := body.Read(buf)
	if err != nil {
		h.t.Fatal(err)
	}
	return string(buf[:n])
}

func (h *harness) post(target, body string, header ...string) answer {
	x := h.exchange("POST", body, header...)
	x.Request.Target = target
	x.Request.Path, x.Request.RawQuery, _ = strings.Cut(target, "?")
	return h.do(x)
}

func TestEndpointBelongsToWhoOpenedTheStream(t *testing.T) {
	h := newHarness(t, denying("tools/call hidden", "* secret"), Config{})
	h.server = func(*seen) *inspect.Response {
		return &inspect.Response{Status: 202, Header: inspect.Header{{Name: "Content-Type", Value: "text/plain"}}, Body: io.NopCloser(strings.NewReader("Accepted")), ContentLength: 8}
	}
	if a := h.post("/messages?sid=1", rpc("1", "ping", "")); a.status != 404 {
		t.Errorf("before the stream: %+v", a)
	}
	body, server := h.openStream()
	if got := h.next(body, server, "event: endpoint\ndata: /messages?sid=1\n\n"); got != "event: endpoint\ndata: /messages?sid=1\n\n" {
		t.Fatalf("got %q", got)
	}
	if a := h.post("/messages?sid=1", rpc("1", "tools/list", "")); a.status != 202 || a.body != "" {
		t.Errorf("post: %+v", a)
	}
	list := `{"jsonrpc":"2.0","id":1,"result":{"tools":[{"name":"secret"},{"name":"a"}]}}`
	want := event(`{"jsonrpc":"2.0","id":1,"result":{"tools":[{"name":"a"}]}}`)
	if got := h.next(body, server, event(list)+event(list)+": once\n"); got != want {
		t.Errorf("the answer is %q", got)
	}
	if got := h.next(body, server, ""); got != ": once\n\n" {
		t.Errorf("after the answer: %q", got)
	}
	h.got = nil
	if a := h.post("/messages?sid=1", `{"id":"h\u0031","jsonrpc":"2.0","method":"tools/call","params":{"name":"hidden"}}`); a.status != 202 || len(h.got) != 1 ||
		h.got[0].body != `{"jsonrpc":"2.0","id":"h\u0031","method":"ping"}` {
		t.Errorf("denied: %+v, the server got %+v", a, h.got)
	}
	if got := h.next(body, server, event(`{"jsonrpc":"2.0","id":"h1","result":{}}`)); got != event(`{"jsonrpc":"2.0","id":"h\u0031","error":{"code":-32602,"message":"unknown tool \"hidden\""}}`) {
		t.Errorf("the denial is %q", got)
	}
	h.source = stealer
	isError(t, h.post("/messages?sid=1", rpc("1", "ping", "")), 403, codeRefused, "null")
	h.source = planner
	body.Close()
	if a := h.post("/messages?sid=1", rpc("1", "ping", "")); a.status != 404 {
		t.Errorf("after the stream: %+v", a)
	}
}

func TestEndpointsElsewhereAreNotShown(t *testing.T) {
	for _, bad := range []string{"http://evil.test/messages", "//evil.test/messages", "https://server.test:9/m", "http://u@server.test/m",
		"javascript:alert(1)", "/m#x", "\\\\evil.test\\m", "/m m", "file:///etc/passwd", "http://server.test.evil/m"} {
		h := newHarness(t, denying(), Config{})
		body, server := h.openStream()
		if got := h.next(body, server, "event: endpoint\ndata: "+bad+"\n\n: end\n"); got != ": end\n\n" {
			t.Errorf("%s: the client got %q", bad, got)
		}
		body.Close()
		if rs := h.records(); len(rs) != 2 || rs[0].MCP.Method != "endpoint" {
			t.Errorf("%s: recorded %+v", bad, rs)
		}
	}
	for _, good := range []string{"/m", "m?x=1", "http://server.test/m", "?sessionId=5", "./m"} {
		h := newHarness(t, denying(), Config{})
		body, server := h.openStream()
		if got := h.next(body, server, "event: endpoint\ndata: "+good+"\n\n"); got != "event: endpoint\ndata: "+good+"\n\n" {
			t.Errorf("%s: the client got %q", good, got)
		}
		body.Close()
	}
}

func TestProtectedResourceMetadataIsRelayed(t *testing.T) {
	h := newHarness(t, denying(), Config{})
	h.port.Paths = nil
	get := func(path string) answer {
		x := h.exchange("GET", "")
		x.Request.Target, x.Request.Path = path, path
		return h.do(x)
	}
	const document = `{"resource":"http://server.test/mcp","authorization_servers":["https://as.test"]}`
	h.server = func(*seen) *inspect.Response { return jsonReply(200, document) }
	for _, path := range []string{metadataPath, metadataPath + "/mcp"} {
		if a := get(path); a.status != 200 || a.body != document {
			t.Errorf("%s: %+v", path, a)
		}
	}
	if a := get(metadataPath + "x"); a.status != 502 {
		t.Errorf("another path: %+v", a)
	}
	for _, bad := range []string{`{"resource":1,"resource":2}`, `{`, strings.Repeat(" ", maxPlain) + "{}"} {
		h.server = func(*seen) *inspect.Response { return jsonReply(200, bad) }
		if a := get(metadataPath); a.status != 502 {
			t.Errorf("%.30q: %+v", bad, a)
		}
	}
	h.judge = denying("GET ")
	if a := get(metadataPath); a.status != 404 {
		t.Errorf("denied: %+v", a)
	}
}

func TestWhatResemblesAnEndpointLeadsNowhere(t *testing.T) {
	const initialized = `{"jsonrpc":"2.0","id":1,"result":{"protocolVersion":"2025-06-18","capabilities":{},"serverInfo":{"name":"s","version":"1"}}}`
	for endpoint, posts := range map[string][]string{
		"/messages?sid=0123456789abcdef": {"/messages?sid=0123456789abcdef&x=1", "/messages?x=1;sid=0123456789abcdef", "/?s%69d=0123456789abcdef",
			"/messages?SID=1", "/messages?sid[]=0123456789abcdef", "/messages?[sid]=0123456789abcdef", "/other?sid=0123456789abcde%66"},
		"/messages?session_id=5":    {"/messages?session_id=5&", "/m?session.id=5", "/messages?session_id=+5"},
		"/m/0123456789abcdef":       {"/m/0123456789ABCDEF", "/m//0123456789abcdef", "/m/0123456789abcdef/", "/m/0123456789abcdef?x=1", "/m/0123456789abcdef;x"},
		"/m?key=K&transport=5&id=5": {"/m?id=5", "/m?transport=5&key=K"},
	} {
		h := newHarness(t, denying(), Config{})
		h.port.Paths = nil
		h.server = func(*seen) *inspect.Response {
			return jsonReply(200, initialized, inspect.Field{Name: sessionHeader, Value: "own"})
		}
		body, server := h.openStream("key=K")
		h.next(body, server, "event: endpoint\ndata: "+endpoint+"\n\n")
		h.source = stealer
		if a := h.send("POST", rpc("1", "initialize", `{"protocolVersion":"2025-06-18","capabilities":{},"clientInfo":{"name":"c","version":"1"}}`)); a.status != 200 {
			t.Fatalf("initialize: %+v", a)
		}
		h.got = nil
		for _, header := range [][]string{nil, {"Mcp-Session-Id: own"}} {
			isError(t, h.post(endpoint, rpc("1", "ping", ""), header...), 403, codeRefused, "null")
			for _, target := range posts {
				isError(t, h.post(target, rpc("1", "ping", ""), header...), 404, codeSessionNotFound, "null")
			}
		}
		if len(h.got) > 0 {
			t.Errorf("%s: the server got %+v", endpoint, h.got)
		}
		for _, target := range []string{"/mcp", "/mcp?key=K", "/mcp?token=1"} { // of the streamable transport beside it
			if a := h.post(target, rpc("1", "ping", ""), "Mcp-Session-Id: own"); a.status != 200 {
				t.Errorf("%s beside %s: %+v", target, endpoint, a)
			}
		}
		body.Close()
		if a := h.post(posts[0], rpc("1", "ping", ""), "Mcp-Session-Id: own"); a.status != 200 {
			t.Errorf("%s after %s: %+v", posts[0], endpoint, a)
		}
	}
}
