package inspect

import (
	"net"
	"sync"
)

// A ReadyConn is a connection that was opened before it was needed, to be used
// once. It may be used by any goroutine.
type ReadyConn struct {
	mu   sync.Mutex // guards what follows
	conn net.Conn
}

// Ready keeps c for the first who takes it. It takes over c.
func Ready(c net.Conn) *ReadyConn { return &ReadyConn{conn: c} }

// Take is the connection, which is then the caller's, or nil if it was taken.
func (r *ReadyConn) Take() net.Conn {
	r.mu.Lock()
	defer r.mu.Unlock()
	c := r.conn
	r.conn = nil
	return c
}

// Close closes the connection if nobody took it.
func (r *ReadyConn) Close() error {
	if c := r.Take(); c != nil {
		return c.Close()
	}
	return nil
}
