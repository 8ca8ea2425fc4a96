package hbone

import (
	"errors"
	"time"

	"golang.org/x/net/http2"
)

var (
	errSilent  = errors.New("peer has been silent for too long")
	errStuck   = errors.New("peer has not read for too long")
	errExpired = errors.New("peer's certificate has expired")
)

// stuckTicks is for how many ticks one write may last.
const stuckTicks = 3

// A keeper looks after a connection once per tick, the time of silence before
// a PING. It is guarded by the conn's lock.
type keeper struct {
	timer  *time.Timer
	drain  *time.Timer
	reads  uint64 // at the last tick
	writes uint64
	silent time.Duration
	stuck  int
}

func (c *conn) startKeeper() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.keeper.timer = time.AfterFunc(c.t.ping, c.tick)
}

func (c *conn) stopKeeper() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.keeper.timer.Stop()
	if c.keeper.drain != nil {
		c.keeper.drain.Stop()
	}
}

// tick runs in the timer's goroutine and never waits.
func (c *conn) tick() {
	if err := c.look(); err != nil {
		c.fail(err)
		return
	}
	if at := c.peer.NotAfter; c.verify != nil && !at.IsZero() && time.Now().After(at) {
		if err := c.verify(); err != nil {
			c.abort(errExpired)
			return
		}
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if !c.ended {
		c.keeper.timer.Reset(c.t.ping)
	}
}

// look finds out what is due.
func (c *conn) look() error {
	c.mu.Lock()
	k := &c.keeper
	reads, writes := c.reads.Load(), c.w.wrote.Load()
	quiet := reads == k.reads
	if quiet {
		k.silent += c.t.ping
	} else {
		k.silent = 0
	}
	if writes%2 == 1 && writes == k.writes {
		k.stuck++
	} else {
		k.stuck = 0
	}
	idle := len(c.streams) == 0 && time.Since(c.idleSince) >= c.t.idle && !c.away
	stillWrites := writes == k.writes
	k.reads, k.writes = reads, writes
	silent, stuck := k.silent, k.stuck
	late := c.lateRefusals()
	c.mu.Unlock()

	for _, t := range late {
		c.reset(t, http2.ErrCodeNo, errStopped)
	}
	c.endStill()
	switch {
	case silent >= c.t.pingWait:
		return errSilent
	case stuck >= stuckTicks:
		return errStuck
	case idle:
		c.drain()
	case quiet:
		c.later(http2.FramePing, 0, 0, pingKeep[:])
		if stillWrites {
			c.w.trim()
		}
		c.in.trim()
	}
	return nil
}

// lateRefusals are the refused requests whose rest does not come.
func (c *conn) lateRefusals() []*Tunnel {
	var late []*Tunnel
	for _, t := range c.streams {
		if t.refused && t.refusedOld {
			late = append(late, t)
		}
		t.refusedOld = true
	}
	return late
}

// drainSoon is the second step of a drain, for peers that do not answer PING.
func (c *conn) drainSoon() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if !c.ended {
		c.keeper.drain = time.AfterFunc(time.Second, c.drained)
	}
}
