package hbone

import (
	"bytes"
	"context"
	"errors"
	"io"
	"math/rand/v2"
	"net"
	"os"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/outrigger-mesh/outrigger/pkg/relay"
)

func pattern(n int, seed uint64) []byte {
	r := rand.NewChaCha8([32]byte{byte(seed), byte(seed >> 8), byte(seed >> 16)})
	p := make([]byte, n)
	_, _ = r.Read(p) // it never fails
	return p
}

func TestATunnelCarriesBytesBothWays(t *testing.T) {
	w := newWorld(t, options{handler: echo})
	for _, size := range []int{1, 100, 9000, 70000, 3 << 20} {
		tun := w.dial()
		want := pattern(size, uint64(size))
		go func() {
			if _, err := tun.Write(want); err != nil {
				t.Error(err)
			}
			if err := tun.CloseWrite(); err != nil {
				t.Error(err)
			}
		}()
		got, err := io.ReadAll(tun)
		if err != nil || !bytes.Equal(got, want) {
			t.Fatalf("%d bytes: got %d, %v", size, len(got), err)
		}
		tun.Close()
	}
}

func TestARelayedTunnelCarriesBytesBothWays(t *testing.T) {
	w := newWorld(t, options{handler: relayTo(t, serveTCP(t, echoTCP))})
	front := w.front("10.0.0.1:80")
	for _, size := range []int{1, 100, 9000, 70000, 3 << 20} {
		c := dialTCP(t, front)
		want := pattern(size, uint64(size))
		go func() {
			if _, err := c.Write(want); err != nil {
				t.Error(err)
			}
			if err := c.CloseWrite(); err != nil {
				t.Error(err)
			}
		}()
		got, err := io.ReadAll(c)
		if err != nil || !bytes.Equal(got, want) {
			t.Fatalf("%d bytes: got %d, %v", size, len(got), err)
		}
		c.Close()
	}
}

func dialTCP(t testing.TB, address string) *net.TCPConn {
	t.Helper()
	c, err := net.Dial("tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	return c.(*net.TCPConn)
}

// TestPeersWithFullSocketsDoNotDeadlock: both ends send as much as they can
// at once. An engine whose reader waits for its writer hangs here.
func TestPeersWithFullSocketsDoNotDeadlock(t *testing.T) {
	w := newWorld(t, options{handler: relayTo(t, serveTCP(t, echoTCP))})
	front := w.front("10.0.0.1:80")
	const tunnels, size = 100, 1 << 20
	want := pattern(size, 7)
	var wait sync.WaitGroup
	for range tunnels {
		wait.Go(func() {
			c, err := net.Dial("tcp", front)
			if err != nil {
				t.Error(err)
				return
			}
			defer c.Close()
			go func() {
				_, _ = c.Write(want)
				_ = c.(*net.TCPConn).CloseWrite()
			}()
			got, err := io.ReadAll(c)
			if err != nil || !bytes.Equal(got, want) {
				t.Errorf("got %d bytes, %v", len(got), err)
			}
		})
	}
	wait.Wait()
}

func TestHalfCloseLeavesTheOtherDirectionOpen(t *testing.T) {
	// The app reads everything first and only then begins to talk.
	w := newWorld(t, options{handler: relayTo(t, serveTCP(t, func(c *net.TCPConn) {
		b, _ := io.ReadAll(c)
		for range 10 {
			_, _ = c.Write(b)
		}
	}))})
	c := dialTCP(t, w.front("10.0.0.1:80"))
	defer c.Close()
	_, _ = c.Write([]byte("hello"))
	_ = c.CloseWrite()
	got, err := io.ReadAll(c)
	if err != nil || len(got) != 50 {
		t.Fatalf("got %q, %v", got, err)
	}
}

func TestAResetOfTheAppReachesTheClient(t *testing.T) {
	for _, after := range []int{0, 10, 100000} {
		w := newWorld(t, options{handler: relayTo(t, serveTCP(t, func(c *net.TCPConn) {
			_, _ = io.CopyN(io.Discard, c, 1)
			_, _ = c.Write(make([]byte, after))
			_ = c.SetLinger(0)
		}))})
		c := dialTCP(t, w.front("10.0.0.1:80"))
		_, _ = c.Write([]byte("x"))
		_, err := io.Copy(io.Discard, c)
		if !errors.Is(err, syscall.ECONNRESET) {
			t.Errorf("after %d bytes: %v", after, err)
		}
		c.Close()
	}
}

func TestAResetOfTheClientReachesTheApp(t *testing.T) {
	for _, half := range []bool{false, true} {
		seen := make(chan error, 1)
		w := newWorld(t, options{handler: relayTo(t, serveTCP(t, func(c *net.TCPConn) {
			_, _ = c.Write([]byte("y"))
			_, err := io.Copy(io.Discard, c)
			if half && err == nil { // the end came; a reset shows when we write
				for err == nil {
					_, err = c.Write([]byte("z"))
					time.Sleep(time.Millisecond)
				}
			}
			seen <- err
		}))})
		c := dialTCP(t, w.front("10.0.0.1:80"))
		_, _ = c.Write([]byte("hello"))
		_, _ = io.ReadFull(c, make([]byte, 1))
		if half {
			_ = c.CloseWrite()
			time.Sleep(20 * time.Millisecond)
		}
		_ = c.SetLinger(0)
		c.Close()
		err := <-seen
		if !errors.Is(err, syscall.ECONNRESET) && !errors.Is(err, syscall.EPIPE) {
			t.Errorf("half-closed first %v: %v", half, err)
		}
	}
}

func TestTheEndOfTheContextCutsARelay(t *testing.T) {
	w := newWorld(t, options{handler: func(_ context.Context, in *Incoming) {
		ctx, cancel := context.WithCancelCause(context.Background())
		defer cancel(nil)
		tun, err := in.Accept(Header{})
		if err != nil {
			t.Error(err)
			return
		}
		a, b := tcpPair(t)
		defer b.Close()
		time.AfterFunc(20*time.Millisecond, func() { cancel(io.ErrClosedPipe) })
		if r := tun.Relay(ctx, a, relay.Unmetered{}); !errors.Is(r.Err, io.ErrClosedPipe) {
			t.Errorf("relay ended with %v", r.Err)
		}
		if _, err := b.Read(make([]byte, 1)); !errors.Is(err, syscall.ECONNRESET) {
			t.Errorf("app saw %v", err)
		}
	}})
	tun := w.dial()
	if _, err := tun.Read(make([]byte, 1)); !errors.Is(err, syscall.ECONNRESET) {
		t.Errorf("client saw %v", err)
	}
}

func tcpPair(t testing.TB) (a, b *net.TCPConn) {
	t.Helper()
	ln := listen(t)
	defer ln.Close()
	a = dialTCP(t, ln.Addr().String())
	c, err := ln.Accept()
	if err != nil {
		t.Fatal(err)
	}
	return a, c.(*net.TCPConn)
}

func TestDeadlinesEndReadAndWrite(t *testing.T) {
	w := newWorld(t, options{handler: func(ctx context.Context, in *Incoming) {
		_, _ = in.Accept(Header{})
		<-ctx.Done() // reads nothing
	}})
	tun := w.dial()
	defer tun.Close()
	_ = tun.SetDeadline(time.Now().Add(30 * time.Millisecond))
	if _, err := tun.Read(make([]byte, 1)); !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("read: %v", err)
	}
	if n, err := tun.Write(make([]byte, 8<<20)); !errors.Is(err, os.ErrDeadlineExceeded) || n != 0 {
		t.Errorf("write past its deadline: %d, %v", n, err)
	}
	_ = tun.SetDeadline(time.Time{})
	go func() {
		for blocked := 0; blocked == 0; time.Sleep(time.Millisecond) {
			tun.c.mu.Lock()
			blocked = len(tun.c.send.blocked)
			tun.c.mu.Unlock()
		}
		_ = tun.SetWriteDeadline(time.Now())
	}()
	if n, err := tun.Write(make([]byte, 8<<20)); !errors.Is(err, os.ErrDeadlineExceeded) || n < initialRecvWindow {
		t.Errorf("write into a closed window: %d, %v", n, err)
	}
}

func TestAStalledReaderStopsOnlyItself(t *testing.T) {
	stall := make(chan struct{})
	w := newWorld(t, options{dialer: DialerConfig{MaxConns: 1}, handler: func(ctx context.Context, in *Incoming) {
		if in.Authority == "10.0.0.1:80" {
			_, _ = in.Accept(Header{})
			<-stall
			return
		}
		echo(ctx, in)
	}})
	defer close(stall)
	for range 80 {
		tun := w.dial()
		go func() { _, _ = tun.Write(make([]byte, 1<<20)) }()
	}
	tun, err := w.dialer.Dial(ctxOf(t), w.hop("10.0.0.2:80"), Header{})
	if err != nil {
		t.Fatal(err)
	}
	want := pattern(32<<20, 3)
	go func() {
		_, _ = tun.Write(want)
		_ = tun.CloseWrite()
	}()
	got, err := io.ReadAll(tun)
	if err != nil || !bytes.Equal(got, want) {
		t.Fatalf("got %d bytes, %v", len(got), err)
	}
}
