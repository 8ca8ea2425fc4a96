//go:build spire

package identity

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"github.com/outrigger-mesh/outrigger/pkg/mesh"
)

const spireTTL = 20 * time.Second

// A spire is a real SPIRE server and agent, as processes of this test.
type spire struct {
	t        *testing.T
	bin, dir string
	agent    *process
	starts   int
}

// A process is a child that the test ends.
type process struct {
	cmd  *exec.Cmd
	done chan struct{}
}

func (p *process) kill() {
	p.cmd.Process.Kill()
	<-p.done
}

func (s *spire) path(name string) string { return filepath.Join(s.dir, name) }

// run starts a program whose output is shown if the test fails.
func (s *spire) run(name string, args ...string) *process {
	s.t.Helper()
	s.starts++
	out, err := os.Create(s.path(fmt.Sprintf("%s-%d.log", name, s.starts)))
	do(s.t, err)
	p := &process{cmd: exec.Command(filepath.Join(s.bin, name), args...), done: make(chan struct{})}
	p.cmd.Stdout, p.cmd.Stderr, p.cmd.Dir = out, out, s.dir
	do(s.t, p.cmd.Start())
	go func() {
		defer close(p.done)
		p.cmd.Wait()
		out.Close()
	}()
	s.t.Cleanup(func() {
		p.kill()
		if log, _ := os.ReadFile(out.Name()); s.t.Failed() {
			s.t.Logf("%s:\n%s", out.Name(), log[max(0, len(log)-8<<10):])
		}
	})
	return p
}

// ask runs a command of spire-server and answers what it printed.
func (s *spire) ask(args ...string) []byte {
	s.t.Helper()
	args = append(args, "-socketPath", s.path("server.sock"))
	var stderr bytes.Buffer
	cmd := exec.CommandContext(s.t.Context(), filepath.Join(s.bin, "spire-server"), args...)
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		s.t.Fatalf("spire-server %v: %v\n%s%s", args, err, out, stderr.Bytes())
	}
	return out
}

func (s *spire) healthy(program, socket string) bool {
	return exec.CommandContext(s.t.Context(), filepath.Join(s.bin, program), "healthcheck", "-socketPath", s.path(socket)).Run() == nil
}

func freePort(t *testing.T) int {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	do(t, err)
	defer ln.Close()
	return ln.Addr().(*net.TCPAddr).Port
}

func newSpire(t *testing.T) *spire {
	t.Helper()
	bin := os.Getenv("OUTRIGGER_SPIRE")
	for _, program := range []string{"spire-server", "spire-agent"} {
		if _, err := os.Stat(filepath.Join(bin, program)); bin == "" || err != nil {
			t.Fatalf("OUTRIGGER_SPIRE=%q does not hold %s; build it with pkg/identity/testdata/build-spire.sh", bin, program)
		}
	}
	dir, err := os.MkdirTemp("", "spire") // short enough for sockets
	do(t, err)
	t.Cleanup(func() { os.RemoveAll(dir) })
	s := &spire{t: t, bin: bin, dir: dir}
	port := freePort(t)
	do(t, os.WriteFile(s.path("server.conf"), fmt.Appendf(nil, `
server {
  bind_address = "127.0.0.1"
  bind_port = %d
  socket_path = %q
  trust_domain = %q
  data_dir = %q
  log_level = "INFO"
  ca_ttl = "1h"
  default_x509_svid_ttl = %q
  experimental { cache_reload_interval = "1s" }
}
plugins {
  DataStore "sql" { plugin_data { database_type = "sqlite3" connection_string = %q } }
  NodeAttestor "join_token" { plugin_data {} }
  KeyManager "memory" { plugin_data {} }
}
`, port, s.path("server.sock"), local, s.path("server"), spireTTL, s.path("db.sqlite3")), 0o600))
	do(t, os.WriteFile(s.path("agent.conf"), fmt.Appendf(nil, `
agent {
  server_address = "127.0.0.1"
  server_port = %d
  socket_path = %q
  trust_domain = %q
  trust_bundle_path = %q
  data_dir = %q
  log_level = "INFO"
  experimental { sync_interval = "1s" }
}
plugins {
  NodeAttestor "join_token" { plugin_data {} }
  KeyManager "disk" { plugin_data { directory = %q } }
  WorkloadAttestor "unix" { plugin_data {} }
}
`, port, s.path("agent.sock"), local, s.path("bundle.pem"), s.path("agent"), s.path("agent")), 0o600))
	server := s.run("spire-server", "run", "-config", s.path("server.conf"))
	s.ready(server, "spire-server", "server.sock")
	do(t, os.WriteFile(s.path("bundle.pem"), s.ask("bundle", "show"), 0o600))
	var token struct{ Value string }
	do(t, json.Unmarshal(s.ask("token", "generate", "-spiffeID", "spiffe://"+local+"/agent", "-output", "json"), &token))
	for _, p := range []mesh.Principal{planner, github} {
		s.ask("entry", "create", "-parentID", "spiffe://"+local+"/agent", "-spiffeID", p.String(),
			"-selector", fmt.Sprintf("unix:uid:%d", os.Getuid()))
	}
	s.startAgent("-joinToken", token.Value)
	return s
}

func (s *spire) startAgent(args ...string) {
	s.t.Helper()
	s.agent = s.run("spire-agent", append([]string{"run", "-config", s.path("agent.conf")}, args...)...)
	s.ready(s.agent, "spire-agent", "agent.sock")
}

// ready waits until the process answers on its socket.
func (s *spire) ready(p *process, program, socket string) {
	s.t.Helper()
	limit := time.After(2 * time.Minute)
	for !s.healthy(program, socket) {
		select {
		case <-p.done:
			s.t.Fatalf("%s ended", program)
		case <-limit:
			s.t.Fatalf("%s did not get ready", program)
		case <-time.After(100 * time.Millisecond):
		}
	}
}

func (s *spire) source(p mesh.Principal) *WorkloadAPI {
	s.t.Helper()
	source := must(NewWorkloadAPI(WorkloadAPIConfig{Address: "unix://" + s.path("agent.sock"), Principal: p, Logger: quiet}))
	background(s.t, source.Run)
	await(s.t, source, present)
	return source
}

// TestSPIRE: handshakes with certificates of a real SPIRE lose nothing while
// it rotates them; without the agent they last until their end; then nothing
// passes until the agent is back.
func TestSPIRE(t *testing.T) {
	s := newSpire(t)
	clientSource, serverSource := s.source(planner), s.source(github)
	client, server := &Mutual{Source: clientSource}, &Mutual{Source: serverSource}
	meet := func() error {
		c, r := handshake(t, client, server, github)
		if err := errors.Join(c.err, r.err); err != nil {
			return err
		}
		works(t, c.conn, r.conn)
		c.conn.Close()
		r.conn.Close()
		return nil
	}
	seen, handshakes := map[*SVID]bool{}, 0
	for len(seen) < 4 {
		do(t, meet())
		handshakes++
		seen[must(clientSource.SVID())] = true
		select {
		case <-clientSource.Changed():
		case <-time.After(5 * time.Millisecond):
		}
	}
	t.Logf("%d handshakes across %d certificates", handshakes, len(seen))

	s.agent.kill()
	do(t, meet())
	ctx, cancel := context.WithTimeout(t.Context(), 2*spireTTL)
	defer cancel()
	for {
		changed := clientSource.Changed()
		if _, err := clientSource.SVID(); err != nil {
			break
		}
		select {
		case <-changed:
		case <-ctx.Done():
			t.Fatal("the certificate outlived its end")
		}
	}
	if err := meet(); !errors.Is(err, ErrNoIdentity) {
		t.Errorf("after the end: %v", err)
	}
	var token struct{ Value string }
	do(t, json.Unmarshal(s.ask("token", "generate", "-spiffeID", "spiffe://"+local+"/agent", "-output", "json"), &token))
	do(t, os.RemoveAll(s.path("agent"))) // its own certificate ended, too
	s.startAgent("-joinToken", token.Value)
	back := time.Now()
	await(t, clientSource, present)
	await(t, serverSource, present)
	t.Logf("back within %v", time.Since(back))
	do(t, meet())
}
