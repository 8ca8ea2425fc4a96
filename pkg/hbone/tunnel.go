package hbone

import (
	"errors"
	"io"
	"net"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/net/http2"

	"github.com/outrigger-mesh/outrigger/pkg/identity"
)

// A Tunnel is one CONNECT stream: a net.Conn with half-close and reset.
//
// A write deadline ends a wait for the peer's window. It cannot end a write
// that is under way, since others share the connection; a connection whose
// peer stops reading altogether is cut after half a minute.
type Tunnel struct {
	c  *conn
	id uint32

	writing sync.Mutex  // one Write, CloseWrite or relay at a time
	gone    atomic.Bool // reset or broken: no frame may be sent any more

	sent     atomic.Bool // something was
	received atomic.Bool // likewise

	// What follows is guarded by c.mu.
	sendCond   sync.Cond
	credit     int64  // see sendFlow
	want       int    // bytes asked for by who waits
	grant      int    // bytes given to who waits
	granted    uint32 // how often some were; it may wrap
	next       *Tunnel
	inLine     bool
	counted    bool // in the budget of the peer that opened it; never changes
	sendEnded  bool // END_STREAM sent
	recvEnded  bool // END_STREAM received
	sendErr    error
	wdeadline  deadline
	answered   chan struct{} // dialled: closed when the answer or the end is there
	status     int           // dialled: the answer
	response   *Header       // dialled: what the 200 carried
	refused    bool          // a request that is no CONNECT: what follows is checked and dropped
	remaining  int64         // refused: content-length not yet seen, or -1
	refusedOld bool          // refused: for longer than a tick
	still      stillness
	onEnd      func(error) // called once, without locks, when the stream is reset or broken

	recv // guarded by mu
}

// Peer is who is at the other end of the tunnel.
func (t *Tunnel) Peer() identity.Peer { return t.c.peer }

// ResponseHeader is what the 200 carried, on a dialled tunnel.
func (t *Tunnel) ResponseHeader() Header {
	t.c.mu.Lock()
	defer t.c.mu.Unlock()
	if t.response == nil {
		return Header{}
	}
	return *t.response
}

// LocalAddr is that of the connection that carries the tunnel.
func (t *Tunnel) LocalAddr() net.Addr { return t.c.nc.LocalAddr() }

// RemoteAddr is that of the connection that carries the tunnel.
func (t *Tunnel) RemoteAddr() net.Addr { return t.c.nc.RemoteAddr() }

// Write sends p. It waits while the peer's window is closed.
func (t *Tunnel) Write(p []byte) (int, error) {
	t.writing.Lock()
	defer t.writing.Unlock()
	if err := t.writable(); err != nil {
		return 0, err
	}
	sent := 0
	for sent < len(p) {
		n, _, err := t.c.reserve(t, min(len(p)-sent, payloadFor(4*record)))
		if err != nil {
			return sent, err
		}
		buf := t.c.bufs.get(frameHeader + n)
		copy(buf.b[frameHeader:], p[sent:sent+n])
		err = t.c.w.data(t, buf.b, n)
		t.c.bufs.put(buf)
		if err != nil {
			return sent, t.sendFailed(err)
		}
		sent += n
	}
	return sent, nil
}

func (t *Tunnel) writable() error {
	t.c.mu.Lock()
	defer t.c.mu.Unlock()
	switch {
	case t.sendErr != nil:
		return t.sendErr
	case t.sendEnded:
		return net.ErrClosed
	}
	return t.writeTimeout()
}

// sendError is why nothing can be sent any more.
func (t *Tunnel) sendError() error {
	t.c.mu.Lock()
	defer t.c.mu.Unlock()
	if t.sendErr == nil {
		return net.ErrClosed
	}
	return t.sendErr
}

// sendFailed explains an error of the writer.
func (t *Tunnel) sendFailed(err error) error {
	var broken *brokenError
	var reset *ResetError
	if errors.As(err, &broken) || errors.As(err, &reset) || errors.Is(err, net.ErrClosed) {
		return err
	}
	t.c.fail(err)
	return &brokenError{cause: err}
}

// CloseWrite ends our direction (END_STREAM); the other goes on.
func (t *Tunnel) CloseWrite() error {
	t.writing.Lock()
	defer t.writing.Unlock()
	return t.closeWrite()
}

// closeWrite is CloseWrite for who holds t.writing.
func (t *Tunnel) closeWrite() error {
	c := t.c
	c.mu.Lock()
	ended, err := t.sendEnded, t.sendErr
	c.mu.Unlock()
	if ended || err != nil {
		return err
	}
	c.w.mu.Lock()
	defer c.w.mu.Unlock()
	switch {
	case c.w.err != nil:
		return c.w.err
	case t.gone.Load():
		return t.sendError()
	}
	c.w.append(http2.FrameData, http2.FlagDataEndStream, t.id, nil)
	c.endSend(t)
	return c.w.flushLocked()
}

// Reset ends both directions at once (RST_STREAM): the peer's app sees a reset.
func (t *Tunnel) Reset() error {
	t.reset(codeBroken)
	t.finish(&ResetError{Code: codeBroken})
	return nil
}

// reset sends RST_STREAM unless the stream has ended both ways.
func (t *Tunnel) reset(code http2.ErrCode) {
	t.c.reset(t, code, &ResetError{Code: code})
}

// Close ends both directions as closing a TCP connection does: what was
// written still arrives; if something was received and not read, or a Write is
// under way, it is a reset.
func (t *Tunnel) Close() error {
	t.mu.Lock()
	unread := len(t.queue) > 0
	t.mu.Unlock()
	if !unread && t.writing.TryLock() {
		err := t.closeWrite()
		t.writing.Unlock()
		unread = err != nil
	} else {
		unread = true
	}
	code := http2.ErrCodeNo
	if unread {
		code = codeBroken
	}
	t.c.reset(t, code, net.ErrClosed)
	t.closeRead()
	return nil
}

// SetDeadline sets both deadlines.
func (t *Tunnel) SetDeadline(at time.Time) error {
	_ = t.SetReadDeadline(at) // never fails
	return t.SetWriteDeadline(at)
}

// SetReadDeadline sets the deadline of Read; the zero time means none.
func (t *Tunnel) SetReadDeadline(at time.Time) error {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.rdeadline.set(at, &t.mu, &t.recvCond)
	return nil
}

// SetWriteDeadline sets the deadline of Write; the zero time means none.
func (t *Tunnel) SetWriteDeadline(at time.Time) error {
	t.c.mu.Lock()
	defer t.c.mu.Unlock()
	t.wdeadline.set(at, &t.c.mu, &t.sendCond)
	return nil
}

func (t *Tunnel) writeTimeout() error {
	if t.wdeadline.passed() {
		return os.ErrDeadlineExceeded
	}
	return nil
}

// A deadline wakes who waits on a condition. It is guarded by the condition's lock.
type deadline struct {
	at    time.Time
	timer *time.Timer
}

func (d *deadline) passed() bool { return !d.at.IsZero() && !time.Now().Before(d.at) }

func (d *deadline) set(at time.Time, mu *sync.Mutex, c *sync.Cond) {
	if d.timer != nil {
		d.timer.Stop()
		d.timer = nil
	}
	d.at = at
	if at.IsZero() {
		return
	}
	if wait := time.Until(at); wait > 0 {
		d.timer = time.AfterFunc(wait, func() {
			mu.Lock()
			c.Broadcast()
			mu.Unlock()
		})
		return
	}
	c.Broadcast()
}

var _ io.WriterTo = (*Tunnel)(nil)
