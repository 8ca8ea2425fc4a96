package main

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"time"

	"github.com/outrigger-mesh/outrigger/pkg/identity"
	"github.com/outrigger-mesh/outrigger/pkg/mesh"
	"github.com/outrigger-mesh/outrigger/pkg/meshtest/attack"
)

// Strikes are what came of an attack that was repeated for a while.
type strikes struct {
	connected, refused, cuts int
	longest                  time.Duration // of a connection until it was cut
}

// A striker attacks, over and over.
type striker struct {
	m       *scene
	mutual  *identity.Mutual
	from    netip.Addr
	strikes strikes
	began   time.Time
	keptOut time.Duration // how long it took until it was kept out; 0 is never
	held    []func()
}

// moves are the attacks that are no floods of frames.
var moves = map[string]func(*striker, context.Context){
	"connections that say nothing":      (*striker).silent,
	"connections closed at once":        (*striker).brief,
	"handshakes closed at once":         (*striker).handshakes,
	"tunnels whose windows stay closed": (*striker).stalls,
	"tunnels that say nothing":          (*striker).hoard,
}

func names() []string {
	all := []string{"connections that say nothing", "connections closed at once", "handshakes closed at once", "tunnels whose windows stay closed", "tunnels that say nothing"}
	for _, f := range attack.Floods() {
		all = append(all, f.Name)
	}
	return all
}

// strike is the attacker's process. It prints what came of it.
func strike(ctx context.Context, c config) error {
	m, err := readScene(c.state)
	if err != nil {
		return err
	}
	// Each has an address and an identity of his own: the one before him shall not have spent his budget.
	s := &striker{m: m, began: time.Now(), from: m.at(byte(100 + c.number%150))}
	if s.mutual, err = m.identity("agents", fmt.Sprintf("stranger-%d", c.number)); err != nil {
		return err
	}
	ctx, stop := context.WithTimeout(ctx, c.attack)
	defer stop()
	for ctx.Err() == nil {
		if move := moves[c.strike]; move != nil {
			move(s, ctx)
			continue
		}
		for _, f := range attack.Floods() {
			if f.Name == c.strike {
				s.flood(ctx, f)
			}
		}
	}
	if c.strike == "handshakes closed at once" && s.keptOut > 0 { // that is how these are cut
		s.strikes.cuts, s.strikes.longest = 1, s.keptOut
	}
	for _, release := range s.held {
		release()
	}
	_, err = fmt.Println(s.strikes.connected, s.strikes.refused, s.strikes.cuts, int64(s.strikes.longest))
	return err
}

func (s *striker) dial(ctx context.Context) (net.Conn, error) {
	d := net.Dialer{LocalAddr: net.TCPAddrFromAddrPort(netip.AddrPortFrom(s.from, 0)), Timeout: time.Second}
	return d.DialContext(ctx, "tcp", s.m.Tunnel)
}

// connect shakes hands; who is kept out waits a moment, or the attacker's own
// connects would be all there is to measure.
func (s *striker) connect(ctx context.Context) net.Conn {
	raw, err := s.dial(ctx)
	if err == nil {
		var c net.Conn
		if c, err = s.mutual.Client(ctx, raw, []mesh.Principal{s.m.server()}); err == nil {
			s.strikes.connected++
			return c
		}
	}
	if ctx.Err() == nil {
		if s.strikes.refused++; s.strikes.refused == 1 {
			s.keptOut = time.Since(s.began)
		}
		time.Sleep(time.Millisecond)
	}
	return nil
}

func (s *striker) flood(ctx context.Context, f attack.Flood) {
	c := s.connect(ctx)
	if c == nil {
		return
	}
	began := time.Now()
	stop := context.AfterFunc(ctx, func() { c.Close() })
	defer stop()
	a := attack.New(c, s.m.Apps[f.App], !f.Quiet)
	defer a.Close()
	_, _ = a.Run(&f) // it ends when it is cut
	if f.Quiet || ctx.Err() != nil {
		s.cut(ctx, began)
		return
	}
	if _, over := a.Ended(2 * time.Second); over {
		s.cut(ctx, began)
	}
}

// cut counts a connection that the sidecar has ended, not we.
func (s *striker) cut(ctx context.Context, began time.Time) {
	if ctx.Err() != nil {
		return
	}
	s.strikes.cuts++
	s.strikes.longest = max(s.strikes.longest, time.Since(began))
}

func (s *striker) silent(ctx context.Context) {
	c, err := s.dial(ctx)
	if err != nil {
		s.strikes.refused++
		time.Sleep(time.Millisecond)
		return
	}
	s.strikes.connected++
	s.held = append(s.held, func() { c.Close() })
	if len(s.held) > 2000 {
		<-ctx.Done()
	}
	time.Sleep(time.Millisecond)
}

func (s *striker) brief(ctx context.Context) {
	c, err := s.dial(ctx)
	if err != nil {
		s.strikes.refused++
		return
	}
	s.strikes.connected++
	c.Close()
	time.Sleep(time.Millisecond)
}

func (s *striker) handshakes(ctx context.Context) {
	if c := s.connect(ctx); c != nil {
		c.Close()
	}
}

func (s *striker) stalls(ctx context.Context) { s.hold(ctx, s.m.Apps[attack.Firehose]) }
func (s *striker) hoard(ctx context.Context)  { s.hold(ctx, s.m.Apps[attack.Silent]) }

// hold opens as many tunnels as it can and keeps them.
func (s *striker) hold(ctx context.Context, authority string) {
	if len(s.held) >= 5 { // a thousand: more is for a larger limit of open files
		<-ctx.Done()
		return
	}
	c := s.connect(ctx)
	if c == nil {
		return
	}
	a := attack.New(c, authority, true)
	s.held = append(s.held, a.Close)
	_ = a.Stall(190) // who is cut is cut
}
