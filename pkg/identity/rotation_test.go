package identity

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/outrigger-mesh/outrigger/pkg/mesh"
	"github.com/outrigger-mesh/outrigger/pkg/meshtest/badcert"
)

// TestRotationUnderLoadLosesNothing rotates both ends' certificates and, with
// an overlap, the root, while handshakes go on.
func TestRotationUnderLoadLosesNothing(t *testing.T) {
	const callers, handshakes = 4, 75
	old, new := newAuthority(t, local), newAuthority(t, local)
	client, server := NewMemory(nil), NewMemory(nil)
	rotate := func(turn int) {
		by := old
		if turn/4%2 == 1 { // every fourth turn the other authority signs
			by = new
		}
		for source, p := range map[*Memory]mesh.Principal{client: planner, server: github} {
			s := issue(t, by, p, time.Minute)
			s.Bundles[local].AppendCertsFromPEM(old.RootPEM())
			s.Bundles[local].AppendCertsFromPEM(new.RootPEM())
			source.Set(s)
		}
	}
	rotate(0)
	ctx, cancel := context.WithCancel(t.Context())
	var turns atomic.Int64
	var rotation sync.WaitGroup
	rotation.Go(func() {
		for pause(ctx, 10*time.Millisecond) {
			rotate(int(turns.Add(1)))
		}
	})
	// What a rotation loses it loses at once: a machine that is slow shall not look like it.
	c, s := &Mutual{Source: client, HandshakeTimeout: time.Minute}, &Mutual{Source: server, HandshakeTimeout: time.Minute}
	var load sync.WaitGroup
	for range callers {
		load.Go(func() {
			for range handshakes {
				near, far := handshake(t, c, s, github)
				if err := errors.Join(near.err, far.err); err != nil {
					t.Error(err)
					return
				}
				works(t, near.conn, far.conn)
				if err := errors.Join(c.Recheck(&near.conn.Peer), s.Recheck(&far.conn.Peer)); err != nil {
					t.Error(err)
				}
				near.conn.Close()
				far.conn.Close()
			}
		})
	}
	load.Wait()
	cancel()
	rotation.Wait()
	if n := turns.Load(); n < 10 {
		t.Errorf("only %d rotations happened", n)
	}
}

// TestFileRotationUnderLoadLosesNothing does the same by way of a volume that
// is swapped under a watched source.
func TestFileRotationUnderLoadLosesNothing(t *testing.T) {
	a := newAuthority(t, local)
	v := &volume{t, t.TempDir()}
	svid, is := life(t, a, 1)
	v.project("..0", files(svid))
	source := must(NewFiles(v.config()))
	background(t, source.Run)
	await(t, source, is)
	c, s := &Mutual{Source: source}, newMutual(t, a, github)
	seen := map[*SVID]bool{}
	for turn := range 10 {
		svid, is := life(t, a, turn+2)
		v.project("..r"+string(rune('a'+turn)), files(svid))
		for done := false; !done; {
			near, far := handshake(t, c, s, github)
			do(t, errors.Join(near.err, far.err))
			works(t, near.conn, far.conn)
			seen[near.conn.Self] = true
			done = is(near.conn.Self, nil)
			near.conn.Close()
			far.conn.Close()
		}
	}
	if len(seen) < 10 {
		t.Errorf("handshakes with only %d certificates", len(seen))
	}
}

// TestARevokedPeerOfAnOpenConnectionIsFound is what hbone relies on: Watch
// tells, Recheck refuses.
func TestARevokedPeerOfAnOpenConnectionIsFound(t *testing.T) {
	w := newWorld(t)
	path := filepath.Join(t.TempDir(), "crl.pem")
	w.mutual.CRL = must(NewCRL(CRLConfig{Path: path, Logger: quiet}))
	background(t, w.mutual.CRL.Run)
	cert := w.Root.Leaf(plannerID, badcert.NewKey(), nil)
	peerSource := svidOf(cert, w.Root)
	near, far := handshake(t, &Mutual{Source: NewMemory(peerSource)}, w.mutual, github)
	do(t, errors.Join(near.err, far.err))
	refused := make(chan error, 1)
	background(t, func(ctx context.Context) error {
		return w.mutual.Watch(ctx, func() {
			if err := w.mutual.Recheck(&far.conn.Peer); err != nil {
				select {
				case refused <- err:
				default:
				}
			}
		})
	})
	do(t, os.WriteFile(path, badcert.CRLPEM(w.Root.CRL(nil, far.conn.Peer.Chain[0])), 0o600))
	select {
	case err := <-refused:
		if !errors.Is(err, ErrRevoked) {
			t.Error(err)
		}
	case <-time.After(20 * time.Second):
		t.Error("nobody noticed")
	}
}
