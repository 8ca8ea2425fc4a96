package h2

import (
	"context"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"sync"
	"testing"
	"time"
)

// h2spec builds the conformance suite once.
func h2spec(t *testing.T) string {
	t.Helper()
	cache := os.Getenv("OUTRIGGER_CACHE")
	if cache == "" {
		user, err := os.UserCacheDir()
		if err != nil {
			t.Fatal(err)
		}
		cache = filepath.Join(user, "outrigger")
	}
	bin := filepath.Join(cache, "h2spec")
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

// serve answers every request on every connection with a greeting, a little later, so
// that streams are open beside each other.
func serve(t *testing.T) (port string) {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var all sync.WaitGroup
	answer := func(s *Stream) {
		defer s.Done()
		buf := make([]byte, 1024)
		var err error
		for err == nil {
			_, err = s.Read(buf, time.Now().Add(5*time.Second))
		}
		if err != io.EOF {
			return
		}
		time.Sleep(50 * time.Millisecond)
		if s.WriteHeader([]Field{{":status", "200"}}, false, false, false) == nil {
			_ = s.Write([]byte("hello"), true) // the peer may be gone
		}
	}
	all.Go(func() {
		for {
			nc, err := ln.Accept()
			if err != nil {
				return
			}
			all.Go(func() {
				var streams sync.WaitGroup
				New(nc, nil, Config{Accept: func(s *Stream) { streams.Go(func() { answer(s) }) }}).Run()
				streams.Wait()
			})
		}
	})
	t.Cleanup(func() {
		ln.Close()
		all.Wait()
	})
	_, port, _ = net.SplitHostPort(ln.Addr().String())
	return port
}

// TestH2spec runs all 145 cases of h2spec against the server role.
func TestH2spec(t *testing.T) {
	port := serve(t)
	ctx, cancel := context.WithTimeout(context.Background(), 3*time.Minute)
	defer cancel()
	out, _ := exec.CommandContext(ctx, h2spec(t), "-h", "127.0.0.1", "-p", port, "-o", "10").CombinedOutput()
	m := regexp.MustCompile(`(\d+) tests, (\d+) passed, (\d+) skipped, (\d+) failed`).FindSubmatch(out)
	if m == nil {
		t.Fatalf("no result:\n%s", out)
	}
	if passed, _ := strconv.Atoi(string(m[2])); passed != 145 {
		t.Errorf("%s\n%s", m[0], out)
	}
}
