package mcp

import (
	"context"
	"net/url"
	"strings"

	"github.com/outrigger-mesh/outrigger/pkg/inspect"
)

// In revision 2024-11-05 a session is a GET stream: its first event names the
// endpoint that the client posts to, and all answers come on the stream. We
// bind that endpoint to who opened the stream, and forget it with the stream.

// opensEndpoint binds the endpoint that an event names. It reports false if the
// client must not see it.
func (s *stream) opensEndpoint(data []byte) bool {
	e := s.e
	if e.x.Request.Method != "GET" || s.endpoint != nil || e.session == nil || e.session.key.id != "" {
		return false
	}
	target, ok := e.resolve(string(data))
	if !ok {
		e.recordNote("endpoint", "the server names an endpoint that is not its own")
		return false
	}
	opened := e.sessions.open(sessionKey{place: e.place(), endpoint: target}, e.caller(), e.time)
	if opened == nil {
		e.recordNote("endpoint", "the endpoint cannot be bound: it is another caller's, or there are too many")
		return false
	}
	e.sessions.guard(opened, marksOf(target, e.x.Request.RawQuery))
	e.sessions.leave(e.session, e.time)
	e.session, s.endpoint = opened, opened
	e.version = rev2024
	return true
}

// resolve is the request target that a client makes of the endpoint. It must
// lead to where the stream comes from: to another place the client's messages
// would go past us.
func (e *exchange) resolve(reference string) (target string, ok bool) {
	if !isPlain(reference) || len(reference) > maxEcho || strings.ContainsAny(reference, " \\#") {
		return "", false
	}
	base, err := url.Parse("http://" + e.x.Request.Host + e.x.Request.Target)
	if err != nil {
		return "", false
	}
	to, err := base.Parse(reference)
	if err != nil || !strings.EqualFold(to.Host, base.Host) || to.User != nil || to.Scheme != "http" && to.Scheme != "https" {
		return "", false
	}
	return to.RequestURI(), true
}

// enterEndpoint finds out whether the request is a post to an open endpoint. What only
// resembles one is refused, and so is one of another caller: a session of the caller's
// own, named in a header, changes nothing for a server that does not look at it.
func (e *exchange) enterEndpoint() (r *refusal) {
	at := e.x.Request
	if at.Method != "POST" {
		return nil
	}
	resembles := e.sessions.guards(e.place(), at.Path, at.RawQuery)
	if !resembles && at.Header.Has(sessionHeader) {
		return nil
	}
	s := e.sessions.enter(sessionKey{place: e.place(), endpoint: at.Target}, e.time)
	switch {
	case s == nil && resembles:
		return &refusal{status: 404, code: codeSessionNotFound, problem: "no such endpoint is open"}
	case s == nil:
		return nil
	case !s.admits(e.caller()):
		e.sessions.leave(s, e.time)
		return &refusal{status: 403, code: codeRefused, problem: "the endpoint belongs to another caller"}
	case at.Header.Has(sessionHeader):
		e.sessions.leave(s, e.time)
		return nil
	}
	e.session = s
	e.client = s.introduced()
	return nil
}

// denyOnStream answers a denied call where the client waits for the answer: on
// the stream, which carries what the server sends and nothing else. So the
// server is sent a ping with the call's id, and the denial takes the place of
// its answer.
func (e *exchange) denyOnStream(ctx context.Context, next inspect.Handler) (*inspect.Response, error) {
	c := e.calls[0]
	status, code, body := e.denied(c)
	c.record.Status, c.record.ErrorCode, c.record.ResponseBytes = status, code, int64(len(body))
	c.denial = body
	e.session.remember(c)
	c.record.Finish(nil)
	e.body = append(append([]byte(`{"jsonrpc":"2.0","id":`), c.id.Raw...), `,"method":"ping"}`...)
	e.lend()
	up, err := next.Do(ctx, e.x)
	if err != nil {
		return nil, err
	}
	return e.respond(ctx, up)
}
