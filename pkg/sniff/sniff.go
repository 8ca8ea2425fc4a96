// Package sniff tells what a connection speaks from its first bytes: TLS, HTTP/1,
// HTTP/2 or something opaque. It interprets no more than it needs for that, and
// what it read is read again by whoever comes next.
package sniff

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"time"
)

// Protocol is what a connection begins with.
type Protocol uint8

const (
	Opaque Protocol = iota // none of those below, or silence: the server may be the one to speak first
	TLS                    // a ClientHello
	HTTP1                  // an HTTP/1 request line
	HTTP2                  // HTTP/2's connection preface (RFC 9113 §3.4)
)

func (p Protocol) String() string {
	switch p {
	case TLS:
		return "tls"
	case HTTP1:
		return "http/1"
	case HTTP2:
		return "http/2"
	}
	return "opaque"
}

const maxPeek = 64 // every answer is known after fewer bytes

// Conn reads the first bytes of c until they tell the protocol, for at most limit,
// and returns a connection that yields them again and is otherwise c. If limit
// passes first, or the peer ends its direction, the connection is Opaque. The error
// is that of ctx or of c; then c is the caller's to close, as it was before.
//
// The connection that is returned can half-close if c can, and is a *Replay.
func Conn(ctx context.Context, c net.Conn, limit time.Duration) (Protocol, net.Conn, error) {
	r := &Replay{Conn: c}
	if err := c.SetReadDeadline(time.Now().Add(limit)); err != nil {
		return Opaque, r, fmt.Errorf("peek: %w", err)
	}
	done := make(chan struct{})
	stop := context.AfterFunc(ctx, func() {
		defer close(done)
		c.SetReadDeadline(time.Unix(1, 0))
	})
	p, err := r.peek()
	if !stop() {
		<-done
	}
	if ctx.Err() != nil {
		return Opaque, r, fmt.Errorf("peek: %w", context.Cause(ctx))
	}
	if err != nil {
		return Opaque, r, fmt.Errorf("peek: %w", err)
	}
	// A connection that takes no deadline any more has ended, and its own Read
	// says so, after what was peeked.
	_ = c.SetReadDeadline(time.Time{})
	return p, r, nil
}

// peek reads until the protocol is known, or until there is nothing to wait for.
func (r *Replay) peek() (Protocol, error) {
	buf := make([]byte, 0, maxPeek)
	for {
		n, err := r.Conn.Read(buf[len(buf):cap(buf)])
		buf = buf[:len(buf)+n]
		r.peeked = buf
		if p, known := classify(buf); known {
			return p, nil
		}
		switch {
		case errors.Is(err, io.EOF), errors.Is(err, os.ErrDeadlineExceeded), len(buf) == cap(buf):
			return Opaque, nil
		case err != nil:
			return Opaque, err
		}
	}
}

const preface = "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"

// classify tells what b begins. It is not known while more bytes may decide.
func classify(b []byte) (p Protocol, known bool) {
	switch {
	case len(b) == 0:
		return Opaque, false
	case b[0] == 22:
		return hello(b)
	case len(b) <= len(preface) && string(b) == preface[:len(b)]:
		return HTTP2, len(b) == len(preface)
	case len(b) > len(preface) && string(b[:len(preface)]) == preface:
		return HTTP2, true
	}
	return request(b)
}

// hello recognises a TLS record that begins a ClientHello (RFC 8446 §5.1, §4).
func hello(b []byte) (Protocol, bool) {
	for i, c := range b[:min(len(b), 6)] {
		ok := true
		switch i {
		case 1:
			ok = c == 3
		case 2:
			ok = c <= 4
		case 3:
			ok = c <= 0x48 // a record holds at most 2^14+2048 bytes
		case 5:
			ok = c == 1
		}
		if !ok {
			return Opaque, true
		}
	}
	return TLS, len(b) >= 6
}

// request recognises "METHOD SP target" with a target in one of its four forms.
func request(b []byte) (Protocol, bool) {
	n := 0
	for n < len(b) && (b[n] >= 'A' && b[n] <= 'Z' || n > 0 && b[n] == '-') {
		n++
	}
	switch {
	case n > 20:
		return Opaque, true
	case n == len(b):
		return Opaque, false
	case n == 0 || b[n] != ' ':
		return Opaque, true
	case string(b[:n]) == "CONNECT":
		return HTTP1, true
	case n+1 == len(b):
		return Opaque, false
	}
	switch b[n+1] {
	case '/', '*', 'h', 'H':
		return HTTP1, true
	}
	return Opaque, true
}
