//go:build spire

package meshtest_test

import (
	"strings"
	"testing"
	"time"

	"github.com/outrigger-mesh/outrigger/pkg/mesh"
	"github.com/outrigger-mesh/outrigger/pkg/meshtest"
	"github.com/outrigger-mesh/outrigger/pkg/meshtest/spire"
	"github.com/outrigger-mesh/outrigger/pkg/sidecar"
)

// Two sidecars whose certificates come from a real SPIRE: calls pass while it
// rotates them, as long as certificates last when it is gone, and again when it
// is back.
func TestSidecarsBesideSPIRE(t *testing.T) {
	const life = 20 * time.Second
	s := spire.New(t, spire.Config{TrustDomain: "cluster.local", TTL: life, Entries: []mesh.Principal{
		mesh.NewPrincipal("cluster.local", "agents", "agent"), mesh.NewPrincipal("cluster.local", "tools", "server"),
	}})
	m := meshtest.New(t, meshtest.Config{Adjust: func(_ string, c *sidecar.Config) {
		c.Identity.Provider, c.Identity.Socket = "workload-api", s.Address()
	}})
	serveEcho(t, m)
	seen, calls := map[string]bool{}, 0
	for deadline := time.Now().Add(6 * life); len(seen) < 3; calls++ {
		if time.Now().After(deadline) {
			t.Fatalf("only %d certificates", len(seen))
		}
		c, err := call(m)
		if err != nil {
			t.Fatalf("after %d calls with %d certificates: %v", calls, len(seen), err)
		}
		c.Close()
		d, err := configDump(m.ServerIP)
		if err != nil {
			t.Fatal(err)
		}
		seen[d.Certificates[0].CertChain[0].SerialNumber] = true
		time.Sleep(5 * time.Millisecond)
	}
	t.Logf("%d calls across %d certificates", calls, len(seen))

	s.KillAgent()
	agentEnd, serverEnd := certificateEnd(t, m.AgentIP), certificateEnd(t, m.ServerIP)
	end := agentEnd
	if serverEnd.Before(end) {
		end = serverEnd
	}
	if failed := untilRefused(t, m, end); failed.Before(end) {
		t.Errorf("refused %v before a certificate ended", end.Sub(failed))
	}
	expire(t, m, agentEnd, serverEnd)
	s.StartAgent()
	heal(t, m, "agent")
	if d, err := configDump(m.AgentIP); err != nil || strings.HasPrefix(d.Certificates[0].State, "Unavailable") {
		t.Errorf("the dump says %+v, %v", d.Certificates, err)
	}
}
