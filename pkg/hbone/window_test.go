package hbone

import (
	"context"
	"net"
	"testing"
	"testing/synctest"
	"time"
)

// receiver is a connection whose peer is a path with some delay: it answers
// probes and sends DATA at some rate, as far as the windows let it.
func receiver(t *testing.T, memory int64) *conn {
	a, b := net.Pipe()
	t.Cleanup(func() { a.Close(); b.Close() })
	c := newConn(a, true, defaultTiming(time.Minute), newBuffers(memory))
	c.budget = newBudget(Limits{}.withDefaults(), nil)
	return c
}

// flow lets DATA come for a while: rate bytes per second, over a path with a delay.
func flow(c *conn, rate int, delay, while time.Duration) {
	const tick = time.Millisecond
	probed := time.Time{}
	for end := time.Now().Add(while); time.Now().Before(end); time.Sleep(tick) {
		c.path.received(c, min(rate/1000, c.windowTarget()*int(tick)/int(delay)))
		switch {
		case c.path.probing && probed.IsZero():
			probed = time.Now()
		case c.path.probing && time.Since(probed) >= delay:
			c.path.probed(c)
			probed = time.Time{}
		}
	}
}

func TestWindowsGrowToWhatThePathCarries(t *testing.T) {
	for _, p := range []struct {
		name        string
		rate        int
		delay       time.Duration
		least, most int
	}{
		{"a slow near path", 10 << 20, time.Millisecond, initialRecvWindow, initialRecvWindow},
		{"a fast far path", 200 << 20, 20 * time.Millisecond, maxRecvWindow, maxRecvWindow},
		{"a path between", 50 << 20, 20 * time.Millisecond, 1 << 20, 3 << 20},
	} {
		synctest.Test(t, func(t *testing.T) {
			c := receiver(t, 256<<20)
			time.Sleep(p.delay)
			c.path.settingsAt = time.Now().Add(-p.delay)
			c.path.acknowledged()
			flow(c, p.rate, p.delay, 5*time.Second)
			if got := c.windowTarget(); got < p.least || got > p.most {
				t.Errorf("%s: window %d, want %d to %d", p.name, got, p.least, p.most)
			}
		})
	}
}

func TestWindowsDoNotGrowWithQueues(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := receiver(t, 256<<20)
		c.path.delay = time.Millisecond // as measured when the path was quiet
		flow(c, 50<<20, 50*time.Millisecond, 5*time.Second)
		if got := c.windowTarget(); got != initialRecvWindow {
			t.Errorf("window %d: the delay is that of a queue", got)
		}
	})
}

func TestScarceMemoryStopsGrowthAndWithholdsCredit(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := receiver(t, 1<<20)
		c.path.delay = 20 * time.Millisecond
		hold := c.bufs.get(4 * record)
		for c.bufs.held.Load() <= c.bufs.limit {
			c.borrow(hold)
		}
		flow(c, 200<<20, 20*time.Millisecond, time.Second)
		if got := c.windowTarget(); got != initialRecvWindow {
			t.Errorf("window %d while memory is scarce", got)
		}
		// What the connection has received is not credited while it holds so much.
		window := c.recv.window
		if err := c.recv.take(connRecvWindow / 2); err != nil {
			t.Fatal(err)
		}
		c.repay()
		if c.recv.window >= window {
			t.Error("credit was given while memory is scarce")
		}
		for c.bufs.held.Load() > 0 {
			c.recv.held.Add(-int64(len(hold.b)))
			c.bufs.held.Add(-int64(len(hold.b)))
		}
		c.repay()
		if c.recv.window != window {
			t.Errorf("window %d after memory was free again, want %d", c.recv.window, window)
		}
	})
}

func TestScarceMemoryShrinksTheWindowsThatHaveGrown(t *testing.T) {
	c := receiver(t, 1<<20)
	c.target.Store(maxRecvWindow)
	tun := c.newTunnel()
	tun.mu.Lock()
	defer tun.mu.Unlock()
	tun.window = 2 << 20
	tun.creditLocked(2 << 20)
	if tun.window != maxRecvWindow {
		t.Fatalf("window %d before", tun.window)
	}
	c.bufs.held.Store(c.bufs.limit + 1)
	for left := maxRecvWindow; left > 0; left -= record { // the peer uses it up, and all of it is read
		tun.window -= record
		tun.creditLocked(record)
		if tun.window > max(left, initialRecvWindow) {
			t.Fatalf("window grew to %d", tun.window)
		}
	}
	if tun.window == 0 || tun.window > initialRecvWindow {
		t.Errorf("window %d while memory is scarce", tun.window)
	}
	c.bufs.held.Store(0)
	tun.window -= record
	tun.creditLocked(initialRecvWindow)
	tun.creditLocked(maxRecvWindow)
	if tun.window != maxRecvWindow {
		t.Errorf("window %d after", tun.window)
	}
}

func TestAStalledReaderHoldsNoMoreThanItsWindow(t *testing.T) {
	const tunnels = 20
	stall := make(chan struct{})
	w := newWorld(t, options{handler: func(_ context.Context, in *Incoming) {
		_, _ = in.Accept(Header{})
		<-stall
	}})
	defer close(stall)
	stuck := make(chan int, tunnels)
	for range tunnels {
		tun := w.dial()
		_ = tun.SetWriteDeadline(time.Now().Add(2 * time.Second))
		go func() {
			n, _ := tun.Write(make([]byte, 8<<20))
			stuck <- n
		}()
	}
	var sent int
	for range tunnels {
		sent += <-stuck
	}
	if sent < tunnels*initialRecvWindow {
		t.Fatalf("%d bytes were sent: the readers are not stalled", sent)
	}
	const most = tunnels * initialRecvWindow * 5 / 4 // buffers are not always full
	if held := w.server.bufs.held.Load(); held > most {
		t.Errorf("%d bytes are held for %d stalled readers", held, tunnels)
	}
}
