package hbone

import (
	"math"
	"time"
)

const (
	// loadTime is over how long a connection's load is averaged.
	loadTime = 200 * time.Millisecond
	// busyLoad is the load, in bytes per second, that other tunnels would feel.
	busyLoad = 4 << 20
	// headStart is how long a tunnel waits for a new connection to its peer
	// when it could have an old one with others on it, and busyHeadStart when
	// that one is busy: its messages would wait there again and again.
	headStart     = 5 * time.Millisecond
	busyHeadStart = 100 * time.Millisecond
)

// A pooled connection and its load.
type pooled struct {
	*conn
	moved int64     // at
	at    time.Time // when the load was last taken
	load  float64   // bytes per second, averaged
}

// best is the connection with room that carries least.
func (p *peerConns) best(maxStreams int, avoid *conn) *pooled {
	now := time.Now()
	var best *pooled
	var bestStreams int
	for _, c := range p.conns {
		c.mu.Lock()
		streams := len(c.streams)
		room := c.roomLocked() && streams < maxStreams
		c.mu.Unlock()
		if !room || c.conn == avoid {
			continue
		}
		c.measure(now)
		if best == nil || c.lighter(best, streams, bestStreams) {
			best, bestStreams = c, streams
		}
	}
	return best
}

// lighter: less load where it matters, else fewer tunnels.
func (c *pooled) lighter(than *pooled, streams, others int) bool {
	if c.load > busyLoad || than.load > busyLoad {
		return c.load < than.load
	}
	return streams < others
}

// headStart is how long a tunnel waits for something better than c.
func (c *pooled) headStart() time.Duration {
	if c.load > busyLoad {
		return busyHeadStart
	}
	return headStart
}

func (c *pooled) measure(now time.Time) {
	dt := now.Sub(c.at)
	if dt < 5*time.Millisecond {
		return
	}
	moved := c.conn.moved.Load()
	keep := math.Exp(-float64(dt) / float64(loadTime))
	c.load = c.load*keep + float64(moved-c.moved)/dt.Seconds()*(1-keep)
	c.moved, c.at = moved, now
}

// crowded tells whether one more connection is worth its cost: the best one
// is busy, or there are many tunnels to share few connections.
func (p *peerConns) crowded(best *pooled, maxConns int) bool {
	if len(p.conns) >= maxConns || time.Since(p.failed) < growPause {
		return false
	}
	if best.load > busyLoad {
		return true
	}
	streams := 0
	for _, c := range p.conns {
		c.mu.Lock()
		streams += len(c.streams)
		c.mu.Unlock()
	}
	return streams+1 >= 1<<len(p.conns)
}
