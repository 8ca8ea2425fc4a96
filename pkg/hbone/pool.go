package hbone

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/outrigger-mesh/outrigger/pkg/identity"
	"github.com/outrigger-mesh/outrigger/pkg/mesh"
)

// growPause is how long a peer that failed to take one more connection is left alone.
const growPause = time.Second

// A peerKey is everything that makes two peers different. What a tunnel on a
// connection may assume of it is exactly what was checked for the key.
type peerKey struct {
	self     mesh.Principal
	expected string
	address  netip.AddrPort
	network  string
}

func newPeerKey(self mesh.Principal, hop *mesh.Hop) peerKey {
	ids := make([]string, len(hop.Expected))
	for i, p := range hop.Expected {
		ids[i] = p.String()
	}
	slices.Sort(ids)
	// No SPIFFE ID contains a space.
	return peerKey{self, strings.Join(slices.Compact(ids), " "), hop.Address, hop.Network}
}

// A pool holds the connections of a Dialer.
type pool struct {
	mu     sync.Mutex // guards everything below, and what is below that
	closed bool
	peers  map[peerKey]*peerConns
	all    []*conn // those that are not pooled too
}

// peerConns are the connections to one peer.
type peerConns struct {
	conns   []*pooled
	attempt *attempt  // a connection being made
	failed  time.Time // when an attempt last failed
	waiting int
	changed chan struct{} // closed when there may be room
}

// An attempt to make a connection.
type attempt struct {
	done chan struct{} // closed when it has ended
	err  error
}

// get returns a connection for one more tunnel to hop.
func (d *Dialer) get(ctx context.Context, hop *mesh.Hop, avoid *conn) (*conn, error) {
	s := &search{d: d, hop: hop, avoid: avoid, started: time.Now()}
	for {
		if err := s.identify(); err != nil {
			return nil, err
		}
		c, err := s.look()
		drainAll(s.old)
		if c != nil || err != nil {
			return c, err
		}
		if err := s.await(ctx); err != nil {
			return nil, err
		}
	}
}

// A search is for a connection that takes one more tunnel.
type search struct {
	d       *Dialer
	key     peerKey
	svid    *identity.SVID
	hop     *mesh.Hop
	avoid   *conn // it has refused the tunnel
	started time.Time

	peer     *peerConns
	tried    *attempt        // that it started, or found
	old      []*conn         // to be drained, without locks
	changed  <-chan struct{} // what to wait for
	done     <-chan struct{}
	patience time.Duration // how long; 0 is for ever
}

// identify finds out who we are now: by the certificate of before, a connection that
// is made during the search would be one to leave, and so would the next.
func (s *search) identify() error {
	svid, err := s.d.source.SVID()
	if err != nil {
		return err
	}
	s.svid, s.key = svid, newPeerKey(svid.Principal, s.hop)
	return nil
}

// look returns a connection, why there is none, or neither: then await.
func (s *search) look() (*conn, error) {
	d := s.d
	d.pool.mu.Lock()
	defer d.pool.mu.Unlock()
	if d.pool.closed {
		return nil, errDialerClosed
	}
	p := d.peer(s.key)
	s.peer, s.old = p, p.retire(s.svid)
	best := p.best(d.config.MaxStreams, s.avoid)
	grow := best == nil || p.crowded(best, d.config.MaxConns)
	if grow && p.attempt == nil && (s.tried == nil || best == nil && s.tried.err == nil) {
		s.tried = d.connect(s.key, p, s.hop)
	} else if s.tried == nil {
		s.tried = p.attempt
	}
	if best == nil {
		if s.tried != nil && s.tried != p.attempt && s.tried.err != nil {
			return nil, s.tried.err
		}
		s.patience = 0
	} else {
		s.patience = best.headStart() - time.Since(s.started)
		if !grow || p.attempt == nil || s.patience <= 0 {
			return best.conn, nil
		}
	}
	s.changed, s.done = p.watch(s.tried)
	return nil, nil
}

// await waits for a change at the peer, as long as there is patience.
func (s *search) await(ctx context.Context) (err error) {
	var timeout <-chan time.Time
	if s.patience > 0 {
		timeout = time.After(s.patience)
	}
	select {
	case <-s.changed:
	case <-s.done:
	case <-timeout:
	case <-ctx.Done():
		err = context.Cause(ctx)
	}
	s.d.pool.mu.Lock()
	defer s.d.pool.mu.Unlock()
	s.peer.waiting--
	return err
}

func drainAll(conns []*conn) {
	for _, c := range conns {
		c.drain()
	}
}

func (d *Dialer) peer(key peerKey) *peerConns {
	p := d.pool.peers[key]
	if p == nil {
		p = &peerConns{changed: make(chan struct{})}
		d.pool.peers[key] = p
	}
	return p
}

// watch returns what to wait for.
func (p *peerConns) watch(a *attempt) (changed, done <-chan struct{}) {
	p.waiting++
	if a != nil && p.attempt == a {
		done = a.done
	}
	return p.changed, done
}

// retire takes out the connections that are over, were made with a certificate
// that is not ours any more, or whose peer's certificate will end soon; the
// latter two are returned, to end with their last tunnel.
func (p *peerConns) retire(svid *identity.SVID) []*conn {
	now := time.Now()
	var old []*conn
	p.conns = slices.DeleteFunc(p.conns, func(c *pooled) bool {
		c.mu.Lock()
		defer c.mu.Unlock()
		if c.self != svid || now.After(c.fresh) {
			old = append(old, c.conn)
			return true
		}
		return c.ended || c.away || c.peerAway
	})
	return old
}

// connect starts to make a connection. The pool's lock is held.
func (d *Dialer) connect(key peerKey, p *peerConns, hop *mesh.Hop) *attempt {
	a := &attempt{done: make(chan struct{})}
	p.attempt = a
	address, expected := hop.Address, slices.Clone(hop.Expected)
	d.wait.Go(func() {
		c, err := d.make(address, expected)
		if err == nil && d.ctx.Err() != nil {
			c.nc.Close()
			err = errDialerClosed
		}
		d.pool.mu.Lock()
		a.err = err
		p.attempt = nil
		if err != nil {
			p.failed = time.Now()
		}
		if err == nil {
			c.onChange = func() { d.notify(p) }
			p.conns = append(p.conns, &pooled{conn: c, at: time.Now()})
		}
		close(a.done)
		d.pool.mu.Unlock()
		if err == nil {
			c.run()
			d.gone(c)
		}
		d.forget(key, p)
	})
	return a
}

// make connects and shakes hands.
func (d *Dialer) make(address netip.AddrPort, expected []mesh.Principal) (*conn, error) {
	ctx, cancel := context.WithTimeout(d.ctx, d.config.ConnectTimeout)
	defer cancel()
	raw, err := d.config.Dial(ctx, address)
	if err != nil {
		if errors.Is(err, context.DeadlineExceeded) {
			err = fmt.Errorf("no connection within %v: %w", d.config.ConnectTimeout, err)
		}
		return nil, err
	}
	return d.handshake(d.ctx, raw, expected)
}

// notify wakes who waits for room at p. It may be called with locks of a
// connection held.
func (d *Dialer) notify(p *peerConns) {
	d.pool.mu.Lock()
	defer d.pool.mu.Unlock()
	if p.waiting > 0 {
		close(p.changed)
		p.changed = make(chan struct{})
	}
}

// gone forgets a connection that has ended.
func (d *Dialer) gone(c *conn) {
	d.admitted.Remove(&c.peer)
	d.pool.mu.Lock()
	defer d.pool.mu.Unlock()
	d.pool.all = slices.DeleteFunc(d.pool.all, func(o *conn) bool { return o == c })
}

// forget drops a peer without connections.
func (d *Dialer) forget(key peerKey, p *peerConns) {
	d.pool.mu.Lock()
	defer d.pool.mu.Unlock()
	p.conns = slices.DeleteFunc(p.conns, func(c *pooled) bool {
		c.mu.Lock()
		defer c.mu.Unlock()
		return c.ended
	})
	if len(p.conns) == 0 && p.attempt == nil && p.waiting == 0 && d.pool.peers[key] == p {
		delete(d.pool.peers, key)
	}
}
