// Package h2 carries HTTP/2 (RFC 9113) on one connection, in either role: frames,
// HPACK, flow control, and what a peer may cost. It knows streams and header lists,
// not what is asked or answered in them.
//
// It is for messages: header lists whole, bodies in small windows, many short
// streams. Tunnels that last are pkg/hbone's.
package h2

import (
	"errors"
	"fmt"
	"net"
	"time"

	"golang.org/x/net/http2"
)

// Config is how to speak on one connection. Zero fields take the defaults.
type Config struct {
	Client bool
	// Accept takes a stream that the peer opened, whose Header is complete. The read
	// loop calls it, so it must not wait; who takes a stream calls its Done. Required
	// of a server.
	Accept func(*Stream)
	// Trailer tells whether a field may be in a trailer section; nil means any.
	Trailer func(name string) bool

	Streams int // that the peer may have open, or that are opened; 0 means 100
	Header  int // bytes of a header list as RFC 9113 §10.5.1 counts, and of its block; 0 means 32 KiB
	Fields  int // of a header list; 0 means 128

	Noise  int // frames a second that carry nothing; 0 means 2000, five times that at once
	Resets int // streams a second that end without use; 0 means 100, five times that at once

	Begin time.Duration // for the peer's preface and SETTINGS, and for one header block; 0 means 10s
	Idle  time.Duration // without a stream; 0 means 5m
	Write time.Duration // for one write, and for the peer to open a window; 0 means 1m
}

func (c Config) withDefaults() Config {
	c.Streams = or(c.Streams, 100)
	c.Header = or(c.Header, 32<<10)
	c.Fields = or(c.Fields, 128)
	c.Noise = or(c.Noise, 2000)
	c.Resets = or(c.Resets, 100)
	c.Begin = or(c.Begin, 10*time.Second)
	c.Idle = or(c.Idle, 5*time.Minute)
	c.Write = or(c.Write, time.Minute)
	return c
}

func or[T int | time.Duration](v, d T) T {
	if v <= 0 {
		return d
	}
	return v
}

// Preface is what a client begins with (RFC 9113 §3.4).
const Preface = http2.ClientPreface

const (
	window       = 65535     // that a stream of the peer's has: what it may make us keep
	connWindow   = 1 << 20   // that all of them have together; given back as soon as it is received
	frameSize    = 16 << 10  // the largest frame either side sends here
	frameHeader  = 9         // bytes
	maxFrames    = 8         // HEADERS and CONTINUATION of one block
	maxPending   = 64 << 10  // bytes that wait to be written before writers wait
	maxControl   = 1000      // control frames that wait for a peer that does not read
	maxInterim   = 8         // 1xx responses before the final one
	maxWindow    = 1<<31 - 1 // RFC 9113 §6.9.1
	maxRounds    = 8         // writes of one goroutine for others
	updatesFree  = 10        // WINDOW_UPDATEs per DATA frame of ours that cost nothing
	tinyUpdate   = 256       // a WINDOW_UPDATE that lets us send next to nothing, in bytes
	lingerTime   = 500 * time.Millisecond
	lingerBytes  = 256 << 10
	patience     = 500 * time.Millisecond // that a read waits with a buffer at hand
	maxSettings  = 32                     // in one frame; there are fewer than ten
	maxUnanswers = 256                    // streams that were reset and may still be sent to
)

// Errors of streams and connections.
var (
	// ErrRefused means that the peer did not look at the stream: what it was to carry
	// may be sent again.
	ErrRefused = errors.New("HTTP/2 peer refused the stream before it looked at it")
	// ErrStopped means that the peer has answered and wants no more of what it is sent.
	ErrStopped = errors.New("HTTP/2 peer wants no more of the stream")

	errIdle = errors.New("no stream for too long")
)

// A ResetError is a stream that was reset.
type ResetError struct {
	Code   http2.ErrCode
	Remote bool   // by the peer
	Reason string // if it was us
}

func (e *ResetError) Error() string {
	if e.Remote {
		return fmt.Sprintf("HTTP/2 peer reset the stream: %v", e.Code)
	}
	return fmt.Sprintf("HTTP/2 stream was reset: %v: %s", e.Code, e.Reason)
}

// A ConnError is a connection that broke off for what the peer did.
type ConnError struct {
	Code   http2.ErrCode
	Reason string
}

func (e *ConnError) Error() string { return fmt.Sprintf("HTTP/2 %v: %s", e.Code, e.Reason) }

// A streamError ends one stream for what the peer did.
type streamError struct {
	id     uint32
	code   http2.ErrCode
	reason string
}

func (e *streamError) Error() string {
	return fmt.Sprintf("HTTP/2 stream %d: %v: %s", e.id, e.code, e.reason)
}

func calm(reason string) error { return &ConnError{http2.ErrCodeEnhanceYourCalm, reason} }

func protocol(reason string) error { return &ConnError{http2.ErrCodeProtocol, reason} }

// codeOf is the one place where an error becomes a code of GOAWAY.
func codeOf(err error) http2.ErrCode {
	var framing http2.ConnectionError
	if e, ok := errors.AsType[*ConnError](err); ok {
		return e.Code
	}
	switch {
	case err == nil, errors.Is(err, errIdle), errors.Is(err, net.ErrClosed):
		return http2.ErrCodeNo
	case errors.As(err, &framing):
		return http2.ErrCode(framing)
	case errors.Is(err, http2.ErrFrameTooLarge):
		return http2.ErrCodeFrameSize
	}
	return http2.ErrCodeInternal
}
