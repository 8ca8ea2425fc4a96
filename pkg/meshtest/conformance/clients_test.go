//go:build conformance

package conformance

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/outrigger-mesh/outrigger/pkg/meshtest/free"
	"github.com/outrigger-mesh/outrigger/pkg/meshtest/front"
)

// The suite's client scenarios give a client the URL of a server at a port of
// localhost, and some compare it with what the client says. So the client's
// connections are redirected to its sidecar, in a network namespace of the test's
// own, where the test runs itself again. That needs root, ip and iptables.
func TestSuiteFindsTheSameOfAClientBehindTheSidecars(t *testing.T) {
	if os.Getenv("OUTRIGGER_TEST_NETNS") == "" {
		cached(t) // while there is a network
		inNamespace(t)
		return
	}
	if out, err := exec.Command("ip", "link", "set", "lo", "up").CombinedOutput(); err != nil {
		t.Fatalf("ip link set lo up: %v: %s", err, out)
	}
	if err := os.WriteFile("/proc/sys/net/ipv6/conf/all/disable_ipv6", []byte("1"), 0o644); err != nil {
		t.Fatal(err)
	}
	programs := os.Getenv("OUTRIGGER_TEST_PROGRAMS")
	client := filepath.Join(cached(t), "bin", "everything-client")
	for _, revision := range revisions() {
		t.Run(revision, func(t *testing.T) {
			// The mesh is in front of a port that the scenarios do not use, and is told of theirs.
			mesh := front.Start(t, programs, "http://127.0.0.1:9/mcp", free.Network(), "")
			behind := strings.Join([]string{filepath.Join(programs, "behind"), mesh.Files.State, client}, " ")
			c, err := Cached(cached(t)).CompareClients(t.Context(), revision, client, behind)
			enough(t, judge(t, c, err), 200)
		})
	}
}

func inNamespace(t *testing.T) {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Fatal("the client's connections are redirected in a network namespace: run this test as root")
	}
	for _, program := range []string{"ip", "iptables"} {
		if _, err := exec.LookPath(program); err != nil {
			t.Fatalf("%v; Debian: apt-get install iproute2 iptables", err)
		}
	}
	programs := front.Build(t)
	if out, err := exec.Command("go", "build", "-o", programs, "./behind").CombinedOutput(); err != nil {
		t.Fatalf("build: %v: %s", err, out)
	}
	cmd := exec.Command("/proc/self/exe", "-test.run=^"+t.Name()+"$", "-test.v")
	cmd.Env = append(os.Environ(), "OUTRIGGER_TEST_NETNS=1", "OUTRIGGER_TEST_PROGRAMS="+programs, "XTABLES_LOCKFILE="+t.TempDir()+"/xtables.lock")
	cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWNET}
	out, err := cmd.CombinedOutput()
	t.Logf("%s", out)
	if err != nil || !strings.Contains(string(out), "--- PASS: "+t.Name()) {
		t.Fatalf("in the namespace: %v", err)
	}
}
