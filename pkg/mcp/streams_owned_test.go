package mcp

import (
	"strings"
	"testing"

	"github.com/outrigger-mesh/outrigger/pkg/inspect"
	"github.com/outrigger-mesh/outrigger/pkg/policy"
)

const listOfTwo = `{"jsonrpc":"2.0","id":1,"result":{"tools":[{"name":"hidden"},{"name":"a"}]}}`

func TestAnIDThatIsUsedAgainDoesNotUnfilterTheFirstAnswer(t *testing.T) {
	h := newHarness(t, denying("* hidden"), Config{})
	h.openSession(rev2511)
	h.server = func(*seen) *inspect.Response { return eventReply("id: 1\ndata:\n\n") }
	h.send("POST", rpc("1", "tools/list", ""), sessionHeader+": s")
	h.send("POST", rpc("1", "ping", ""), sessionHeader+": s")
	h.server = func(*seen) *inspect.Response { return eventReply(event(listOfTwo)) }
	if a := h.send("GET", "", sessionHeader+": s", "Last-Event-ID: 1"); a.status != 200 || a.body != "" {
		t.Errorf("resumed: %d %q", a.status, a.body)
	}

	h.server = func(*seen) *inspect.Response { return &inspect.Response{Status: 202} }
	body, server := h.openStream()
	defer body.Close()
	h.next(body, server, "event: endpoint\ndata: /messages?sid=1\n\n")
	h.post("/messages?sid=1", rpc("1", "tools/list", ""))
	h.post("/messages?sid=1", rpc("1", "ping", ""))
	if got := h.next(body, server, event(listOfTwo)+": end\n"); got != ": end\n\n" {
		t.Errorf("on the endpoint's stream: %q", got)
	}
}

func TestAStreamObeysThePolicyOfTheDay(t *testing.T) {
	h := newHarness(t, denying(), Config{})
	h.server = func(*seen) *inspect.Response { return &inspect.Response{Status: 202} }
	body, server := h.openStream()
	defer body.Close()
	h.next(body, server, "event: endpoint\ndata: /messages?sid=1\n\n")
	h.post("/messages?sid=1", rpc("1", "tools/list", ""))
	h.judge, h.snapshot = denying("* hidden"), 8
	if got, want := h.next(body, server, event(listOfTwo)), event(`{"jsonrpc":"2.0","id":1,"result":{"tools":[{"name":"a"}]}}`); got != want {
		t.Errorf("after the change: %q", got)
	}
}

func TestAStreamIsResumedOnlyByWhoItWasFor(t *testing.T) {
	h := newHarness(t, denying(), Config{})
	h.server = func(*seen) *inspect.Response { return eventReply("id: ev7\ndata:\n\n") }
	h.send("POST", rpc("1", "tools/call", `{"name":"a"}`))
	h.server = func(*seen) *inspect.Response {
		return eventReply(event(`{"jsonrpc":"2.0","id":1,"result":{"content":[]}}`))
	}
	if a := h.send("GET", "", "Last-Event-ID: ev7"); a.status != 200 || !strings.Contains(a.body, `"content"`) {
		t.Errorf("the owner got %+v", a)
	}
	h.source = stealer
	h.send("POST", rpc("1", "tools/call", `{"name":"a"}`))
	isError(t, h.send("GET", "", "Last-Event-ID: ev7"), 403, codeRefused, "null")

	h.server = func(*seen) *inspect.Response { return eventReply("id: ev7\ndata:\n\n") } // it numbers by session
	h.send("POST", rpc("1", "tools/call", `{"name":"a"}`))
	if a := h.send("GET", "", "Last-Event-ID: ev7"); a.status != 200 {
		t.Errorf("an id of two: %+v", a)
	}
}

func TestABatchCancelsOnlyWhatTheSessionSent(t *testing.T) {
	h := newHarness(t, denying(), Config{})
	h.server = func(*seen) *inspect.Response {
		return jsonReply(200, `{"jsonrpc":"2.0","id":0,"result":{"protocolVersion":"`+rev2503+`"}}`)
	}
	h.send("POST", rpc("0", "initialize", `{"protocolVersion":"2025-03-26"}`))
	h.server = func(*seen) *inspect.Response { return &inspect.Response{Status: 202} }
	h.send("POST", rpc("5", "ping", ""))
	for id, reaches := range map[string]int{"5": 1, "77": 0} {
		h.got = nil
		h.send("POST", `[`+notify("notifications/cancelled", `{"requestId":`+id+`}`)+`]`)
		if len(h.got) != reaches {
			t.Errorf("request %s: %d batches reached the server, want %d", id, len(h.got), reaches)
		}
	}
}

func TestWhatAHiddenToolMirrorsIsNotTold(t *testing.T) {
	h := newHarness(t, denying("* hidden"), Config{})
	h.server = func(*seen) *inspect.Response {
		return jsonReply(200, `{"jsonrpc":"2.0","id":1,"result":{"tools":[{"name":"hidden","inputSchema":{"properties":{"region":{"type":"string","x-mcp-header":"Region"}}}}]}}`)
	}
	h.send("POST", rpc("1", "tools/list", "{"+meta2607+"}"), versionHeader+": 2026-07-28", "Mcp-Method: tools/list")
	a := h.send("POST", rpc("1", "tools/call", `{"name":"hidden","arguments":{"region":"x"},`+meta2607+`}`), versionHeader+": 2026-07-28", "Mcp-Method: tools/call", "Mcp-Name: hidden")
	isError(t, a, 200, codeInvalidParams, "1")
}

// current is what the exchanges of the harness see as the current policies: the
// judge is asked in their place.
func (h *harness) current() (*policy.Policies, uint64) { return new(policy.Policies), h.snapshot }
