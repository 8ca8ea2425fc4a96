package outage

import (
	"context"
	"fmt"
	"net"
	"os"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/outrigger-mesh/outrigger/pkg/meshtest"
	"github.com/outrigger-mesh/outrigger/pkg/sample"
)

const toolPolicy = `apiVersion: outrigger.dev/v1alpha1
kind: AgentPolicy
metadata: {name: tools, namespace: tools}
spec:
  ports: [{number: %d, protocol: MCP}]
  rules:
  - name: agent-echoes
    action: Allow
    source: {serviceAccounts: [{namespace: agents, name: agent}]}
    mcp: {tools: [echo]}
`

// outage is how long the control plane is away: OUTAGE, or a few seconds.
func outage(t *testing.T) time.Duration {
	text := os.Getenv("OUTAGE")
	if text == "" {
		return 5 * time.Second
	}
	long, err := time.ParseDuration(text)
	if err != nil {
		t.Fatalf("OUTAGE: %v", err)
	}
	return long
}

// Real sidecars, real sockets: calls over an open session and over new ones go
// on without a failure, and whoever listens in the control plane's place is not
// stormed. Two sidecars dial, each for configuration and for certificates.
func TestMinutesWithoutControlPlane(t *testing.T) {
	m := meshtest.New(t, meshtest.Config{Policy: toolPolicy})
	ctx, cancel := context.WithCancel(context.Background())
	var running sync.WaitGroup
	defer func() { cancel(); running.Wait() }()
	app := m.ListenApp()
	running.Go(func() { (&sample.Server{}).Serve(ctx, app) })
	open := session(t, m)
	defer open.Close()
	call(t, open, 0)

	m.StopControl()
	vacant, err := net.Listen("tcp", m.ControlAddr())
	if err != nil {
		t.Fatal(err)
	}
	var dials atomic.Int32
	running.Go(func() {
		for {
			c, err := vacant.Accept()
			if err != nil {
				return
			}
			dials.Add(1)
			c.Close()
		}
	})
	defer vacant.Close()
	long, n := outage(t), 0
	for end := time.Now().Add(long); time.Now().Before(end); time.Sleep(50 * time.Millisecond) {
		n++
		call(t, open, n)
		if n%10 == 0 {
			another := session(t, m)
			call(t, another, n)
			another.Close()
		}
	}
	// The first waits are short; later ones are 15 s on average.
	most := int32(80 + 4*long/(5*time.Second))
	t.Logf("%d calls in %v, %d dials", n, long, dials.Load())
	if d := dials.Load(); d > most || d == 0 {
		t.Errorf("dialled %d times in %v, more than %d or not at all", d, long, most)
	}
	vacant.Close()
	m.StartControl()
	call(t, open, n)
}

func session(t *testing.T, m *meshtest.Mesh) *sample.Agent {
	t.Helper()
	a, err := sample.Connect(t.Context(), "http://"+m.Agent+"/mcp", "2025-11-25")
	if err != nil {
		t.Fatalf("open a session: %v", err)
	}
	return a
}

func call(t *testing.T, a *sample.Agent, n int) {
	t.Helper()
	text := fmt.Sprint("call ", n)
	if r := a.Do(t.Context(), sample.Command{Call: "echo", Arguments: map[string]any{"text": text}}); r.Text != text {
		t.Fatalf("call %d: %+v", n, r)
	}
}
