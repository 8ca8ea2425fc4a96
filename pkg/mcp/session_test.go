package mcp

import (
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/outrigger-mesh/outrigger/pkg/inspect"
	"github.com/outrigger-mesh/outrigger/pkg/mesh"
)

func TestSessionBelongsToWhoOpenedIt(t *testing.T) {
	h := newHarness(t, denying(), Config{})
	h.openSession(rev2506)
	if a := h.send("POST", rpc("1", "ping", ""), sessionHeader+": s"); a.status != 200 {
		t.Errorf("the owner got %+v", a)
	}
	if v := h.judge.(*book).asked; v[len(v)-1].Protocol != rev2506 || v[len(v)-1].Session != "s" {
		t.Errorf("policy was asked %+v", v[len(v)-1])
	}
	h.source, h.got = stealer, nil
	for _, method := range []string{"GET", "DELETE"} {
		isError(t, h.send(method, "", sessionHeader+": s"), 403, codeRefused, "null")
	}
	isError(t, h.send("POST", rpc("1", "ping", ""), sessionHeader+": s"), 403, codeRefused, "1")
	isError(t, h.send("POST", rpc("2", "ping", ""), sessionHeader+": other"), 404, codeSessionNotFound, "2")
	if len(h.got) != 0 {
		t.Errorf("the server got %+v", h.got)
	}
}

func TestServerCannotGiveOneSessionToTwoCallers(t *testing.T) {
	h := newHarness(t, denying(), Config{})
	h.openSession(rev2511)
	h.source = stealer
	h.server = func(*seen) *inspect.Response {
		return jsonReply(200, `{"jsonrpc":"2.0","id":0,"result":{}}`, inspect.Field{Name: sessionHeader, Value: "s"})
	}
	isError(t, h.send("POST", rpc("0", "initialize", `{}`)), 502, codeInternalError, "0")
}

func TestDeleteEndsTheSession(t *testing.T) {
	h := newHarness(t, denying(), Config{})
	h.openSession(rev2511)
	h.server = func(*seen) *inspect.Response { return &inspect.Response{Status: 405} }
	if a := h.send("DELETE", "", sessionHeader+": s"); a.status != 405 {
		t.Errorf("got %+v", a)
	}
	h.server = func(*seen) *inspect.Response { return &inspect.Response{Status: 204} }
	for i, want := range []int{204, 404} {
		if a := h.send("DELETE", "", sessionHeader+": s"); a.status != want {
			t.Errorf("DELETE %d: %+v", i, a)
		}
	}
}

func TestSessionsExpire(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHarness(t, denying(), Config{SessionIdle: time.Hour})
		h.openSession(rev2511)
		for i, c := range []struct {
			wait time.Duration
			want int
		}{{59 * time.Minute, 200}, {59 * time.Minute, 200}, {61 * time.Minute, 404}} {
			time.Sleep(c.wait)
			if a := h.send("POST", rpc("1", "ping", ""), sessionHeader+": s"); a.status != c.want {
				t.Errorf("request %d: got %d, want %d", i, a.status, c.want)
			}
		}
		h.recorder.Close()
	})
}

func TestSessionsAreBounded(t *testing.T) {
	now := time.Now()
	s := newSessions(Config{Sessions: 10, SessionsPerCaller: 4}.withDefaults())
	of := func(i int) caller {
		return caller{holder: inspect.Caller{Principal: mesh.NewPrincipal("td", "ns", fmt.Sprint("sa", i))}}
	}
	key := func(c, i int) sessionKey { return sessionKey{id: fmt.Sprint(c, "-", i)} }
	for c := range 2 {
		for i := range 6 {
			opened := s.open(key(c, i), of(c), now)
			if opened == nil {
				t.Fatalf("session %d of caller %d was refused", i, c)
			}
			s.leave(opened, now)
		}
	}
	if len(s.all) != 8 || s.enter(key(0, 1), now) != nil || s.enter(key(0, 2), now) == nil {
		t.Errorf("%d sessions: the longest unused of a caller did not make room", len(s.all))
	}
	for i := range 3 {
		if opened := s.open(key(2, i), of(2), now); (opened != nil) != (i < 2) {
			t.Errorf("session %d over the total: %v", i, opened)
		}
	}
	later := now.Add(25 * time.Hour)
	if s.open(key(3, 0), of(3), later) == nil || len(s.all) >= 10 {
		t.Errorf("expired sessions did not make room: %d", len(s.all))
	}
}

func TestOneCallerCannotPushOutAnothersHandles(t *testing.T) {
	o := newOwners()
	o.give(handle{id: "mine"}, grant{owner: owner{caller: caller{holder: inspect.Caller{Principal: planner}}}})
	for i := range maxHandles + 10 {
		o.give(handle{id: fmt.Sprint(i)}, grant{owner: owner{caller: caller{holder: inspect.Caller{Principal: stealer}}}})
	}
	o.give(handle{id: "mine"}, grant{owner: owner{caller: caller{holder: inspect.Caller{Principal: stealer}}}})
	if o.may(handle{id: "mine"}, owner{caller: caller{holder: inspect.Caller{Principal: stealer}}}) || !o.may(handle{id: "mine"}, owner{caller: caller{holder: inspect.Caller{Principal: planner}}}) || len(o.of) != maxHandles+1 {
		t.Errorf("%d handles", len(o.of))
	}
}

func TestRequestStateBelongsToItsCall(t *testing.T) {
	h := newHarness(t, denying(), Config{})
	call := func(id, name, state string) answer {
		return h.send("POST", rpc(id, "tools/call", `{"name":"`+name+`",`+state+meta2607+`}`), versionHeader+": 2026-07-28", "Mcp-Method: tools/call", "Mcp-Name: "+name)
	}
	h.server = func(*seen) *inspect.Response {
		return jsonReply(200, `{"jsonrpc":"2.0","id":1,"result":{"resultType":"input_required","inputRequests":{},"requestState":"st\u0061te"}}`)
	}
	call("1", "a", "")
	const state = `"inputResponses":{},"requestState":"state",`
	isError(t, call("2", "b", state), 400, codeInvalidParams, "2")
	if a := call("1", "a", state); a.status != 200 {
		t.Errorf("the retry got %+v", a)
	}
	h.source = stealer
	isError(t, call("3", "a", state), 400, codeInvalidParams, "3")
	call("1", "a", "") // the server makes an equal one for this caller
	if a := call("1", "a", state); a.status != 200 {
		t.Errorf("an equal state got %+v", a)
	}
}

func TestServerRequestsOfASessionAreBounded(t *testing.T) {
	s := &session{}
	for i := range maxPending + 5 {
		if got := s.ask(fmt.Sprint(i), "m"); got != (i < maxPending) {
			t.Fatalf("request %d: %v", i, got)
		}
	}
	s.answered("3")
	if _, ok := s.asked("3"); ok || !s.ask("x", "m") {
		t.Error("an answer makes no room")
	}
}

func TestACancelledServerRequestMakesRoom(t *testing.T) {
	h := newHarness(t, denying(), Config{})
	h.openSession(rev2511)
	for i := range maxPending + 5 {
		ask := fmt.Sprintf(`{"jsonrpc":"2.0","id":%d,"method":"sampling/createMessage","params":{}}`, i)
		h.server = func(*seen) *inspect.Response {
			return eventReply(event(ask) + event(notify("notifications/cancelled", fmt.Sprintf(`{"requestId":%d}`, i))) + event(result1))
		}
		if a := h.send("POST", rpc("1", "tools/call", `{"name":"a"}`), sessionHeader+": s"); !strings.Contains(a.body, ask) || !strings.Contains(a.body, "cancelled") {
			t.Fatalf("request %d did not go on: %s", i, a.body)
		}
	}
	h.server = func(*seen) *inspect.Response { return &inspect.Response{Status: 202} }
	late := fmt.Sprintf(`{"jsonrpc":"2.0","id":%d,"result":{}}`, maxPending+4)
	if a := h.send("POST", late, sessionHeader+": s"); a.status != 202 {
		t.Errorf("an answer that crossed the cancellation got %+v", a)
	}
}

func TestStolenSessionIDIsNotRecorded(t *testing.T) {
	h := newHarness(t, denying(), Config{})
	h.send("POST", rpc("1", "ping", ""), sessionHeader+": very-secret")
	h.recorder.Close()
	if strings.Contains(h.audit.String(), "very-secret") || h.audit.Len() == 0 {
		t.Errorf("recorded %s", h.audit.String())
	}
}

// Without a certificate nothing but the address tells callers apart.
func TestSessionsOfTheUnauthenticatedBelongToAnAddress(t *testing.T) {
	h := newHarness(t, denying(), Config{SessionsPerCaller: 2})
	h.source = mesh.Principal{}
	h.from = "10.0.0.1:40000"
	h.openSession(rev2511)
	for _, c := range []struct {
		from    string
		session string
		want    int
	}{
		{"10.0.0.1:41111", "s", 200},
		{"[::ffff:10.0.0.1]:41111", "s", 200},
		{"10.0.0.2:40000", "s", 403},
	} {
		h.from = c.from
		for _, method := range []string{"POST", "GET", "DELETE"} {
			if method != "POST" && c.want == 200 {
				continue
			}
			body := ""
			if method == "POST" {
				body = rpc("1", "ping", "")
			}
			if a := h.send(method, body, sessionHeader+": "+c.session); a.status != c.want {
				t.Errorf("%s from %s: %+v", method, c.from, a)
			}
		}
	}
	h.from = "10.0.0.2:40000"
	h.server = func(r *seen) *inspect.Response {
		return jsonReply(200, `{"jsonrpc":"2.0","id":0,"result":{}}`, inspect.Field{Name: sessionHeader, Value: fmt.Sprint("t", len(h.got))})
	}
	for range 5 { // another address has sessions of its own to push out
		if a := h.send("POST", rpc("0", "initialize", `{}`)); a.status != 200 {
			t.Fatalf("initialize: %+v", a)
		}
	}
	h.from = "10.0.0.1:40000"
	h.server = func(*seen) *inspect.Response { return jsonReply(200, `{"jsonrpc":"2.0","id":1,"result":{}}`) }
	if a := h.send("POST", rpc("1", "ping", ""), sessionHeader+": s"); a.status != 200 {
		t.Errorf("the session is gone: %+v", a)
	}
}
