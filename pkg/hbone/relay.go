package hbone

import (
	"context"
	"fmt"
	"io"
	"net"
	"os"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/outrigger-mesh/outrigger/pkg/nowait"
	"github.com/outrigger-mesh/outrigger/pkg/relay"
)

// Relay carries bytes between the tunnel and c, both ways, until both
// directions have ended; it takes over both. relay.Copy uses it, because the
// tunnel can do it with fewer copies and wakeups than Read and Write: what
// arrives goes to c's socket from the connection's own goroutine, and what c
// sends is framed in the buffer it was read into.
func (t *Tunnel) Relay(ctx context.Context, c relay.Conn, m relay.Meter) relay.Result {
	s, ok := newSocketRelay(t, c, m)
	if !ok {
		return relay.Plain(ctx, t, c, m)
	}
	t.writing.Lock()
	defer t.writing.Unlock()
	_ = c.SetDeadline(time.Time{}) // fails only on a closed socket
	stop := context.AfterFunc(ctx, func() { s.cut(context.Cause(ctx)) })
	s.attach()
	s.pump()
	s.wait()
	stop()
	return s.close()
}

// A socketRelay connects a tunnel with a socket.
type socketRelay struct {
	t  *Tunnel
	c  relay.Conn
	rc syscall.RawConn
	m  relay.Meter

	// Of pump alone.
	out   int64 // bytes from the socket to the tunnel
	class int
	small int  // reads in a row that a smaller buffer had sufficed for
	tight bool // the peer's window may be closed

	// What follows is guarded by t.mu.
	in       int64 // bytes from the tunnel to the socket
	err      error // why it was cut
	recvDone bool  // nothing more will be written to the socket
	sendDone bool  // nothing more will be read from it
	over     bool  // both, and seen by who relays

	pieces [][]byte // of try
	n      int
	errno  error
	write  func(fd uintptr) bool // made once
}

func newSocketRelay(t *Tunnel, c relay.Conn, m relay.Meter) (*socketRelay, bool) {
	sc, ok := c.(syscall.Conn)
	if !ok {
		return nil, false
	}
	switch c.(type) {
	case *net.TCPConn, *net.UnixConn:
	default: // something that has a socket and may do more than pass on bytes
		return nil, false
	}
	rc, err := sc.SyscallConn()
	if err != nil {
		return nil, false
	}
	s := &socketRelay{t: t, c: c, rc: rc, m: m, class: 1, tight: true}
	s.write = s.writeOnce
	return s, true
}

// carriedIn counts bytes from the tunnel to the socket. t.mu is held.
func (s *socketRelay) carriedIn(n int) {
	s.in += int64(n)
	s.m.Sent(int64(n))
}

// carriedOut counts bytes from the socket to the tunnel.
func (s *socketRelay) carriedOut(n int) {
	s.out += int64(n)
	s.m.Received(int64(n))
}

// attach makes the tunnel deliver to the socket, beginning with what is queued.
func (s *socketRelay) attach() {
	t := s.t
	t.mu.Lock()
	defer t.mu.Unlock()
	t.sink = s
	switch {
	case len(t.queue) > 0:
		t.startDrain()
	case t.recvErr == io.EOF:
		s.ended()
	case t.recvErr != nil:
		s.failed(t.recvErr)
	}
}

// try writes what fits into the socket's buffer. t.mu is held.
func (s *socketRelay) try(pieces [][]byte) (int, error) {
	s.pieces, s.n, s.errno = pieces, 0, nil
	err := s.rc.Write(s.write)
	s.pieces = nil
	if err == nil {
		err = s.errno
	}
	s.carriedIn(s.n)
	return s.n, err
}

// writeOnce never waits: what does not fit is queued.
func (s *socketRelay) writeOnce(fd uintptr) bool {
	for {
		n, err := writeSocket(fd, s.pieces)
		switch {
		case err == syscall.EINTR:
			continue
		case err == syscall.EAGAIN:
		case err != nil:
			s.errno = os.NewSyscallError("write", err)
		default:
			s.n = n
		}
		return true
	}
}

func writeSocket(fd uintptr, pieces [][]byte) (int, error) {
	if len(pieces) == 1 {
		return nowait.Write(fd, pieces[0])
	}
	return unix.Writev(int(fd), pieces)
}

// drain writes the queue to the socket, then ends. It is a goroutine of the relay.
func (s *socketRelay) drain() {
	t := s.t
	t.mu.Lock()
	defer t.mu.Unlock()
	for len(t.queue) > 0 {
		b := t.queue[0]
		t.shift()
		t.mu.Unlock()
		n, err := s.c.Write(b.b[b.start:b.end])
		t.c.release(b)
		t.mu.Lock()
		s.carriedIn(n)
		t.creditLocked(n)
		if err != nil {
			s.failed(err)
		}
	}
	t.draining = false
	if t.recvErr == io.EOF {
		s.ended()
	}
	t.recvCond.Broadcast()
}

// ended passes on END_STREAM. t.mu is held.
func (s *socketRelay) ended() {
	if s.recvDone {
		return
	}
	_ = s.c.CloseWrite() // a socket that is gone says so when it is read
	s.recvDone = true
	s.wake()
}

// stopped: the peer wants nothing more from the socket. t.mu is held.
func (s *socketRelay) stopped() {
	s.sendDone = true
	s.wake()
}

// wake ends pump's wait for the socket once there is nothing to wait for. t.mu is held.
func (s *socketRelay) wake() {
	if s.sendDone && s.recvDone {
		_ = s.c.SetReadDeadline(time.Unix(1, 0)) // fails only on a closed socket
	}
	s.t.recvCond.Broadcast()
}

// failed resets both ends, for the tunnel or the socket is broken. t.mu is held.
func (s *socketRelay) failed(err error) {
	if s.over || s.err != nil {
		return
	}
	s.err = err
	s.recvDone, s.sendDone = true, true
	t := s.t
	t.noCredit = true
	if t.recvErr == nil || t.recvErr == io.EOF {
		t.recvErr = err
	}
	t.dropQueue()
	t.c.reset(t, codeBroken, &ResetError{Code: codeBroken})
	relay.Abort(s.c) // to close it is for who relays: it waits for others, and here may be the read loop
	t.recvCond.Broadcast()
}

// A cutError is the end of the relay's context.
type cutError struct{ cause error }

func (e *cutError) Error() string { return fmt.Sprintf("relay cut: %v", e.cause) }
func (e *cutError) Unwrap() error { return e.cause }

func (s *socketRelay) cut(cause error) {
	s.t.mu.Lock()
	defer s.t.mu.Unlock()
	s.failed(&cutError{cause})
}

// wait waits until nothing more is written to the socket.
func (s *socketRelay) wait() {
	s.t.mu.Lock()
	defer s.t.mu.Unlock()
	for !s.recvDone || s.t.draining {
		s.t.recvCond.Wait()
	}
	s.over = true
}

func (s *socketRelay) close() relay.Result {
	s.c.Close()
	s.t.mu.Lock()
	defer s.t.mu.Unlock()
	s.t.sink = nil
	if s.t.recvErr == nil || s.t.recvErr == io.EOF {
		s.t.recvErr = net.ErrClosed
	}
	return relay.Result{Sent: s.in, Received: s.out, Err: s.err}
}
