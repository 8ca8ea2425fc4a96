package mcp

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"time"

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
	defer func() {
		record.Finish(nil)
		e.records = e.records[:len(e.records)-1]
	}()
	record.Method, record.ID, record.ResponseBytes = m.Method, string(m.ID.Raw), int64(len(m.Raw))
	record.Decision = e.askServer(m.Method)
	if record.Decision.Allowed && (e.session == nil || !e.session.ask(m.ID.Key, m.Method)) {
		record.Decision = policy.Decision{Reason: "too many requests of the server wait for an answer"}
	}
	if record.Decision.Allowed {
		return true
	}
	record.ErrorCode = codeMethodNotFound
	if err := e.answerServer(ctx, m); err != nil {
		record.Decision.Reason += fmt.Sprintf("; and the server could not be told: %v", err)
	}
	return false
}

// askServer asks policy whether the server may ask this client for something.
func (e *exchange) askServer(name string) policy.Decision {
	known := lookup(name)
	if !known.is(fromServer) {
		known = &method{name: name, kind: policy.KindUnknown}
	}
	object := policy.Object{}
	if known.kind == policy.KindUnknown {
		object.Kind = policy.KindUnknown
	}
	return e.judge.Call(e.question(name, object, nil))
}

// passesNotification drops what tells of things the caller may not see.
func (e *exchange) passesNotification(m *message) bool {
	switch m.Method {
	case "notifications/resources/updated":
		uri, ok := m.Member(m.Params, "uri").Text()
		q := e.question("resources/list", policy.Object{}, nil)
		if !ok || !e.judge.Visible(q, policy.Object{Kind: policy.KindResource, Name: uri}).Allowed {
			e.recordDropped(m, "the notification tells of a resource that the caller may not see")
			return false
		}
	case "notifications/tasks/status", "notifications/tasks":
		id, ok := m.Member(m.Params, "taskId").Text()
		if !ok || !e.mayUseTask(id) {
			e.recordDropped(m, "the notification tells of a task of another caller")
			return false
		}
	}
	return true
}

// answerTime is how long we try to tell a server that it was denied.
const answerTime = 5 * time.Second

// answerServer posts an error to the server in the client's place, in the
// client's session: a server whose request only vanished would wait for ever.
func (e *exchange) answerServer(ctx context.Context, m *message) error {
	if e.x.Upstream == nil {
		return errors.New("no way to the server")
	}
	ctx, cancel := context.WithTimeout(ctx, answerTime)
	defer cancel()
	conn, err := e.x.Upstream(ctx)
	if err != nil {
		return fmt.Errorf("connect: %w", err)
	}
	answer, err := inspect.RoundTrip(ctx, conn, e.postOf(appendError(nil, m.ID.Raw, codeMethodNotFound, "Method not found", "")), inspect.Limits{})
	if err != nil {
		return fmt.Errorf("post: %w", err)
	}
	if answer.Body != nil {
		answer.Body.Close()
	}
	if answer.Status >= 300 {
		return fmt.Errorf("the server answered with status %d", answer.Status)
	}
	return nil
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
