package hbone

import (
	"context"
	"io"
	"net"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"golang.org/x/net/http2"
)

// pipeServer serves one end of an in-memory connection and returns the other.
// It is for use in a bubble of synctest.
func pipeServer(t *testing.T, h Handler) net.Conn {
	ours, theirs := net.Pipe()
	s := newServer(ServerConfig{}, nil)
	ctx, cancel := context.WithCancel(context.Background())
	a := &acceptor{s: s, ctx: ctx, h: h, conns: make(map[*conn]struct{})}
	a.wait.Go(func() { a.run(ctx, a.newConn(ours, nil, nil)) })
	t.Cleanup(func() {
		cancel()
		theirs.Close()
		a.wait.Wait()
	})
	return theirs
}

// A listener collects the frames that come.
type frames struct {
	mu  sync.Mutex
	all []http2.FrameHeader
	end time.Time // when the connection ended
}

func collect(c net.Conn) *frames {
	f := &frames{}
	go func() {
		fr := http2.NewFramer(io.Discard, c)
		for {
			got, err := fr.ReadFrame()
			f.mu.Lock()
			if err != nil {
				f.end = time.Now()
				f.mu.Unlock()
				return
			}
			f.all = append(f.all, got.Header())
			f.mu.Unlock()
		}
	}()
	return f
}

func (f *frames) count(typ http2.FrameType) int {
	f.mu.Lock()
	defer f.mu.Unlock()
	n := 0
	for _, h := range f.all {
		if h.Type == typ && !h.Flags.Has(1) {
			n++
		}
	}
	return n
}

func (f *frames) ended(since time.Time) time.Duration {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.end.IsZero() {
		return 0
	}
	return f.end.Sub(since)
}

const emptySettings = "\x00\x00\x00\x04\x00\x00\x00\x00\x00"

func TestWhoIsSlowToBeginIsCut(t *testing.T) {
	for name, c := range map[string]struct {
		begin string
		most  time.Duration
	}{
		"nothing":               {"", 3 * time.Second},
		"half a preface":        {http2.ClientPreface[:10], 3 * time.Second},
		"no SETTINGS":           {http2.ClientPreface, 3 * time.Second},
		"half of SETTINGS":      {http2.ClientPreface + "\x00\x00\x06\x04\x00", 3 * time.Second},
		"half of HEADERS":       {http2.ClientPreface + emptySettings + "\x00\x00\x10\x01\x04\x00\x00\x00\x01abc", 6 * time.Second},
		"HEADERS without end":   {http2.ClientPreface + emptySettings + "\x00\x00\x01\x01\x00\x00\x00\x00\x01\x82", 6 * time.Second},
		"no tunnel and no PING": {http2.ClientPreface + emptySettings, 41 * time.Second},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				conn := pipeServer(t, echo)
				start := time.Now()
				f := collect(conn)
				if c.begin != "" {
					_, _ = conn.Write([]byte(c.begin))
				}
				time.Sleep(c.most)
				if f.ended(start) == 0 {
					t.Errorf("still open after %v", c.most)
				}
			})
		})
	}
}

func TestPINGComesAfterSilenceOnly(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		conn := pipeServer(t, echo)
		f := collect(conn)
		_, _ = conn.Write([]byte(http2.ClientPreface + emptySettings))
		fr := http2.NewFramer(conn, nil)
		answered := 0
		for range 20 { // whoever sends anything is alive
			_ = fr.WriteWindowUpdate(0, 1000)
			time.Sleep(7 * time.Second)
		}
		if n := f.count(http2.FramePing); n != 0 {
			t.Errorf("%d PINGs to a peer that talks", n)
		}
		for range 100 {
			time.Sleep(time.Second)
			if n := f.count(http2.FramePing); n > answered {
				_ = fr.WritePing(true, pingKeep)
				answered = n
			}
		}
		if n := f.count(http2.FramePing); n < 4 || n > 11 {
			t.Errorf("%d PINGs in 100 s of silence", n)
		}
		if f.ended(time.Now()) != 0 {
			t.Error("the connection was cut although PINGs were answered")
		}
	})
}

func TestAnIdleConnectionIsClosedWithGOAWAY(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		conn := pipeServer(t, echo)
		start := time.Now()
		f := collect(conn)
		_, _ = conn.Write([]byte(http2.ClientPreface + emptySettings))
		fr := http2.NewFramer(conn, nil)
		for range 60 {
			time.Sleep(9 * time.Second)
			if fr.WriteWindowUpdate(0, 1000) != nil {
				break
			}
		}
		if d := f.ended(start); d < 5*time.Minute || d > 6*time.Minute {
			t.Errorf("ended after %v", d)
		}
		if n := f.count(http2.FrameGoAway); n < 2 {
			t.Errorf("%d GOAWAYs", n)
		}
	})
}

func TestAPeerThatDoesNotReadIsCut(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		conn := pipeServer(t, sending)
		start := time.Now()
		_, _ = conn.Write([]byte(http2.ClientPreface + emptySettings))
		// It opens a tunnel and keeps talking, so that it is not silent.
		block := "\x42\x07CONNECT\x41\x0b10.0.0.1:80"
		_, _ = conn.Write([]byte("\x00\x00" + string(rune(len(block))) + "\x01\x04\x00\x00\x00\x01" + block))
		var err error
		for range 20 {
			time.Sleep(5 * time.Second)
			_ = conn.SetWriteDeadline(time.Now().Add(time.Second))
			if _, err = conn.Write([]byte("\x00\x00\x04\x08\x00\x00\x00\x00\x00\x00\x00\x10\x00")); err != nil {
				break
			}
		}
		if d := time.Since(start); err == nil || d > time.Minute {
			t.Errorf("after %v: %v", d, err)
		}
	})
}

func TestAQuietConnectionGivesItsBuffersBackAndGoesOn(t *testing.T) {
	w := newWorld(t, options{dialer: DialerConfig{MaxConns: 1}, handler: echo})
	tun := w.dial()
	for range 3 {
		want := pattern(100_000, 9)
		go func() { _, _ = tun.Write(want) }()
		got := make([]byte, len(want))
		if _, err := io.ReadFull(tun, got); err != nil || string(got) != string(want) {
			t.Fatal(err)
		}
		for range 2 { // as two ticks of silence would
			if err := tun.c.look(); err != nil {
				t.Fatal(err)
			}
		}
	}
}
