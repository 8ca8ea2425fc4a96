package meshtest_test

import (
	"net/netip"
	"testing"
	"time"

	"github.com/outrigger-mesh/outrigger/pkg/meshtest"
)

// Without its CA the mesh works until the certificates end, and not a moment
// longer; what was open is closed, and all is well soon after the CA is back.
// How soon at the most, pkg/identity checks in virtual time.
func TestACAOutagePastExpiryFailsClosedAndHeals(t *testing.T) {
	m := meshtest.New(t, meshtest.Config{TTL: 5 * time.Second})
	app := serveEcho(t, m)
	open, err := call(m)
	if err != nil {
		t.Fatal(err)
	}
	defer open.Close()
	m.StopControl()
	end := firstEnd(t, m)
	for {
		before := time.Now()
		c, err := call(m)
		if err != nil {
			if before := time.Now(); before.Before(end) {
				t.Errorf("failed %v before a certificate ended: %v", end.Sub(before), err)
			}
			break
		}
		c.Close()
		if before.After(end.Add(limit)) {
			t.Fatal("connections are admitted long after the end of a certificate")
		}
		time.Sleep(20 * time.Millisecond)
	}
	for ping(open) == nil { // its deadline bounds this
		time.Sleep(20 * time.Millisecond)
	}
	if time.Now().Before(end) {
		t.Error("an open connection was cut before the end of the certificates")
	}
	for _, ip := range []netip.Addr{m.AgentIP, m.ServerIP} {
		if _, ready := m.Ready(ip); ready && time.Now().After(end.Add(2*time.Second)) {
			t.Errorf("sidecar %v is ready without a certificate", ip)
		}
	}
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
	back := time.Now()
	m.Eventually(func() error {
		c, err := call(m)
		if err != nil {
			return err
		}
		return c.Close()
	})
	t.Logf("healed %v after the CA was back; 5 s are the bound", time.Since(back).Round(time.Millisecond))
}

// firstEnd is when the first certificate of the two sidecars ends.
func firstEnd(t *testing.T, m *meshtest.Mesh) (end time.Time) {
	t.Helper()
	for _, ip := range []netip.Addr{m.AgentIP, m.ServerIP} {
		d, err := configDump(ip)
		if err != nil || len(d.Certificates[0].CertChain) == 0 {
			t.Fatalf("sidecar %v has no certificate: %v", ip, err)
		}
		at, err := time.Parse(time.RFC3339, d.Certificates[0].CertChain[0].ExpirationTime)
		if err != nil {
			t.Fatal(err)
		}
		if end.IsZero() || at.Before(end) {
			end = at
		}
	}
	return end
}
