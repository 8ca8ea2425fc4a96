package mcp

import (
	"bytes"
	"context"
	"slices"

	"github.com/outrigger-mesh/outrigger/pkg/inspect"
	"github.com/outrigger-mesh/outrigger/pkg/policy"
)

// passesFromServer decides about a request or notification that the server
// sends on a stream.
func (e *exchange) passesFromServer(ctx context.Context, m *message) bool {
	if !isPlain(m.Method) || len(m.Method) > maxEcho {
		e.recordDropped(m, "the server's message has no plain method")
		return false
	}
	if m.Kind == notification {
		return e.passesNotification(m)
	}
	if e.modern {
		e.recordDropped(m, "revision 2026-07-28 has no requests from servers")
		return false
	}
	record := e.newRecord()
	e.records = e.records[:len(e.records)-1] // it is finished by itself
	record.Method, record.ID, record.ResponseBytes = m.Method, string(m.ID.Raw), int64(len(m.Raw))
	record.Decision = e.askServer(m.Method, m.Params)
	token, given := tokenKey(m.Member(m.Member(m.Params, "_meta"), "progressToken"))
	if record.Decision.Allowed && (e.session == nil || !e.session.ask(m.ID.Key, m.Method)) {
		record.Decision = policy.Decision{Reason: "too many requests of the server wait for an answer"}
	}
	if record.Decision.Allowed {
		if given {
			e.session.follow(token)
		}
		record.Finish(nil)
		return true
	}
	record.ErrorCode = codeMethodNotFound
	body := appendError(nil, m.ID.Raw, codeMethodNotFound, "Method not found", "")
	e.tell(ctx, &told{open: e.x.Upstream, request: e.postOf(body), record: record})
	return false
}

// askServer asks policy whether the server may ask this client for something.
func (e *exchange) askServer(name string, params value) policy.Decision {
	known := lookup(name)
	if !known.is(fromServer) {
		known = &method{name: name, kind: policy.KindUnknown}
	}
	object := policy.Object{}
	if known.kind == policy.KindUnknown {
		object.Kind = policy.KindUnknown
	}
	q := e.question(name, object, nil)
	if name == "elicitation/create" {
		q.Elicitation.Mode, _ = params.Member("mode").Text()
		q.Elicitation.URL, _ = params.Member("url").Text()
	}
	return e.judge.Call(q)
}

// passesNotification decides about a notification of the server. What tells of
// things the caller may not see is dropped, and so is what is about nothing that
// the caller began.
func (e *exchange) passesNotification(m *message) bool {
	if !isServers(m.Method) {
		d := e.judge.Call(e.question(m.Method, policy.Object{Kind: policy.KindUnknown}, nil))
		if !d.Allowed {
			e.recordDecided(m, d)
		}
		return d.Allowed
	}
	if d := e.judge.Call(e.question(m.Method, policy.Object{}, nil)); !d.Allowed {
		e.recordDecided(m, d)
		return false
	}
	if problem := e.foreign(m); problem != "" {
		e.recordDropped(m, "the notification "+problem)
		return false
	}
	return true
}

// isServers tells whether the specification, in any revision, has servers send the
// notification.
func isServers(name string) bool {
	switch name {
	case cancelled, "notifications/progress", "notifications/message",
		"notifications/tools/list_changed", "notifications/prompts/list_changed", "notifications/resources/list_changed",
		"notifications/resources/updated", "notifications/tasks/status", "notifications/tasks",
		"notifications/elicitation/complete", "notifications/subscriptions/acknowledged":
		return true
	}
	return false
}

// foreign tells why a notification is not this caller's.
func (e *exchange) foreign(m *message) (problem string) {
	switch m.Method {
	case "notifications/resources/updated":
		// It may name a part of what was subscribed, so what counts is what may be seen.
		uri, ok := m.Member(m.Params, "uri").Text()
		if !ok || !e.mayRead(uri) {
			return "tells of a resource that the caller may not see"
		}
	case "notifications/tasks/status", "notifications/tasks":
		id, ok := m.Member(m.Params, "taskId").Text()
		if !ok || !e.mayUseTask(id) {
			return "tells of a task of another caller"
		}
		if denied, why := e.asksTooMuch(m.Params.Member("inputRequests")); denied {
			return "asks for input that is not allowed: " + why.Reason
		}
	case "notifications/progress":
		token, ok := tokenKey(m.Member(m.Params, "progressToken"))
		if !ok || !e.awaits(token) {
			return "is progress of a request that the caller did not send"
		}
	case cancelled:
		id := idKey(m.Member(m.Params, "requestId"))
		if id == "" || !e.cancels(id) {
			return "cancels what the caller was not asked"
		}
	case "notifications/subscriptions/acknowledged":
		return e.acknowledges(m)
	}
	return ""
}

// mayRead tells whether the caller could read the resource.
func (e *exchange) mayRead(uri string) bool {
	return e.judge.Visible(e.question("resources/list", policy.Object{}, nil), policy.Object{Kind: policy.KindResource, Name: uri}).Allowed
}

// awaits tells whether a call of this exchange, or of the session, gave the token.
func (e *exchange) awaits(token string) bool {
	for _, c := range e.calls {
		if c.token == token {
			return true
		}
	}
	return e.session != nil && e.session.awaits(token)
}

// cancels tells whether a server may cancel what has that id, and notes that it does: what
// it asked the client or, in the modern era, the subscription on whose stream it says so.
func (e *exchange) cancels(id string) bool {
	if e.modern {
		return e.calls[0].id.Key == id
	}
	return e.session != nil && e.session.cancel(id)
}

// acknowledges tells what is wrong with what the server says it listens to: it can
// be no more than was asked for and allowed.
func (e *exchange) acknowledges(m *message) (problem string) {
	c := e.calls[0]
	wanted := m.Member(m.Params, "notifications")
	for name, list := range wanted.Members() {
		kind := policy.KindResource
		if name.Is("taskIds") {
			kind = policy.KindTask
		}
		for element := range list.Elements() {
			text, ok := element.Text()
			if !ok || !slices.Contains(c.asked, policy.Object{Kind: kind, Name: text}) {
				return "acknowledges what was not asked for"
			}
		}
	}
	return ""
}

// postOf is an HTTP request for body that looks like those of the client.
func (e *exchange) postOf(body []byte) *inspect.Request {
	r := *e.x.Request
	r.Method, r.Body, r.ContentLength = "POST", bytes.NewReader(body), int64(len(body))
	r.Header = inspect.Header{
		{Name: "Content-Type", Value: "application/json"},
		{Name: "Accept", Value: "application/json, text/event-stream"},
		{Name: "Accept-Encoding", Value: "identity"},
	}
	for _, name := range [...]string{sessionHeader, versionHeader, "Authorization", "Origin"} {
		if value := e.x.Request.Header.Get(name); value != "" {
			r.Header.Add(name, value)
		}
	}
	if e.session != nil && e.session.key.id != "" {
		r.Header.Set(sessionHeader, e.session.key.id)
	}
	if e.session != nil && e.session.key.endpoint != "" {
		r.Target = e.session.key.endpoint
	}
	return &r
}
