package hbone

import (
	"context"
	"net"
	"net/netip"
	"sync/atomic"
	"testing"

	"github.com/outrigger-mesh/outrigger/pkg/identity"
	"github.com/outrigger-mesh/outrigger/pkg/mesh"
)

// A lateMutual lets something happen between the end of a handshake, with its
// check, and whatever the caller does with the connection.
type lateMutual struct {
	mutual
	late func()
}

func (m *lateMutual) Server(ctx context.Context, raw net.Conn) (*identity.Conn, error) {
	c, err := m.mutual.Server(ctx, raw)
	m.late()
	return c, err
}

func (m *lateMutual) Client(ctx context.Context, raw net.Conn, expected []mesh.Principal) (*identity.Conn, error) {
	c, err := m.mutual.Client(ctx, raw, expected)
	m.late()
	return c, err
}

// A change of the roots that comes after the handshake's check, and whose
// Recheck comes before the connection is known, must not be lost.
func TestAChangeRightAfterTheHandshakeIsNotLost(t *testing.T) {
	for _, side := range []string{"server", "client"} {
		t.Run(side, func(t *testing.T) {
			ca, other := newCA(t), newCA(t)
			clientSource, serverSource := identity.NewMemory(issue(t, ca, clientID)), identity.NewMemory(issue(t, ca, serverID))
			client := &lateMutual{&identity.Mutual{Source: clientSource}, func() {}}
			server := &lateMutual{&identity.Mutual{Source: serverSource}, func() {}}
			d, s := newDialer(DialerConfig{}, client, clientSource), newServer(ServerConfig{}, server)
			if side == "client" {
				client.late = func() { clientSource.Set(issue(t, other, clientID)); d.Recheck() }
			} else {
				server.late = func() { serverSource.Set(issue(t, other, serverID)); s.Recheck() }
			}
			ln := listen(t)
			var handled atomic.Int64
			ctx, stop := context.WithCancel(context.Background())
			served := make(chan error, 1)
			go func() {
				served <- s.Serve(ctx, ctx, ln, func(ctx context.Context, in *Incoming) {
					handled.Add(1)
					echo(ctx, in)
				})
			}()
			hop := mesh.Hop{Address: netip.MustParseAddrPort(ln.Addr().String()), Authority: "10.0.0.1:80", Expected: []mesh.Principal{serverID}}
			if tun, err := d.Dial(ctxOf(t), hop, Header{}); err == nil {
				tun.Close()
				t.Error("a tunnel was opened to a peer that is no longer admitted")
			}
			d.Close()
			stop()
			if err := <-served; err != nil {
				t.Error(err)
			}
			if n := handled.Load(); n != 0 {
				t.Errorf("%d tunnels were handled", n)
			}
		})
	}
}
