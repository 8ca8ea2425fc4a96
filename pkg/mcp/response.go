package mcp

import (
	"bytes"
	"context"
	"errors"
	"fmt"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"

	"github.com/outrigger-mesh/outrigger/pkg/inspect"
)

// maxPlain is the longest text that may explain an HTTP error.
const maxPlain = 64 << 10

// respond inspects what the server answers. Whatever cannot be inspected does
// not reach the client.
func (e *exchange) respond(ctx context.Context, up *inspect.Response) (*inspect.Response, error) {
	for _, c := range e.calls {
		c.record.Status = up.Status
	}
	e.locations.note(e.place(), e.x.Request, up)
	if problem := e.receiveHeader(up); problem != "" {
		return e.fail(up, problem), nil
	}
	if up.Body == nil || up.ContentLength == 0 {
		return up, nil
	}
	if e.session != nil && e.session.key.endpoint != "" && e.x.Request.Method == "POST" && up.Status == 202 {
		up.Body.Close() // it says "Accepted"
		up.Body, up.ContentLength = nil, 0
		up.Header.Del("Content-Type")
		return up, nil
	}
	switch kind := media(up.Header.Get("Content-Type")); {
	case kind == "text/event-stream":
		return e.respondStream(ctx, up), nil
	case kind == "application/json":
		return e.respondJSON(up), nil
	case up.Status < 300:
		return e.respondEmpty(up), nil
	default:
		return e.respondPlain(up, kind), nil
	}
}

// receiveHeader checks the header of the response and takes the session from it.
func (e *exchange) receiveHeader(up *inspect.Response) (problem string) {
	h := &up.Header
	switch {
	case !isIdentity(h.Get("Content-Encoding")) || h.Count("Content-Encoding") > 1:
		return "the server encoded its response, which it was asked not to"
	case h.Count("Content-Type") > 1 || h.Count(sessionHeader) > 1:
		return "the server repeated a header"
	}
	id := h.Get(sessionHeader)
	if e.calls[0].name == "initialize" && !e.modern && up.Status < 300 && e.session == nil {
		return e.openSession(id)
	}
	if id != "" && (e.session == nil || id != e.session.key.id) {
		h.Del(sessionHeader) // nothing but initialize opens a session
	}
	return ""
}

// fail closes the server's response and answers that it was unacceptable.
func (e *exchange) fail(up *inspect.Response, problem string) *inspect.Response {
	if up.Body != nil {
		up.Body.Close()
	}
	e.failed = fmt.Errorf("inspect the server's response: %w", errors.New(problem))
	var id []byte
	for _, c := range e.calls {
		c.record.Status, c.record.ErrorCode = 502, codeInternalError
		if len(e.calls) == 1 {
			id = c.id.Raw
		}
	}
	e.out = appendError(e.out[:0], id, codeInternalError, "the server's response was refused: "+problem, "")
	return reply(502, "application/json", e.out)
}

// receive reads the whole body.
func (e *exchange) receive(up *inspect.Response, limit int) (problem string) {
	defer up.Body.Close()
	var err error
	e.in, err = e.readAll(e.in[:0], up.Body, up.ContentLength, limit)
	switch {
	case errors.Is(err, errTooLarge):
		return "it is too large"
	case err != nil:
		return "it ended early"
	}
	return ""
}

func (e *exchange) respondJSON(up *inspect.Response) *inspect.Response {
	if problem := e.receive(up, e.config.MessageBytes); problem != "" {
		up.Body = nil
		return e.fail(up, problem)
	}
	var body []byte
	var problem string
	switch text := bytes.TrimLeft(e.in, " \t\r\n"); {
	case len(text) == 0:
		up.Body, up.ContentLength = nil, 0
		return up
	case text[0] == '[':
		body, problem = e.inspectBatch()
	default:
		e.restatus = 0
		body, problem = e.inspectSingle(up.Status)
		if e.restatus != 0 {
			up.Status, e.calls[0].record.Status = e.restatus, e.restatus
		}
	}
	if problem != "" {
		up.Body = nil
		return e.fail(up, problem)
	}
	if e.calls[0].kind != request && up.Status < 300 {
		body = nil // 202 has none; some clients would read one
	}
	for _, c := range e.calls {
		if len(e.calls) == 1 {
			c.record.ResponseBytes = int64(len(body))
		}
	}
	up.Body, up.ContentLength = newInMemory(body), int64(len(body))
	return up
}

// inspectSingle inspects a body that is one message: the answer to our one
// request or, with an error status, an error that names no request.
func (e *exchange) inspectSingle(status int) (body []byte, problem string) {
	m, err := e.answers.Message(e.in)
	switch {
	case err != nil && status >= 400 && isHTTPError(e.in):
		return e.in, ""
	case err != nil:
		return nil, err.Error()
	case m.Kind != response:
		return nil, "it is not a response"
	case m.ID.IsZero():
		for _, c := range e.calls {
			c.record.ErrorCode = int(m.Code)
		}
		return e.in, ""
	case status >= 300 && m.Error.Kind() == 0:
		return nil, "it is a result with an error status"
	}
	c := e.outstanding(m.ID.Key)
	switch {
	case c == nil && status >= 400 && m.Error.Kind() != 0:
		// A server that did not get as far as our id says so with one of its own, such
		// as "server-error". It is the status that tells clients what happened.
		for _, c := range e.calls {
			c.record.ErrorCode = int(m.Code)
		}
		return e.in, ""
	case c == nil:
		return nil, "it answers another request"
	}
	return e.rewrite(c, m, e.in)
}

// isHTTPError tells whether doc explains an HTTP error outside of JSON-RPC, as a
// resource server does that wants a token (RFC 6750 §3): an object of texts and
// numbers under names that no client takes for a message.
func isHTTPError(doc []byte) bool {
	var members map[string]jsontext.Value
	if len(doc) > maxPlain || json.Unmarshal(doc, &members) != nil || len(members) == 0 {
		return false
	}
	for name, v := range members {
		switch name {
		case "error", "error_description", "error_uri", "scope", "message", "detail", "title", "status", "code":
		default:
			return false
		}
		if k := v.Kind(); k != '"' && k != '0' && k != 'n' {
			return false
		}
	}
	return true
}

// inspectBatch inspects the array that answers a batch.
func (e *exchange) inspectBatch() (body []byte, problem string) {
	if !e.batch {
		return nil, "it is a batch"
	}
	ms, err := e.answers.Batch(e.in)
	if err != nil {
		return nil, err.Error()
	}
	out := []byte{'['}
	for i := range ms {
		m := &ms[i]
		c := e.outstanding(m.ID.Key)
		if m.Kind != response || m.ID.IsZero() || c == nil {
			return nil, "an element of it answers another request"
		}
		element, problem := e.rewriteElement(c, m)
		if problem != "" {
			return nil, problem
		}
		if i > 0 {
			out = append(out, ',')
		}
		out = append(out, element...)
	}
	return append(out, ']'), ""
}

// outstanding is the call with that id that was not answered yet. The caller
// is about to answer it.
func (e *exchange) outstanding(id string) *call {
	for _, c := range e.calls {
		if c.kind == request && !c.done && c.id.Key == id {
			c.done = true
			return c
		}
	}
	return nil
}

// respondEmpty accepts a success of another type only if it has no content.
func (e *exchange) respondEmpty(up *inspect.Response) *inspect.Response {
	if problem := e.receive(up, 1); problem != "" || len(e.in) > 0 {
		up.Body = nil
		return e.fail(up, "it is neither JSON nor an event stream")
	}
	up.Body, up.ContentLength = nil, 0
	return up
}

// respondPlain lets an HTTP error keep its status, and its text if that is
// plain; clients look at both. Text that could be taken for JSON is left out.
func (e *exchange) respondPlain(up *inspect.Response, kind string) *inspect.Response {
	problem := e.receive(up, maxPlain)
	text := bytes.TrimLeft(e.in, " \t\r\n\ufeff")
	if problem != "" || kind != "text/plain" || len(text) > 0 && (text[0] == '{' || text[0] == '[') {
		up.Body, up.ContentLength = nil, 0
		up.Header.Del("Content-Type")
		return up
	}
	for _, c := range e.calls {
		c.record.ResponseBytes = int64(len(e.in))
	}
	up.Body, up.ContentLength = newInMemory(e.in), int64(len(e.in))
	return up
}
