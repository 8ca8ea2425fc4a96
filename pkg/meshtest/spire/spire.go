// Package spire runs a real SPIRE server and agent as processes of a test.
package spire

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"github.com/go-json-experiment/json"

	"github.com/outrigger-mesh/outrigger/pkg/mesh"
	"github.com/outrigger-mesh/outrigger/pkg/meshtest/free"
)

// A SPIRE is a server and an agent that attests every process of this user.
type SPIRE struct {
	t        testing.TB
	bin, dir string
	domain   string
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

func (s *SPIRE) path(name string) string { return filepath.Join(s.dir, name) }

// run starts a program whose output is shown if the test fails.
func (s *SPIRE) run(name string, args ...string) *process {
	s.t.Helper()
	s.starts++
	out, err := os.Create(s.path(fmt.Sprintf("%s-%d.log", name, s.starts)))
	check(s.t, err)
	p := &process{cmd: exec.Command(filepath.Join(s.bin, name), args...), done: make(chan struct{})}
	p.cmd.Stdout, p.cmd.Stderr, p.cmd.Dir = out, out, s.dir
	check(s.t, p.cmd.Start())
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
func (s *SPIRE) ask(args ...string) []byte {
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

func (s *SPIRE) healthy(program, socket string) bool {
	return exec.CommandContext(s.t.Context(), filepath.Join(s.bin, program), "healthcheck", "-socketPath", s.path(socket)).Run() == nil
}

func freePort(t testing.TB) int {
	t.Helper()
	ports, err := free.Ports(1)
	check(t, err)
	return ports[0]
}

// Config says what SPIRE issues.
type Config struct {
	TrustDomain string
	TTL         time.Duration    // of certificates
	Entries     []mesh.Principal // that every process of this user is
}

// New starts a server and an agent, which end with the test. The programs are in
// the directory that $OUTRIGGER_SPIRE names.
func New(t testing.TB, c Config) *SPIRE {
	t.Helper()
	bin := os.Getenv("OUTRIGGER_SPIRE")
	for _, program := range []string{"spire-server", "spire-agent"} {
		if _, err := os.Stat(filepath.Join(bin, program)); bin == "" || err != nil {
			t.Fatalf("OUTRIGGER_SPIRE=%q does not hold %s; make spire builds it", bin, program)
		}
	}
	dir, err := os.MkdirTemp("", "spire") // short enough for sockets
	check(t, err)
	t.Cleanup(func() { os.RemoveAll(dir) })
	s := &SPIRE{t: t, bin: bin, dir: dir}
	port := freePort(t)
	check(t, os.WriteFile(s.path("server.conf"), fmt.Appendf(nil, `
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
`, port, s.path("server.sock"), c.TrustDomain, s.path("server"), c.TTL, s.path("db.sqlite3")), 0o600))
	check(t, os.WriteFile(s.path("agent.conf"), fmt.Appendf(nil, `
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
`, port, s.path("agent.sock"), c.TrustDomain, s.path("bundle.pem"), s.path("agent"), s.path("agent")), 0o600))
	server := s.run("spire-server", "run", "-config", s.path("server.conf"))
	s.ready(server, "spire-server", "server.sock")
	check(t, os.WriteFile(s.path("bundle.pem"), s.ask("bundle", "show"), 0o600))
	for _, p := range c.Entries {
		s.ask("entry", "create", "-parentID", "spiffe://"+c.TrustDomain+"/agent", "-spiffeID", p.String(),
			"-selector", fmt.Sprintf("unix:uid:%d", os.Getuid()))
	}
	s.domain = c.TrustDomain
	s.StartAgent()
	return s
}

// StartAgent starts the agent with a new identity of its own.
func (s *SPIRE) StartAgent() {
	s.t.Helper()
	var token struct {
		Value string `json:"value"`
	}
	check(s.t, json.Unmarshal(s.ask("token", "generate", "-spiffeID", "spiffe://"+s.domain+"/agent", "-output", "json"), &token))
	check(s.t, os.RemoveAll(s.path("agent")))
	s.agent = s.run("spire-agent", "run", "-config", s.path("agent.conf"), "-joinToken", token.Value)
	s.ready(s.agent, "spire-agent", "agent.sock")
}

// KillAgent ends the agent at once, and with it the Workload API.
func (s *SPIRE) KillAgent() { s.agent.kill() }

// Address is the Workload API's.
func (s *SPIRE) Address() string { return "unix://" + s.path("agent.sock") }

// ready waits until the process answers on its socket.
func (s *SPIRE) ready(p *process, program, socket string) {
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

func check(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}
