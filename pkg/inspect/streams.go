package inspect

import (
	"bytes"
	"context"
	"errors"
	"net"
	"sync"
	"time"

	"golang.org/x/net/http2"

	"github.com/outrigger-mesh/outrigger/pkg/inspect/h2"
	"github.com/outrigger-mesh/outrigger/pkg/policy"
)

// A multiplexer serves the streams of a connection that began with HTTP/2's preface,
// each on a goroutine of its own.
type multiplexer struct {
	*server
	handler   Handler
	conn      *h2.Conn
	up        *streamUpstream
	prior     func(context.Context) (net.Conn, error)
	exchanges sync.WaitGroup

	mu      sync.Mutex // guards server.first, Record.Flags and what follows
	panic   any        // of an exchange
	unheard int        // exchanges that go on though their streams were cut
	ended   bool       // the connection is over
}

// speaksHTTP2 tells whether the downstream begins with HTTP/2's preface. It leaves
// what it reads in the buffer.
func (s *server) speaksHTTP2() bool {
	by := time.Now().Add(s.Limits.HeadTime)
	for {
		b := s.in.buf[s.in.r:s.in.w]
		n := min(len(b), len(h2.Preface))
		switch {
		case string(b[:n]) != h2.Preface[:n]:
			return false
		case n == len(h2.Preface):
			return true
		}
		if s.in.fill(by) != nil {
			return false // whoever reads next finds out why
		}
	}
}

// runStreams serves HTTP/2 until the connection ends.
func (s *server) runStreams(ctx context.Context) error {
	if r := s.Conversation.Record; r != nil {
		r.Open() // before exchanges that run beside each other
	}
	l := &s.Limits
	m := &multiplexer{server: s, up: newStreamUpstream(s.Upstream, l)}
	m.handler, m.prior = s.layered(m.up), priorKnowledge(s.Upstream)
	read := bytes.Clone(s.in.buf[s.in.r:s.in.w])
	s.in.discard()
	m.conn = h2.New(s.in.conn, read, h2.Config{
		Accept:  func(st *h2.Stream) { m.exchanges.Go(func() { m.serve(ctx, st) }) },
		Trailer: mayTrail, Streams: l.Streams, Header: l.Head, Fields: l.Fields,
		Begin: l.HeadTime, Idle: l.Idle, Write: l.Write,
	})
	err := m.conn.Run()
	m.end()
	m.exchanges.Wait()
	s.leave(ErrDisconnected)
	m.up.close()
	s.in.total += m.conn.Received()
	s.out.total += m.conn.Sent()
	s.up.in.total, s.up.out.total = m.up.received.Load(), m.up.sent.Load()
	if m.panic != nil {
		panic(m.panic)
	}
	return m.over(ctx, err)
}

// over is what Serve returns.
func (m *multiplexer) over(ctx context.Context, err error) error {
	if why := context.Cause(ctx); !errors.Is(why, ErrDisconnected) {
		return why
	}
	if e, ok := errors.AsType[*h2.ConnError](err); ok {
		return &Error{Status: 400, Problem: e.Error()}
	}
	if m.first == nil {
		return err
	}
	return m.first
}

// keep keeps the first thing that went wrong with an exchange.
func (m *multiplexer) keep(err error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.first == nil {
		m.first = err
	}
}

// recover leaves the panic of an exchange to the goroutine that serves the connection.
func (m *multiplexer) recover() {
	p := recover()
	if p == nil {
		return
	}
	m.mu.Lock()
	m.panic = p
	m.mu.Unlock()
	m.conn.Close(errors.New("an exchange broke off by a bug in the sidecar"))
}

func disconnected(err error) error { return errors.Join(ErrDisconnected, err) }

// exchangeStream answers one request, and returns what went wrong.
func (m *multiplexer) exchangeStream(ctx context.Context, in *streamed) error {
	defer in.finish()
	resp, failure := m.handler.Do(ctx, &in.exchange)
	if resp == nil && failure == nil {
		failure = errors.New("handler returned neither a response nor an error")
	}
	if failure != nil {
		if resp != nil && resp.Body != nil {
			resp.Body.Close()
		}
		e := asError(failure)
		m.mu.Lock()
		m.note(e)
		m.mu.Unlock()
		failure, resp = e, m.reply(e)
	}
	err := m.deliver(in, resp)
	if err == nil {
		return failure
	}
	source, ok := errors.AsType[*sourceError](err)
	if !ok {
		in.st.Reset(http2.ErrCodeCancel, "response could not be sent")
		return disconnected(err)
	}
	failure = upstreamError("response ended early", source.err)
	if !in.st.Begun() {
		if m.respond(in.st, m.reply(asError(failure)), in.request.Method == "HEAD") == nil {
			return failure
		}
	}
	in.st.Reset(http2.ErrCodeInternal, "response ended early")
	return failure
}

// deliver writes the response of an exchange, or reads it to its end if there is nobody
// any more to write it to and the exchange goes on. It closes the body.
func (m *multiplexer) deliver(in *streamed, resp *Response) error {
	if resp.Body != nil {
		defer resp.Body.Close()
	}
	err := m.write(in.st, resp, in.request.Method == "HEAD")
	if err != nil && !isSource(err) && resp.Body != nil && m.outlives(in) {
		in.exchange.readOn(resp.Body, in.cancel)
	}
	return err
}

// respond writes a response and closes its body.
func (m *multiplexer) respond(st *h2.Stream, resp *Response, head bool) error {
	if resp.Body != nil {
		defer resp.Body.Close()
	}
	return m.write(st, resp, head)
}

// write writes a response.
func (m *multiplexer) write(st *h2.Stream, resp *Response, head bool) error {
	length := resp.ContentLength
	if resp.Body == nil && !head && resp.Status != 304 {
		length = 0
	}
	if resp.Status < 200 || resp.Status > 599 {
		return &sourceError{errNotFinal}
	}
	var room [24]h2.Field
	fields, err := streamResponse(room[:0], resp, length, head)
	if err != nil {
		return &sourceError{err}
	}
	end := head || bodiless(resp.Status) || length == 0
	if err := st.WriteHeader(fields, false, end, length < 0); err != nil || end {
		return err
	}
	var p *pulse
	if length < 0 && m.pulses(resp) {
		p = newPulse(m.Limits.KeepAlive, func() error { return st.Write([]byte(comment), false) })
		defer p.stop()
	}
	return sendContent(st, resp.Body, length, p)
}

// addBytes is where the bytes of a conversation are counted, by direction.
func (s *server) addBytes() {
	r := s.Conversation.Record
	if r == nil {
		return
	}
	if s.Conversation.Direction == policy.Outbound {
		r.BytesSent += s.up.out.total
		r.BytesReceived += s.up.in.total
	} else {
		r.BytesSent += s.out.total
		r.BytesReceived += s.in.total
	}
}
