package hbone

import (
	"context"
	"errors"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"testing"
	"time"
)

// plainServer serves the engine without TLS, for tools that have no certificate.
func plainServer(t testing.TB, h Handler, limits Limits) string {
	t.Helper()
	s := newServer(ServerConfig{MaxStreams: 100, Limits: limits}, nil)
	ctx, cancel := context.WithCancel(context.Background())
	a := &acceptor{s: s, ctx: ctx, h: h, conns: make(map[*conn]struct{})}
	ln := listen(t)
	budget := newPeerBudget(s.config.Limits)
	a.wait.Go(func() {
		for {
			raw, err := ln.Accept()
			if errors.Is(err, net.ErrClosed) {
				return
			}
			a.wait.Go(func() { a.run(ctx, a.newConn(raw, nil, budget)) })
		}
	})
	t.Cleanup(func() {
		cancel()
		ln.Close()
		a.each(func(c *conn) { c.abort(errServerClosed) })
		a.wait.Wait()
	})
	return ln.Addr().String()
}

// h2spec builds the conformance suite once.
func h2spec(t *testing.T) string {
	t.Helper()
	cache, err := os.UserCacheDir()
	if err != nil {
		t.Fatal(err)
	}
	bin := filepath.Join(cache, "outrigger", "h2spec")
	path := filepath.Join(bin, "h2spec")
	if _, err := os.Stat(path); err == nil {
		return path
	}
	cmd := exec.Command("go", "install", "github.com/summerwind/h2spec/cmd/h2spec@v2.2.1+incompatible")
	cmd.Env = append(os.Environ(), "GOBIN="+bin)
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("install h2spec: %v\n%s", err, out)
	}
	return path
}

// TestH2spec runs all 145 cases of h2spec against the server role. It sends
// requests that are no CONNECT: they are answered 400 within the same streams.
func TestH2spec(t *testing.T) {
	address := plainServer(t, echo, Limits{})
	_, port, _ := net.SplitHostPort(address)
	ctx, cancel := context.WithTimeout(context.Background(), 3*time.Minute)
	defer cancel()
	out, _ := exec.CommandContext(ctx, h2spec(t), "-h", "127.0.0.1", "-p", port, "-o", "1").CombinedOutput()
	m := regexp.MustCompile(`(\d+) tests, (\d+) passed, (\d+) skipped, (\d+) failed`).FindSubmatch(out)
	if m == nil {
		t.Fatalf("no result:\n%s", out)
	}
	if passed, _ := strconv.Atoi(string(m[2])); passed != 145 {
		t.Errorf("%s\n%s", m[0], out)
	}
}
