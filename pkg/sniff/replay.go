package sniff

import (
	"errors"
	"net"
)

// A Replay is a connection that yields the bytes that were peeked before its own.
type Replay struct {
	net.Conn
	peeked []byte // not read again yet
}

// Read reads what was peeked first.
func (r *Replay) Read(p []byte) (int, error) {
	if len(r.peeked) == 0 {
		return r.Conn.Read(p)
	}
	n := copy(p, r.peeked)
	r.peeked = r.peeked[n:]
	if len(r.peeked) == 0 {
		r.peeked = nil
	}
	return n, nil
}

// CloseWrite ends our direction, if the connection can.
func (r *Replay) CloseWrite() error {
	c, ok := r.Conn.(interface{ CloseWrite() error })
	if !ok {
		return errors.ErrUnsupported
	}
	return c.CloseWrite()
}

// Reset closes the connection so that its peer sees a reset, if the connection can.
func (r *Replay) Reset() error {
	switch c := r.Conn.(type) {
	case interface{ Reset() error }:
		return c.Reset()
	case interface{ SetLinger(int) error }:
		if err := c.SetLinger(0); err != nil {
			return err
		}
	}
	return r.Conn.Close()
}

// Unwrap returns the bytes that were peeked and not read again yet, which are the
// caller's from now on, and the connection under r: who copies those first can go
// on with the connection itself, and with what only its own type can do.
func (r *Replay) Unwrap() (peeked []byte, c net.Conn) {
	peeked, r.peeked = r.peeked, nil
	return peeked, r.Conn
}
