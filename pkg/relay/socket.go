package relay

import (
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"sync"
	"syscall"

	"github.com/outrigger-mesh/outrigger/pkg/nowait"
)

// buffers are lent while a socket has something to read. They hold nothing
// between two uses, so that sharing them cannot be noticed.
var buffers = [...]*sync.Pool{newPool(4 << 10), newPool(32 << 10), newPool(256 << 10)}

func newPool(size int) *sync.Pool {
	return &sync.Pool{New: func() any { b := make([]byte, size); return &b }}
}

// spliceAfter is when a direction counts as bulk and is handed to the kernel.
// Splice moves bulk at half the cost, but it takes a pipe of two descriptors,
// and for small messages more system calls than copying.
const spliceAfter = 4 << 20

// spliceTold is how many bytes are spliced between two words to the meter.
const spliceTold = 1 << 20

// A socket is a connection that can be asked whether it is readable, so that
// an idle one holds no buffer.
type socket struct {
	c  net.Conn
	rc syscall.RawConn
}

func newSocket(c net.Conn) (socket, bool) {
	switch c := c.(type) {
	case *net.TCPConn:
		rc, err := c.SyscallConn()
		return socket{c, rc}, err == nil
	case *net.UnixConn:
		rc, err := c.SyscallConn()
		return socket{c, rc}, err == nil
	}
	return socket{}, false
}

// copyTo copies until the end of s (nil) or an error.
func (s socket) copyTo(dst Conn, n *tally, isReset func(fd uintptr) bool) error {
	bulk := int64(1<<63 - 1)
	tcp, toTCP := dst.(*net.TCPConn)
	if from, ok := s.c.(*net.TCPConn); ok && toTCP && from != nil {
		bulk = spliceAfter
	}
	class := 0
	var result error
	err := s.rc.Read(func(fd uintptr) bool {
		for n.n < bulk {
			r, w, err := s.step(fd, dst, class)
			n.add(int64(w))
			switch {
			case errors.Is(err, syscall.EAGAIN):
				return false
			case errors.Is(err, io.EOF) && isReset(fd):
				result = fmt.Errorf("read: %w", syscall.ECONNRESET)
				return true
			case err != nil:
				result = err
				return true
			}
			class = adapt(class, r)
		}
		return true
	})
	switch {
	case err != nil:
		return fmt.Errorf("read: %w", err)
	case errors.Is(result, io.EOF):
		return nil
	case result != nil:
		return result
	}
	return splice(tcp, s.c, n)
}

// splice lets the kernel copy until the end of src. It tells n now and then how far it is.
func splice(dst *net.TCPConn, src io.Reader, n *tally) error {
	for {
		w, err := dst.ReadFrom(&io.LimitedReader{R: src, N: spliceTold})
		n.add(w)
		if err != nil || w < spliceTold {
			return err
		}
	}
}

// step moves what one read gives.
func (s socket) step(fd uintptr, dst io.Writer, class int) (r, w int, err error) {
	buf := buffers[class].Get().(*[]byte)
	defer buffers[class].Put(buf)
	r, err = nowait.Read(fd, *buf)
	switch {
	case err == syscall.EAGAIN:
		return 0, 0, err
	case err != nil:
		return 0, 0, fmt.Errorf("read: %w", os.NewSyscallError("read", err))
	case r == 0:
		return 0, 0, io.EOF
	}
	w, err = dst.Write((*buf)[:r])
	if err != nil {
		err = fmt.Errorf("write: %w", err)
	}
	return r, w, err
}

// adapt chooses the next buffer: larger after a full one, smaller after one
// that was nearly empty.
func adapt(class, n int) int {
	size := 4 << 10 << (3 * class)
	switch {
	case n >= size && class < len(buffers)-1:
		return class + 1
	case n < size/8 && class > 0:
		return class - 1
	}
	return class
}

// watch waits, after the end of s, for its reset. It returns nil when woken.
func (s socket) watch() error {
	var result error
	err := s.rc.Read(func(fd uintptr) bool {
		var b [1]byte
		n, err := syscall.Read(int(fd), b[:])
		switch {
		case n == 0 && err == nil, err == syscall.EAGAIN, err == syscall.EINTR:
			return false
		case err != nil:
			result = os.NewSyscallError("read", err)
		}
		return true
	})
	if err != nil || errors.Is(result, net.ErrClosed) {
		return nil // woken, or closed by who cut the pair
	}
	return result
}
