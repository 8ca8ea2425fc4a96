// Package front puts the demo's mesh, as separate processes, in front of an MCP
// server that a test started, for tests whose clients and servers are real ones.
package front

import (
	"bytes"
	"errors"
	"fmt"
	"net"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"github.com/go-json-experiment/json"

	"github.com/outrigger-mesh/outrigger/pkg/demo"
	"github.com/outrigger-mesh/outrigger/pkg/meshtest/free"
)

// Build builds the programs into a directory of the test.
func Build(t *testing.T) (programs string) {
	t.Helper()
	programs = t.TempDir()
	out, err := exec.Command("go", "build", "-o", programs, "github.com/outrigger-mesh/outrigger/cmd/...").CombinedOutput()
	if err != nil {
		t.Fatalf("build the programs: %v: %s", err, out)
	}
	return programs
}

// Start runs `outrigger demo --keep` for the server at a URL until the test ends,
// and returns what the mesh said of itself once its agents' listeners are open.
// network is the loopback /24 it uses; policy is a file, "" to allow everything.
func Start(t *testing.T, programs, server, network, policy string) *demo.Endpoints {
	t.Helper()
	state := t.TempDir()
	args := []string{"demo", "--keep", "--server", server, "--programs", programs, "--state", state,
		"--network", network, "--hbone-port", FreePort(t), "--xds-port", FreePort(t)}
	if policy != "" {
		args = append(args, "--policy", policy)
	}
	var out bytes.Buffer
	cmd := exec.Command(filepath.Join(programs, "outrigger"), args...)
	exited := Run(t, cmd, &out)
	for range 600 {
		if e, ok := read(filepath.Join(state, "endpoints.json")); ok {
			return e
		}
		select {
		case <-exited:
			t.Fatalf("the demo ended: %s", out.Bytes())
		case <-time.After(100 * time.Millisecond):
		}
	}
	t.Fatal("the demo names no endpoints")
	return nil
}

// Run starts a program whose output goes to out, and interrupts it when the test
// ends. What is returned is closed when the program has ended.
func Run(t *testing.T, cmd *exec.Cmd, out *bytes.Buffer) <-chan struct{} {
	t.Helper()
	cmd.Stdout, cmd.Stderr = out, out
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	exited := make(chan struct{})
	go func() {
		defer close(exited)
		cmd.Wait()
	}()
	t.Cleanup(func() {
		cmd.Process.Signal(os.Interrupt)
		select {
		case <-exited:
		case <-time.After(30 * time.Second):
			t.Errorf("%s does not end when it is interrupted", cmd.Path)
			cmd.Process.Kill()
			<-exited
		}
		if t.Failed() {
			said := out.Bytes()
			t.Logf("%s said: %s", filepath.Base(cmd.Path), said[max(0, len(said)-4000):])
		}
	})
	return exited
}

// Await waits until somebody listens on a TCP address, or the program has ended.
func Await(address string, exited <-chan struct{}) error {
	for range 600 {
		if c, err := net.Dial("tcp", address); err == nil {
			return c.Close()
		}
		select {
		case <-exited:
			return errors.New("it ended")
		case <-time.After(50 * time.Millisecond):
		}
	}
	return fmt.Errorf("nobody listens on %s", address)
}

// read reads what the mesh says of itself, once somebody listens for each agent.
func read(file string) (*demo.Endpoints, bool) {
	data, err := os.ReadFile(file)
	if err != nil {
		return nil, false
	}
	var e demo.Endpoints
	if err := json.Unmarshal(data, &e); err != nil || len(e.Agents) == 0 {
		return nil, false
	}
	for _, a := range e.Agents {
		u, err := url.Parse(a.URL)
		if err != nil {
			return nil, false
		}
		c, err := net.Dial("tcp", u.Host)
		if err != nil {
			return nil, false
		}
		c.Close()
	}
	return &e, true
}

// FreePort is a port of 127.0.0.1 that nobody listens on.
func FreePort(t *testing.T) string {
	t.Helper()
	ports, err := free.Ports(1)
	if err != nil {
		t.Fatal(err)
	}
	return fmt.Sprint(ports[0])
}
