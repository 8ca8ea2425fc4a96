package hbone

import (
	"context"
	"errors"
	"fmt"
	"math"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/outrigger-mesh/outrigger/pkg/identity"
	"github.com/outrigger-mesh/outrigger/pkg/mesh"
)

const (
	// loadTime is over how long a connection's load is averaged.
	loadTime = 200 * time.Millisecond
	// busyLoad is the load, in bytes per second, that other tunnels would feel.
	busyLoad = 4 << 20
	// headStart is how long a tunnel waits for a new connection to its peer
	// when it could have an old one with others on it.
	headStart = 5 * time.Millisecond
	// growPause is how long a peer that failed to take one more connection is left alone.
	growPause = time.Second
)

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

// A pooled connection and its load.
type pooled struct {
	*conn
	moved int64     // at
	at    time.Time // when the load was last taken
	load  float64   // bytes per second, averaged
}

// An attempt to make a connection.
type attempt struct {
	done chan struct{} // closed when it has ended
	err  error
}

// get returns a connection for one more tunnel to hop.
func (d *Dialer) get(ctx context.Context, hop *mesh.Hop, avoid *conn) (*conn, error) {
	svid, err := d.source.SVID()
	if err != nil {
		return nil, err
	}
	key := newPeerKey(svid.Principal, hop)
	started := time.Now()
	var tried *attempt
	for {
		d.pool.mu.Lock()
		if d.pool.closed {
			d.pool.mu.Unlock()
			return nil, errDialerClosed
		}
		p := d.peer(key)
		old := p.retire(svid)
		best := p.best(d.config.MaxStreams, avoid)
		grow := best == nil || p.crowded(best, d.config.MaxConns)
		if grow && p.attempt == nil && (tried == nil || best == nil && tried.err == nil) {
			tried = d.connect(key, p, hop)
		} else if tried == nil {
			tried = p.attempt
		}
		settle := best == nil || !grow || time.Since(started) >= headStart || p.attempt == nil
		if best != nil && settle {
			d.pool.mu.Unlock()
			drainAll(old)
			return best.conn, nil
		}
		if best == nil && tried != nil && tried != p.attempt && tried.err != nil {
			d.pool.mu.Unlock()
			drainAll(old)
			return nil, tried.err
		}
		changed, done := p.watch(tried)
		d.pool.mu.Unlock()
		drainAll(old)
		err := await(ctx, changed, done, best != nil)
		d.pool.mu.Lock()
		p.waiting--
		d.pool.mu.Unlock()
		if err != nil {
			return nil, err
		}
	}
}

func drainAll(conns []*conn) {
	for _, c := range conns {
		c.drain()
	}
}

// await waits for a change, or only for a moment.
func await(ctx context.Context, changed, done <-chan struct{}, briefly bool) error {
	var timeout <-chan time.Time
	if briefly {
		timeout = time.After(headStart)
	}
	select {
	case <-changed:
	case <-done:
	case <-timeout:
	case <-ctx.Done():
		return context.Cause(ctx)
	}
	return nil
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
