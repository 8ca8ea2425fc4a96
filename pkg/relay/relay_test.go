package relay_test

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"io"
	"net"
	"syscall"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/outrigger-mesh/outrigger/pkg/relay"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// wrapped hides what kind of connection it is, as one that was peeked does.
type wrapped struct{ *net.TCPConn }

func pair(t *testing.T) (ours, theirs *net.TCPConn) {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	c, err := net.Dial("tcp", ln.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	s, err := ln.Accept()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close(); s.Close() })
	deadline := time.Now().Add(20 * time.Second)
	c.SetDeadline(deadline)
	return s.(*net.TCPConn), c.(*net.TCPConn)
}

// relaying starts a relay and gives the two far ends and how it will end.
func relaying(t *testing.T, ctx context.Context, hide bool) (left, right *net.TCPConn, result <-chan relay.Result) {
	a, left := pair(t)
	b, right := pair(t)
	done := make(chan relay.Result, 1)
	go func() {
		if hide {
			done <- relay.Copy(ctx, wrapped{a}, wrapped{b})
			return
		}
		done <- relay.Copy(ctx, a, b)
	}()
	return left, right, done
}

func both(t *testing.T, f func(t *testing.T, hide bool)) {
	for name, hide := range map[string]bool{"sockets": false, "wrapped": true} {
		t.Run(name, func(t *testing.T) { f(t, hide) })
	}
}

func TestEachDirectionEndsByItself(t *testing.T) {
	both(t, func(t *testing.T, hide bool) {
		left, right, result := relaying(t, t.Context(), hide)
		up, down := make([]byte, 3<<20), make([]byte, 1<<20)
		rand.Read(up)
		rand.Read(down)
		go func() { left.Write(up); left.CloseWrite() }()
		got, err := io.ReadAll(right)
		if err != nil || !bytes.Equal(got, up) {
			t.Fatalf("%d of %d bytes went up: %v", len(got), len(up), err)
		}
		// The other direction still works after that end.
		go func() { right.Write(down); right.CloseWrite() }()
		got, err = io.ReadAll(left)
		if err != nil || !bytes.Equal(got, down) {
			t.Fatalf("%d of %d bytes came down: %v", len(got), len(down), err)
		}
		if r := <-result; r.Err != nil || r.Sent != int64(len(up)) || r.Received != int64(len(down)) {
			t.Fatalf("result %+v", r)
		}
	})
}

func TestAResetOfOneIsAResetOfTheOther(t *testing.T) {
	both(t, func(t *testing.T, hide bool) {
		left, right, result := relaying(t, t.Context(), hide)
		left.Write([]byte("x"))
		if _, err := io.ReadFull(right, make([]byte, 1)); err != nil {
			t.Fatal(err)
		}
		left.SetLinger(0)
		left.Close()
		if _, err := right.Read(make([]byte, 1)); !errors.Is(err, syscall.ECONNRESET) {
			t.Fatalf("the other end sees %v, not a reset", err)
		}
		if r := <-result; r.Err == nil {
			t.Fatal("a relay that was reset ended without an error")
		}
	})
}

func TestTheEndOfTheContextCutsAnIdleRelay(t *testing.T) {
	both(t, func(t *testing.T, hide bool) {
		why := errors.New("policy changed")
		ctx, cancel := context.WithCancelCause(t.Context())
		_, right, result := relaying(t, ctx, hide)
		cancel(why)
		if _, err := right.Read(make([]byte, 1)); !errors.Is(err, syscall.ECONNRESET) {
			t.Fatalf("the end sees %v, not a reset", err)
		}
		if r := <-result; !errors.Is(r.Err, why) {
			t.Fatalf("result %+v", r)
		}
	})
}

func TestAReaderThatStallsHoldsUpOnlyItsDirection(t *testing.T) {
	both(t, func(t *testing.T, hide bool) {
		left, right, _ := relaying(t, t.Context(), hide)
		filled := make(chan struct{})
		go func() { // nobody reads at right until this blocks or ends
			left.SetWriteDeadline(time.Now().Add(500 * time.Millisecond))
			left.Write(make([]byte, 64<<20))
			close(filled)
		}()
		for range 100 {
			if _, err := right.Write([]byte("y")); err != nil {
				t.Fatal(err)
			}
			if _, err := io.ReadFull(left, make([]byte, 1)); err != nil {
				t.Fatal(err)
			}
		}
		<-filled
		left.SetLinger(0)
		left.Close()
	})
}

func BenchmarkCopy(b *testing.B) {
	ln, _ := net.Listen("tcp", "127.0.0.1:0")
	defer ln.Close()
	connect := func() (*net.TCPConn, *net.TCPConn) {
		c, err := net.Dial("tcp", ln.Addr().String())
		if err != nil {
			b.Fatal(err)
		}
		s, err := ln.Accept()
		if err != nil {
			b.Fatal(err)
		}
		return s.(*net.TCPConn), c.(*net.TCPConn)
	}
	a, left := connect()
	z, right := connect()
	done := make(chan struct{})
	go func() { relay.Copy(context.Background(), a, z); close(done) }()
	block := make([]byte, 64<<10)
	b.SetBytes(int64(len(block)))
	b.ReportAllocs()
	for b.Loop() {
		go left.Write(block)
		if _, err := io.ReadFull(right, make([]byte, len(block))); err != nil {
			b.Fatal(err)
		}
	}
	left.Close()
	right.Close()
	<-done
}
