package hbone

import (
	"errors"
	"fmt"
	"syscall"

	"golang.org/x/net/http2"
)

// codeBroken is how we reset a tunnel that has not ended as it should. RFC 9113
// §8.5 has CONNECT_ERROR for what becomes of the TCP connection behind it, but
// Envoy shows its client a normal end then, and ztunnel does for CANCEL and
// NO_ERROR. Both show this one for what it is.
const codeBroken = http2.ErrCodeInternal

// A StatusError is an answer to CONNECT other than 200.
type StatusError struct{ Status int }

func (e *StatusError) Error() string { return fmt.Sprintf("peer answered CONNECT with %d", e.Status) }

// A ResetError is a tunnel that ended by RST_STREAM. It is a
// syscall.ECONNRESET to errors.Is.
type ResetError struct {
	Code   http2.ErrCode
	Remote bool // the peer reset it
}

func (e *ResetError) Error() string {
	if e.Remote {
		return fmt.Sprintf("tunnel reset by peer: %v", e.Code)
	}
	return fmt.Sprintf("tunnel reset: %v", e.Code)
}

// Is makes errors.Is(err, syscall.ECONNRESET) hold, so that who relays need
// not know of tunnels.
func (e *ResetError) Is(target error) bool { return target == syscall.ECONNRESET }

// A connError ends the connection: GOAWAY with code, then close.
type connError struct {
	code   http2.ErrCode
	reason string
}

func (e *connError) Error() string { return fmt.Sprintf("connection error %v: %s", e.code, e.reason) }

// A streamError ends one stream: RST_STREAM with code.
type streamError struct {
	id     uint32
	code   http2.ErrCode
	reason string
}

func (e *streamError) Error() string {
	return fmt.Sprintf("stream %d error %v: %s", e.id, e.code, e.reason)
}

// A brokenError is what tunnels see when their connection is gone. It is a
// syscall.ECONNRESET to errors.Is: a broken tunnel must not look like a finished one.
type brokenError struct {
	cause error
	cut   bool // by this end
}

func (e *brokenError) Error() string        { return fmt.Sprintf("connection to peer lost: %v", e.cause) }
func (e *brokenError) Unwrap() error        { return e.cause }
func (e *brokenError) Is(target error) bool { return target == syscall.ECONNRESET }

// PeerLeft tells whether err, with which a Handler's ctx ended, means that the peer has
// reset the tunnel or that the connection to it was lost, and not that this end cut it.
func PeerLeft(err error) bool {
	if reset, ok := errors.AsType[*ResetError](err); ok {
		return reset.Remote
	}
	broken, ok := errors.AsType[*brokenError](err)
	if !ok {
		return false
	}
	_, ours := errors.AsType[*connError](broken.cause)
	return !ours && !broken.cut
}

// errStopped: the peer ended its direction and then wants none of ours.
var errStopped = fmt.Errorf("peer has closed the tunnel: %w", syscall.EPIPE)
