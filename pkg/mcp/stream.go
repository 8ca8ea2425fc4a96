package mcp

import (
	"bytes"
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
		pace:    pace{perSecond: e.config.EventsPerSecond},
		resumes: e.x.Request.Method == "GET" && e.x.Request.Header.Has("Last-Event-Id"),
	}
	e.stream.endWithToken()
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
	pace     pace
	resumes  bool     // answers of earlier calls may come
	endpoint *session // that the stream opened, in revision 2024-11-05
	expiry   *expiry  // nil: the stream lasts as long as it likes

	ready []byte // what is to be read of the exchange's framed
	err   error  // after ready
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
	if s.e.failed == nil {
		s.e.failed = s.unanswered()
	}
	s.expiry.stop()
	s.e.sessions.forget(s.endpoint)
	return s.upstream.Close()
}

// unanswered tells why a call has no answer though its stream is over; nil if all
// have one, or one may still come on another stream.
func (s *stream) unanswered() error {
	if !slices.ContainsFunc(s.e.calls, func(c *call) bool { return c.kind == request && !c.done }) {
		return nil
	}
	left := s.err == nil || errors.Is(context.Cause(s.ctx), inspect.ErrDisconnected)
	switch {
	case left && s.e.calls[0].method.is(eachNotified):
		return nil // that is how clients end a subscription
	case left && s.e.modern:
		return errCancelled
	case left:
		return errUnheard
	case s.err != io.EOF:
		return fmt.Errorf("read the server's stream: %w", s.err)
	case s.e.unheard == nil:
		return errUnanswered
	}
	return nil
}

// advance reads one event and frames what of it goes on.
func (s *stream) advance() {
	s.e.rest()
	event, err := s.events.Next()
	s.e.work()
	if err == nil {
		err = s.pace.take(s.ctx)
	}
	switch {
	case err != nil && s.expiry.isOver():
		s.cut(errExpired)
	case err == io.EOF:
		s.err = io.EOF
	case errors.Is(err, jsonrpc.ErrEventTooLarge):
		s.cut(err)
	case err != nil:
		s.err = err
	case event.Comment:
		s.e.framed = jsonrpc.AppendEvent(s.e.framed, &event)
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
	s.ready = s.e.framed
}

func (s *stream) pass(event *jsonrpc.Event, data []byte) {
	if len(event.ID) > 0 {
		s.e.events.give(s.e.eventHandle(string(event.ID)), grant{owner: s.e.resumer()})
		s.e.mayBeResumed(string(event.ID))
	}
	if len(data) > 0 {
		event.Data = data
	}
	if need := len(event.Data) + 128 + len(event.ID) + len(event.Type); cap(s.e.framed)-len(s.e.framed) < need && len(s.e.framed) == 0 {
		s.e.framed = s.e.room(s.e.framed, need)
	}
	s.e.framed = jsonrpc.AppendEvent(s.e.framed, event)
}

// cut answers what is still to be answered with an error and ends the stream.
func (s *stream) cut(err error) {
	code, text := codeInternalError, "the server's response was refused"
	if s.e.failed = fmt.Errorf("inspect the server's stream: %w", err); errors.Is(err, errExpired) {
		s.e.failed, code, text = errExpired, codeRefused, errExpired.Error()
	}
	for _, c := range s.e.calls {
		if c.kind != request || c.done {
			continue
		}
		c.done = true
		c.record.ErrorCode = code
		body := appendError(nil, c.id.Raw, code, text, "")
		s.e.framed = jsonrpc.AppendEvent(s.e.framed, &jsonrpc.Event{Type: "message", Data: body, HasData: true, Retry: -1})
	}
	s.err = io.EOF
}

// message inspects the message, or the batch, that an event carries, by the policies
// of its time: streams last.
func (s *stream) message(event *jsonrpc.Event) {
	if s.e.x.Refresh() {
		s.e.judge = s.e.config.Judge(s.e.x)
		s.e.terms = s.e.judge.Terms(s.e.x.Direction, s.e.x.Target)
	}
	m, err := s.e.answers.Message(event.Data)
	var out []byte
	refused, _ := errors.AsType[*jsonrpc.Error](err)
	switch {
	case refused != nil && refused.Reason == jsonrpc.ReasonBatch && s.mayBatch():
		out, err = s.batch(event.Data)
	case err != nil:
		err = fmt.Errorf("%w: %w", errUninspected, err)
	case m.Kind == response:
		out, err = s.response(m, event.Data)
	case s.e.passesFromServer(s.ctx, m):
		out = event.Data
	}
	if err != nil {
		s.cut(err)
	} else if out != nil {
		s.pass(event, singleLine(out))
	}
}

// response is what goes on of the answer to a call of this exchange or, on a stream
// that is resumed, of this session; nil if nothing does. Other answers are dropped:
// some clients take whatever comes for theirs.
func (s *stream) response(m *message, doc []byte) ([]byte, error) {
	c := s.e.outstanding(m.ID.Key)
	if c == nil && (s.resumes || s.endpoint != nil) && s.e.session != nil {
		c = s.e.session.recall(m.ID.Key)
		if c != nil && c.denial != nil {
			return c.denial, nil // it was recorded when it was denied
		}
		if c != nil && !s.e.fits(c, m) {
			s.e.recordDropped(m, "the server's response is not one to "+c.name+", the last call with its id")
			return nil, nil
		}
		if c != nil && !s.e.recordLater(c, m).Allowed {
			_, code, body := s.e.denied(c) // it was allowed when it was asked, and is not any more
			c.record.ErrorCode, c.record.ResponseBytes = code, int64(len(body))
			c.record.Finish(nil)
			return body, nil
		}
	}
	if c == nil {
		s.e.recordDropped(m, "the server's response answers no request of this stream")
		return nil, nil
	}
	body, problem := s.e.rewrite(c, m, doc)
	if problem != "" {
		c.done = false
		return nil, fmt.Errorf("%w: %s", errUninspected, problem)
	}
	c.record.ResponseBytes += int64(len(body))
	c.record.Finish(s.e.left())
	return body, nil
}

// recordLater starts a record of an answer to an earlier exchange's call, and decides
// whether it may still be seen.
func (e *exchange) recordLater(c *call, m *message) policy.Decision {
	c.id, c.record = m.ID, e.newRecord()
	c.record.Method, c.record.Object, c.record.ID = c.name, c.object, string(m.ID.Raw)
	c.record.Status, c.record.Decision = 200, e.decideLater(c)
	return c.record.Decision
}

// fits tells whether m has nothing that would have to be filtered and is not in an
// answer to c. Clients may use an id again, and then it does not tell which of their
// calls an answer on another stream is for.
func (e *exchange) fits(c *call, m *message) bool {
	for _, list := range [...]string{"tools", "resources", "resourceTemplates", "prompts", "contents", "tasks", "skills"} {
		if list != c.method.list && m.Member(m.Result, list).Kind() != 0 {
			return false
		}
	}
	linked := m.Member(m.Result, "content").Kind() != 0 || m.Member(m.Result, "messages").Kind() != 0
	return !linked || !e.terms.FilterLinked || c.method.is(linksResources)
}

// decideLater decides about a call whose arguments are not at hand any more: whether
// it could be allowed with some.
func (e *exchange) decideLater(c *call) policy.Decision {
	if c.object.Kind == policy.KindNone || c.object.Kind == policy.KindUnknown || c.object.Kind == policy.KindTask {
		return e.ask(c, c.object)
	}
	return e.judge.Visible(e.question(c.name, policy.Object{}, nil), c.object)
}

// singleLine makes the line breaks of an accepted JSON text spaces: they stand
// between tokens only. Clients differ in how they join lines of data.
func singleLine(text []byte) []byte {
	for _, end := range [...]byte{'\n', '\r'} {
		for from := 0; ; from++ {
			i := bytes.IndexByte(text[from:], end)
			if i < 0 {
				break
			}
			from += i
			text[from] = ' '
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

// recordDecided records a message of the server that policy does not let pass.
func (e *exchange) recordDecided(m *message, d policy.Decision) {
	record := e.newRecord()
	record.Method, record.Decision, record.ID, record.ResponseBytes = m.Method, d, string(m.ID.Raw), int64(len(m.Raw))
	record.Finish(nil)
	e.records = e.records[:len(e.records)-1]
}

// recordNote records something of the server that is no message and does not go on.
func (e *exchange) recordNote(what, reason string) { e.finishDropped(e.newRecord(), what, reason) }

func (e *exchange) finishDropped(record *telemetry.Call, method, reason string) {
	record.Method, record.Decision = method, policy.Decision{Reason: reason}
	record.Finish(nil)
	e.records = e.records[:len(e.records)-1]
}
