package inspect

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/net/http2"

	"github.com/outrigger-mesh/outrigger/pkg/inspect/h2"
)

// A streamUpstream is the last handler of a conversation in HTTP/2: it exchanges
// requests for the app's responses on streams of one connection, which it opens when
// needed. The app is spoken to as the downstream spoke.
type streamUpstream struct {
	dial   func(ctx context.Context) (net.Conn, error)
	limits *Limits

	sent, received atomic.Int64 // bytes, of connections that ended
	runs           sync.WaitGroup

	mu    sync.Mutex // guards what follows; held while the app is dialled
	conns []*h2.Conn // that have not ended; the last one takes new streams
}

func newStreamUpstream(dial func(context.Context) (net.Conn, error), l *Limits) *streamUpstream {
	return &streamUpstream{dial: dial, limits: l}
}

// open returns a connection that takes a stream, and tells whether it is a fresh one.
func (u *streamUpstream) open(ctx context.Context) (c *h2.Conn, fresh bool, err error) {
	u.mu.Lock()
	defer u.mu.Unlock()
	if n := len(u.conns); n > 0 && u.conns[n-1].Usable() {
		return u.conns[n-1], false, nil
	}
	nc, err := u.dial(ctx)
	if err == nil && ctx.Err() != nil {
		nc.Close()
		err = context.Cause(ctx)
	}
	if err != nil {
		return nil, true, &Error{Status: 503, Problem: connecting, Err: err}
	}
	l := u.limits
	c = h2.New(nc, nil, h2.Config{
		Client: true, Trailer: mayTrail, Streams: l.Streams, Header: l.Head, Fields: 2 * l.Fields,
		Begin: l.HeadTime, Idle: l.Idle, Write: l.Write,
	})
	u.conns = append(u.conns, c)
	u.runs.Go(func() { u.run(c) })
	return c, true, nil
}

// run serves a connection. Why it ended is what its streams say.
func (u *streamUpstream) run(c *h2.Conn) {
	_ = c.Run()
	u.sent.Add(c.Sent())
	u.received.Add(c.Received())
	u.mu.Lock()
	defer u.mu.Unlock()
	u.conns = slices.DeleteFunc(u.conns, func(other *h2.Conn) bool { return other == c })
}

// close ends all connections and waits for them.
func (u *streamUpstream) close() {
	u.mu.Lock()
	conns := slices.Clone(u.conns)
	u.mu.Unlock()
	for _, c := range conns {
		c.Close(net.ErrClosed)
	}
	u.runs.Wait()
}

// Do sends the exchange's request and returns the response as soon as its head is
// there. It is a Handler.
func (u *streamUpstream) Do(ctx context.Context, x *Exchange) (*Response, error) {
	for {
		c, fresh, err := u.open(ctx)
		if err != nil {
			return nil, err
		}
		resp, err := u.trip(ctx, c, x)
		// The app turned away from a connection while we took it into use. Only a request
		// that changes nothing is sent again.
		if err == nil || fresh || !errors.Is(err, h2.ErrRefused) || !repeatable(x.Request) || ctx.Err() != nil {
			return resp, err
		}
	}
}

// A streamTrip is one request to the app and its response.
type streamTrip struct {
	st        *h2.Stream
	stop      func() bool // the watching of the exchange's context
	interrupt func()      // ends a read of the request's body
	content   streamContent
	response  Response

	once    sync.Once
	sending chan struct{} // closed once the request's body is sent; nil if nobody sends one
	sendErr error         // valid once sending is closed
}

// trip sends one request and waits for the head of its response.
func (u *streamUpstream) trip(ctx context.Context, c *h2.Conn, x *Exchange) (*Response, error) {
	t := &streamTrip{interrupt: func() {}}
	secret := false
	if in := x.stream; in != nil {
		in.finish() // a layer that sends twice is done with the first
		in.trip, secret = t, in.secret
		t.interrupt = in.st.Interrupt
	}
	if err := t.begin(ctx, c, x.Request, secret); err != nil {
		t.finish()
		return nil, err
	}
	h, err := t.st.Response(time.Now().Add(u.limits.Response))
	if err == nil {
		var resp *Response
		if resp, err = t.accept(h, u.limits); err == nil {
			return resp, nil
		}
	}
	t.finish()
	if _, ok := errors.AsType[*sourceError](t.sendErr); ok {
		return nil, bodyError(t.sendErr) // that is why the stream was reset
	}
	return nil, upstreamError("read the app's response", err)
}

// begin sends the request: a small one in one piece, after all of it was read; of a
// large one the body, on its own goroutine beside the response.
func (t *streamTrip) begin(ctx context.Context, c *h2.Conn, r *Request, secret bool) error {
	var room [28]h2.Field
	fields, err := streamRequest(room[:0], r)
	if err != nil {
		return upstreamError("send the request to the app", err)
	}
	var inline []byte
	if r.ContentLength > 0 && r.ContentLength <= maxInlineWrite {
		buf := getBuffer(int(r.ContentLength))
		defer putBuffer(buf)
		inline = buf[:r.ContentLength]
		if _, err := io.ReadFull(r.Body, inline); err != nil {
			return bodyError(err)
		}
	}
	if t.st, err = c.Open(ctx, fields, secret, r.Method == "HEAD", r.ContentLength == 0); err != nil {
		return upstreamError("send the request to the app", err)
	}
	t.stop = context.AfterFunc(ctx, func() { t.st.Reset(http2.ErrCodeCancel, "exchange ended") })
	switch {
	case r.ContentLength == 0:
	case inline != nil:
		err = t.st.Write(inline, true)
	default:
		t.sending = make(chan struct{})
		go t.send(r)
	}
	if err != nil && !errors.Is(err, h2.ErrStopped) {
		return upstreamError("send the request to the app", err)
	}
	return nil
}

// send sends the request's body. finish waits for it.
func (t *streamTrip) send(r *Request) {
	defer close(t.sending)
	t.sendErr = sendContent(t.st, r.Body, r.ContentLength, nil)
	if _, ok := errors.AsType[*sourceError](t.sendErr); ok {
		t.st.Reset(http2.ErrCodeCancel, "request ended early") // what was sent must not be taken for a request
	}
}

// accept makes the response that layers see.
func (t *streamTrip) accept(h *h2.Header, l *Limits) (*Response, error) {
	r := &t.response
	m := message{header: make(Header, 0, len(h.Fields))}
	for _, f := range h.Fields {
		m.header = append(m.header, Field(f))
	}
	if err := m.settle(); err != nil {
		return nil, err
	}
	r.Status, r.Header, r.ContentLength = h.Status, m.header, h.Length
	if h.End {
		if h.Length < 0 && !bodiless(h.Status) && !t.st.IsHead() {
			r.ContentLength = 0
		}
		t.finish()
		return r, nil
	}
	t.content.st, t.content.idle, t.content.end = t.st, l.Stream, t.finish
	r.Body = &t.content
	return r, nil
}

// finish ends the exchange with the app. It waits for the request's body, or resets the
// stream if the response made it pointless.
func (t *streamTrip) finish() {
	t.once.Do(func() {
		if t.st == nil {
			return
		}
		if t.sending != nil {
			t.endSending()
		}
		t.st.Leave()
		t.stop()
	})
}

func (t *streamTrip) endSending() {
	grace := time.NewTimer(sendGrace)
	defer grace.Stop()
	select {
	case <-t.sending:
		return
	case <-grace.C:
	}
	t.st.Reset(http2.ErrCodeCancel, "response has ended before the request")
	t.interrupt()
	<-t.sending
}

// finish ends the latest trip to the app.
func (in *streamed) finish() {
	if in.trip != nil {
		in.trip.finish()
	}
}

// A priorConn is a connection to an app that is spoken to in HTTP/2.
type priorConn struct{ net.Conn }

// priorKnowledge makes the connections of open ones for HTTP/2.
func priorKnowledge(open func(context.Context) (net.Conn, error)) func(context.Context) (net.Conn, error) {
	return func(ctx context.Context) (net.Conn, error) {
		c, err := open(ctx)
		if err != nil {
			return nil, fmt.Errorf("open a connection for HTTP/2: %w", err)
		}
		return priorConn{c}, nil
	}
}

// roundTripStream is RoundTrip on a connection to an app that is spoken to in HTTP/2.
func roundTripStream(ctx context.Context, conn net.Conn, r *Request, l *Limits) (*Response, error) {
	u := newStreamUpstream(func(context.Context) (net.Conn, error) { return conn, nil }, l)
	resp, err := u.Do(ctx, &Exchange{Request: r})
	if err != nil || resp.Body == nil {
		u.close()
		return resp, err
	}
	body := resp.Body
	resp.Body = &onlyBody{Reader: body, end: func() { body.Close(); u.close() }}
	return resp, nil
}
