package inspect

import (
	"bytes"
	"errors"
	"io"
	"net"
	"os"
	"syscall"
	"testing"
	"time"
)

// socketPair is a socket and the other end of its connection.
func socketPair(t testing.TB) (near net.Conn, far *net.TCPConn) {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	c, err := net.Dial("tcp", ln.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	far, err = accepted(ln)
	if err != nil {
		t.Fatal(err)
	}
	near = quick(c)
	t.Cleanup(func() { near.Close(); far.Close() })
	if _, ok := near.(*socket); !ok {
		t.Fatalf("a TCP connection is used as %T", near)
	}
	return near, far
}

func accepted(ln net.Listener) (*net.TCPConn, error) {
	c, err := ln.Accept()
	if err != nil {
		return nil, err
	}
	return c.(*net.TCPConn), nil
}

func TestASocketCarriesMoreThanTheKernelTakesAtOnce(t *testing.T) {
	near, far := socketPair(t)
	sent := bytes.Repeat([]byte("outrigger"), 1<<20)
	received := make(chan []byte, 1)
	go func() {
		got, _ := io.ReadAll(far)
		far.Write(got)
		far.CloseWrite()
		received <- got
	}()
	if n, err := near.Write(sent); n != len(sent) || err != nil {
		t.Fatal(n, err)
	}
	if err := near.(*socket).Conn.(*net.TCPConn).CloseWrite(); err != nil {
		t.Fatal(err)
	}
	back, err := io.ReadAll(near)
	if err != nil || !bytes.Equal(back, sent) || !bytes.Equal(<-received, sent) {
		t.Errorf("what went to and fro differs: %v", err)
	}
}

func TestASocketsDeadlinesEndWaits(t *testing.T) {
	near, _ := socketPair(t)
	past := time.Unix(1, 0)
	near.SetReadDeadline(past)
	if n, err := near.Read(make([]byte, 1)); n != 0 || !isTimeout(err) {
		t.Errorf("read: %d, %v", n, err)
	}
	near.SetReadDeadline(time.Time{})
	near.SetWriteDeadline(past)
	if _, err := near.Write([]byte("x")); !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("write: %v", err)
	}
	near.Close()
	if _, err := near.Read(make([]byte, 1)); !errors.Is(err, net.ErrClosed) {
		t.Errorf("read after Close: %v", err)
	}
}

func TestASocketTellsOfAReset(t *testing.T) {
	near, far := socketPair(t)
	far.SetLinger(0)
	far.Close()
	_, err := near.Read(make([]byte, 1))
	if _, ok := errors.AsType[net.Error](err); !ok || !errors.Is(err, syscall.ECONNRESET) {
		t.Errorf("%v", err)
	}
	if _, err := near.Write([]byte("x")); !errors.Is(err, syscall.EPIPE) {
		t.Errorf("%v", err)
	}
}
