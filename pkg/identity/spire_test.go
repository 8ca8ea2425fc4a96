//go:build spire

package identity

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/outrigger-mesh/outrigger/pkg/mesh"
	"github.com/outrigger-mesh/outrigger/pkg/meshtest/spire"
)

const spireTTL = 20 * time.Second

func fromSPIRE(t *testing.T, s *spire.SPIRE, p mesh.Principal) *WorkloadAPI {
	t.Helper()
	source := must(NewWorkloadAPI(WorkloadAPIConfig{Address: s.Address(), Principal: p, Logger: quiet}))
	background(t, source.Run)
	await(t, source, present)
	return source
}

// TestSPIRE: handshakes with certificates of a real SPIRE lose nothing while
// it rotates them; without the agent they last until their end; then nothing
// passes until the agent is back.
func TestSPIRE(t *testing.T) {
	s := spire.New(t, spire.Config{TrustDomain: local, TTL: spireTTL, Entries: []mesh.Principal{planner, github}})
	clientSource, serverSource := fromSPIRE(t, s, planner), fromSPIRE(t, s, github)
	client, server := &Mutual{Source: clientSource}, &Mutual{Source: serverSource}
	meet := func() error {
		c, r := handshake(t, client, server, github)
		if err := errors.Join(c.err, r.err); err != nil {
			return err
		}
		works(t, c.conn, r.conn)
		c.conn.Close()
		r.conn.Close()
		return nil
	}
	seen, handshakes := map[*SVID]bool{}, 0
	for len(seen) < 4 {
		do(t, meet())
		handshakes++
		seen[must(clientSource.SVID())] = true
		select {
		case <-clientSource.Changed():
		case <-time.After(5 * time.Millisecond):
		}
	}
	t.Logf("%d handshakes across %d certificates", handshakes, len(seen))

	s.KillAgent()
	do(t, meet())
	ctx, cancel := context.WithTimeout(t.Context(), 2*spireTTL)
	defer cancel()
	for {
		changed := clientSource.Changed()
		if _, err := clientSource.SVID(); err != nil {
			break
		}
		select {
		case <-changed:
		case <-ctx.Done():
			t.Fatal("the certificate outlived its end")
		}
	}
	if err := meet(); !errors.Is(err, ErrNoIdentity) {
		t.Errorf("after the end: %v", err)
	}
	s.StartAgent()
	back := time.Now()
	await(t, clientSource, present)
	await(t, serverSource, present)
	t.Logf("back within %v", time.Since(back))
	do(t, meet())
}
