package main

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"strings"
	"time"

	"github.com/outrigger-mesh/outrigger/pkg/identity"
	"github.com/outrigger-mesh/outrigger/pkg/mesh"
	"github.com/outrigger-mesh/outrigger/pkg/meshtest/attack"
)

// Strikes are what came of an attack that was repeated for a while.
type strikes struct {
	connected, refused, cuts int
	longest                  time.Duration // of a connection until it was cut
	wrote                    int64         // bytes of frames, on all connections
}

// A striker attacks, over and over.
type striker struct {
	m       *scene
	name    string // of its identity
	move    int    // how many identities or addresses it has had
	mutual  *identity.Mutual
	from    netip.Addr
	strikes strikes
	began   time.Time
	keptOut time.Duration // how long it took until it was kept out; 0 is never
	held    []func()
}

// A move is an attack that is no flood of frames on connections of one identity.
type move struct {
	name string
	make func(*striker, context.Context)
}

func moves() []move {
	return []move{
		{"connections that say nothing", (*striker).silent},
		{"connections closed at once", (*striker).brief},
		{"handshakes closed at once", (*striker).handshakes},
		{"handshakes byte by byte", (*striker).drip},
		{"handshakes of many addresses", (*striker).crowd},
		{"rapid reset by many identities", (*striker).masks},
		{"rapid reset by a crowd", (*striker).mob},
		{"connections to the plaintext port", (*striker).plain},
		{"connections to the app's port", (*striker).outbound},
		{"tunnels whose windows stay closed", (*striker).stalls},
		{"tunnels that say nothing", (*striker).hoard},
	}
}

func names() []string {
	var all []string
	for _, m := range moves() {
		all = append(all, m.name)
	}
	for _, f := range attack.Floods() {
		all = append(all, f.Name)
	}
	return all
}

// attack finds what a name stands for.
func (s *striker) attack(name string) func(context.Context) {
	for _, m := range moves() {
		if m.name == name {
			return func(ctx context.Context) { m.make(s, ctx) }
		}
	}
	for _, f := range attack.Floods() {
		if f.Name == name {
			return func(ctx context.Context) { s.flood(ctx, f) }
		}
	}
	return nil
}

// strike is the attacker's process. It prints what came of it.
func strike(ctx context.Context, c config) error {
	m, err := readScene(c.state)
	if err != nil {
		return err
	}
	// Each has an address and an identity of his own: the one before him shall not have spent his budget.
	s := &striker{m: m, began: time.Now(), from: m.at(byte(100 + c.number%150))}
	s.name = fmt.Sprintf("stranger-%d", c.number)
	if s.mutual, err = m.identity("agents", s.name); err != nil {
		return err
	}
	ctx, stop := context.WithTimeout(ctx, c.attack)
	defer stop()
	if c.taken > 0 {
		end, err := s.sink(ctx, c)
		if err != nil {
			return err
		}
		defer end()
	}
	one := s.attack(c.strike)
	if one == nil {
		return fmt.Errorf("no attack is called %q", c.strike)
	}
	for ctx.Err() == nil {
		one(ctx)
	}
	if strings.HasPrefix(c.strike, "handshakes") && s.keptOut > 0 { // that is how these are cut
		s.strikes.cuts, s.strikes.longest = 1, s.keptOut
	}
	for _, release := range s.held {
		release()
	}
	_, err = fmt.Println(s.strikes.connected, s.strikes.refused, s.strikes.cuts, int64(s.strikes.longest), s.strikes.wrote)
	return err
}

func (s *striker) dial(ctx context.Context) (net.Conn, error) { return s.dialTo(ctx, s.m.Tunnel) }

func (s *striker) dialTo(ctx context.Context, to string) (net.Conn, error) {
	d := net.Dialer{LocalAddr: net.TCPAddrFromAddrPort(netip.AddrPortFrom(s.from, 0)), Timeout: time.Second}
	return d.DialContext(ctx, "tcp", to)
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
	s.refuse(ctx)
	return nil
}

// refuse counts a connection that was not made.
func (s *striker) refuse(ctx context.Context) {
	if ctx.Err() != nil {
		return
	}
	if s.strikes.refused++; s.strikes.refused == 1 {
		s.keptOut = time.Since(s.began)
	}
	time.Sleep(time.Millisecond)
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
	s.strikes.wrote += a.Wrote()
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
		s.refuse(ctx)
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
		s.refuse(ctx)
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

// drip shakes hands, a byte at a time, on as many connections as it may.
func (s *striker) drip(ctx context.Context) {
	c, err := s.dial(ctx)
	if err != nil {
		s.refuse(ctx)
		return
	}
	s.strikes.connected++
	go func() {
		defer c.Close()
		defer context.AfterFunc(ctx, func() { c.Close() })()
		_, _ = s.mutual.Client(ctx, slowly{c}, []mesh.Principal{s.m.server()}) // it is never done
	}()
	if s.strikes.connected > 2000 {
		<-ctx.Done()
	}
	time.Sleep(time.Millisecond)
}

// slowly is a connection that says a byte every hundredth of a second.
type slowly struct{ net.Conn }

func (c slowly) Write(p []byte) (int, error) {
	for n := range p {
		if _, err := c.Conn.Write(p[n : n+1]); err != nil {
			return n, err
		}
		time.Sleep(10 * time.Millisecond)
	}
	return len(p), nil
}

// elsewhere makes every connection one of another address.
func (s *striker) elsewhere() {
	s.move++
	s.from = netip.AddrFrom4([4]byte{127, 25, byte(s.move >> 8), byte(s.move)})
}

// crowd is handshakes of as many addresses.
func (s *striker) crowd(ctx context.Context) {
	s.elsewhere()
	s.handshakes(ctx)
}

// masks are identities of which none has spent anything yet.
func (s *striker) masks(ctx context.Context) {
	s.move++
	m, err := s.m.identity("agents", fmt.Sprintf("%s-%d", s.name, s.move))
	if err != nil {
		return
	}
	s.mutual = m
	s.flood(ctx, attack.Floods()[0])
}

// mob is as many identities at as many addresses.
func (s *striker) mob(ctx context.Context) {
	s.elsewhere()
	s.masks(ctx)
}

func (s *striker) plain(ctx context.Context)    { s.await(ctx, s.m.Plain) }
func (s *striker) outbound(ctx context.Context) { s.await(ctx, s.m.Out) }

// await connects, says nothing, and waits until that is ended.
func (s *striker) await(ctx context.Context, to string) {
	c, err := s.dialTo(ctx, to)
	if err != nil {
		s.refuse(ctx)
		return
	}
	defer c.Close()
	s.strikes.connected++
	defer context.AfterFunc(ctx, func() { c.Close() })()
	_, _ = c.Read(make([]byte, 1)) // nothing comes
	time.Sleep(time.Millisecond)
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
	s.strikes.wrote += a.Wrote()
}
