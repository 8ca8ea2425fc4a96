package hbone

import (
	"encoding/binary"
	"errors"
	"net"
	"time"

	"golang.org/x/net/http2"
)

var errNoStreams = errors.New("connection takes no more tunnels")

// newTunnel makes a tunnel that is not yet registered.
func (c *conn) newTunnel() *Tunnel {
	t := &Tunnel{c: c, remaining: -1}
	t.sendCond.L = &c.mu
	t.recvCond.L = &t.mu
	t.window, t.target = initialRecvWindow, initialRecvWindow
	return t
}

// open gives t the next number of a client. It is called with the writer's lock held.
func (c *conn) open(t *Tunnel) (uint32, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if !c.roomLocked() {
		return 0, errNoStreams
	}
	if t.sendErr != nil {
		return 0, t.sendErr
	}
	t.id = c.nextID
	c.nextID += 2
	c.streams[t.id] = t
	return t.id, nil
}

// roomLocked tells whether a client may open one more stream.
func (c *conn) roomLocked() bool {
	return !c.ended && !c.away && !c.peerAway && len(c.streams) < c.peerMax && c.nextID < 1<<31-1
}

// find returns an open stream. known tells that the stream is or was open.
func (c *conn) find(id uint32) (t *Tunnel, known bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	t = c.streams[id]
	if c.client {
		return t, t != nil || id%2 == 1 && id < c.nextID
	}
	return t, t != nil || id%2 == 1 && id <= c.lastPeerID
}

// forgotten tells whether we reset the stream lately, so that what still
// comes for it was sent in good faith. RFC 9113 §5.4.2.
func (c *conn) forgotten(id uint32) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, r := range c.recent {
		if r == id {
			return true
		}
	}
	return false
}

// remember notes that we reset a stream. The lock is held.
func (c *conn) remember(id uint32) {
	c.recent[c.recentAt%len(c.recent)] = id
	c.recentAt++
}

// reset sends RST_STREAM unless the stream has ended already. What was to be
// received is not touched: finish is the caller's. The lock of t may be held.
func (c *conn) reset(t *Tunnel, code http2.ErrCode, err error) {
	c.mu.Lock()
	if t.sendErr != nil || t.sendEnded && t.recvEnded {
		c.mu.Unlock()
		return
	}
	if c.streams[t.id] != t { // dialled, and its HEADERS never sent
		end := c.kill(t, err)
		c.mu.Unlock()
		if end != nil {
			end(err)
		}
		return
	}
	c.remember(t.id)
	end := c.kill(t, err)
	c.mu.Unlock()
	if end != nil {
		end(err)
	}
	c.resetFrame(t.id, code)
	c.ifDone()
}

// resetFrame sends RST_STREAM.
func (c *conn) resetFrame(id uint32, code http2.ErrCode) {
	var p [4]byte
	binary.BigEndian.PutUint32(p[:], uint32(code))
	c.later(http2.FrameRSTStream, 0, id, p[:])
}

// kill ends t both ways and removes it. The lock is held; what it returns is
// to be called without.
func (c *conn) kill(t *Tunnel, err error) func(error) {
	if t.sendErr != nil {
		return nil
	}
	t.sendErr = err
	t.gone.Store(true)
	c.send.leave(t)
	t.sendCond.Broadcast()
	c.answeredLocked(t)
	c.remove(t)
	end := t.onEnd
	t.onEnd = nil
	return end
}

// endSend notes that we have sent END_STREAM.
func (c *conn) endSend(t *Tunnel) {
	c.mu.Lock()
	t.sendEnded = true
	if t.recvEnded {
		c.remove(t)
	}
	c.mu.Unlock()
	c.ifDone()
}

// endRecv notes that the peer has sent END_STREAM.
func (c *conn) endRecv(t *Tunnel) {
	c.mu.Lock()
	t.recvEnded = true
	c.answeredLocked(t)
	if t.sendEnded {
		c.remove(t)
	}
	c.mu.Unlock()
	c.ifDone()
}

// stopSend: the peer wants no more, but what it sent stands.
func (c *conn) stopSend(t *Tunnel) {
	c.mu.Lock()
	if t.sendErr == nil {
		t.sendErr = errStopped
		t.gone.Store(true)
		c.send.leave(t)
		t.sendCond.Broadcast()
		c.remove(t)
	}
	c.mu.Unlock()
	c.ifDone()
}

func (c *conn) answeredLocked(t *Tunnel) {
	if t.answered != nil {
		close(t.answered)
		t.answered = nil
	}
}

// remove takes t off the connection.
func (c *conn) remove(t *Tunnel) {
	if c.streams[t.id] != t {
		return
	}
	delete(c.streams, t.id)
	c.budget.leave(t)
	if len(c.streams) == 0 {
		c.idleSince = time.Now()
	}
}

// ifDone ends a connection that was only waiting for its last stream, and
// tells the pool that there is room.
func (c *conn) ifDone() {
	c.mu.Lock()
	over := len(c.streams) == 0 && (c.final || c.peerAway || c.client && c.away) && !c.ended
	c.mu.Unlock()
	if over {
		c.over.Store(true)
		c.w.nudge()
		return
	}
	if c.client {
		c.changed()
	}
}

// used tells whether the peer of a server has opened a stream.
func (c *conn) used() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.lastPeerID > 0
}

// drain starts a graceful end: no new streams, those open go on.
func (c *conn) drain() {
	c.mu.Lock()
	if c.away || c.ended {
		c.mu.Unlock()
		return
	}
	c.away = true
	c.mu.Unlock()
	if c.client {
		c.ifDone()
		return
	}
	// RFC 9113 §6.8: announce first, and name the last stream when the
	// announcement has been seen, so that no CONNECT under way is refused.
	c.goAway(1<<31-1, http2.ErrCodeNo)
	c.later(http2.FramePing, 0, 0, pingDrain[:])
	c.drainSoon()
}

// drained is the second step of drain.
func (c *conn) drained() {
	c.mu.Lock()
	if !c.away || c.final || c.ended {
		c.mu.Unlock()
		return
	}
	c.final = true
	c.refusing = c.lastPeerID
	last := c.refusing
	c.mu.Unlock()
	c.goAway(last, http2.ErrCodeNo)
	c.ifDone()
}

func (c *conn) lastPeerIDLocked() uint32 {
	if c.final {
		return c.refusing
	}
	return c.lastPeerID
}

// isOver tells whether the connection has ended, and why.
func (c *conn) isOver() (bool, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.ended && c.err == nil {
		return true, net.ErrClosed
	}
	return c.ended, c.err
}
