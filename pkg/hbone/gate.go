package hbone

import (
	"fmt"
	"net/netip"
	"sync"
	"time"
)

// maxOrigins is how many addresses a gate tells apart; more share one budget.
const maxOrigins = 1 << 16

// tellPause is the least time between two reports of refusals to one address.
const tellPause = time.Second

// A gate bounds what an address may cost before it has proved an identity: a
// handshake costs more than all that may follow, and who does not finish his
// shall not keep others out.
type gate struct {
	limits Limits

	mu      sync.Mutex // guards what follows
	origins map[netip.Prefix]*origin
	others  *origin
	swept   time.Time
}

// An origin is one address, or the half of an IPv6 address that a network gives out.
type origin struct {
	conns      bucket
	handshakes int // in progress
	refused    int // since it was last told
	told       time.Time
}

func newGate(l Limits) *gate {
	g := &gate{limits: l, origins: make(map[netip.Prefix]*origin)}
	g.others = g.newOrigin()
	return g
}

func (g *gate) newOrigin() *origin {
	return &origin{conns: newBucket(g.limits.ConnsPerSecond, 2*g.limits.ConnsPerSecond)}
}

// A tooManyError is a connection that an address may not make now.
type tooManyError struct {
	from   netip.Addr
	reason string
	tell   bool // not told of lately
	more   int  // refused since, and not told of
}

func (e *tooManyError) Error() string {
	return fmt.Sprintf("%s: %v (and %d more since this was last told)", e.reason, e.from, e.more)
}

// enter counts a handshake that begins; leave is its end.
func (g *gate) enter(from netip.Addr) (leave func(), err error) {
	if !from.IsValid() {
		return func() {}, nil
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	s := g.origin(from)
	switch {
	case s.handshakes >= g.limits.HandshakesPerAddress:
		return nil, s.refuse(from, "too many handshakes at once from one address")
	case !s.conns.spend(1):
		return nil, s.refuse(from, "too many connections a second from one address")
	}
	s.handshakes++
	return func() {
		g.mu.Lock()
		s.handshakes--
		g.mu.Unlock()
	}, nil
}

// refuse tells of a refusal, but not of each: a flood of connections shall not
// become one of records.
func (s *origin) refuse(from netip.Addr, reason string) error {
	e := &tooManyError{from: from, reason: reason, more: s.refused}
	if now := time.Now(); now.Sub(s.told) >= tellPause {
		s.told, s.refused, e.tell = now, 0, true
		return e
	}
	s.refused++
	return e
}

// punish makes an address pay for a connection that was cut for abuse.
func (g *gate) punish(from netip.Addr) {
	if !from.IsValid() {
		return
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	g.origin(from).conns.charge(costOfCut)
}

// origin finds the origin of an address. The lock is held.
func (g *gate) origin(from netip.Addr) *origin {
	bits := 32
	if from.Is6() {
		bits = 64
	}
	key, err := from.Prefix(bits)
	if err != nil {
		return g.others
	}
	if s := g.origins[key]; s != nil {
		return s
	}
	g.sweep()
	if len(g.origins) >= maxOrigins {
		return g.others
	}
	s := g.newOrigin()
	g.origins[key] = s
	return s
}

// sweep forgets the origins that have nothing to answer for.
func (g *gate) sweep() {
	now := time.Now()
	if now.Sub(g.swept) < 10*time.Second {
		return
	}
	g.swept = now
	for key, s := range g.origins {
		if s.conns.fill(now); s.handshakes == 0 && s.conns.tokens == s.conns.size {
			delete(g.origins, key)
		}
	}
}
