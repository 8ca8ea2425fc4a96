// Package relay copies bytes between two connections, both ways, with
// half-close, resets and byte counts.
package relay

import (
	"context"
	"net"
	"time"
)

// A Conn can end its direction while the other goes on, and can be reset.
type Conn interface {
	net.Conn
	CloseWrite() error
}

// A Result is how a relay ended.
type Result struct {
	Sent     int64 // bytes from the first connection to the second
	Received int64 // bytes from the second to the first
	Err      error // nil if both ends finished; otherwise why it was cut
}

// A Meter is told of bytes while a relay carries them. Its methods may be called
// at once, from any goroutine, with locks held: they must be quick.
type Meter interface {
	Sent(n int64)     // from the first connection to the second
	Received(n int64) // from the second to the first
}

// Unmetered is a Meter for whom the Result is enough.
type Unmetered struct{}

// Sent does nothing.
func (Unmetered) Sent(int64) {}

// Received does nothing.
func (Unmetered) Received(int64) {}

// Reversed is m for the same connections in the other order.
func Reversed(m Meter) Meter { return reversed{m} }

type reversed struct{ m Meter }

func (r reversed) Sent(n int64)     { r.m.Received(n) }
func (r reversed) Received(n int64) { r.m.Sent(n) }

// A relayer relays better by itself than through its Read and Write. It is the first connection.
type relayer interface {
	Relay(ctx context.Context, c Conn, m Meter) Result
}

// Copy relays between a and b until both directions have ended or ctx does. A
// reset of one is passed on as a reset of the other, and so is the end of ctx.
// It takes over both.
func Copy(ctx context.Context, a, b Conn) Result { return CopyMetered(ctx, a, b, Unmetered{}) }

// CopyMetered is Copy under a meter's eyes.
func CopyMetered(ctx context.Context, a, b Conn, m Meter) Result {
	if t, ok := a.(relayer); ok {
		return t.Relay(ctx, b, m)
	}
	if t, ok := b.(relayer); ok {
		r := t.Relay(ctx, a, Reversed(m))
		r.Sent, r.Received = r.Received, r.Sent
		return r
	}
	return Plain(ctx, a, b, m)
}

// Abort makes c end by a reset when it is closed, and wakes who reads or
// writes it meanwhile. Unlike Reset it never waits for them.
func Abort(c net.Conn) {
	past := time.Unix(1, 0)
	switch c := c.(type) {
	case interface{ Reset() error }:
		_ = c.Reset()
		return
	case interface{ SetLinger(int) error }:
		_ = c.SetLinger(0) // it fails only on a connection that is gone
	case interface{ NetConn() net.Conn }:
		Abort(c.NetConn())
		return
	}
	_ = c.SetDeadline(past) // likewise
}

// Reset closes c so that its peer sees a reset rather than an end. It takes c
// over, and may wait for who is using it.
func Reset(c net.Conn) error {
	switch c := c.(type) {
	case interface{ Reset() error }:
		return c.Reset()
	case interface{ SetLinger(int) error }:
		_ = c.SetLinger(0) // it fails only on a connection that is gone
	case interface{ NetConn() net.Conn }: // TLS: no close_notify, it would look like an end
		return Reset(c.NetConn())
	}
	return c.Close()
}
