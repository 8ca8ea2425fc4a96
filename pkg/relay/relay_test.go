package relay

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func pair2(t testing.TB) (a, b *net.TCPConn) {
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
	d, err := ln.Accept()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close(); d.Close() })
	return c.(*net.TCPConn), d.(*net.TCPConn)
}

// through relays and returns the two outer ends and the result.
func through(t testing.TB, ctx context.Context, wrap func(Conn) Conn) (left, right *net.TCPConn, result chan Result) {
	left, a := pair2(t)
	b, right := pair2(t)
	result = make(chan Result, 1)
	go func() { result <- Copy(ctx, wrap(a), wrap(b)) }()
	return left, right, result
}

func plain(c Conn) Conn { return c }

// hidden has no file descriptor.
type hidden struct{ Conn }

func hide(c Conn) Conn { return hidden{c} }

func (h hidden) NetConn() net.Conn { return h.Conn }

func TestBothWaysArriveWithTheirEnds(t *testing.T) {
	for name, wrap := range map[string]func(Conn) Conn{"sockets": plain, "others": hide} {
		for _, size := range []int{0, 1, 5000, 300_000, 12 << 20} { // the last one is spliced
			left, right, result := through(t, context.Background(), wrap)
			want := bytes.Repeat([]byte("0123456789abcde\n"), size/16+1)[:size]
			var wait sync.WaitGroup
			for _, c := range []*net.TCPConn{left, right} {
				wait.Go(func() {
					_, _ = c.Write(want)
					_ = c.CloseWrite()
				})
				wait.Go(func() {
					got, err := io.ReadAll(c)
					if err != nil || !bytes.Equal(got, want) {
						t.Errorf("%s, %d bytes: got %d, %v", name, size, len(got), err)
					}
				})
			}
			wait.Wait()
			if r := <-result; r.Err != nil || r.Sent != int64(size) || r.Received != int64(size) {
				t.Errorf("%s, %d bytes: %+v", name, size, r)
			}
		}
	}
}

func TestHalfCloseLeavesTheOtherDirectionOpen(t *testing.T) {
	left, right, result := through(t, context.Background(), plain)
	_ = left.CloseWrite()
	if _, err := right.Read(make([]byte, 1)); !errors.Is(err, io.EOF) {
		t.Fatal(err)
	}
	for range 3 {
		_, _ = right.Write([]byte("x"))
		if _, err := io.ReadFull(left, make([]byte, 1)); err != nil {
			t.Fatal(err)
		}
	}
	_ = right.CloseWrite()
	if r := <-result; r.Err != nil || r.Received != 3 {
		t.Errorf("%+v", r)
	}
}

func TestAResetIsPassedOn(t *testing.T) {
	for name, prepare := range map[string]func(left, right *net.TCPConn){
		"at once":           func(_, _ *net.TCPConn) {},
		"after its own end": func(left, right *net.TCPConn) { _ = left.CloseWrite(); _, _ = io.ReadAll(right) },
		"after the other's": func(left, right *net.TCPConn) { _ = right.CloseWrite(); _, _ = io.ReadAll(left) },
	} {
		left, right, result := through(t, context.Background(), plain)
		prepare(left, right)
		_ = Reset(left)
		_, err := right.Read(make([]byte, 1))
		if name == "after its own end" {
			for err == nil || errors.Is(err, io.EOF) {
				_, err = right.Write([]byte("x"))
			}
		}
		if !errors.Is(err, syscall.ECONNRESET) && !errors.Is(err, syscall.EPIPE) {
			t.Errorf("%s: %v", name, err)
		}
		if r := <-result; r.Err == nil {
			t.Errorf("%s: no error", name)
		}
	}
}

func TestTheEndOfTheContextCuts(t *testing.T) {
	for name, wrap := range map[string]func(Conn) Conn{"sockets": plain, "others": hide} {
		ctx, cancel := context.WithCancelCause(context.Background())
		left, right, result := through(t, ctx, wrap)
		told := make(chan error, 2) // the kernel tells of a reset once, to who asks first
		for _, c := range []*net.TCPConn{left, right} {
			go func() { // nobody reads: both ends are stuck in writes
				_, err := c.Write(make([]byte, 32<<20))
				told <- err
			}()
		}
		time.AfterFunc(50*time.Millisecond, func() { cancel(io.ErrClosedPipe) })
		if r := <-result; !errors.Is(r.Err, io.ErrClosedPipe) {
			t.Errorf("%s: %v", name, r.Err)
		}
		for _, c := range []*net.TCPConn{left, right} {
			_, err := io.Copy(io.Discard, c)
			if other := <-told; err == nil && other == nil {
				t.Errorf("%s: a cut looks like an end", name)
			}
		}
	}
}

type relaying struct{ Conn }

func (r relaying) Relay(context.Context, Conn, Meter) Result { return Result{Sent: 1, Received: 2} }

func TestAConnectionThatRelaysByItselfIsAsked(t *testing.T) {
	a, b := pair2(t)
	if r := Copy(context.Background(), relaying{a}, b); r.Sent != 1 || r.Received != 2 {
		t.Errorf("%+v", r)
	}
	if r := Copy(context.Background(), b, relaying{a}); r.Sent != 2 || r.Received != 1 {
		t.Errorf("other way: %+v", r)
	}
}

// counts is a Meter that can be waited for.
type counts struct{ sent, received atomic.Int64 }

func (c *counts) Sent(n int64)     { c.sent.Add(n) }
func (c *counts) Received(n int64) { c.received.Add(n) }

func TestAMeterIsToldWhileBytesMove(t *testing.T) {
	const size = 7 << 20 // part of it is spliced
	for name, wrap := range map[string]func(Conn) Conn{"sockets": plain, "others": hide} {
		left, a := pair2(t)
		b, right := pair2(t)
		var m counts
		result := make(chan Result, 1)
		go func() { result <- CopyMetered(context.Background(), wrap(a), wrap(b), &m) }()
		go func() { _, _ = left.Write(make([]byte, size)) }()
		if _, err := io.ReadFull(right, make([]byte, size)); err != nil {
			t.Fatal(err)
		}
		if _, err := right.Write([]byte("back")); err != nil {
			t.Fatal(err)
		}
		if _, err := io.ReadFull(left, make([]byte, len("back"))); err != nil {
			t.Fatal(err)
		}
		for end := time.Now().Add(20 * time.Second); m.sent.Load() < size-spliceTold || m.received.Load() < 4; time.Sleep(time.Millisecond) {
			if time.Now().After(end) {
				t.Fatalf("%s: %d and %d bytes were told of while the relay lasts", name, m.sent.Load(), m.received.Load())
			}
		}
		_, _ = left.CloseWrite(), right.CloseWrite()
		if r := <-result; r.Sent != m.sent.Load() || r.Received != m.received.Load() {
			t.Errorf("%s: told of %d and %d, result is %+v", name, m.sent.Load(), m.received.Load(), r)
		}
	}
}

func TestAReversedMeterCountsTheOtherWay(t *testing.T) {
	var m counts
	r := Reversed(&m)
	r.Sent(3)
	r.Received(5)
	if m.sent.Load() != 5 || m.received.Load() != 3 {
		t.Errorf("sent %d, received %d", m.sent.Load(), m.received.Load())
	}
}

func BenchmarkRelay(b *testing.B) {
	for name, size := range map[string]int{"64B": 64, "16KiB": 16 << 10, "1MiB": 1 << 20} {
		b.Run(name, func(b *testing.B) {
			left, right, result := through(b, context.Background(), plain)
			go func() {
				_, _ = io.Copy(struct{ io.Writer }{right}, struct{ io.Reader }{right})
				_ = right.CloseWrite()
			}()
			p := make([]byte, size)
			b.SetBytes(int64(size))
			b.ReportAllocs()
			for b.Loop() {
				go func() { _, _ = left.Write(p) }()
				if _, err := io.ReadFull(left, make([]byte, size)); err != nil {
					b.Fatal(err)
				}
			}
			_ = left.CloseWrite()
			<-result
		})
	}
}
