package meshtest_test

import (
	"errors"
	"net/netip"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/outrigger-mesh/outrigger/pkg/meshtest"
)

// Without its CA the mesh works until the certificates end, and not a moment
// longer; what was open is closed, and all is well soon after the CA is back.
// How soon at the most, pkg/identity checks in virtual time.
func TestACAOutagePastExpiryFailsClosedAndHeals(t *testing.T) {
	m := meshtest.New(t, meshtest.Config{TTL: 10 * time.Second})
	app := serveEcho(t, m)
	open, err := call(m)
	if err != nil {
		t.Fatal(err)
	}
	defer open.Close()
	m.StopControl()
	agentEnd, serverEnd := certificateEnd(t, m.AgentIP), certificateEnd(t, m.ServerIP)
	end := agentEnd
	if serverEnd.Before(end) {
		end = serverEnd
	}
	failed := untilRefused(t, m, end)
	if failed.Before(end) {
		t.Errorf("refused %v before a certificate ended", end.Sub(failed))
	}
	open.SetDeadline(time.Now().Add(limit))
	for err = ping(open); err == nil; err = ping(open) {
		time.Sleep(20 * time.Millisecond)
	}
	if errors.Is(err, os.ErrDeadlineExceeded) {
		t.Error("an open connection outlived the certificates")
	}
	expire(t, m, agentEnd, serverEnd)
	accepted := app.accepted.Load()
	for range 20 {
		if c, err := call(m); err == nil {
			c.Close()
			t.Error("a connection was admitted without a certificate")
		}
		time.Sleep(20 * time.Millisecond)
	}
	if n := app.accepted.Load(); n != accepted {
		t.Errorf("%d connections reached the app", n-accepted)
	}
	m.StartControl()
	heal(t, m, "CA")
}

// untilRefused opens connections until one is refused, and answers when that was.
func untilRefused(t *testing.T, m *meshtest.Mesh, end time.Time) time.Time {
	t.Helper()
	for {
		begun := time.Now()
		c, err := call(m)
		if err != nil {
			return time.Now()
		}
		c.Close()
		if begun.After(end.Add(limit)) {
			t.Fatal("connections are admitted long after the end of a certificate")
		}
		time.Sleep(20 * time.Millisecond)
	}
}

// expire waits until the certificates of both sidecars have ended, and checks that they say so.
func expire(t *testing.T, m *meshtest.Mesh, ends ...time.Time) {
	t.Helper()
	for _, end := range ends {
		time.Sleep(time.Until(end))
	}
	for _, ip := range []netip.Addr{m.AgentIP, m.ServerIP} {
		if text, ready := m.Ready(ip); ready || !strings.Contains(text, "certificate") {
			t.Errorf("without a certificate sidecar %v says %q", ip, text)
		}
	}
}

// heal waits until connections are admitted again, now that what was away is back.
func heal(t *testing.T, m *meshtest.Mesh, away string) {
	t.Helper()
	back := time.Now()
	m.Eventually(func() error {
		c, err := call(m)
		if err != nil {
			return err
		}
		return c.Close()
	})
	t.Logf("healed %v after the %s was back; 5 s are the bound", time.Since(back).Round(time.Millisecond), away)
}

// certificateEnd is when the certificate of the sidecar at ip ends.
func certificateEnd(t *testing.T, ip netip.Addr) time.Time {
	t.Helper()
	d, err := configDump(ip)
	if err != nil || len(d.Certificates[0].CertChain) == 0 {
		t.Fatalf("sidecar %v has no certificate: %v", ip, err)
	}
	end, err := time.Parse(time.RFC3339, d.Certificates[0].CertChain[0].ExpirationTime)
	if err != nil {
		t.Fatal(err)
	}
	return end
}
