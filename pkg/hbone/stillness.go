package hbone

import (
	"fmt"
	"syscall"
	"time"
)

var (
	// errHalfClosed is a tunnel of which one end has gone and the other says nothing.
	errHalfClosed = fmt.Errorf("tunnel was half closed, and nothing came through it for too long: %w", syscall.ECONNRESET)
	// errStalled is a tunnel whose peer takes nothing.
	errStalled = fmt.Errorf("peer gave the tunnel no window for too long: %w", syscall.ECONNRESET)
)

// A stillness is how long nothing has come through a tunnel that should either
// get on or end. It belongs to the keeper.
type stillness struct {
	granted  uint32 // Tunnel.granted when it was last looked at
	arrived  uint32 // likewise
	half     bool   // one direction has ended
	stalled  bool   // it waits for the peer's window
	halfFor  time.Duration
	stallFor time.Duration
}

// overdue are the tunnels that have been still for too long, and why. A tunnel that
// is open both ways may be silent for ever: its connection answers PING.
func (c *conn) overdue() map[*Tunnel]error {
	var late map[*Tunnel]error
	for _, t := range c.doubtful() {
		t.mu.Lock()
		arrived := t.arrived
		t.mu.Unlock()
		if err := t.still.after(c.t.ping, arrived, c.budget.limits); err != nil {
			if late == nil {
				late = make(map[*Tunnel]error)
			}
			late[t] = err
		}
	}
	return late
}

// doubtful are the tunnels that wait for a window, or of which one direction has ended.
func (c *conn) doubtful() []*Tunnel {
	c.mu.Lock()
	defer c.mu.Unlock()
	var some []*Tunnel
	for _, t := range c.streams {
		half, stalled := t.sendEnded != t.recvEnded && !t.refused, t.want > 0
		s := &t.still
		if !half || !s.half || s.granted != t.granted {
			s.halfFor = 0
		}
		if !stalled || !s.stalled || s.granted != t.granted {
			s.stallFor = 0
		}
		s.half, s.stalled, s.granted = half, stalled, t.granted
		if half || stalled {
			some = append(some, t)
		}
	}
	return some
}

// after counts one tick more.
func (s *stillness) after(tick time.Duration, arrived uint32, l Limits) error {
	if s.arrived != arrived {
		s.arrived, s.halfFor = arrived, 0
	}
	if s.half {
		s.halfFor += tick
	}
	if s.stalled {
		s.stallFor += tick
	}
	switch {
	case s.stallFor > l.StallTimeout:
		return errStalled
	case s.halfFor > l.HalfCloseTimeout:
		return errHalfClosed
	}
	return nil
}

// endStill resets the tunnels that are overdue.
func (c *conn) endStill() {
	for t, err := range c.overdue() {
		c.reset(t, codeBroken, err)
		t.finish(err)
	}
}
