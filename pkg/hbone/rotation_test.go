package hbone

import (
	"context"
	"errors"
	"io"
	"net"
	"net/netip"
	"os"
	"sync/atomic"
	"testing"
	"time"

	"github.com/outrigger-mesh/outrigger/pkg/identity"
	"github.com/outrigger-mesh/outrigger/pkg/mesh"
)

func alive(t *testing.T, tun *Tunnel) {
	t.Helper()
	if _, err := tun.Write([]byte("x")); err != nil {
		t.Fatal(err)
	}
	if _, err := io.ReadFull(tun, make([]byte, 1)); err != nil {
		t.Fatal(err)
	}
}

// A server that has another certificate sends new tunnels to new connections,
// before the old certificate's end cuts the old ones; what is open goes on.
func TestAServersNewCertificateTakesNewConnections(t *testing.T) {
	ca := newCA(t)
	source := identity.NewMemory(issue(t, ca, serverID))
	s, err := NewServer(ServerConfig{Mutual: &identity.Mutual{Source: source}})
	if err != nil {
		t.Fatal(err)
	}
	ln := listen(t)
	ctx, stop := context.WithCancel(context.Background())
	served := make(chan error, 1)
	go func() { served <- s.Serve(ctx, ctx, ln, echo) }()
	defer func() {
		stop()
		if err := <-served; err != nil {
			t.Error(err)
		}
	}()
	d, err := NewDialer(DialerConfig{MaxConns: 1, Mutual: &identity.Mutual{Source: identity.NewMemory(issue(t, ca, clientID))}})
	if err != nil {
		t.Fatal(err)
	}
	defer d.Close()
	dial := func() *Tunnel {
		hop := mesh.Hop{Address: netip.MustParseAddrPort(ln.Addr().String()), Authority: "10.0.0.1:80", Expected: []mesh.Principal{serverID}}
		tun, err := d.Dial(ctxOf(t), hop, Header{})
		if err != nil {
			t.Fatal(err)
		}
		alive(t, tun)
		return tun
	}
	first := dial()
	s.Recheck() // nothing has changed
	if again := dial(); again.c != first.c {
		t.Error("a recheck without a change took another connection")
	}
	next := issue(t, ca, serverID)
	source.Set(next)
	s.Recheck()
	var last *Tunnel
	for deadline := time.Now().Add(20 * time.Second); last == nil || last.c == first.c; last = dial() {
		if time.Now().After(deadline) {
			t.Fatal("new tunnels still use the old connection")
		}
	}
	if !last.Peer().NotAfter.Equal(next.NotAfter) {
		t.Errorf("the new connection is by a certificate until %v", last.Peer().NotAfter)
	}
	alive(t, first)
}

// Between a change and the recheck that cuts a connection, nothing new begins on it.
func TestATunnelBeginsOnlyIfItsPeerWouldBeAdmittedNow(t *testing.T) {
	w := newWorld(t, options{dialer: DialerConfig{MaxConns: 1}, handler: echo})
	open := w.dial()
	alive(t, open)
	distrustful := *issue(t, w.ca, serverID)
	distrustful.Bundles = issue(t, newCA(t), serverID).Bundles
	w.identity.Set(&distrustful)
	if again, err := w.dialer.Dial(ctxOf(t), w.hop("10.0.0.1:80"), Header{}); err == nil {
		again.Close()
		t.Error("a peer whose roots are gone began another tunnel")
	}
	open.SetDeadline(time.Now().Add(20 * time.Second))
	if _, err := io.ReadFull(open, make([]byte, 1)); err == nil || errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("the tunnel that was open: %v", err)
	}
}

func TestTheLastQuarterOfAPeersCertificateTakesNoNewTunnels(t *testing.T) {
	w := newWorld(t, options{dialer: DialerConfig{MaxConns: 1}, handler: echo})
	first := w.dial()
	if left := time.Until(first.c.fresh); left > 45*time.Minute || left < 44*time.Minute {
		t.Errorf("of an hour, new tunnels may use the connection for %v", left)
	}
	w.dialer.pool.mu.Lock()
	first.c.fresh = time.Now().Add(-time.Second)
	w.dialer.pool.mu.Unlock()
	if next := w.dial(); next.c == first.c {
		t.Error("the connection took another tunnel")
	}
	alive(t, first)
}

// An earlyMutual lets something happen before a client's handshake.
type earlyMutual struct {
	mutual
	early func()
}

func (m *earlyMutual) Client(ctx context.Context, raw net.Conn, expected []mesh.Principal) (*identity.Conn, error) {
	m.early()
	return m.mutual.Client(ctx, raw, expected)
}

// Our certificate is replaced between the beginning of a search for a connection
// and the handshake: what was made with the new one is what was searched for.
func TestACertificateReplacedDuringADialCostsNoSecondConnection(t *testing.T) {
	w := newWorld(t, options{dialer: DialerConfig{MaxConns: 1}, handler: echo})
	var shaken atomic.Int32
	w.dialer.mutual = &earlyMutual{w.dialer.mutual, func() {
		if shaken.Add(1) == 1 {
			w.client.Set(issue(t, w.ca, clientID))
		}
	}}
	alive(t, w.dial())
	alive(t, w.dial())
	if n := shaken.Load(); n != 1 {
		t.Errorf("two tunnels took %d connections", n)
	}
}
