package hbone

import (
	"context"
	"io"
	"net"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/outrigger-mesh/outrigger/pkg/relay"
)

// memory is what the process holds, in bytes, and its goroutines.
func memory() (heap, stack uint64, goroutines int) {
	runtime.GC()
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return m.HeapAlloc, m.StackInuse, runtime.NumGoroutine()
}

// TestAnIdleTunnelHoldsLittle opens thousands of tunnels, relayed to sockets at
// both ends, sends through each of them, and looks at what remains.
func TestAnIdleTunnelHoldsLittle(t *testing.T) {
	const tunnels = 1500                      // with six descriptors each, within a limit of 20,000
	app := serveTCP(t, func(c *net.TCPConn) { // an echo that holds next to nothing
		_, _ = io.CopyBuffer(struct{ io.Writer }{c}, struct{ io.Reader }{c}, make([]byte, 1<<10))
	})
	w := newWorld(t, options{server: ServerConfig{Limits: Limits{OpensPerSecond: 1 << 20}}, handler: relayTo(t, app)})
	heap0, stack0, goroutines0 := memory()
	clients := make([]*Tunnel, tunnels)
	ends := make([]net.Conn, tunnels)
	var relays sync.WaitGroup
	for i := range clients {
		clients[i] = w.dial()
		a, b := tcpPair(t)
		ends[i] = b
		relays.Go(func() { clients[i].Relay(context.Background(), a, relay.Unmetered{}) })
	}
	report := func(when string, most float64) {
		heap, stack, goroutines := memory()
		// Each tunnel has a relay per end, and the app's goroutine.
		kb := (float64(heap) - float64(heap0) + float64(stack) - float64(stack0)) / 1024 / tunnels
		t.Logf("%s: %.1f KiB heap and stack per tunnel with both ends and the app, %.2f goroutines",
			when, kb, float64(goroutines-goroutines0)/tunnels)
		if kb > most {
			t.Errorf("%s: more than %v KiB", when, most)
		}
		if per := float64(goroutines-goroutines0) / tunnels; per > 3.2 {
			t.Errorf("%s: %.2f goroutines per tunnel", when, per)
		}
	}
	report("fresh", 48) // half of that without the race detector
	message := pattern(200_000, 1)
	var wait sync.WaitGroup
	for _, c := range ends {
		wait.Go(func() {
			go func() { _, _ = c.Write(message) }()
			if _, err := io.ReadFull(c, make([]byte, len(message))); err != nil {
				t.Error(err)
			}
		})
		if wait.Wait(); t.Failed() {
			break
		}
	}
	report("after traffic", 64)
	if n := w.server.bufs.held.Load() + w.dialer.bufs.held.Load(); n != 0 {
		t.Errorf("idle tunnels hold %d bytes of receive queues", n)
	}
	for _, c := range ends {
		c.Close()
	}
	relays.Wait()
}

// TestTenThousandTunnelsOpenAndEnd is about goroutines and streams that stay behind.
func TestTenThousandTunnelsOpenAndEnd(t *testing.T) {
	const tunnels = 10_000
	var open atomic.Int64
	w := newWorld(t, options{server: ServerConfig{Limits: Limits{OpensPerSecond: 1 << 20}}, handler: func(_ context.Context, in *Incoming) {
		tun, err := in.Accept(Header{})
		if err != nil {
			return
		}
		open.Add(1)
		defer open.Add(-1)
		_, _ = io.Copy(io.Discard, struct{ io.Reader }{tun})
		_ = tun.CloseWrite()
	}})
	heap0, stack0, goroutines0 := memory()
	all := make([]*Tunnel, tunnels)
	for i := range all {
		all[i] = w.dial()
	}
	heap, stack, goroutines := memory()
	t.Logf("%.1f KiB heap and %.1f KiB stack per tunnel with both ends, %.2f goroutines, %d connections",
		float64(heap-heap0)/1024/tunnels, float64(stack-stack0)/1024/tunnels,
		float64(goroutines-goroutines0)/tunnels, len(w.dialer.pool.all))
	// Both ends are in this process.
	if per := float64(heap-heap0+stack-stack0) / 1024 / tunnels / 2; per > 20 {
		t.Errorf("%.1f KiB per tunnel and end", per)
	}
	if per := float64(goroutines-goroutines0) / tunnels / 2; per > 2 {
		t.Errorf("%.2f goroutines per tunnel and end", per)
	}
	for _, tun := range all {
		_ = tun.CloseWrite()
	}
	for _, tun := range all {
		if _, err := io.ReadAll(tun); err != nil {
			t.Fatal(err)
		}
	}
	for end := time.Now().Add(10 * time.Second); open.Load() > 0 && time.Now().Before(end); time.Sleep(time.Millisecond) {
	}
	for _, c := range w.dialer.pool.all {
		c.mu.Lock()
		if n := len(c.streams); n != 0 {
			t.Errorf("%d streams left", n)
		}
		c.mu.Unlock()
	}
	if n := open.Load(); n != 0 {
		t.Errorf("%d handlers left", n)
	}
}
