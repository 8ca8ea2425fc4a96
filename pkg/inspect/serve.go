package inspect

import (
	"context"
	"errors"
	"io"
	"net"
	"sync/atomic"
	"time"
)

// A server serves one connection.
type server struct {
	Config
	in      reader
	out     sink
	watch   watch
	up      *upstream
	handler Handler
	caller  string                   // for the app, if it was verified
	leave   context.CancelCauseFunc  // the downstream is gone
	current atomic.Pointer[Exchange] // of HTTP/1; nil between exchanges
	first   error                    // the first exchange that went wrong
	broken  bool                     // a response was begun and not completed
}

func newServer(downstream net.Conn, c Config, leave context.CancelCauseFunc) *server {
	s := &server{Config: c, leave: leave, caller: c.Conversation.Source.String()}
	s.Limits = s.Limits.withDefaults()
	s.in.conn, s.out.conn, s.out.timeout = downstream, downstream, s.Limits.Write
	s.watch.in = &s.in
	s.watch.gone = func(error) {
		if x := s.current.Load(); x == nil || !x.outlives(leave) {
			leave(ErrDisconnected)
		}
	}
	s.up = newUpstream(c.Upstream, &s.Limits)
	s.up.interrupt = func() { s.watch.unlessOn(s.in.interrupt) }
	s.handler = s.layered(s.up)
	return s
}

// layered wraps the last handler with all layers.
func (s *server) layered(h Handler) Handler {
	for i := len(s.Layers) - 1; i >= 0; i-- {
		h = s.Layers[i](h)
	}
	return h
}

// run serves exchanges until the connection ends.
func (s *server) run(ctx context.Context) error {
	if more, err := s.await(ctx); !more {
		return s.over(ctx, err)
	}
	if s.speaksHTTP2() {
		return s.runStreams(ctx)
	}
	for {
		in, err := s.next(ctx)
		if err != nil {
			return s.over(ctx, err)
		}
		if in == nil {
			return s.over(ctx, nil)
		}
		again, err := s.exchange(ctx, in)
		putIncoming(in)
		if err != nil && s.first == nil {
			s.first = err
		}
		if !again || ctx.Err() != nil {
			return s.over(ctx, nil)
		}
	}
}

// over is what Serve returns.
func (s *server) over(ctx context.Context, err error) error {
	if err != nil && s.first == nil {
		s.first = err
	}
	if ctx.Err() == nil {
		if !s.broken {
			s.linger()
		}
		return s.first
	}
	return context.Cause(ctx)
}

// next reads the next request. It returns neither a request nor an error when the
// downstream has no more, and has answered what it returns as an error.
func (s *server) next(ctx context.Context) (*incoming, error) {
	if more, err := s.await(ctx); !more {
		return nil, err
	}
	head, err := s.head()
	if err != nil {
		return nil, s.refuse(err)
	}
	in, err := parseRequest(string(head), &s.Limits)
	if err != nil {
		return nil, s.refuse(err)
	}
	s.prepare(in)
	return in, nil
}

// await waits for the first byte of what comes next. There is neither more nor an
// error when the downstream has simply ended.
func (s *server) await(ctx context.Context) (more bool, err error) {
	if s.in.buffered() > 0 {
		return true, nil
	}
	err = s.in.fill(time.Now().Add(s.Limits.Idle))
	switch {
	case errors.Is(err, io.EOF), isTimeout(err), err != nil && ctx.Err() != nil:
		return false, nil
	}
	return err == nil, err
}

func (s *server) head() ([]byte, error) {
	if c := s.in.buf[s.in.r]; class[c]&isToken == 0 {
		if c == 22 { // of a TLS record
			return nil, bad("TLS where HTTP is inspected: inside the mesh it is spoken without")
		}
		return nil, bad("not an HTTP request")
	}
	head, err := s.in.head(s.Limits.Head, time.Now().Add(s.Limits.HeadTime))
	switch {
	case errors.Is(err, errTooBig):
		return nil, &Error{Status: 431, Problem: "request head is too large"}
	case isTimeout(err):
		return nil, &Error{Status: 408, Problem: "request head came too slowly"}
	case errors.Is(err, io.EOF):
		return nil, io.ErrUnexpectedEOF
	}
	return head, err
}

// refuse answers what cannot be read as a request, and returns why.
func (s *server) refuse(err error) error {
	e, ok := errors.AsType[*Error](err)
	if !ok {
		return err // the connection itself failed, or speaks HTTP/2
	}
	if s.respond(s.reply(e), outgoing{close: true}) != nil {
		s.broken = true
	}
	return err
}

// reply tells the peer what was wrong; what went wrong on our side stays there.
func (s *server) reply(e *Error) *Response {
	text := e.Problem
	if e.Status >= 500 {
		text = "the request was not served"
	}
	return Reply(e.Status, "text/plain; charset=utf-8", []byte(text+"\n"))
}

// prepare makes the exchange of a request that was read.
func (s *server) prepare(in *incoming) {
	b := &in.body
	b.in, b.framing, b.left = &s.in, in.framing, max(in.length, 0)
	b.idle, b.rate = s.Limits.Body, s.Limits.BodyRate
	in.owner = requestBody{s, in.expects}
	b.owner = &in.owner
	if in.length == 0 {
		b.framing, b.begun, b.err = framingNone, true, io.EOF
	}
	in.request.Body = b
	s.begin(&in.exchange, &in.request)
}

// begin completes an exchange but for its stream.
func (s *server) begin(x *Exchange, r *Request) {
	s.introduce(r)
	x.Conversation, x.Request, x.Upstream = s.Conversation, r, s.Upstream
	if s.Policies != nil {
		x.Policies, x.Snapshot = s.Policies()
		x.Current = s.Policies
	}
}

// A requestBody is what happens around the reading of a request's body.
type requestBody struct {
	s       *server
	expects bool
}

func (r *requestBody) bodyBegins() error {
	if r.expects {
		return r.s.out.continues()
	}
	return nil
}

func (r *requestBody) bodyEnds() { r.s.watch.arm() }

// exchange answers one request. It returns whether the connection may go on.
func (s *server) exchange(ctx context.Context, in *incoming) (again bool, err error) {
	s.in.release()
	s.current.Store(&in.exchange)
	defer func() {
		s.current.Store(nil) // which others use next
		in.exchange.settle()
	}()
	if in.body.complete() {
		s.watch.arm()
	}
	defer s.watch.disarm()
	resp, failure := s.handler.Do(ctx, &in.exchange)
	if resp == nil && failure == nil {
		failure = errors.New("handler returned neither a response nor an error")
	}
	if failure != nil {
		if resp != nil && resp.Body != nil {
			resp.Body.Close()
		}
		e := asError(failure)
		s.note(e)
		failure, resp = e, s.reply(e)
	}
	how := outgoing{head: in.request.Method == "HEAD", chunked: !in.http10, close: in.close || !s.drainable(in)}
	before := s.out.total
	err = s.respond(resp, how)
	s.up.finish()
	s.watch.disarm()
	if err != nil {
		return false, s.breakOff(err, how, s.out.total == before)
	}
	return !how.close && s.drain(&in.body), failure
}

// note marks the record of a connection whose app could not be reached.
func (s *server) note(e *Error) {
	if r := s.Conversation.Record; r != nil && e.Problem == connecting && r.Flags == "" {
		r.Flags = "CONNECT"
	}
}

// respond writes a response and closes its body.
func (s *server) respond(resp *Response, how outgoing) error {
	if resp.Body != nil {
		defer resp.Body.Close()
	}
	length := resp.ContentLength
	if resp.Body == nil && !how.head && resp.Status != 304 {
		length = 0
	}
	err := errNotFinal
	if resp.Status >= 200 && resp.Status <= 599 {
		err = s.out.head(appendResponse(s.out.begin(), resp, length, how))
	}
	if err != nil {
		return &sourceError{err}
	}
	if resp.Body != nil && !how.head && !bodiless(resp.Status) {
		if length < 0 && how.chunked && s.pulses(resp) {
			s.out.pulse = newPulse(s.Limits.KeepAlive, func() error { return s.out.write([]byte(commentChunk)) })
		}
		err := s.out.body(resp.Body, length, !how.chunked)
		s.out.pulse = nil
		if err != nil {
			if x := s.current.Load(); x != nil && !isSource(err) && x.outlives(s.leave) {
				x.readOn(resp.Body, s.leave)
			}
			return err
		}
	}
	return s.out.end()
}

// breakOff ends the connection after a response that could not be completed, and
// returns why. If none of it was sent, another tells of it.
func (s *server) breakOff(err error, how outgoing, unsent bool) error {
	var e *sourceError
	if !errors.As(err, &e) {
		s.broken = true
		return errors.Join(ErrDisconnected, err)
	}
	s.out.drop()
	failure := upstreamError("response ended early", e.err)
	how.close = true
	s.broken = !unsent || s.respond(s.reply(asError(failure)), how) != nil
	return failure
}

// drainable tells whether the connection can go on after the request's body, as far
// as that is known before the response.
func (s *server) drainable(in *incoming) bool {
	if s.up.sending != nil {
		return true // it is being read at this moment
	}
	b := &in.body
	switch {
	case b.complete():
		return true
	case b.err != nil, in.expects && !b.begun:
		return false
	}
	return b.framing == framingChunked || b.left <= int64(s.Limits.Drain)
}

// drain reads what is left of a request's body, so that it is not taken for the
// next request. It returns false if that is too much or takes too long.
func (s *server) drain(b *body) bool {
	b.idle = min(b.idle, drainTime)
	for got := 0; got <= s.Limits.Drain; {
		p, err := b.next(bufferSize)
		if err != nil {
			s.watch.disarm()
			return err == io.EOF
		}
		got += len(p)
	}
	return false
}

// linger ends our direction and lets the downstream read what we wrote: to close a
// connection with unread bytes in it would reset it.
func (s *server) linger() {
	c, ok := s.in.conn.(interface{ CloseWrite() error })
	if !ok || c.CloseWrite() != nil {
		return
	}
	by := time.Now().Add(lingerTime)
	s.in.resume()
	for end := s.in.total + lingerBytes; s.in.total < end; {
		s.in.r = s.in.w
		if s.in.fill(by) != nil {
			return
		}
	}
}

// cut closes both connections under whoever uses them.
func (s *server) cut() {
	s.in.conn.Close()
	s.up.cut()
}

// reset makes the end of the connection a reset, where it can be one: a response that
// lasts until the connection ends must not seem complete.
func (s *server) reset() {
	switch c := s.in.conn.(type) {
	case interface{ Reset() error }:
		c.Reset()
	case interface{ SetLinger(int) error }:
		c.SetLinger(0)
	}
}

// close ends the conversation and adds its bytes to the record.
func (s *server) close() {
	s.watch.disarm()
	if s.broken {
		s.reset()
	}
	s.in.conn.Close()
	s.up.drop()
	s.in.discard()
	s.out.release()
	s.addBytes()
}
