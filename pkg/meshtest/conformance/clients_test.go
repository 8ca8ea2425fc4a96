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
// own, where the test runs itself again. That needs root and iptables.
func TestSuiteFindsTheSameOfAClientBehindTheSidecars(t *testing.T) {
	if os.Getenv("OUTRIGGER_TEST_NETNS") == "" {
		cached(t) // while there is a network
		inNamespace(t)
		return
	}
	for _, args := range []string{"ip link set lo up", "sysctl -q -w net.ipv6.conf.all.disable_ipv6=1"} {
		words := strings.Fields(args)
		if out, err := exec.Command(words[0], words[1:]...).CombinedOutput(); err != nil {
			t.Fatalf("%s: %v: %s", args, err, out)
		}
	}
	programs := os.Getenv("OUTRIGGER_TEST_PROGRAMS")
	client := filepath.Join(cached(t), "bin", "everything-client")
	for _, revision := range revisions() {
		t.Run(revision, func(t *testing.T) {
			// The mesh is in front of a port that the scenarios do not use, and is told of theirs.
			mesh := front.Start(t, programs, "http://127.0.0.1:9/mcp", free.Network(), "")
			behind := strings.Join([]string{filepath.Join(programs, "behind"), mesh.Files.State, client}, " ")
			c, err := Cached(cached(t)).CompareClients(t.Context(), revision, client, behind)
			judge(t, c, err)
			if c.Direct.Passed < 200 {
				t.Errorf("only %d checks passed", c.Direct.Passed)
			}
		})
	}
}

func inNamespace(t *testing.T) {
	t.Helper()
	programs := front.Build(t)
	if out, err := exec.Command("go", "build", "-o", programs, "./behind").CombinedOutput(); err != nil {
		t.Fatalf("build: %v: %s", err, out)
	}
	cmd := exec.Command("/proc/self/exe", "-test.run=^"+t.Name()+"$", "-test.v")
	cmd.Env = append(os.Environ(), "OUTRIGGER_TEST_NETNS=1", "OUTRIGGER_TEST_PROGRAMS="+programs, "XTABLES_LOCKFILE="+t.TempDir()+"/xtables.lock")
	cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWNET}
	out, err := cmd.CombinedOutput()
	t.Logf("%s", out)
	if err != nil {
		t.Fatal(err)
	}
}
