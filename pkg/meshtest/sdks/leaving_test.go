//go:build sdks

package sdks

import (
	"context"
	"net/http"
	"os"
	"os/exec"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/outrigger-mesh/outrigger/pkg/meshtest/free"
	"github.com/outrigger-mesh/outrigger/pkg/meshtest/front"
)

func (b *Bed) server(t *testing.T, name string) Peer {
	t.Helper()
	all := b.Servers()
	i := slices.IndexFunc(all, func(p Peer) bool { return p.Name == name })
	if i < 0 {
		t.Fatalf("there is no server %s", name)
	}
	return all[i]
}

// journalled waits until the server has journalled a line that begins with prefix.
func (r *Running) journalled(t *testing.T, prefix string) string {
	t.Helper()
	for by := time.Now().Add(time.Minute); time.Now().Before(by); time.Sleep(10 * time.Millisecond) {
		data, err := os.ReadFile(r.journal)
		if err != nil && !os.IsNotExist(err) {
			t.Fatal(err)
		}
		for line := range strings.Lines(string(data)) {
			if strings.HasPrefix(line, prefix) {
				return strings.TrimSpace(line)
			}
		}
	}
	t.Fatalf("the server journals no %q", prefix)
	return ""
}

// A server that watches its client sees it leave in the modern era, which cancels the
// call, and in the legacy one not, where to leave is not to cancel.
func TestOnlyInTheModernEraAClientThatLeavesCancels(t *testing.T) {
	b, programs := Prepare(t), front.Build(t)
	legacy := http.Header{"Mcp-Protocol-Version": {"2025-06-18"}}
	modern := http.Header{"Mcp-Protocol-Version": {"2026-07-28"}, "Mcp-Method": {"tools/call"}, "Mcp-Name": {"slow"}}
	const meta = `,"_meta":{"io.modelcontextprotocol/protocolVersion":"2026-07-28","io.modelcontextprotocol/clientInfo":{"name":"t","version":"1"},"io.modelcontextprotocol/clientCapabilities":{}}`
	for _, c := range []struct {
		server, meta    string
		header          http.Header
		direct, through string
	}{
		{"mcp-go-stateless", "", legacy, "slow cancelled", "slow done"},
		{"go-sdk-stateless", meta, modern, "slow cancelled", "slow cancelled"},
	} {
		t.Run(c.server, func(t *testing.T) {
			s := serve(t, b, programs, b.server(t, c.server), free.Network())
			leave := func(url, want string) {
				t.Helper()
				s.Ran(t)
				ctx, cancel := context.WithCancel(t.Context())
				defer cancel()
				r, err := http.NewRequestWithContext(ctx, http.MethodPost, url, strings.NewReader(`{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"slow","arguments":{}`+c.meta+`}}`))
				if err != nil {
					t.Fatal(err)
				}
				r.Header = c.header.Clone()
				r.Header.Set("Content-Type", "application/json")
				r.Header.Set("Accept", "application/json, text/event-stream")
				done := make(chan error, 1)
				go func() {
					a, err := (&http.Transport{DisableKeepAlives: true}).RoundTrip(r)
					if err == nil {
						err = a.Body.Close()
					}
					done <- err
				}()
				s.journalled(t, "slow began")
				cancel()
				<-done
				if want == "slow done" {
					time.Sleep(time.Second) // or it would show nothing
					if err := os.WriteFile(s.journal+".release", nil, 0o600); err != nil {
						t.Fatal(err)
					}
					defer os.Remove(s.journal + ".release")
				}
				s.journalled(t, want)
				if strings.Contains(s.Ran(t), "slow cancelled") != (want == "slow cancelled") {
					t.Errorf("at %s the call was cancelled, and was not", url)
				}
			}
			leave(s.URL, c.direct)
			leave(s.agent(t, "planner"), c.through)
		})
	}
}

func TestNodesHTTP2CallsThroughTheSidecars(t *testing.T) {
	b := Prepare(t)
	s := serve(t, b, front.Build(t), b.server(t, "go-sdk-stateless"), free.Network())
	see := func(url string) *Seen {
		t.Helper()
		cmd := exec.Command(b.script("http2.mjs")[0], b.script("http2.mjs")[1], url, s.denied())
		out, err := cmd.Output()
		if err != nil {
			t.Fatalf("node at %s: %v: %s", url, err, out)
		}
		seen, err := Parse(out)
		if err != nil {
			t.Fatal(err)
		}
		return seen
	}
	direct := see(s.URL)
	if ran := s.Ran(t); !strings.Contains(ran, s.denied()) || strings.Count(ran, "echo") != 21 {
		t.Errorf("the server ran %q", ran)
	}
	for _, d := range Diff(direct, see(s.agent(t, "planner"))) {
		t.Errorf("everything is allowed: %.300s", d)
	}
	s.Ran(t)
	denied := see(s.agent(t, "intern"))
	if ran := s.Ran(t); strings.Contains(ran, s.denied()) || strings.Count(ran, "echo") != 21 {
		t.Errorf("the server ran %q", ran)
	}
	last := string(denied.Calls[len(denied.Calls)-1])
	if want := strings.ReplaceAll(string(direct.Calls[1]), "no-such", s.denied()); last != strings.Replace(want, `"id":3`, `"id":4`, 1) {
		t.Errorf("what is denied is answered %s, what does not exist %s", last, direct.Calls[1])
	}
	if strings.Contains(string(denied.Tools), s.denied()) {
		t.Errorf("the intern sees %s", denied.Tools)
	}
}
