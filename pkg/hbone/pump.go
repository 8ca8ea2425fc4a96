package hbone

import (
	"errors"
	"fmt"
	"os"
	"syscall"

	"github.com/outrigger-mesh/outrigger/pkg/nowait"
)

// pump sends what the socket has to say, then its end, and then waits for the
// socket to be reset as long as the other direction goes on.
func (s *socketRelay) pump() {
	var result error
	err := s.rc.Read(func(fd uintptr) bool {
		var more bool
		for more = true; more; {
			more, result = s.step(fd)
		}
		return result != nil
	})
	if err == nil {
		err = result
	}
	t := s.t
	switch {
	case errors.Is(err, errEnd):
		if err = t.closeWrite(); err == nil {
			s.endOfSocket()
			return
		}
	case errors.Is(err, os.ErrDeadlineExceeded): // woken by stopped
		err = errStopped
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if errors.Is(err, errStopped) && s.err == nil {
		s.sendDone = true
		return
	}
	s.failed(err)
}

// errEnd is the socket's end.
var errEnd = errors.New("end")

// step moves what one read gives. more is false when the socket has nothing now.
func (s *socketRelay) step(fd uintptr) (more bool, err error) {
	t := s.t
	if s.tight || t.c.tight.Load() {
		return s.careful(fd)
	}
	buf := t.c.bufs.getClass(s.class)
	defer t.c.bufs.put(buf)
	n, err := nowait.Read(fd, buf.b[frameHeader:])
	switch {
	case err == syscall.EAGAIN:
		return false, nil
	case err != nil:
		return false, fmt.Errorf("read: %w", os.NewSyscallError("read", err))
	case n == 0:
		return false, s.end(fd)
	}
	left, err := t.sendBuffer(buf.b, n)
	if err != nil {
		return false, err
	}
	s.carriedOut(n)
	s.adapt(n, left)
	return true, nil
}

// careful is step where the peer's windows may be closed: it takes the window
// first and then a buffer, for a peer that keeps them closed shall not hold our
// memory. It reads no more than it may send.
func (s *socketRelay) careful(fd uintptr) (more bool, err error) {
	t := s.t
	granted, left, err := t.c.reserve(t, bufferSizes[s.class]-frameHeader)
	if err != nil {
		return false, err
	}
	buf := t.c.bufs.get(frameHeader + granted)
	defer t.c.bufs.put(buf)
	n, err := nowait.Read(fd, buf.b[frameHeader:frameHeader+granted])
	t.c.unused(t, granted-max(n, 0))
	switch {
	case err == syscall.EAGAIN:
		return false, nil
	case err != nil:
		return false, fmt.Errorf("read: %w", os.NewSyscallError("read", err))
	case n == 0:
		return false, s.end(fd)
	}
	if err := t.c.w.data(t, buf.b, n); err != nil {
		return false, t.sendFailed(err)
	}
	s.carriedOut(n)
	s.adapt(n, left)
	return true, nil
}

// end tells an end from a reset that the other direction was told of: the
// kernel reports it once, and then a read only says that nothing will come.
// To write nothing fails on a socket that was reset.
func (s *socketRelay) end(fd uintptr) error {
	s.t.mu.Lock()
	defer s.t.mu.Unlock()
	if s.recvDone {
		return errEnd // we write no more, and so cannot have been told
	}
	if _, err := syscall.Write(int(fd), nil); err != nil && err != syscall.EAGAIN && err != syscall.EINTR {
		return fmt.Errorf("read: %w", syscall.ECONNRESET)
	}
	return errEnd
}

// shrinkAfter is how many nearly empty buffers make the next one smaller.
const shrinkAfter = 8

// adapt chooses the next buffer: larger after a full one, smaller after some
// that were nearly empty, and not much larger than what may be sent.
func (s *socketRelay) adapt(n int, left int64) {
	size := bufferSizes[s.class]
	switch {
	case n == size-frameHeader && s.class < len(bufferSizes)-1:
		s.class++
		s.small = 0
	case n >= size/8 || s.class == 0:
		s.small = 0
	default: // one alone may be the rest of a message
		if s.small++; s.small == shrinkAfter {
			s.class, s.small = s.class-1, 0
		}
	}
	for s.class > 0 && int64(bufferSizes[s.class]) > 4*left {
		s.class--
	}
	s.tight = left < int64(bufferSizes[s.class])
}

// sendBuffer sends b[frameHeader:frameHeader+n], overwriting it. left is what
// the peer's window still has.
func (t *Tunnel) sendBuffer(b []byte, n int) (left int64, err error) {
	for off := 0; off < n; {
		var g int
		g, left, err = t.c.reserve(t, n-off)
		if err != nil {
			return 0, err
		}
		if err := t.c.w.data(t, b[off:], g); err != nil {
			return 0, t.sendFailed(err)
		}
		off += g
	}
	return left, nil
}

// endOfSocket waits, once the socket's end has been passed on, until the other
// direction ends too. Meanwhile the socket may be reset.
func (s *socketRelay) endOfSocket() {
	s.t.mu.Lock()
	s.sendDone = true
	s.wake()
	s.t.mu.Unlock()
	var result error
	_ = s.rc.Read(func(fd uintptr) bool { // its error means woken or closed
		var b [1]byte
		n, err := syscall.Read(int(fd), b[:])
		if n > 0 || err == nil || err == syscall.EAGAIN || err == syscall.EINTR {
			return false
		}
		result = os.NewSyscallError("read", err)
		return true
	})
	if result != nil {
		s.t.mu.Lock()
		s.failed(fmt.Errorf("after its end: %w", result))
		s.t.mu.Unlock()
	}
}
