//go:build peers

package peers

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"sync"
	"testing"

	"github.com/outrigger-mesh/outrigger/pkg/hbone"
)

// node runs the client of HBONE, and returns what came through the tunnel and how it ended.
func (b *bed) node(s *server, authority string, in []byte) (out []byte, end string) {
	b.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	cmd := exec.CommandContext(ctx, "node", "testdata/client.js", b.dir, strconv.Itoa(int(s.port)), authority)
	var stdout, stderr bytes.Buffer
	cmd.Stdin, cmd.Stdout, cmd.Stderr = bytes.NewReader(in), &stdout, &stderr
	if err := cmd.Run(); err != nil {
		b.t.Fatalf("node: %v: %s", err, stderr.String())
	}
	first, _, _ := strings.Cut(stderr.String(), "\n")
	return stdout.Bytes(), first
}

func TestNodesClientCarriesThroughUs(t *testing.T) {
	b := newBed(t)
	m := b.certificate(b.ca, "server", serverID)
	s := b.server(hbone.ServerConfig{}, m, b.app(echo))
	want := pattern(1 << 20)
	if got, end := b.node(s, "10.0.0.1:80", want); !bytes.Equal(got, want) || end != "closed 200 0" {
		t.Errorf("%d bytes of %d came back, %s", len(got), len(want), end)
	}
	for authority, want := range map[string]string{
		"127.0.0.1:80": "status 400", "nowhere": "status 400", "10.0.0.1:080": "status 400",
	} {
		if got, end := b.node(s, authority, nil); end != want || len(got) != 0 {
			t.Errorf("%s: %q, %s", authority, got, end)
		}
	}
	reset := b.server(hbone.ServerConfig{}, m, b.app(func(c *net.TCPConn) {
		_, _ = io.ReadFull(c, make([]byte, 1))
		_ = c.SetLinger(0)
	}))
	if _, end := b.node(reset, "10.0.0.1:80", []byte("x")); !strings.HasPrefix(end, "reset ") {
		t.Errorf("the app resets: %s", end)
	}
	nobody := b.server(hbone.ServerConfig{}, m, "127.0.9.9:1")
	if _, end := b.node(nobody, "10.0.0.1:80", nil); end != "status 503" {
		t.Errorf("nobody listens: %s", end)
	}
}

func TestWeCarryThroughNodesServer(t *testing.T) {
	b := newBed(t)
	cmd := exec.Command("node", "testdata/server.js", b.dir)
	out, in, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer out.Close()
	cmd.Stdout = in
	p := b.start(cmd)
	in.Close()
	line := make([]byte, 16)
	n, err := out.Read(line)
	if err != nil {
		t.Fatal(err)
	}
	p.address = netip.MustParseAddrPort("127.0.0.1:" + strings.TrimSpace(string(line[:n])))
	d := b.dialer(b.certificate(b.ca, "client", clientID))
	dial := func(authority string) (*hbone.Tunnel, error) {
		return d.Dial(b.ctx(), hop(p, authority), hbone.Header{Baggage: "service.name=us"})
	}
	var status *hbone.StatusError
	if _, err := dial("10.0.0.1:1"); !errors.As(err, &status) || status.Status != 503 {
		t.Errorf("refused: %v", err)
	}
	if tun, err := dial("10.0.0.1:2"); err == nil {
		waitReset(t, tun, "reset")
	}
	if tun, err := dial("10.0.0.1:3"); err != nil {
		t.Error(err)
	} else if got, err := io.ReadAll(tun); err != nil || string(got) != "bye" {
		t.Errorf("%q, %v", got, err)
	}
	var open sync.WaitGroup
	for range 23 { // of five streams a connection
		open.Go(func() {
			tun, err := dial("web.tools.svc.cluster.local:80")
			if err != nil {
				t.Error(err)
				return
			}
			defer tun.Close()
			if err := exchange(tun); err != nil {
				t.Error(err)
			}
		})
	}
	open.Wait()
}
