package inspect

import (
	"bufio"
	"context"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"
)

// A door is a listener whose connections Serve serves.
type door struct {
	addr string
	errs chan error // what each Serve returned
}

// open opens a door in front of the app at addr.
func open(t testing.TB, app string, c Config) *door {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	d := &door{addr: ln.Addr().String(), errs: make(chan error, 1000)}
	if c.Conversation == nil {
		c.Conversation = &Conversation{}
	}
	if c.Upstream == nil {
		c.Upstream = func(ctx context.Context) (net.Conn, error) {
			return (&net.Dialer{}).DialContext(ctx, "tcp", app)
		}
	}
	var conns sync.WaitGroup
	conns.Go(func() {
		for {
			conn, err := ln.Accept()
			if err != nil {
				return
			}
			conns.Go(func() {
				err := Serve(ctx, conn, c)
				select {
				case d.errs <- err:
				default:
				}
			})
		}
	})
	t.Cleanup(func() {
		ln.Close()
		cancel()
		conns.Wait()
	})
	return d
}

// app starts a net/http server and returns its address.
func app(t testing.TB, h http.HandlerFunc) string {
	t.Helper()
	s := httptest.NewServer(h)
	t.Cleanup(s.Close)
	return s.Listener.Addr().String()
}

// client returns an HTTP client of the door.
func client(t testing.TB) *http.Client {
	tr := &http.Transport{DisableCompression: true, MaxIdleConnsPerHost: 64}
	t.Cleanup(tr.CloseIdleConnections)
	return &http.Client{Transport: tr}
}

// script serves every connection with the bytes of answer, after it has seen the
// end of a request head, and then closes it.
func script(t testing.TB, answer string) string {
	t.Helper()
	return peer(t, func(c net.Conn, r *bufio.Reader) {
		for {
			line, err := r.ReadString('\n')
			if err != nil {
				return
			}
			if line == "\r\n" {
				break
			}
		}
		io.WriteString(c, answer)
	})
}

// peer starts a TCP server.
func peer(t testing.TB, f func(net.Conn, *bufio.Reader)) string {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var conns sync.WaitGroup
	conns.Go(func() {
		for {
			c, err := ln.Accept()
			if err != nil {
				return
			}
			conns.Go(func() {
				defer c.Close()
				c.SetDeadline(time.Now().Add(5 * time.Minute))
				f(c, bufio.NewReader(c))
			})
		}
	})
	t.Cleanup(func() {
		ln.Close()
		conns.Wait()
	})
	return ln.Addr().String()
}

// say sends raw bytes to addr, and returns all that comes back.
func say(t testing.TB, addr, raw string) string {
	t.Helper()
	c, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	c.SetDeadline(time.Now().Add(20 * time.Second))
	if _, err := io.WriteString(c, raw); err != nil {
		t.Fatal(err)
	}
	b, err := io.ReadAll(c)
	if err != nil && len(b) == 0 {
		t.Fatalf("read: %v", err)
	}
	return string(b)
}

// status returns the status code of the first response in s.
func status(s string) string {
	if f := strings.Fields(s); len(f) > 1 {
		return f[1]
	}
	return ""
}
