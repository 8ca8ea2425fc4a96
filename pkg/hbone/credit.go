package hbone

import (
	"encoding/binary"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/net/http2"
)

// smallHolding is what a connection's receive queues may hold when memory is
// scarce without being told to wait, in bytes.
const smallHolding = 64 << 10

// A recvFlow is what the peer may send on a connection. Credit does not wait
// until a tunnel has been read: what a tunnel may hold is bounded by its own
// window, and a stalled one must not stop the others. Only when memory is
// scarce do the connections that hold much of it wait until they hold less.
type recvFlow struct {
	held  atomic.Int64 // in receive queues
	owing atomic.Bool  // credit is being withheld

	mu     sync.Mutex // guards what follows
	window int64      // what the peer may still send
	owed   int64      // received and not yet credited
}

// take accounts for n received bytes.
func (f *recvFlow) take(n uint32) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if int64(n) > f.window {
		return &connError{http2.ErrCodeFlowControl, "more than the connection's window"}
	}
	f.window -= int64(n)
	f.owed += int64(n)
	return nil
}

// repay gives credit when it is worth a frame. The lock of a Tunnel may be held.
func (c *conn) repay() {
	f := &c.recv
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.owed < connRecvWindow/4 {
		return
	}
	f.owing.Store(true) // before the look: a release after it will look again
	if c.bufs.scarce() && f.held.Load() > smallHolding {
		return
	}
	f.owing.Store(false)
	var inc [4]byte
	binary.BigEndian.PutUint32(inc[:], uint32(f.owed))
	f.window += f.owed
	f.owed = 0
	c.later(http2.FrameWindowUpdate, 0, 0, inc[:])
}

// A path estimates what the way from the peer can carry: the windows of
// streams grow to twice bandwidth times delay, and not with the queues
// that larger windows only make longer. It belongs to the read loop.
type path struct {
	settingsAt time.Time     // when our SETTINGS were sent
	delay      time.Duration // the least seen; 0 is unknown
	since      int           // bytes since the last probe
	probing    bool
	probeAt    time.Time
	bytes      int // received during the probe
}

// probePause is the least time between two probes.
const probePause = 10 * time.Millisecond

var (
	pingKeep  = [8]byte{'o', 'u', 't', 'r', 'k', 'e', 'e', 'p'}
	pingProbe = [8]byte{'o', 'u', 't', 'r', 'p', 'a', 't', 'h'}
	pingDrain = [8]byte{'o', 'u', 't', 'r', 'd', 'r', 'a', 'n'}
)

// received counts DATA and starts a probe when there is much of it.
func (p *path) received(c *conn, n int) {
	if p.probing {
		p.bytes += n
		return
	}
	p.since += n
	if p.since < int(c.target.Load())/2 || c.target.Load() >= maxRecvWindow || p.delay == 0 {
		return
	}
	p.since = 0
	now := time.Now()
	if now.Sub(p.probeAt) < probePause {
		return
	}
	p.probing, p.probeAt, p.bytes = true, now, 0
	c.later(http2.FramePing, 0, 0, pingProbe[:])
}

// acknowledged is the first measure of delay: nothing else was under way then.
func (p *path) acknowledged() {
	if p.delay == 0 {
		p.delay = max(time.Since(p.settingsAt), time.Microsecond)
	}
}

// pong takes the answer to one of our PINGs.
func (c *conn) pong(payload [8]byte) error {
	switch payload {
	case pingProbe:
		if c.path.probing {
			c.path.probed(c)
			return nil
		}
	case pingDrain:
		c.drained()
	}
	return c.budget.noise(2)
}

func (p *path) probed(c *conn) {
	p.probing = false
	took := max(time.Since(p.probeAt), time.Microsecond)
	p.delay = min(p.delay, took)
	want := 2 * int64(float64(p.bytes)*float64(p.delay)/float64(took))
	if want > c.target.Load() && !c.bufs.scarce() {
		c.target.Store(min(want, maxRecvWindow))
	}
}
