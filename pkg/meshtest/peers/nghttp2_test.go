//go:build peers

package peers

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/outrigger-mesh/outrigger/pkg/hbone"
)

// nghttpx starts nghttp2's proxy before a server of ours: what asks it for a
// CONNECT by HTTP/1.1, at the socket that is returned, goes on by HTTP/2 over mTLS.
func (b *bed) nghttpx(s *server) (socket string) {
	b.t.Helper()
	program, err := exec.LookPath("nghttpx")
	if err != nil {
		b.t.Fatalf("%v: install nghttp2-proxy", err)
	}
	socket = filepath.Join(b.dir, fmt.Sprintf("nghttpx-%d", s.port))
	p := b.start(exec.Command(program, "--conf=/dev/null", "--single-process", "--single-thread", "--http2-proxy",
		"--frontend=unix:"+socket+";no-tls", fmt.Sprintf("--backend=127.0.9.1,%d;;proto=h2;tls", s.port), "--insecure",
		"--client-cert-file="+filepath.Join(b.dir, "client.pem"), "--client-private-key-file="+filepath.Join(b.dir, "client.key"),
		"--accesslog-file=/dev/null", "--errorlog-file=/dev/stderr", "--log-level=WARN"))
	b.eventually(func() error {
		c, err := net.Dial("unix", socket)
		if err != nil {
			return fmt.Errorf("%w: %s", err, p.log)
		}
		return c.Close()
	})
	return socket
}

// through asks a proxy for a connection to an authority.
func (b *bed) through(socket, authority string) (c *net.UnixConn, r *bufio.Reader, status int) {
	b.t.Helper()
	conn, err := net.Dial("unix", socket)
	if err != nil {
		b.t.Fatal(err)
	}
	b.t.Cleanup(func() { conn.Close() })
	_ = conn.SetDeadline(time.Now().Add(patience)) // fails only on a closed connection
	if _, err := fmt.Fprintf(conn, "CONNECT %[1]s HTTP/1.1\r\nHost: %[1]s\r\n\r\n", authority); err != nil {
		b.t.Fatal(err)
	}
	r = bufio.NewReader(conn)
	answer, err := http.ReadResponse(r, &http.Request{Method: http.MethodConnect})
	if err != nil {
		b.t.Fatalf("%s: %v", authority, err)
	}
	return conn.(*net.UnixConn), r, answer.StatusCode
}

func TestNghttp2sProxyCarriesThroughUs(t *testing.T) {
	b := newBed(t)
	m := b.certificate(b.ca, "server", serverID)
	s := b.server(hbone.ServerConfig{}, m, b.app(echo))
	socket := b.nghttpx(s)
	want := pattern(1 << 20)
	var open sync.WaitGroup
	for range 20 {
		c, r, status := b.through(socket, "10.0.0.1:80")
		if status != http.StatusOK {
			t.Fatalf("status %d", status)
		}
		open.Go(func() {
			go func() { _, _ = c.Write(want) }() // a failure is seen below
			got := make([]byte, len(want))
			if n, err := io.ReadFull(r, got); err != nil || !bytes.Equal(got, want) {
				t.Errorf("%d bytes of %d came back, %v", n, len(want), err)
			}
			c.Close()
		})
	}
	open.Wait()
	if in := <-s.in; in.Peer.Principal != clientID || in.Authority != "10.0.0.1:80" {
		t.Errorf("%s asked for %s", in.Peer.Principal, in.Authority)
	}
	if _, _, status := b.through(socket, "127.0.0.1:080"); status != http.StatusBadRequest {
		t.Errorf("an authority that is none: status %d, want 400", status)
	}
	nobody := b.server(hbone.ServerConfig{}, m, "127.0.9.9:1")
	if _, _, status := b.through(b.nghttpx(nobody), "10.0.0.1:80"); status != http.StatusServiceUnavailable {
		t.Errorf("nobody listens: status %d, want 503", status)
	}
}

// nghttpx shows its client an end whatever the code of our RST_STREAM is; that it
// ends, with all that was sent before, is all that can be asked of it.
func TestAnEndAndAResetPassNghttp2sProxy(t *testing.T) {
	b := newBed(t)
	m := b.certificate(b.ca, "server", serverID)
	for name, app := range map[string]func(*net.TCPConn){
		"end": func(c *net.TCPConn) { _, _ = c.Write([]byte("bye")) },
		"reset": func(c *net.TCPConn) {
			_, _ = c.Write([]byte("bye"))
			_, _ = io.ReadFull(c, make([]byte, 1))
			_ = c.SetLinger(0)
		},
	} {
		c, r, status := b.through(b.nghttpx(b.server(hbone.ServerConfig{}, m, b.app(app))), "10.0.0.1:80")
		if status != http.StatusOK {
			t.Fatalf("%s: status %d", name, status)
		}
		got := make([]byte, 3)
		if _, err := io.ReadFull(r, got); err != nil || string(got) != "bye" {
			t.Errorf("%s: %q, %v", name, got, err)
		}
		_, _ = c.Write([]byte("x")) // where the app has ended, nobody takes it
		if n, err := r.Read(got); n > 0 || err == nil || errors.Is(err, os.ErrDeadlineExceeded) {
			t.Errorf("%s: %d bytes more, %v", name, n, err)
		}
	}
}
