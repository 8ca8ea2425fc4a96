// Package gate bounds what an address may cost before it has proved an identity.
// It does not know what a connection is for.
package gate

import (
	"fmt"
	"net/netip"
	"sync"
	"time"
)

// maxOrigins is how many addresses a Gate tells apart; more share one budget.
const maxOrigins = 1 << 16

// tellPause is the least time between two reports of refusals to one address.
const tellPause = time.Second

// Config says what one address may do: an IPv4 address, or the half of an IPv6
// address that a network gives out.
type Config struct {
	PerSecond int // connections for long; twice that may come at once. 0 means any number
	AtOnce    int // connections that have entered and not left; required
	Total     int // the same of all addresses together; 0 means any number

	// Strangers is how many connections a second all addresses together may make
	// that were not welcomed in the last ten minutes; twice that may come at
	// once, and who is welcomed gives back what it took. 0 means any number.
	Strangers int
}

// welcomeFor is how long an address is no stranger.
const welcomeFor = 10 * time.Minute

// A Gate counts the connections of each address.
type Gate struct {
	config Config

	mu      sync.Mutex // guards what follows
	origins map[netip.Prefix]*origin
	others  *origin
	inside  int
	swept   time.Time

	strangers Bucket
}

// An origin is one address as Config has it.
type origin struct {
	conns   Bucket
	inside  int
	refused int // since it was last told
	told    time.Time

	welcomed time.Time
	taken    int // from strangers, and not given back
}

// New returns a gate that nobody has come to yet.
func New(c Config) *Gate {
	g := &Gate{config: c, origins: make(map[netip.Prefix]*origin), strangers: NewBucket(c.Strangers, 2*c.Strangers)}
	g.others = g.newOrigin()
	return g
}

func (g *Gate) newOrigin() *origin {
	return &origin{conns: NewBucket(g.config.PerSecond, 2*g.config.PerSecond)}
}

// A Bound is one of those in Config, and says what was too much.
type Bound string

// The bounds, named as in Config.
const (
	PerSecond Bound = "too many connections a second from one address"
	AtOnce    Bound = "too many connections at once from one address"
	Total     Bound = "too many connections at once"
	Strangers Bound = "too many connections a second from addresses that opened no tunnel in ten minutes"
)

// A TooManyError is a connection that an address may not make now.
type TooManyError struct {
	From  netip.Addr
	Bound Bound
	Tell  bool // nobody was told lately of another of this address
	More  int  // refused since, and not told of
}

func (e *TooManyError) Error() string {
	return fmt.Sprintf("%s: %v (and %d more since this was last told)", e.Bound, e.From, e.More)
}

// Enter counts a connection that begins; leave is its end. An error is a *TooManyError.
func (g *Gate) Enter(from netip.Addr) (leave func(), err error) {
	if !from.IsValid() {
		return func() {}, nil
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	s := g.origin(from)
	switch {
	case g.config.Total > 0 && g.inside >= g.config.Total:
		return nil, s.refuse(from, Total)
	case s.inside >= g.config.AtOnce:
		return nil, s.refuse(from, AtOnce)
	case !g.knows(s):
		return nil, s.refuse(from, Strangers)
	case g.config.PerSecond > 0 && !s.conns.Spend(1):
		return nil, s.refuse(from, PerSecond)
	}
	s.inside++
	g.inside++
	return func() {
		g.mu.Lock()
		s.inside--
		g.inside--
		g.mu.Unlock()
	}, nil
}

// knows tells whether an address is no stranger, or may come all the same. The lock is held.
func (g *Gate) knows(s *origin) bool {
	if g.config.Strangers == 0 || time.Since(s.welcomed) < welcomeFor {
		return true
	}
	if !g.strangers.Spend(1) {
		return false
	}
	s.taken++
	return true
}

// Welcome says that an address has come for what the gate is there for.
func (g *Gate) Welcome(from netip.Addr) {
	if !from.IsValid() {
		return
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	s := g.origin(from)
	if s == g.others {
		return // it stands for many
	}
	s.welcomed = time.Now()
	for ; s.taken > 0; s.taken-- {
		g.strangers.Refund()
	}
}

// refuse tells of a refusal, but not of each: a flood of connections shall not
// become one of records.
func (s *origin) refuse(from netip.Addr, bound Bound) error {
	e := &TooManyError{From: from, Bound: bound, More: s.refused}
	if now := time.Now(); now.Sub(s.told) >= tellPause {
		s.told, s.refused, e.Tell = now, 0, true
		return e
	}
	s.refused++
	return e
}

// Punish makes an address pay for what one of its connections did, as if it had made n.
func (g *Gate) Punish(from netip.Addr, n int) {
	if !from.IsValid() {
		return
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	g.origin(from).conns.Charge(n)
}

// origin finds the origin of an address. The lock is held.
func (g *Gate) origin(from netip.Addr) *origin {
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
func (g *Gate) sweep() {
	now := time.Now()
	if now.Sub(g.swept) < 10*time.Second {
		return
	}
	g.swept = now
	for key, s := range g.origins {
		if s.conns.fill(now); s.inside == 0 && s.conns.tokens == s.conns.size && now.Sub(s.welcomed) > welcomeFor {
			delete(g.origins, key)
		}
	}
}
