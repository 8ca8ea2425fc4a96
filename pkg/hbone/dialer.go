package hbone

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"sync"
	"time"

	"golang.org/x/net/http2"

	"github.com/outrigger-mesh/outrigger/pkg/identity"
	"github.com/outrigger-mesh/outrigger/pkg/mesh"
)

// DialerConfig configures a Dialer.
type DialerConfig struct {
	Mutual *identity.Mutual                                                    // required
	Dial   func(ctx context.Context, address netip.AddrPort) (net.Conn, error) // how to reach an address; nil: net.Dialer

	MaxConns         int           // connections to one peer, unless its tunnels need more; 0 means 4
	MaxStreams       int           // tunnels on one connection; 0 means 100, and the peer's limit holds too
	IdleTimeout      time.Duration // how long a connection without tunnels lives; 0 means 90s
	ConnectTimeout   time.Duration // for TCP; 0 means 10s
	HandshakeTimeout time.Duration // for TLS; 0 means 5s
	AnswerTimeout    time.Duration // for the answer to a CONNECT; 0 means 15s
	Memory           int64         // bytes that receive queues should not exceed, all together; 0 means 256 MiB
	Limits           Limits        // what a server may cost
}

// A Dialer originates HBONE and pools the connections.
type Dialer struct {
	mutual mutual
	source source
	config DialerConfig
	bufs   *buffers
	ctx    context.Context // of connecting; it ends with Close
	cancel context.CancelFunc
	wait   sync.WaitGroup // connections, made and being made
	pool   pool

	admitted *identity.Admitted
}

var errDialerClosed = errors.New("dialer is closed")

// NewDialer returns a dialer. Close must be called in the end.
func NewDialer(c DialerConfig) (*Dialer, error) {
	if c.Mutual == nil || c.Mutual.Source == nil {
		return nil, errors.New("hbone dialer: Mutual or its Source is missing")
	}
	return newDialer(c, c.Mutual, c.Mutual.Source), nil
}

func newDialer(c DialerConfig, m mutual, src source) *Dialer {
	if c.MaxConns <= 0 {
		c.MaxConns = 4
	}
	if c.MaxStreams <= 0 {
		c.MaxStreams = 100
	}
	if c.Memory <= 0 {
		c.Memory = 256 << 20
	}
	c.IdleTimeout = orDuration(c.IdleTimeout, 90*time.Second)
	c.ConnectTimeout = orDuration(c.ConnectTimeout, 10*time.Second)
	c.HandshakeTimeout = orDuration(c.HandshakeTimeout, 5*time.Second)
	c.AnswerTimeout = orDuration(c.AnswerTimeout, 15*time.Second)
	c.Limits = c.Limits.withDefaults()
	if c.Dial == nil {
		c.Dial = func(ctx context.Context, address netip.AddrPort) (net.Conn, error) {
			var d net.Dialer
			return d.DialContext(ctx, "tcp", address.String())
		}
	}
	ctx, cancel := context.WithCancel(context.Background())
	return &Dialer{
		mutual: m, source: src, config: c, bufs: newBuffers(c.Memory),
		ctx: ctx, cancel: cancel, admitted: identity.NewAdmitted(m.Recheck),
		pool: pool{peers: make(map[peerKey]*peerConns)},
	}
}

// maxAttempts is how often one tunnel is tried on connections that refuse it unseen.
const maxAttempts = 4

// Dial opens a tunnel to hop. A StatusError tells that the peer refused it. A
// CONNECT that the peer did not look at (REFUSED_STREAM, GOAWAY) is sent
// again on another connection; nothing else is.
func (d *Dialer) Dial(ctx context.Context, hop mesh.Hop, h Header) (*Tunnel, error) {
	if err := checkHop(&hop, &h); err != nil {
		return nil, err
	}
	var avoid *conn
	for attempt := 1; ; attempt++ {
		c, err := d.get(ctx, &hop, avoid)
		if err != nil {
			return nil, fmt.Errorf("connect to %v: %w", hop.Address, err)
		}
		t, err := c.connectAdmitted(ctx, hop.Authority, &h, d.config.AnswerTimeout)
		if err == nil {
			return t, nil
		}
		if !unseen(err) || attempt == maxAttempts || ctx.Err() != nil {
			return nil, fmt.Errorf("tunnel to %s at %v: %w", hop.Authority, hop.Address, err)
		}
		avoid = c
	}
}

// DialThrough opens a tunnel to hop inside over, which is a tunnel to a gateway:
// the inner layer of double HBONE. The connection is not pooled and ends with
// the tunnel. It takes over over.
func (d *Dialer) DialThrough(ctx context.Context, over net.Conn, hop mesh.Hop, h Header) (*Tunnel, error) {
	if err := checkHop(&hop, &h); err != nil {
		over.Close()
		return nil, err
	}
	c, err := d.handshake(ctx, over, hop.Expected)
	if err != nil {
		return nil, fmt.Errorf("inner connection to %s: %w", hop.Authority, err)
	}
	if !d.start(c) {
		return nil, errDialerClosed
	}
	t, err := c.connect(ctx, hop.Authority, &h, d.config.AnswerTimeout)
	c.drain()
	if err != nil {
		return nil, fmt.Errorf("inner tunnel to %s: %w", hop.Authority, err)
	}
	return t, nil
}

func checkHop(hop *mesh.Hop, h *Header) error {
	if _, _, _, err := ParseAuthority(hop.Authority); err != nil {
		return err
	}
	if err := h.check(); err != nil {
		return fmt.Errorf("tunnel to %s: %w", hop.Authority, err)
	}
	return nil
}

// unseen tells whether the peer surely has not acted on a CONNECT.
func unseen(err error) bool {
	var reset *ResetError
	if errors.As(err, &reset) {
		return reset.Remote && reset.Code == http2.ErrCodeRefusedStream
	}
	return errors.Is(err, errRefused) || errors.Is(err, errNoStreams) || errors.Is(err, errNotAdmitted)
}

// errNotAdmitted is before a CONNECT, never after it.
var errNotAdmitted = errors.New("the connection was cut unused")

// connectAdmitted is connect, if the peer would be admitted now.
func (c *conn) connectAdmitted(ctx context.Context, authority string, h *Header, wait time.Duration) (*Tunnel, error) {
	if err := c.stillAdmitted(); err != nil {
		return nil, fmt.Errorf("%w: %w", errNotAdmitted, err)
	}
	return c.connect(ctx, authority, h, wait)
}

// connect opens a tunnel on c.
func (c *conn) connect(ctx context.Context, authority string, h *Header, wait time.Duration) (*Tunnel, error) {
	t := c.newTunnel()
	answered := make(chan struct{})
	t.answered = answered
	if err := c.w.request(authority, h, func() (uint32, error) { return c.open(t) }); err != nil {
		if t.id == 0 {
			if over, _ := c.isOver(); over {
				err = errNoStreams // it ended before anything was sent
			}
			return nil, err
		}
		return nil, t.sendFailed(err)
	}
	timer := time.NewTimer(wait)
	defer timer.Stop()
	select {
	case <-answered:
	case <-ctx.Done():
		t.reset(http2.ErrCodeCancel)
		return nil, context.Cause(ctx)
	case <-timer.C:
		t.reset(http2.ErrCodeCancel)
		return nil, fmt.Errorf("no answer within %v: %w", wait, context.DeadlineExceeded)
	}
	return t.outcome()
}

// outcome is what an answer means.
func (t *Tunnel) outcome() (*Tunnel, error) {
	t.c.mu.Lock()
	status, err := t.status, t.sendErr
	t.c.mu.Unlock()
	switch {
	case status == http.StatusOK:
		return t, nil
	case status != 0:
		t.reset(http2.ErrCodeCancel)
		t.closeRead()
		return nil, &StatusError{status}
	}
	return nil, err
}

// handshake makes a connection of raw, which it takes over. What it returns
// Recheck and Close know of; it must be run, or be given to gone.
func (d *Dialer) handshake(ctx context.Context, raw net.Conn, expected []mesh.Principal) (*conn, error) {
	ctx, cancel := context.WithTimeout(ctx, d.config.HandshakeTimeout)
	defer cancel()
	id, err := d.mutual.Client(ctx, raw, expected)
	if err != nil {
		return nil, err
	}
	c := newConn(id, true, defaultTiming(d.config.IdleTimeout), d.bufs)
	c.budget = newBudget(d.config.Limits, nil)
	c.peer, c.self = id.Peer, id.Self
	// Three quarters of what remains of the peer's certificate: it will have
	// another by then, and who is on this connection has a quarter to finish.
	c.fresh = time.Now().Add(time.Until(id.Peer.NotAfter) / 4 * 3)
	c.verify = func() error { return d.mutual.Recheck(&c.peer) }
	c.hello()
	d.pool.mu.Lock()
	d.pool.all = append(d.pool.all, c)
	d.pool.mu.Unlock()
	if err := d.admitted.Add(&c.peer, c.notAdmitted); err != nil { // what changed since the TLS handshake
		d.gone(c)
		c.nc.Close()
		return nil, fmt.Errorf("peer is no longer admitted: %w", err)
	}
	return c, nil
}

// start runs c, in a goroutine that Close waits for.
func (d *Dialer) start(c *conn) bool {
	d.pool.mu.Lock()
	defer d.pool.mu.Unlock()
	if d.pool.closed {
		c.nc.Close()
		return false
	}
	d.wait.Go(func() {
		c.run()
		d.gone(c)
	})
	return true
}

// Close closes the pooled connections and waits for their goroutines. Open
// tunnels are reset.
func (d *Dialer) Close() error {
	d.cancel()
	d.pool.mu.Lock()
	d.pool.closed = true
	all := append([]*conn(nil), d.pool.all...)
	d.pool.mu.Unlock()
	for _, c := range all {
		c.abort(errDialerClosed)
	}
	d.wait.Wait()
	return nil
}

// Recheck re-verifies the peer of every open connection.
func (d *Dialer) Recheck() { d.admitted.Recheck() }
