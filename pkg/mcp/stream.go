package mcp

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"

	"github.com/outrigger-mesh/outrigger/pkg/inspect"
	"github.com/outrigger-mesh/outrigger/pkg/jsonrpc"
	"github.com/outrigger-mesh/outrigger/pkg/policy"
	"github.com/outrigger-mesh/outrigger/pkg/telemetry"
)

// respondStream passes on a stream of events, each inspected and framed anew.
func (e *exchange) respondStream(ctx context.Context, up *inspect.Response) *inspect.Response {
	events := e.stream.events
	if events == nil {
		events = jsonrpc.NewEventReader(nil, e.config.MessageBytes)
	}
	events.Reset(up.Body)
	e.stream = stream{
		ctx: ctx, e: e, upstream: up.Body, events: events,
		resumes: e.x.Request.Method == "GET" && e.x.Request.Header.Has("Last-Event-Id"),
	}
	up.Body = &e.stream
	up.ContentLength = -1
	up.Header.Set("X-Accel-Buffering", "no")
	return up
}

// A stream reads the server's events one by one, as the client takes them. It
// holds one event at most and hands it on as soon as it is complete.
type stream struct {
	ctx      context.Context // of the exchange, for messages of our own
	e        *exchange
	upstream io.ReadCloser
	events   *jsonrpc.EventReader
	resumes  bool     // answers of earlier calls may come
	endpoint *session // that the stream opened, in revision 2024-11-05

	framed []byte // the buffer
	ready  []byte // what of it is to be read
	err    error  // after ready
}

// errUninspected means that a stream was cut because of what it carried.
var errUninspected = errors.New("the server's event cannot be inspected")

// Read hands on the next event, or a part of it.
func (s *stream) Read(p []byte) (int, error) {
	for len(s.ready) == 0 {
		if s.err != nil {
			return 0, s.err
		}
		s.advance()
	}
	n := copy(p, s.ready)
	s.ready = s.ready[n:]
	return n, nil
}

// Close ends the server's stream. In the modern era that cancels the call.
func (s *stream) Close() error {
	s.e.sessions.forget(s.endpoint)
	return s.upstream.Close()
}

// advance reads one event and frames what of it goes on.
func (s *stream) advance() {
	s.framed = small(s.framed)
	event, err := s.events.Next()
	switch {
	case err == io.EOF:
		s.err = io.EOF
	case errors.Is(err, jsonrpc.ErrEventTooLarge):
		s.cut(err)
	case err != nil:
		s.err = err
	case event.Comment:
		s.framed = jsonrpc.AppendEvent(s.framed, &event)
	case event.Type == "endpoint":
		if s.opensEndpoint(event.Data) {
			s.pass(&event, nil)
		}
	case len(event.Data) == 0:
		s.pass(&event, nil) // it primes the client with an id
	case event.Type != "" && event.Type != "message":
		// Some clients dispatch every type; none of MCP's has another name.
	default:
		s.message(&event)
	}
	s.ready = s.framed
}

func (s *stream) pass(event *jsonrpc.Event, data []byte) {
	if len(data) > 0 {
		event.Data = data
	}
	s.framed = jsonrpc.AppendEvent(slices.Grow(s.framed, len(event.Data)+64), event)
}

// cut answers what is still to be answered with an error and ends the stream.
func (s *stream) cut(err error) {
	s.e.failed = fmt.Errorf("inspect the server's stream: %w", err)
	for _, c := range s.e.calls {
		if c.kind != request || c.done {
			continue
		}
		c.done = true
		c.record.ErrorCode = codeInternalError
		body := appendError(nil, c.id.Raw, codeInternalError, "the server's response was refused", "")
		s.framed = jsonrpc.AppendEvent(s.framed, &jsonrpc.Event{Type: "message", Data: body, HasData: true, Retry: -1})
	}
	s.err = io.EOF
}

// message inspects the message that an event carries.
func (s *stream) message(event *jsonrpc.Event) {
	m, err := s.e.answers.Message(event.Data)
	if err != nil {
		if refused, ok := errors.AsType[*jsonrpc.Error](err); ok && refused.Reason == jsonrpc.ReasonBatch && s.e.batch {
			s.batch(event)
			return
		}
		s.cut(fmt.Errorf("%w: %w", errUninspected, err))
		return
	}
	if m.Kind == response {
		s.response(event, m)
		return
	}
	if s.e.passesFromServer(s.ctx, m) {
		s.pass(event, singleLine(event.Data))
	}
}

// response passes on the answer to a call of this exchange or, on a stream that
// is resumed, of this session. Other answers are dropped: some clients take
// whatever comes for theirs.
func (s *stream) response(event *jsonrpc.Event, m *message) {
	c := s.e.outstanding(m.ID.Key)
	if c == nil && (s.resumes || s.endpoint != nil) && s.e.session != nil {
		c = s.e.session.recall(m.ID.Key)
		if c != nil && c.denial != nil {
			s.pass(event, c.denial) // it was recorded when it was denied
			return
		}
		if c != nil {
			s.e.recordLater(c, m)
		}
	}
	if c == nil {
		s.e.recordDropped(m, "the server's response answers no request of this stream")
		return
	}
	body, problem := s.e.rewrite(c, m, event.Data)
	if problem != "" {
		c.done = false
		s.cut(fmt.Errorf("%w: %s", errUninspected, problem))
		return
	}
	c.record.ResponseBytes += int64(len(body))
	s.pass(event, singleLine(body))
	c.record.Finish(nil)
}

// recordLater starts a record of an answer to an earlier exchange's call.
func (e *exchange) recordLater(c *call, m *message) {
	c.id, c.record = m.ID, e.newRecord()
	c.record.Method, c.record.Object, c.record.ID = c.name, c.object, string(m.ID.Raw)
	c.record.Status, c.record.Decision = 200, e.ask(c, c.object)
}

// batch inspects an event that carries several answers.
func (s *stream) batch(event *jsonrpc.Event) {
	s.e.in = append(s.e.in[:0], event.Data...)
	body, problem := s.e.inspectBatch()
	if problem != "" {
		s.cut(fmt.Errorf("%w: %s", errUninspected, problem))
		return
	}
	s.pass(event, singleLine(body))
}

// singleLine makes the line breaks of an accepted JSON text spaces: they stand
// between tokens only. Clients differ in how they join lines of data.
func singleLine(text []byte) []byte {
	for i, c := range text {
		if c == '\n' || c == '\r' {
			text[i] = ' '
		}
	}
	return text
}

// recordDropped records a message of the server that does not go on.
func (e *exchange) recordDropped(m *message, reason string) {
	record := e.newRecord()
	record.ID, record.ResponseBytes = string(m.ID.Raw), int64(len(m.Raw))
	e.finishDropped(record, m.Method, reason)
}

// recordNote records something of the server that is no message and does not go on.
func (e *exchange) recordNote(what, reason string) { e.finishDropped(e.newRecord(), what, reason) }

func (e *exchange) finishDropped(record *telemetry.Call, method, reason string) {
	record.Method, record.Decision = method, policy.Decision{Reason: reason}
	record.Finish(nil)
	e.records = e.records[:len(e.records)-1]
}
