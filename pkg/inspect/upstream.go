package inspect

import (
	"context"
	"errors"
	"io"
	"net"
	"sync"
	"time"
)

// An upstream is the last handler: it exchanges requests for the app's responses
// on one connection, which it opens when needed and keeps while it is clean.
type upstream struct {
	dial      func(ctx context.Context) (net.Conn, error)
	limits    *Limits
	interrupt func() // ends a read of the request's body

	in   reader
	out  sink
	idle watch

	mu   sync.Mutex // guards what follows, which cut may look at any time
	conn net.Conn
	gone bool // cut was called, or the idle connection ended

	active  bool          // an exchange is under way on conn
	current *responseBody // the body of its response
	clean   bool          // the response was read to its end and conn may go on
	head    bool          // a response head was read
	sending chan struct{} // closed once the request's body is sent; nil if nobody sends one
	sendErr error         // valid once sending is closed
}

func newUpstream(dial func(context.Context) (net.Conn, error), l *Limits) *upstream {
	u := &upstream{dial: dial, limits: l}
	u.out.timeout = l.Write
	u.idle.in = &u.in
	u.idle.gone = func(error) {
		u.mu.Lock()
		u.gone = true
		u.mu.Unlock()
	}
	return u
}

// Do sends the exchange's request and returns the response as soon as its head is
// there. It is a Handler.
func (u *upstream) Do(ctx context.Context, x *Exchange) (*Response, error) {
	u.finish()
	r := x.Request
	for {
		fresh, err := u.open(ctx)
		if err != nil {
			return nil, err
		}
		resp, err := u.trip(r)
		if err == nil {
			return resp, nil
		}
		u.drop()
		// RFC 9110 §9.2.2: the app closed an unused connection while we took it into
		// use. Only a request that changes nothing is sent again.
		if fresh || u.head || !repeatable(r) || ctx.Err() != nil || !errors.Is(err, errClosedEarly) {
			return nil, err
		}
	}
}

func repeatable(r *Request) bool {
	return r.ContentLength == 0 && (r.Method == "GET" || r.Method == "HEAD" || r.Method == "OPTIONS")
}

// connecting is the Problem of an Error that tells of an app that cannot be reached.
const connecting = "connect to the app"

var errClosedEarly = errors.New("app closed the connection before it answered")

// open makes sure that there is a connection, and tells whether it is a fresh one.
func (u *upstream) open(ctx context.Context) (fresh bool, err error) {
	u.idle.disarm()
	u.mu.Lock()
	ended := u.gone || u.conn != nil && (!u.clean || u.in.buffered() > 0)
	u.mu.Unlock()
	if ended {
		u.drop()
	}
	u.active, u.clean, u.head, u.sendErr = true, false, false, nil
	if u.conn != nil {
		return false, nil
	}
	conn, err := u.dial(ctx)
	if err != nil {
		return true, &Error{Status: 503, Problem: connecting, Err: err}
	}
	u.mu.Lock()
	defer u.mu.Unlock()
	if err := ctx.Err(); err != nil {
		conn.Close()
		return true, &Error{Status: 503, Problem: connecting, Err: err}
	}
	u.conn, u.gone = conn, false
	carrier := quick(conn)
	u.in.conn, u.in.err = carrier, nil
	u.in.resume()
	u.out.conn, u.out.begun, u.out.until = carrier, false, time.Time{}
	return true, nil
}

// trip sends one request and reads the head of its response.
func (u *upstream) trip(r *Request) (*Response, error) {
	if err := u.send(r); err != nil {
		if _, ok := errors.AsType[*sourceError](err); ok {
			return nil, bodyError(err)
		}
		if _, ok := errors.AsType[net.Error](err); !ok && !errors.Is(err, io.ErrClosedPipe) {
			return nil, upstreamError("send the request to the app", err)
		}
		// The app may have answered and closed before it read everything.
	}
	resp, err := u.receive(r.Method)
	if err == nil {
		return resp, nil
	}
	u.cut()
	if interrupted := u.endSending(); !interrupted {
		if _, ok := errors.AsType[*sourceError](u.sendErr); ok {
			return nil, bodyError(u.sendErr) // that is why the connection was cut
		}
	}
	return nil, err
}

// send sends a request: a small one in one piece, after all of it was read; of a
// large one the body, on its own goroutine beside the response.
func (u *upstream) send(r *Request) error {
	if err := u.out.head(appendRequest(u.out.begin(), r)); err != nil {
		return err
	}
	if r.ContentLength == 0 {
		return u.out.idle()
	}
	if r.ContentLength > 0 && r.ContentLength <= maxInlineWrite {
		if err := u.out.inline(r.Body, int(r.ContentLength)); err != nil {
			return err
		}
		return u.out.idle()
	}
	done := make(chan struct{})
	u.sending = done
	go func() {
		defer close(done)
		err := u.out.body(r.Body, r.ContentLength, false)
		if err == nil {
			err = u.out.idle()
		}
		if u.sendErr = err; err != nil {
			if _, ok := errors.AsType[*sourceError](err); ok {
				u.cut() // what was sent must not be taken for a request
			}
		}
	}()
	return nil
}

// receive reads the head of the final response.
func (u *upstream) receive(method string) (*Response, error) {
	by := time.Now().Add(u.limits.Response)
	for range maxInterim {
		head, err := u.in.head(u.limits.Head, by)
		if err != nil {
			return nil, u.headError(err)
		}
		u.head = true
		in, err := parseResponse(string(head), method, u.limits)
		if err != nil {
			return nil, &Error{Status: 502, Problem: "read the app's response", Err: err}
		}
		switch status := in.response.Status; {
		case status == 101:
			return nil, &Error{Status: 502, Problem: "app switched protocols without being asked"}
		case status >= 200:
			return u.accept(in), nil
		}
	}
	return nil, &Error{Status: 502, Problem: "app sent too many interim responses"}
}

func (u *upstream) headError(err error) error {
	const reading = "read the app's response"
	switch {
	case errors.Is(err, errTooBig):
		return &Error{Status: 502, Problem: reading, Err: errors.New("response head is too large")}
	case isTimeout(err):
		return &Error{Status: 504, Problem: reading, Err: err}
	case !u.head && u.in.buffered() == 0:
		return &Error{Status: 502, Problem: reading, Err: errors.Join(errClosedEarly, err)}
	}
	return &Error{Status: 502, Problem: reading, Err: err}
}

// accept makes the response that layers see.
func (u *upstream) accept(in *received) *Response {
	u.clean = !in.close
	resp := &in.response
	if in.framing == framingNone || in.framing == framingLength && in.length == 0 {
		return resp
	}
	u.clean = false
	b := &in.body
	b.in, b.framing, b.idle = &u.in, in.framing, u.limits.Stream
	if in.framing == framingLength {
		b.left = in.length
	}
	b.upstream, b.again = u, !in.close
	b.owner = b
	u.current, resp.Body = b, b
	return resp
}

// finish ends an exchange: it waits for the request's body, or cuts the connection
// if the response made it pointless.
func (u *upstream) finish() {
	if !u.active {
		return
	}
	u.endSending()
	u.leave()
	if u.conn == nil {
		return
	}
	if !u.clean || u.in.buffered() > 0 || u.in.stopped.Load() {
		u.drop()
		return
	}
	u.out.end()
	u.in.release()
	u.idle.arm()
}

// leave ends the use of conn by an exchange; its response's body can no longer be
// read.
func (u *upstream) leave() {
	u.active = false
	if b := u.current; b != nil {
		b.done.Store(true)
		if b.err == nil {
			b.err = net.ErrClosed
		}
	}
	u.current = nil
}

// endSending waits for the goroutine that sends the request's body. One that does
// not come to its end by itself is interrupted: nobody waits for it any more.
func (u *upstream) endSending() (interrupted bool) {
	if u.sending == nil {
		return false
	}
	grace := time.NewTimer(sendGrace)
	defer grace.Stop()
	select {
	case <-u.sending:
	case <-grace.C:
		u.cut()
		u.interrupt()
		<-u.sending
		interrupted = true
	}
	u.clean = u.clean && u.sendErr == nil
	u.sending = nil
	return interrupted
}

// cut closes the connection under whoever uses it.
func (u *upstream) cut() {
	u.mu.Lock()
	defer u.mu.Unlock()
	u.gone = true
	if u.conn != nil {
		u.conn.Close()
	}
}

// drop closes the connection and forgets it.
func (u *upstream) drop() {
	u.idle.disarm()
	u.cut()
	u.endSending()
	u.leave()
	u.mu.Lock()
	u.conn = nil
	u.mu.Unlock()
	u.out.drop()
	u.in.discard()
}
