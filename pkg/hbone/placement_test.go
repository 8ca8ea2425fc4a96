package hbone

import (
	"context"
	"io"
	"testing"
	"time"
)

// connOf makes a connection for placement: it has streams, and has moved bytes in the last second.
func connOf(streams int, bytesPerSecond int64, room int) *pooled {
	c := &conn{client: true, peerMax: streams + room, nextID: 1, streams: map[uint32]*Tunnel{}}
	for i := range streams {
		c.streams[uint32(i)] = &Tunnel{}
	}
	c.moved.Store(bytesPerSecond)
	return &pooled{conn: c, at: time.Now().Add(-time.Second)}
}

func TestATunnelGoesWhereItWaitsLeast(t *testing.T) {
	for _, c := range []struct {
		name  string
		conns []*pooled
		best  int // -1: none
		grow  bool
	}{
		{"the only one", []*pooled{connOf(0, 0, 9)}, 0, false},
		{"the one with fewer tunnels", []*pooled{connOf(3, 0, 9), connOf(1, 0, 9)}, 1, true},
		{"a quiet one with many rather than a busy one with few", []*pooled{connOf(1, 100<<20, 9), connOf(5, 1<<10, 9)}, 1, true},
		{"the least busy", []*pooled{connOf(1, 100<<20, 9), connOf(1, 50<<20, 9), connOf(1, 90<<20, 9)}, 1, true},
		{"a little traffic does not count", []*pooled{connOf(2, 0, 9), connOf(1, 1<<20, 9)}, 1, true},
		{"one with room, however busy", []*pooled{connOf(1, 100<<20, 9), connOf(1, 0, 0)}, 0, true},
		{"none with room", []*pooled{connOf(3, 0, 0)}, -1, false},
		{"no more than allowed", []*pooled{connOf(9, 9<<20, 9), connOf(9, 9<<20, 9), connOf(9, 9<<20, 9), connOf(8, 8<<20, 9)}, 3, false},
	} {
		p := &peerConns{conns: c.conns}
		best := p.best(100, nil)
		switch {
		case c.best < 0:
			if best != nil {
				t.Errorf("%s: got one", c.name)
			}
		case best != c.conns[c.best]:
			t.Errorf("%s: got another", c.name)
		case p.crowded(best, 4) != c.grow:
			t.Errorf("%s: one more connection: %v", c.name, !c.grow)
		}
	}
}

func TestATunnelBesideBulkGetsAConnectionOfItsOwn(t *testing.T) {
	w := newWorld(t, options{handler: echo})
	bulk := w.dial()
	ctx, stop := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() {
		defer close(done)
		p := make([]byte, 64<<10)
		for ctx.Err() == nil {
			if _, err := bulk.Write(p); err != nil {
				return
			}
			if _, err := io.ReadFull(bulk, p); err != nil {
				return
			}
		}
	}()
	defer func() { stop(); bulk.Close(); <-done }()
	for range 3 { // with one there is no choice but to wait for another
		for from := bulk.c.moved.Load(); bulk.c.moved.Load() < from+8<<20; {
			time.Sleep(time.Millisecond)
		}
		began := time.Now()
		other := w.dial()
		if waited := time.Since(began); other.c == bulk.c && waited < busyHeadStart {
			t.Errorf("a tunnel was put beside bulk after %v", waited)
		}
	}
}
