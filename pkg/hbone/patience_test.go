package hbone

import (
	"context"
	"errors"
	"io"
	"net"
	"net/netip"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/outrigger-mesh/outrigger/pkg/identity"
	"github.com/outrigger-mesh/outrigger/pkg/mesh"
)

// Each step towards a tunnel has a bound of its own, whatever the peer does not do.
func TestADialWaitsForNoStepWithoutEnd(t *testing.T) {
	type peer func(t *testing.T, c net.Conn, m *identity.Mutual) // it serves c
	shaken := func(after string) peer {
		return func(t *testing.T, c net.Conn, m *identity.Mutual) {
			id, err := m.Server(context.Background(), c)
			if err != nil {
				t.Error(err)
				return
			}
			if after != "" {
				_, _ = io.WriteString(id, after)
			}
			_, _ = io.Copy(io.Discard, id)
		}
	}
	for name, c := range map[string]struct {
		peer peer // nil: the connection is never made
		want time.Duration
		is   error
	}{
		"TCP":      {nil, 3 * time.Second, context.DeadlineExceeded},
		"TLS":      {func(_ *testing.T, c net.Conn, _ *identity.Mutual) { _, _ = io.Copy(io.Discard, c) }, 4 * time.Second, context.DeadlineExceeded},
		"SETTINGS": {shaken(""), 2 * time.Second, syscall.ECONNRESET},
		"CONNECT":  {shaken(emptySettings), 6 * time.Second, context.DeadlineExceeded},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				ca := newCA(t)
				server := &identity.Mutual{Source: identity.NewMemory(issue(t, ca, serverID))}
				d, err := NewDialer(DialerConfig{
					Mutual:         &identity.Mutual{Source: identity.NewMemory(issue(t, ca, clientID))},
					ConnectTimeout: 3 * time.Second, HandshakeTimeout: 4 * time.Second, AnswerTimeout: 6 * time.Second,
					Dial: func(ctx context.Context, _ netip.AddrPort) (net.Conn, error) {
						if c.peer == nil {
							<-ctx.Done()
							return nil, ctx.Err()
						}
						ours, theirs := net.Pipe()
						go func() {
							defer theirs.Close()
							c.peer(t, theirs, server)
						}()
						return ours, nil
					},
				})
				if err != nil {
					t.Fatal(err)
				}
				defer d.Close()
				start := time.Now()
				hop := mesh.Hop{Address: netip.MustParseAddrPort("10.0.0.1:15008"), Authority: target, Expected: []mesh.Principal{serverID}}
				_, err = d.Dial(context.Background(), hop, Header{})
				if took := time.Since(start); !errors.Is(err, c.is) || took < c.want || took > c.want+time.Second {
					t.Errorf("after %v, want %v: %v", took, c.want, err)
				}
			})
		})
	}
}
