package hbone

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"sync"
	"time"

	"github.com/outrigger-mesh/outrigger/pkg/gate"
	"github.com/outrigger-mesh/outrigger/pkg/identity"
	"github.com/outrigger-mesh/outrigger/pkg/mesh"
)

// ServerConfig configures a Server.
type ServerConfig struct {
	Mutual *identity.Mutual // required

	MaxStreams       int           // tunnels a connection may have open; 0 means 200
	HandshakeTimeout time.Duration // for TLS; 0 means 5s
	IdleTimeout      time.Duration // how long a connection without tunnels lives; 0 means 5m
	Memory           int64         // bytes that receive queues should not exceed, all together; 0 means 256 MiB
	Limits           Limits        // what a peer may cost
	Logger           *slog.Logger  // for surprises; nil means slog.Default

	// Refused is told of every connection that was not admitted and why: its
	// handshake failed, or its peer has too many, or was cut for abuse. Of an
	// address that makes too many, once a second. It must not block. May be nil.
	Refused func(remote netip.AddrPort, err error)
}

// maxHandshakes is how many connections may be in their handshake at once.
const maxHandshakes = 4096

// A Server terminates HBONE.
type Server struct {
	mutual     mutual
	config     ServerConfig
	logger     *slog.Logger
	bufs       *buffers
	gate       *gate.Gate
	handshakes chan struct{}

	admitted *identity.Admitted

	mu     sync.Mutex // guards what follows
	conns  map[*conn]struct{}
	peers  map[mesh.Principal]*peerBudget
	forgot time.Time // when peers was last cleared
}

// NewServer returns a server.
func NewServer(c ServerConfig) (*Server, error) {
	if c.Mutual == nil {
		return nil, errors.New("hbone server: Mutual is missing")
	}
	return newServer(c, c.Mutual), nil
}

func newServer(c ServerConfig, m mutual) *Server {
	if c.MaxStreams <= 0 {
		c.MaxStreams = 200
	}
	if c.Memory <= 0 {
		c.Memory = 256 << 20
	}
	if c.Logger == nil {
		c.Logger = slog.Default()
	}
	c.HandshakeTimeout = orDuration(c.HandshakeTimeout, 5*time.Second)
	c.IdleTimeout = orDuration(c.IdleTimeout, 5*time.Minute)
	c.Limits = c.Limits.withDefaults()
	return &Server{
		mutual: m, config: c, logger: c.Logger,
		bufs:       newBuffers(c.Memory),
		gate:       gate.New(gate.Config{PerSecond: c.Limits.ConnsPerSecond, AtOnce: c.Limits.HandshakesPerAddress, Strangers: c.Limits.StrangersPerSecond}),
		handshakes: make(chan struct{}, maxHandshakes),
		admitted:   identity.NewAdmitted(func(p *identity.Peer) error { return m.Recheck(p) }),
		conns:      make(map[*conn]struct{}),
		peers:      make(map[mesh.Principal]*peerBudget),
	}
}

func orDuration(d, otherwise time.Duration) time.Duration {
	if d <= 0 {
		return otherwise
	}
	return d
}

// defaultTiming is that of both roles, as ambient peers expect it: a PING after
// 10 s of silence and 20 s more for an answer.
func defaultTiming(idle time.Duration) timing {
	return timing{
		ping:     10 * time.Second,
		pingWait: 30 * time.Second,
		preface:  2 * time.Second,
		header:   5 * time.Second,
		idle:     idle,
		flush:    time.Second,
	}
}

var errServerClosed = errors.New("server is closing")

// Serve accepts from ln until ctx ends, then drains: GOAWAY, and waits for the
// tunnels until drain ends. It takes over ln; an error of its Accept ends it.
func (s *Server) Serve(ctx, drain context.Context, ln net.Listener, h Handler) error {
	defer ln.Close()
	serving, stop := context.WithCancelCause(drain)
	defer stop(errServerClosed)
	a := &acceptor{s: s, ctx: serving, h: h, conns: make(map[*conn]struct{})}
	defer a.wait.Wait()
	defer context.AfterFunc(ctx, func() {
		ln.Close()
		a.each((*conn).drain)
	})()
	for {
		raw, err := ln.Accept()
		if err != nil {
			if ctx.Err() == nil {
				stop(errServerClosed)
				a.each(func(c *conn) { c.abort(errServerClosed) })
				return fmt.Errorf("accept: %w", err)
			}
			a.drained(drain)
			return nil
		}
		leave, err := s.gate.Enter(addrPort(raw.RemoteAddr()).Addr())
		if err != nil {
			s.refused(raw, err)
			raw.Close()
			continue
		}
		a.wait.Go(func() { a.serve(ctx, raw, leave) })
	}
}

// An acceptor is one call of Serve.
type acceptor struct {
	s    *Server
	ctx  context.Context // of the handlers; it ends when the drain does
	h    Handler
	wait sync.WaitGroup

	mu    sync.Mutex // guards conns
	conns map[*conn]struct{}
}

func (a *acceptor) each(f func(*conn)) {
	a.mu.Lock()
	all := make([]*conn, 0, len(a.conns))
	for c := range a.conns {
		all = append(all, c)
	}
	a.mu.Unlock()
	for _, c := range all {
		f(c)
	}
}

// drained waits until the connections are gone, or are cut since drain ended.
func (a *acceptor) drained(drain context.Context) {
	gone := make(chan struct{})
	go func() {
		a.wait.Wait()
		close(gone)
	}()
	select {
	case <-gone:
	case <-drain.Done():
		a.each(func(c *conn) { c.abort(errServerClosed) })
		<-gone
	}
}

// serve is one connection, from the handshake to the end of its last handler.
func (a *acceptor) serve(ctx context.Context, raw net.Conn, leave func()) {
	s := a.s
	tlsConn, err := s.handshake(a.ctx, raw)
	leave()
	if err != nil {
		s.gate.Punish(addrPort(raw.RemoteAddr()).Addr(), costOfUseless-1)
		s.refused(raw, err) // the peer was told by TLS
		return
	}
	peer, err := s.admit(&tlsConn.Peer)
	if err != nil {
		s.refused(raw, err)
		tlsConn.Close()
		return
	}
	defer s.dismiss(tlsConn.Peer.Principal)
	c := a.newConn(tlsConn, tlsConn, peer)
	a.run(ctx, c)
	if !c.used() { // all that it was for is the handshake
		s.charge(c, costOfUseless-1)
	}
}

// charge makes a connection cost its peer and its address as much as n more would.
func (s *Server) charge(c *conn, n int) {
	c.budget.peer.punish(n)
	s.gate.Punish(c.remote.Addr(), n)
}

// blame makes it cost a peer and its address something to have been cut for abuse:
// who connects again at once to go on shall not.
func (s *Server) blame(c *conn, why error) {
	s.charge(c, s.config.Limits.ConnsPerSecond)
	s.refused(c.nc, fmt.Errorf("%s was cut off: %w", c.peer.Principal, why))
}

// run serves c.
func (a *acceptor) run(ctx context.Context, c *conn) {
	a.add(c)
	defer a.remove(c)
	if c.self != nil {
		defer a.s.admitted.Remove(&c.peer)
		if err := a.s.admitted.Add(&c.peer, c.notAdmitted); err != nil { // what changed since the handshake
			a.s.refused(c.nc, err)
			c.nc.Close()
			return
		}
	}
	if ctx.Err() != nil || a.s.outdated(c) {
		c.drain()
	}
	if a.ctx.Err() != nil {
		c.abort(errServerClosed)
	}
	c.run()
	c.handlers.Wait()
}

// newConn prepares the connection nc. id is nil for one without TLS, in tests.
func (a *acceptor) newConn(nc net.Conn, id *identity.Conn, peer *peerBudget) *conn {
	s := a.s
	c := newConn(nc, false, defaultTiming(s.config.IdleTimeout), s.bufs)
	c.max = s.config.MaxStreams
	c.budget = newBudget(s.config.Limits, peer)
	c.local, c.remote = addrPort(nc.LocalAddr()), addrPort(nc.RemoteAddr())
	if id != nil {
		c.peer, c.self = id.Peer, id.Self
		c.verify = func() error { return s.mutual.Recheck(&c.peer) }
	}
	held := &starting{hasty: c.budget.hasty, start: func(t *Tunnel, r *request) { s.handle(a.ctx, c, t, r, a.h) }}
	c.accept, c.in.waits = held.hold, held.release
	c.tell = func(why error) { s.refused(c.nc, why) }
	c.blame = func(why error) { s.blame(c, why) }
	c.hello()
	return c
}

func (s *Server) handshake(ctx context.Context, raw net.Conn) (*identity.Conn, error) {
	select {
	case s.handshakes <- struct{}{}:
		defer func() { <-s.handshakes }()
	default:
		raw.Close()
		return nil, fmt.Errorf("%d handshakes are going on, as many as there may be at once", maxHandshakes)
	}
	ctx, cancel := context.WithTimeout(ctx, s.config.HandshakeTimeout)
	defer cancel()
	return s.mutual.Server(ctx, raw)
}

func (s *Server) refused(raw net.Conn, err error) {
	if tooMany, ok := errors.AsType[*gate.TooManyError](err); ok {
		if !tooMany.Tell {
			return
		}
		err = fmt.Errorf("%w: %s", err, raiseOfGate(tooMany.Bound))
	}
	if s.config.Refused != nil {
		s.config.Refused(addrPort(raw.RemoteAddr()), err)
	}
}

// admit counts a connection of a peer, unless it has or makes too many.
func (s *Server) admit(p *identity.Peer) (*peerBudget, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	b := s.peers[p.Principal]
	if b == nil {
		b = newPeerBudget(s.config.Limits)
		s.peers[p.Principal] = b
	}
	if b.conns >= s.config.Limits.ConnsPerPeer {
		return nil, fmt.Errorf("%s has %d connections already: %s", p.Principal, b.conns, raise("--tunnel-conns-per-peer"))
	}
	if !b.spend(connsOfPeer, 1) {
		return nil, fmt.Errorf("%s makes more than %d connections a second: %s", p.Principal, s.config.Limits.ConnsPerSecond, raiseOfGate(gate.PerSecond))
	}
	b.conns++
	return b, nil
}

// dismiss is the end of admit. What the peer has spent is kept while it has
// connections, and for a while after.
func (s *Server) dismiss(p mesh.Principal) {
	s.mu.Lock()
	defer s.mu.Unlock()
	b := s.peers[p]
	if b.conns--; b.conns == 0 {
		b.idle = time.Now()
	}
	s.forget()
}

// forget drops the budgets of peers that are long gone. The lock is held.
func (s *Server) forget() {
	if time.Since(s.forgot) < time.Minute {
		return
	}
	s.forgot = time.Now()
	for p, b := range s.peers {
		if b.conns == 0 && time.Since(b.idle) > time.Minute {
			delete(s.peers, p)
		}
	}
}

func (a *acceptor) add(c *conn) {
	a.mu.Lock()
	a.conns[c] = struct{}{}
	a.mu.Unlock()
	a.s.mu.Lock()
	a.s.conns[c] = struct{}{}
	a.s.mu.Unlock()
}

func (a *acceptor) remove(c *conn) {
	a.mu.Lock()
	delete(a.conns, c)
	a.mu.Unlock()
	a.s.mu.Lock()
	delete(a.s.conns, c)
	a.s.mu.Unlock()
}

// Recheck re-verifies the peer of every open connection and closes those that
// would not be admitted any more. Those on which we showed a certificate that
// has been replaced take no more tunnels: the peer will end them with it.
func (s *Server) Recheck() {
	s.admitted.Recheck()
	s.mu.Lock()
	conns := make([]*conn, 0, len(s.conns))
	for c := range s.conns {
		conns = append(conns, c)
	}
	s.mu.Unlock()
	for _, c := range conns {
		if s.outdated(c) {
			c.drain()
		}
	}
}

// outdated tells whether we showed another certificate on c than we would now.
func (s *Server) outdated(c *conn) bool {
	if c.self == nil || s.config.Mutual == nil {
		return false
	}
	now, err := s.config.Mutual.Source.SVID()
	return err == nil && now != c.self
}

// stillAdmitted checks the peer again before a tunnel begins: between a change
// of roots or revocations and the cut of the last connection it concerns there
// is a while. It cuts c if it answers an error.
func (c *conn) stillAdmitted() error {
	if c.verify == nil {
		return nil
	}
	err := c.verify()
	if err != nil {
		c.notAdmitted(err)
	}
	return err
}

// notAdmitted cuts c, whose peer has been checked again.
func (c *conn) notAdmitted(err error) {
	c.abort(fmt.Errorf("peer is no longer admitted: %w", err))
}

func addrPort(a net.Addr) netip.AddrPort {
	t, ok := a.(*net.TCPAddr)
	if !ok {
		return netip.AddrPort{}
	}
	ap := t.AddrPort()
	return netip.AddrPortFrom(ap.Addr().Unmap(), ap.Port())
}
