//go:build conformance

package conformance

import (
	"bytes"
	"fmt"
	"net"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"github.com/go-json-experiment/json"
)

// sidecars puts the demo's mesh in front of the server at addr, with everything
// allowed, and returns the URL that its agent calls.
func sidecars(t *testing.T, programs, addr string) string {
	t.Helper()
	state := t.TempDir()
	cmd := exec.Command(filepath.Join(programs, "outrigger"), "demo", "--keep", "--server", "http://"+addr+"/",
		"--programs", programs, "--state", state,
		"--network", "127.0.115.0/24", "--hbone-port", freePort(t), "--xds-port", freePort(t))
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
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
			t.Error("the demo does not end when it is interrupted")
			cmd.Process.Kill()
			<-exited
		}
		if t.Failed() {
			t.Logf("the demo said: %s", last(out.Bytes()))
		}
	})
	for range 600 {
		if agent, ok := agentURL(filepath.Join(state, "endpoints.json")); ok {
			return agent
		}
		select {
		case <-exited:
			t.Fatalf("the demo ended: %s", out.Bytes())
		case <-time.After(100 * time.Millisecond):
		}
	}
	t.Fatal("the demo names no endpoints")
	return ""
}

// agentURL reads what the first agent calls, once somebody listens there.
func agentURL(file string) (string, bool) {
	data, err := os.ReadFile(file)
	if err != nil {
		return "", false
	}
	var endpoints struct {
		Agents []struct {
			URL string `json:"url"`
		} `json:"agents"`
	}
	if err := json.Unmarshal(data, &endpoints); err != nil || len(endpoints.Agents) == 0 {
		return "", false
	}
	u, err := url.Parse(endpoints.Agents[0].URL)
	if err != nil {
		return "", false
	}
	c, err := net.Dial("tcp", u.Host)
	if err != nil {
		return "", false
	}
	c.Close()
	return u.String(), true
}

func freePort(t *testing.T) string {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	return fmt.Sprint(ln.Addr().(*net.TCPAddr).Port)
}

func TestSuiteFindsTheSameThroughTheSidecars(t *testing.T) {
	programs := t.TempDir()
	build := exec.Command("go", "build", "-o", programs, "../../../cmd/...")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("build: %v: %s", err, out)
	}
	for _, revision := range revisions() {
		t.Run(revision, func(t *testing.T) {
			addr := everything(t, revision)
			equal(t, revision, "http://"+addr+"/", sidecars(t, programs, addr))
		})
	}
}
