package inspect

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
)

// ErrDisconnected means that the downstream went away before its response was
// complete.
var ErrDisconnected = errors.New("downstream closed the connection during an exchange")

// An Error is why an exchange got a response of our own instead of the app's. A
// layer may return one, to choose the status of what it refuses.
type Error struct {
	Status  int    // of the response
	Problem string // for the record, and for the peer if Status is below 500
	Err     error  // for the record only; may be nil
}

func (e *Error) Error() string {
	if e.Err != nil {
		return fmt.Sprintf("%d: %s: %v", e.Status, e.Problem, e.Err)
	}
	return fmt.Sprintf("%d: %s", e.Status, e.Problem)
}

func (e *Error) Unwrap() error { return e.Err }

// errNotFinal is a response by a layer that cannot be one.
var errNotFinal = errors.New("status is not one of a final response")

// bad is a request that is not HTTP/1.1 as we read it.
func bad(problem string) error { return &Error{Status: 400, Problem: problem} }

// asError turns any error of an exchange into the response that tells of it.
func asError(err error) *Error {
	if e, ok := errors.AsType[*Error](err); ok {
		return e
	}
	return &Error{Status: 500, Problem: "handle the request", Err: err}
}

// bodyError is what a failed read of a request body means.
func bodyError(err error) error {
	switch {
	case isTimeout(err):
		return &Error{Status: 408, Problem: "request body came too slowly", Err: err}
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF):
		return &Error{Status: 400, Problem: "request body ended early", Err: io.ErrUnexpectedEOF}
	}
	if e, ok := errors.AsType[*Error](err); ok {
		return e
	}
	return &Error{Status: 400, Problem: "read the request body", Err: err}
}

// upstreamError is what a failure of the app means.
func upstreamError(doing string, err error) error {
	if isTimeout(err) {
		return &Error{Status: 504, Problem: doing, Err: err}
	}
	return &Error{Status: 502, Problem: doing, Err: err}
}

func isTimeout(err error) bool {
	if errors.Is(err, os.ErrDeadlineExceeded) || errors.Is(err, context.DeadlineExceeded) {
		return true
	}
	ne, ok := errors.AsType[net.Error](err)
	return ok && ne.Timeout()
}
