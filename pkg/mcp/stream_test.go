package mcp

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/outrigger-mesh/outrigger/pkg/inspect"
)

const result1 = `{"jsonrpc":"2.0","id":1,"result":{}}`

func event(data string) string { return "data: " + data + "\n\n" }

func TestStreamsAreInspectedEventByEvent(t *testing.T) {
	refused := `{"jsonrpc":"2.0","id":1,"error":{"code":-32603,"message":"the server's response was refused"}}`
	for _, c := range []struct{ name, in, want string }{
		{"priming, comments and types", "id: 7\nretry: 100\ndata:\n\n: hello\n\nevent: message\ndata: " + result1 + "\n\nevent: endpoint\ndata: /evil\n\n",
			"id: 7\nretry: 100\ndata: \n\n: hello\n\nevent: message\ndata: " + result1 + "\n\n"},
		{"lines joined", "data: {\"jsonrpc\":\"2.0\",\ndata: \"id\":1,\"result\":{}}\n\n", event(`{"jsonrpc":"2.0", "id":1,"result":{}}`)},
		{"partial event", event(result1) + "data: " + strings.Replace(result1, "1", "1", 1) + "\n", event(result1)},
		{"other id", event(`{"jsonrpc":"2.0","id":2,"result":{"stolen":1}}`) + event(result1), event(result1)},
		{"second answer", event(result1) + event(`{"jsonrpc":"2.0","id":1,"result":{"x":2}}`), event(result1)},
		{"notifications", event(`{"jsonrpc":"2.0","method":"notifications/progress","params":{"progressToken":1,"progress":1}}`) + event(result1),
			event(`{"jsonrpc":"2.0","method":"notifications/progress","params":{"progressToken":1,"progress":1}}`) + event(result1)},
		{"hidden resource", event(`{"jsonrpc":"2.0","method":"notifications/resources/updated","params":{"uri":"hidden"}}`) + event(result1), event(result1)},
		{"malformed", event(`{"jsonrpc":"2.0","id":1,"result":{},}`) + event(result1), "event: message\n" + event(refused)},
		{"malformed after the answer", event(result1) + event(`{]`) + event(result1), event(result1)},
		{"too large", event(`{"jsonrpc":"2.0","id":1,"result":{"x":"` + strings.Repeat("x", 2000) + `"}}`), "event: message\n" + event(refused)},
		{"duplicate", event(`{"jsonrpc":"2.0","id":1,"result":{},"result":{}}`), "event: message\n" + event(refused)},
		{"bad list", event(`{"jsonrpc":"2.0","id":1,"result":{"tools":3}}`), "event: message\n" + event(refused)},
		{"batch", event(`[` + result1 + `]`), "event: message\n" + event(refused)},
		{"upper case type", event(result1), event(result1)},
	} {
		t.Run(c.name, func(t *testing.T) {
			h := newHarness(t, denying("* hidden"), Config{MessageBytes: 1000})
			h.server = func(*seen) *inspect.Response {
				r := eventReply(c.in)
				if c.name == "upper case type" {
					r.Header.Set("Content-Type", "TEXT/Event-Stream; charset=utf-8")
				}
				return r
			}
			a := h.send("POST", rpc("1", "tools/list", `{"_meta":{"progressToken":1}}`))
			if a.err != nil || a.status != 200 || a.body != c.want {
				t.Errorf("got %q, %v, want %q", a.body, a.err, c.want)
			}
		})
	}
}

func TestEventsArriveBeforeTheStreamEnds(t *testing.T) {
	h := newHarness(t, denying(), Config{})
	pr, pw := io.Pipe()
	h.server = func(*seen) *inspect.Response {
		r := eventReply("")
		r.Body = pr
		return r
	}
	handler := h.layer(inspect.HandlerFunc(func(ctx context.Context, x *inspect.Exchange) (*inspect.Response, error) { return h.server(nil), nil }))
	r, err := handler.Do(t.Context(), h.exchange("POST", rpc("1", "tools/call", `{"name":"a"}`)))
	if err != nil {
		t.Fatal(err)
	}
	for range 3 {
		go io.WriteString(pw, ": ping\n")
		buf := make([]byte, 100)
		if n, err := r.Body.Read(buf); string(buf[:n]) != ": ping\n\n" || err != nil {
			t.Fatalf("got %q, %v", buf[:n], err)
		}
	}
	r.Body.Close()
	if _, err := io.WriteString(pw, "x"); err != io.ErrClosedPipe {
		t.Errorf("the server's stream is still open: %v", err)
	}
	if rs := h.records(); len(rs) != 1 {
		t.Errorf("recorded %+v", rs)
	}
}

// openSession opens session "s" of the given revision.
func (h *harness) openSession(version string) {
	before := h.server
	h.server = func(*seen) *inspect.Response {
		return jsonReply(200, `{"jsonrpc":"2.0","id":0,"result":{"protocolVersion":"`+version+`"}}`, inspect.Field{Name: sessionHeader, Value: "s"})
	}
	if a := h.send("POST", rpc("0", "initialize", `{"protocolVersion":"`+version+`"}`)); a.status != 200 || a.header.Get(sessionHeader) != "s" {
		h.t.Fatalf("initialize: %+v", a)
	}
	h.server, h.got = before, nil
}

func TestServerRequestsAreAuthorized(t *testing.T) {
	h := newHarness(t, denying("sampling/createMessage "), Config{})
	h.openSession(rev2511)
	var told []string
	server := http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		told = append(told, r.Header.Get(sessionHeader)+" "+r.Header.Get(versionHeader)+" "+r.URL.Path+" "+string(body))
		w.WriteHeader(202)
	})}
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan error)
	go func() { done <- server.Serve(ln) }()
	defer func() { server.Close(); <-done }()
	sampling, elicit, unknown := `{"jsonrpc":"2.0","id":"s-1","method":"sampling/createMessage","params":{}}`, `{"jsonrpc":"2.0","id":9,"method":"elicitation/create","params":{}}`, `{"jsonrpc":"2.0","id":10,"method":"tools/call","params":{"name":"x"}}`
	h.server = func(*seen) *inspect.Response {
		return eventReply(event(sampling) + event(elicit) + event(unknown) + event(result1))
	}
	x := h.exchange("POST", rpc("1", "tools/call", `{"name":"a"}`), sessionHeader+": s", versionHeader+": "+rev2511)
	x.Upstream = func(ctx context.Context) (net.Conn, error) { return net.Dial("tcp", ln.Addr().String()) }
	if a := h.do(x); a.body != event(elicit)+event(result1) {
		t.Errorf("the client got %q", a.body)
	}
	want := []string{`s 2025-11-25 /mcp {"jsonrpc":"2.0","id":"s-1","error":{"code":-32601,"message":"Method not found"}}`,
		`s 2025-11-25 /mcp {"jsonrpc":"2.0","id":10,"error":{"code":-32601,"message":"Method not found"}}`}
	if strings.Join(told, "\n") != strings.Join(want, "\n") {
		t.Errorf("the server was told %q", told)
	}
	h.server, h.got = func(*seen) *inspect.Response { return &inspect.Response{Status: 202} }, nil
	answer := func(id string) int {
		return h.send("POST", `{"jsonrpc":"2.0","id":`+id+`,"result":{}}`, sessionHeader+": s").status
	}
	if a, b, c, d := answer(`"s-1"`), answer("10"), answer("9"), answer("9"); a != 400 || b != 400 || c != 202 || d != 400 || len(h.got) != 1 {
		t.Errorf("answers got %d %d %d %d", a, b, c, d)
	}
	rs := h.records()
	allowed := map[string]bool{} // denials are recorded when the server was told
	for _, r := range rs {
		allowed[r.MCP.Method] = r.Decision.Allowed
	}
	if sampling, recorded := allowed["sampling/createMessage"]; len(rs) != 9 || sampling || !recorded || !allowed["elicitation/create"] || rs[7].MCP.Method != "elicitation/create" {
		t.Errorf("recorded %+v", rs)
	}
}

// A server that does not take a denial holds nothing up but its end.
func TestADenialDoesNotHoldTheStreamUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHarness(t, denying("sampling/createMessage "), Config{})
		h.openSession(rev2511)
		r, w := io.Pipe()
		began := time.Now()
		h.server = func(*seen) *inspect.Response {
			go func() {
				for id := range 3 {
					io.WriteString(w, event(fmt.Sprintf(`{"jsonrpc":"2.0","id":%d,"method":"sampling/createMessage","params":{}}`, 90+id)))
				}
				io.WriteString(w, event(result1)) // the pipe takes it when the client's side reads it
				if waited := time.Since(began); waited != 0 {
					t.Errorf("the answer waited for %v", waited)
				}
				w.Close()
			}()
			return &inspect.Response{Status: 200, Header: inspect.Header{{Name: "Content-Type", Value: "text/event-stream"}}, Body: r, ContentLength: -1}
		}
		x := h.exchange("POST", rpc("1", "tools/call", `{"name":"a"}`), sessionHeader+": s", versionHeader+": "+rev2511)
		x.Upstream = func(ctx context.Context) (net.Conn, error) {
			<-ctx.Done()
			return nil, ctx.Err()
		}
		if a := h.do(x); a.body != event(result1) || time.Since(began) != answerTime {
			t.Errorf("after %v the client has %q", time.Since(began), a.body)
		}
		untold := 0
		for _, r := range h.records() {
			if r.MCP.Method != "sampling/createMessage" {
				continue
			}
			if untold++; !strings.Contains(r.Decision.Reason, "could not be told") {
				t.Errorf("recorded %+v", r)
			}
		}
		if untold != 3 {
			t.Errorf("%d denials are recorded", untold)
		}
	})
}

func TestModernServersMayNotRequest(t *testing.T) {
	h := newHarness(t, denying(), Config{})
	h.server = func(*seen) *inspect.Response {
		return eventReply(event(`{"jsonrpc":"2.0","id":9,"method":"elicitation/create","params":{}}`) + event(result1))
	}
	a := h.send("POST", rpc("1", "tools/list", "{"+meta2607+"}"), versionHeader+": 2026-07-28", "Mcp-Method: tools/list")
	if a.body != event(result1) {
		t.Errorf("the client got %q", a.body)
	}
}

func TestResumedStreamsBringOnlyTheSessionsAnswers(t *testing.T) {
	h := newHarness(t, denying("* hidden"), Config{})
	h.openSession(rev2511)
	h.server = func(*seen) *inspect.Response { return eventReply("id: 1\ndata:\n\n") }
	h.send("POST", rpc("1", "tools/list", ""), sessionHeader+": s")
	list := `{"jsonrpc":"2.0","id":1,"result":{"tools":[{"name":"hidden"},{"name":"a"}]}}`
	h.server = func(*seen) *inspect.Response {
		return eventReply(event(list) + event(`{"jsonrpc":"2.0","id":77,"result":{}}`))
	}
	if a := h.send("GET", "", sessionHeader+": s", "Last-Event-ID: 1"); a.body != event(`{"jsonrpc":"2.0","id":1,"result":{"tools":[{"name":"a"}]}}`) {
		t.Errorf("resumed: %q", a.body)
	}
	if a := h.send("GET", "", sessionHeader+": s"); a.body != "" || a.status != 200 {
		t.Errorf("not resumed: %q", a.body)
	}
}
