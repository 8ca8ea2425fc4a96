package sidecar

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/outrigger-mesh/outrigger/pkg/mesh"
	"github.com/outrigger-mesh/outrigger/pkg/store"
)

func TestAClosedPortIsLoggedWhenItClosesAndWhenItOpens(t *testing.T) {
	path := filepath.Join(t.TempDir(), "policy.yaml")
	other := strings.Replace(goodPolicy, "9000", "9001", 1)
	save := func(text string) {
		t.Helper()
		if err := os.WriteFile(path+".new", []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if err := os.Rename(path+".new", path); err != nil {
			t.Fatal(err)
		}
	}
	save(other)
	log := new(lockedBuffer)
	s, err := New(withCarriers([]string{"file"}, func(c *Config) {
		c.Records.AccessLog, c.Discovery.PolicyFiles, c.Inbound.MCPPorts = Off, []string{path}, []string{"9000"}
	}), Options{Version: "test", Log: log})
	if err != nil {
		t.Fatal(err)
	}
	defer s.closeLogs()
	ctx, cancel := context.WithCancel(t.Context())
	var running sync.WaitGroup
	defer running.Wait()
	defer cancel()
	running.Go(func() { s.tellClosedPorts(ctx) })
	running.Go(func() { _ = s.changes.File(ctx, path) })
	awaitLines := func(closed, governed int) {
		t.Helper()
		for end := time.Now().Add(20 * time.Second); ; time.Sleep(time.Millisecond) {
			text := log.String()
			c, g := strings.Count(text, `msg="port is closed" port=9000`), strings.Count(text, `msg="port is governed by an agent policy again" port=9000`)
			if c == closed && g == governed {
				return
			}
			if time.Now().After(end) {
				t.Fatalf("told %d times that the port is closed and %d times that it is governed, not %d and %d: %s", c, g, closed, governed, text)
			}
		}
	}
	for s.store.Snapshot().Counts().AgentPolicies < 1 {
		time.Sleep(time.Millisecond)
	}
	awaitLines(0, 0) // what is still to be delivered may govern it
	own := &mesh.Workload{UID: "1", Name: "github-1", Namespace: "tools", ServiceAccount: "github", TrustDomain: "cluster.local", ClusterID: s.self.ClusterID, Addresses: s.self.Addresses}
	s.store.Apply(store.Change{Workloads: map[string]*mesh.Workload{own.UID: own}, Synced: []string{store.KindWorkloads, store.KindAuthorizations}})
	awaitLines(1, 0)
	if text := log.String(); !strings.Contains(text, "policies=[tools/good]") || !strings.Contains(text, "namespace=tools") {
		t.Errorf("the log does not say which policies there are and for whom they would have to be: %s", text)
	}
	save(goodPolicy)
	awaitLines(1, 1)
	save(other)
	awaitLines(2, 1)
}
