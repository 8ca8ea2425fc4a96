package inspect

import (
	"io"
	"net"
	"os"
	"syscall"

	"github.com/outrigger-mesh/outrigger/pkg/nowait"
)

// A socket is a connection to the app whose system calls the scheduler is not told
// of: none of them waits. It is read by one goroutine at a time and written by one.
type socket struct {
	net.Conn
	raw syscall.RawConn

	reading, writing        []byte
	got                     int
	readFailed, writeFailed error
	read, write             func(fd uintptr) bool // made once
}

// quick is conn, or a socket over it if it is one that can be.
func quick(conn net.Conn) net.Conn {
	tcp, ok := conn.(*net.TCPConn)
	if !ok {
		return conn
	}
	raw, err := tcp.SyscallConn()
	if err != nil {
		return conn
	}
	s := &socket{Conn: conn, raw: raw}
	s.read, s.write = s.readOnce, s.writeAll
	return s
}

// Read reads what is there, and waits only if nothing is.
func (s *socket) Read(p []byte) (int, error) {
	if len(p) == 0 {
		return 0, nil
	}
	s.reading, s.got, s.readFailed = p, 0, nil
	err := s.raw.Read(s.read)
	s.reading = nil
	switch {
	case err != nil:
		return 0, err
	case s.readFailed != nil:
		return 0, s.failed("read", s.readFailed)
	case s.got == 0:
		return 0, io.EOF
	}
	return s.got, nil
}

func (s *socket) readOnce(fd uintptr) (done bool) {
	s.got, s.readFailed = nowait.Read(fd, s.reading)
	return s.readFailed != syscall.EAGAIN
}

// Write writes all of p.
func (s *socket) Write(p []byte) (int, error) {
	s.writing, s.writeFailed = p, nil
	err := s.raw.Write(s.write)
	n := len(p) - len(s.writing)
	s.writing = nil
	if err == nil && s.writeFailed != nil {
		err = s.failed("write", s.writeFailed)
	}
	return n, err
}

func (s *socket) writeAll(fd uintptr) (done bool) {
	for len(s.writing) > 0 {
		n, err := nowait.Write(fd, s.writing)
		s.writing = s.writing[n:]
		if err != nil {
			s.writeFailed = err
			return err != syscall.EAGAIN
		}
	}
	s.writeFailed = nil
	return true
}

// failed is the error that net would make of it.
func (s *socket) failed(what string, err error) error {
	return &net.OpError{Op: what, Net: "tcp", Source: s.LocalAddr(), Addr: s.RemoteAddr(), Err: os.NewSyscallError(what, err)}
}
