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

// enterEndpoint finds out whether the request is a post to an open endpoint.
func (e *exchange) enterEndpoint() (r *refusal) {
	if e.x.Request.Method != "POST" || e.x.Request.Header.Has(sessionHeader) {
		return nil
	}
	s := e.sessions.enter(sessionKey{place: e.place(), endpoint: e.x.Request.Target}, e.time)
	if s == nil {
		return nil
	}
	if !s.admits(e.caller()) {
		e.sessions.leave(s, e.time)
		return &refusal{status: 403, code: codeRefused, problem: "the endpoint belongs to another caller"}
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
