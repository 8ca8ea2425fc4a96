package meshtest_test

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/outrigger-mesh/outrigger/pkg/control"
	"github.com/outrigger-mesh/outrigger/pkg/meshtest"
	"github.com/outrigger-mesh/outrigger/pkg/meshtest/free"
	"github.com/outrigger-mesh/outrigger/pkg/sample"
	"github.com/outrigger-mesh/outrigger/pkg/sidecar"
)

// A policyPlane is another outrigger-control than the mesh's, with an authority
// and tokens of its own, that serves agent policies and nothing else.
type policyPlane struct {
	t       *testing.T
	dir     string
	address string
	status  string
	end     func()
}

func newPolicyPlane(t *testing.T) *policyPlane {
	t.Helper()
	ports, err := free.Ports(2)
	if err != nil {
		t.Fatal(err)
	}
	p := &policyPlane{t: t, dir: t.TempDir(), address: fmt.Sprintf("127.0.0.1:%d", ports[0]), status: fmt.Sprintf("127.0.0.1:%d", ports[1])}
	a, err := control.OpenAuthority(filepath.Join(p.dir, control.StateCA), "cluster.local")
	if err != nil {
		t.Fatal(err)
	}
	for _, account := range []string{"agents/agent", "tools/server"} {
		ns, sa, _ := strings.Cut(account, "/")
		if _, err := control.IssueToken(filepath.Join(p.dir, control.StateTokens), ns, sa); err != nil {
			t.Fatal(err)
		}
	}
	replace(t, filepath.Join(p.dir, "root.pem"), a.RootPEM())
	if err := os.Mkdir(filepath.Join(p.dir, "config"), 0o700); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(p.stop)
	return p
}

// write replaces what the plane serves; %d is the port of the mesh's app.
func (p *policyPlane) write(m *meshtest.Mesh, policy string) {
	p.t.Helper()
	replace(p.t, filepath.Join(p.dir, "config", "policy.yaml"), []byte(strings.ReplaceAll(policy, "%d", fmt.Sprint(m.App.Port()))))
}

func (p *policyPlane) start() {
	p.t.Helper()
	plane, err := control.New(control.Config{Listen: p.address, Status: p.status, Paths: []string{filepath.Join(p.dir, "config")},
		CADir: filepath.Join(p.dir, control.StateCA), Tokens: filepath.Join(p.dir, control.StateTokens)})
	if err != nil {
		p.t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	var running sync.WaitGroup
	running.Go(func() {
		if err := plane.Run(ctx); err != nil && ctx.Err() == nil {
			p.t.Errorf("policy plane: %v", err)
		}
	})
	p.end = func() { cancel(); running.Wait() }
}

func (p *policyPlane) stop() {
	if p.end != nil {
		p.end()
		p.end = nil
	}
}

// serves makes sidecars ask the plane for agent policies, and by which carriers.
func (p *policyPlane) serves(carriers ...string) func(string, *sidecar.Config) {
	return func(account string, c *sidecar.Config) {
		c.Policy = sidecar.PolicyConfig{
			Carriers: carriers, Address: p.address, Root: filepath.Join(p.dir, "root.pem"), Name: "istiod.istio-system.svc",
			Token: filepath.Join(p.dir, control.StateTokens, c.Workload.Namespace, account),
		}
	}
}

// allows waits until the agent's calls of tools are answered and of others are not.
func allows(t *testing.T, m *meshtest.Mesh, tools ...string) {
	t.Helper()
	m.Eventually(func() error {
		a, err := sample.Connect(t.Context(), "http://"+m.Agent+"/mcp", "2025-11-25")
		if err != nil {
			return err
		}
		defer a.Close()
		for _, tool := range []string{"echo", "get_repository", "delete_repository"} {
			want := strings.Contains(strings.Join(tools, " "), tool)
			r := a.Do(t.Context(), sample.Command{Call: tool, Arguments: map[string]any{"text": "x", "repository": "a/b"}})
			if want != (r.Error == "") {
				return fmt.Errorf("%s: %+v", tool, r)
			}
		}
		return nil
	})
}

func permitting(name, tools string) string {
	return strings.NewReplacer("name: tools,", "name: "+name+",", "[search_issues, echo]", "["+tools+"]").Replace(policy)
}

// Agent policies may come from a server of their own, beside the mesh's: until it
// has delivered nothing is allowed, what it changes is obeyed, and what the
// mesh's own says of agent policies is not asked for.
func TestAgentPoliciesComeFromAPlaneOfTheirOwn(t *testing.T) {
	p := newPolicyPlane(t)
	m := meshtest.New(t, meshtest.Config{Policy: permitting("of-the-mesh", "delete_repository"), WithoutControl: true, DeclareMCP: true, Adjust: p.serves("xds")})
	serveMCP(t, m, &sample.Server{})
	m.StartControl()
	m.Eventually(func() error {
		if text, ok := m.Ready(m.ServerIP); ok || !strings.Contains(text, "agent policies") || strings.Contains(text, "certificate") || strings.Contains(text, "workloads") {
			return fmt.Errorf("readiness says %q, %v", text, ok)
		}
		return nil
	})
	if _, err := sample.Connect(t.Context(), "http://"+m.Agent+"/mcp", "2025-11-25"); err == nil {
		t.Fatal("a session was opened before any agent policy came")
	}
	p.write(m, permitting("of-the-plane", "echo"))
	p.start()
	m.WaitReady()
	allows(t, m, "echo")
	p.write(m, permitting("of-the-plane", "echo, get_repository"))
	allows(t, m, "echo", "get_repository")
	p.stop()
	for range 3 {
		allows(t, m, "echo", "get_repository")
	}
	p.write(m, permitting("of-the-plane", "get_repository"))
	p.start()
	allows(t, m, "get_repository")
	p.write(m, "# nothing any more\n")
	m.Eventually(func() error {
		a, err := sample.Connect(t.Context(), "http://"+m.Agent+"/mcp", "2025-11-25")
		if err == nil {
			a.Close()
			err = fmt.Errorf("the port is still open")
			return err
		}
		return nil
	})
}

// Of one policy by two carriers the mesh's is obeyed, and the other one as soon
// as that is gone; policies of different names apply together.
func TestTheMeshsPolicyGoesBeforeThePlanes(t *testing.T) {
	p := newPolicyPlane(t)
	m := meshtest.New(t, meshtest.Config{Policy: permitting("one", "echo"), WithoutControl: true, DeclareMCP: true, Adjust: p.serves("xds", "mesh")})
	p.write(m, permitting("one", "get_repository"))
	p.start()
	m.StartControl()
	m.WaitReady()
	serveMCP(t, m, &sample.Server{})
	allows(t, m, "echo")
	m.WritePolicy("# nothing\n")
	allows(t, m, "get_repository")
	m.WritePolicy(permitting("two", "echo"))
	allows(t, m, "get_repository", "echo")
	p.write(m, strings.Replace(permitting("one", "echo"), "action: Allow", "action: Deny", 1))
	m.WritePolicy(permitting("two", "echo, delete_repository"))
	allows(t, m, "delete_repository")
}
