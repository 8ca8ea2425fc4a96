package hbone

import (
	"errors"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"time"

	"golang.org/x/net/http2"
)

// onRequest opens a stream of the peer's.
func (c *conn) onRequest(id uint32, r *request) error {
	if id%2 == 0 {
		return &connError{http2.ErrCodeProtocol, "even stream from a client"}
	}
	t, known := c.find(id)
	if known {
		return c.laterHeaders(id, t, r)
	}
	c.mu.Lock()
	c.lastPeerID = id
	late := c.final
	full := len(c.streams) >= c.max
	c.mu.Unlock()
	r.check()
	switch {
	case late, full || c.running.Load() >= int64(c.max):
		return &streamError{id, http2.ErrCodeRefusedStream, "too many streams"}
	case r.malformed != "":
		return &streamError{id, http2.ErrCodeProtocol, "malformed request: " + r.malformed}
	case errors.Is(r.bad, errTooLarge):
		if err := c.budget.noise(costOfLargeHeader); err != nil {
			return err
		}
		return c.refuse(id, r, http.StatusRequestHeaderFieldsTooLarge)
	case r.bad != nil:
		return c.refuse(id, r, http.StatusBadRequest)
	case !c.mayOpen():
		if err := c.budget.noise(5); err != nil {
			return err
		}
		return c.refuse(id, r, http.StatusServiceUnavailable)
	}
	t = c.newTunnel()
	t.id, t.counted = id, true
	c.mu.Lock()
	over := c.ended
	if !over {
		c.streams[id] = t
	}
	c.mu.Unlock()
	if over { // whatever cut the connection has cut its tunnels, and will not see this one
		c.budget.leave(t)
		return &streamError{id, http2.ErrCodeRefusedStream, "the connection has ended"}
	}
	if r.end {
		c.endRecv(t)
		t.finish(io.EOF)
	}
	c.accept(t, r)
	return nil
}

// mayOpen pays for a tunnel. Of those that an identity may not open, the record
// tells of one a second.
func (c *conn) mayOpen() bool {
	why := c.budget.open()
	if why != nil && c.tell != nil && c.budget.peer.tells() {
		c.handlers.Go(func() { c.tell(fmt.Errorf("tunnel of %s refused: %w", c.peer.Principal, why)) })
	}
	return why == nil
}

// laterHeaders is a second header block on a stream.
func (c *conn) laterHeaders(id uint32, t *Tunnel, r *request) error {
	switch {
	case t == nil && c.forgotten(id):
		return c.budget.stray()
	case t == nil:
		return &connError{http2.ErrCodeStreamClosed, "HEADERS on closed stream"}
	case t.recvEnded:
		return &streamError{id, http2.ErrCodeStreamClosed, "HEADERS after the end"}
	case !t.refused:
		// RFC 9113 §8.5: a tunnel carries DATA only.
		return &streamError{id, http2.ErrCodeProtocol, "HEADERS in a tunnel"}
	case !r.end || r.malformed != "" || r.seen != 0:
		return &streamError{id, http2.ErrCodeProtocol, "bad trailers"}
	}
	return c.endOfStream(t)
}

// notConnect is what a client that speaks plain HTTP/2 gets to read.
const notConnect = "this is HBONE: only CONNECT is served here\n"

// refuse answers a request that never reaches a handler. What remains of it
// is checked and dropped. A request that is no CONNECT gets an explanation.
func (c *conn) refuse(id uint32, r *request, status int) error {
	if err := c.budget.noise(2); err != nil {
		return err
	}
	explain := r.method != "CONNECT"
	if r.end && !explain {
		return c.w.refuse(id, status)
	}
	t := c.newTunnel()
	t.id, t.refused, t.remaining = id, true, r.length
	t.recvEnded, t.sendEnded, t.noCredit = r.end, !explain, true
	c.mu.Lock()
	c.streams[id] = t
	c.mu.Unlock()
	if !explain {
		return c.w.refuse(id, status)
	}
	c.running.Add(1)
	c.handlers.Go(func() {
		defer c.running.Add(-1)
		t.explain(status)
	})
	return nil
}

// explain answers in words.
func (t *Tunnel) explain(status int) {
	_ = t.SetWriteDeadline(time.Now().Add(t.c.t.header))
	if t.c.w.response(t, status, &Header{}, false) == nil {
		if _, err := t.Write([]byte(notConnect)); err == nil {
			_ = t.CloseWrite() // fails only if the stream is gone
			return
		}
	}
	t.reset(http2.ErrCodeCancel)
}

// countRefused accounts for the body of a refused request.
func (t *Tunnel) countRefused(n int) error {
	t.mu.Lock()
	defer t.mu.Unlock()
	if n > t.window {
		return &streamError{t.id, http2.ErrCodeFlowControl, "more than the window"}
	}
	t.window -= n
	if t.remaining < 0 {
		return nil
	}
	if t.remaining -= int64(n); t.remaining < 0 {
		return &streamError{t.id, http2.ErrCodeProtocol, "more than content-length"}
	}
	return nil
}

// onResponse is the answer to a CONNECT of ours.
func (c *conn) onResponse(id uint32, r *request) error {
	t, known := c.find(id)
	switch {
	case !known:
		return &connError{http2.ErrCodeProtocol, "HEADERS on idle stream"}
	case t == nil && c.forgotten(id):
		return c.budget.stray()
	case t == nil:
		return &connError{http2.ErrCodeStreamClosed, "HEADERS on closed stream"}
	case t.recvEnded:
		return &streamError{id, http2.ErrCodeStreamClosed, "HEADERS after the end"}
	}
	status, err := strconv.Atoi(r.status)
	switch {
	case t.status != 0:
		return &streamError{id, http2.ErrCodeProtocol, "HEADERS in a tunnel"}
	case r.malformed != "", errors.Is(r.bad, errTooLarge), r.seen != 32, err != nil, len(r.status) != 3, status < 100:
		return &streamError{id, http2.ErrCodeProtocol, "malformed response"}
	case status < 200: // RFC 9110 §15.2: more is to come
		if r.end {
			return &streamError{id, http2.ErrCodeProtocol, "end after informational response"}
		}
		return c.budget.noise(20)
	}
	c.mu.Lock()
	t.status = status
	t.response = &r.header
	c.answeredLocked(t)
	c.mu.Unlock()
	if r.end {
		return c.endOfStream(t)
	}
	return nil
}

// useful tells whether anything has come back on a stream. What the peer sent
// proves nothing: it costs it a byte, and us a connection to the app.
func (t *Tunnel) useful() bool {
	if t.sent.Load() {
		return true
	}
	t.c.mu.Lock()
	defer t.c.mu.Unlock()
	return t.sendEnded
}

// padded credits what was not payload.
func (t *Tunnel) padded(n int) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.window -= n // what goes below zero here comes back at once
	t.creditLocked(n)
}

// stopped ends our direction where a relay reads a socket for it.
func (t *Tunnel) stopped() {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.sink != nil {
		t.sink.stopped()
	}
}
