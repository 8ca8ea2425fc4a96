package hbone

import (
	"golang.org/x/net/http2"
)

// maxWindow: RFC 9113 §6.9.1.
const maxWindow = 1<<31 - 1

// A sendFlow is how much the peer lets us send. It is guarded by the conn's lock.
//
// A stream's window is initial + Tunnel.credit, so that a changed
// SETTINGS_INITIAL_WINDOW_SIZE costs the same for one stream and for a
// thousand. Who waits for the stream's own window is in blocked, who waits
// for the connection's is in line, first come first served.
type sendFlow struct {
	window    int64 // of the connection
	shrunk    bool  // the peer has made windows smaller after the fact
	initial   int64 // the peer's SETTINGS_INITIAL_WINDOW_SIZE
	maxCredit int64 // no stream's credit is larger
	blocked   map[*Tunnel]struct{}
	first     *Tunnel // of the line
	last      *Tunnel
}

// reserve takes up to want bytes of the windows of t and waits until it gets
// some. left is what remains of the window of t, or of its share of the connection's.
func (c *conn) reserve(t *Tunnel, want int) (n int, left int64, err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	f := &c.send
	for {
		if n := t.grant; n > 0 {
			t.grant = 0
			if t.sendErr != nil {
				c.giveBack(n)
				return 0, 0, t.sendErr
			}
			share := f.window / int64(max(len(c.streams), 1))
			c.pinch()
			return n, min(f.initial+t.credit, share), nil
		}
		if t.sendErr != nil {
			return 0, 0, t.sendErr
		}
		if err := t.writeTimeout(); err != nil {
			f.leave(t)
			return 0, 0, err
		}
		if t.want == 0 {
			t.want = want
			f.queue(t)
			f.serve()
			continue
		}
		t.sendCond.Wait()
	}
}

// unused returns what was reserved for t and not sent.
func (c *conn) unused(t *Tunnel, n int) {
	if n == 0 {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	t.credit += int64(n)
	c.giveBack(n)
}

// pinch tells those who relay whether their next buffer may have to wait for the
// peer's windows: then they must not fill it first. The lock is held.
func (c *conn) pinch() {
	f := &c.send
	tight := f.shrunk || f.window < int64(len(c.streams))*4*record
	if c.tight.Load() != tight {
		c.tight.Store(tight)
	}
}

// giveBack returns a reservation to the connection's window.
func (c *conn) giveBack(n int) {
	c.send.window += int64(n)
	c.send.serve()
}

// queue puts t where it belongs while it waits.
func (f *sendFlow) queue(t *Tunnel) {
	if f.initial+t.credit <= 0 {
		if f.blocked == nil {
			f.blocked = make(map[*Tunnel]struct{})
		}
		f.blocked[t] = struct{}{}
		return
	}
	if f.last == nil {
		f.first = t
	} else {
		f.last.next = t
	}
	f.last, t.inLine = t, true
}

// leave takes t out of wherever it waits.
func (f *sendFlow) leave(t *Tunnel) {
	t.want = 0
	delete(f.blocked, t)
	if !t.inLine {
		return
	}
	t.inLine = false
	var before *Tunnel
	for at := f.first; at != t; at = at.next {
		before = at
	}
	if before == nil {
		f.first = t.next
	} else {
		before.next = t.next
	}
	if f.last == t {
		f.last = before
	}
	t.next = nil
}

// serve gives windows to those in line.
func (f *sendFlow) serve() {
	for f.window > 0 && f.first != nil {
		t := f.first
		f.first, t.next, t.inLine = t.next, nil, false
		if f.first == nil {
			f.last = nil
		}
		n := min(int64(t.want), f.window, f.initial+t.credit)
		if n <= 0 {
			f.queue(t) // the peer made its window smaller meanwhile
			continue
		}
		f.window -= n
		t.credit -= n
		t.grant, t.want = int(n), 0
		t.granted++
		t.sendCond.Signal()
	}
}

// moreWindow is a WINDOW_UPDATE; t is nil for the connection.
func (c *conn) moreWindow(id uint32, t *Tunnel, n uint32) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	f := &c.send
	if t == nil {
		if f.window+int64(n) > maxWindow {
			return &connError{http2.ErrCodeFlowControl, "connection window overflow"}
		}
		f.window += int64(n)
		f.serve()
		c.pinch()
		return nil
	}
	if f.initial+t.credit+int64(n) > maxWindow {
		return &streamError{id, http2.ErrCodeFlowControl, "stream window overflow"}
	}
	t.credit += int64(n)
	f.maxCredit = max(f.maxCredit, t.credit)
	if _, ok := f.blocked[t]; ok && f.initial+t.credit > 0 {
		delete(f.blocked, t)
		f.queue(t)
		f.serve()
	}
	return nil
}

// initialWindow is a changed SETTINGS_INITIAL_WINDOW_SIZE.
func (c *conn) initialWindow(n uint32) error {
	if n > maxWindow {
		return &connError{http2.ErrCodeFlowControl, "initial window too large"}
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	f := &c.send
	if int64(n)+f.maxCredit > maxWindow {
		// maxCredit may be stale: look.
		f.maxCredit = 0
		for _, t := range c.streams {
			f.maxCredit = max(f.maxCredit, t.credit)
		}
		if int64(n)+f.maxCredit > maxWindow {
			return &connError{http2.ErrCodeFlowControl, "initial window makes a stream's window overflow"}
		}
	}
	grown := int64(n) > f.initial
	f.shrunk = f.shrunk || int64(n) < f.initial && len(c.streams) > 0
	f.initial = int64(n)
	c.pinch()
	if grown {
		woken := 0
		for t := range f.blocked {
			if f.initial+t.credit > 0 {
				delete(f.blocked, t)
				f.queue(t)
				woken++
			}
		}
		f.serve()
		return c.budget.wake(woken)
	}
	return nil
}
