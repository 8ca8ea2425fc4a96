package sidecar

import (
	"context"
	"errors"
	"io"
	"net"
	"net/netip"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/outrigger-mesh/outrigger/pkg/capture"
	"github.com/outrigger-mesh/outrigger/pkg/gate"
)

// enterAt starts an entrance whose connections stay open until the test ends.
func enterAt(t *testing.T, forward string, adjust func(*entrance)) (address string, served, told *atomic.Int64) {
	ln, err := capture.Listen(t.Context(), capture.Config{Address: "127.0.0.1:0", Forward: forward})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	served, told = new(atomic.Int64), new(atomic.Int64)
	e := newEntrance(ln, mostOpen, func(netip.AddrPort, error) { told.Add(1) }, func(c *capture.Conn) {
		served.Add(1)
		defer c.Close()
		_, _ = c.Write([]byte("x"))
		<-ctx.Done()
	})
	adjust(e)
	var done sync.WaitGroup
	done.Go(func() {
		if err := e.accept(ctx); err != nil {
			t.Error(err)
		}
	})
	t.Cleanup(func() {
		cancel()
		done.Wait()
	})
	return ln.Addr().String(), served, told
}

// call connects n times, and tells how many were served.
func call(t *testing.T, address string, n int) (served int) {
	for range n {
		c, err := net.Dial("tcp", address)
		if errors.Is(err, syscall.ECONNRESET) { // already
			continue
		}
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { c.Close() })
		_ = c.SetReadDeadline(time.Now().Add(20 * time.Second)) // fails only on a closed connection
		switch _, err := io.ReadFull(c, make([]byte, 1)); {
		case err == nil:
			served++
		case !errors.Is(err, syscall.ECONNRESET):
			t.Errorf("refused by %v, not by a reset", err)
		}
	}
	return served
}

// An agent that opens connections without end is served as many as the sidecar has room for.
func TestTheAppsConnectionsAreBounded(t *testing.T) {
	address, served, told := enterAt(t, "server.tools.svc.cluster.local:80", func(e *entrance) {
		e.open = gate.New(gate.Config{AtOnce: 100, Total: 20})
	})
	if n := call(t, address, 200); n != 20 || served.Load() != 20 {
		t.Errorf("%d of 200 were served, want 20", n)
	}
	if n := told.Load(); n < 1 || n > 20 {
		t.Errorf("%d records of 180 refusals, want one a second", n)
	}
}

// What nobody redirected is refused in any case; a flood of it is not looked at.
func TestAFloodOfConnectionsThatNobodyRedirectedIsNotServed(t *testing.T) {
	address, served, told := enterAt(t, "", func(*entrance) {})
	start := time.Now()
	call(t, address, 300)
	most := int64(2*mostStrays + mostStrays*time.Since(start)/time.Second + 1)
	if n := served.Load(); n > most {
		t.Errorf("%d were looked at, at most %d should be", n, most)
	}
	if n := told.Load(); n < 1 || n > 2+int64(time.Since(start)/time.Second) {
		t.Errorf("%d records, want one a second", n)
	}
}
