//go:build sdks

package sdks

import (
	"bytes"
	"fmt"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/outrigger-mesh/outrigger/pkg/demo"
	"github.com/outrigger-mesh/outrigger/pkg/meshtest/free"
	"github.com/outrigger-mesh/outrigger/pkg/meshtest/front"
)

// plan is what each client does after it has listed everything. What does not
// exist is asked for before what is denied, so that the sidecar has seen how the
// server says so.
const plan = `[
	{"tool":"echo","arguments":{"message":"hi"}},
	{"tool":"no-such","arguments":{}},
	{"tool":"%[1]s","arguments":{}},
	{"resource":"note://nosuch"},
	{"resource":"note://secret"},
	{"resource":"note://public"},
	{"prompt":"greet","arguments":{}},
	{"tool":"echo","arguments":{"message":"again"}}]`

const (
	unknownTool, deniedTool         = 1, 2
	unknownResource, deniedResource = 3, 4
)

// policy lets the planner do everything and the intern all but what is denied.
const policy = `apiVersion: outrigger.dev/v1alpha1
kind: AgentPolicy
metadata: {name: sdks, namespace: tools}
spec:
  direction: Inbound
  ports: [{number: %s, protocol: MCP}]
  rules:
  - name: everybody
    action: Allow
    mcp: {methods: ["*"]}
  - name: not-the-intern
    action: Deny
    source: {serviceAccounts: [{namespace: agents, name: intern}]}
    mcp: {tools: ["%s"], resources: ["note://secret"]}
`

// A stand is a server that runs, with the mesh in front of it.
type stand struct {
	*Running
	mesh *demo.Endpoints
}

// serve starts a server and the mesh before it.
func serve(t *testing.T, b *Bed, programs string, server Peer, network string) *stand {
	t.Helper()
	s := &stand{Running: b.Start(t, server)}
	file := filepath.Join(t.TempDir(), "policy.yaml")
	if err := os.WriteFile(file, fmt.Appendf(nil, policy, s.Port, s.denied()), 0o600); err != nil {
		t.Fatal(err)
	}
	s.mesh = front.Start(t, programs, s.URL, network, file)
	return s
}

func (s *stand) denied() string {
	if s.Denied != "" {
		return s.Denied
	}
	return "danger"
}

// see runs a client against a URL.
func (s *stand) see(t *testing.T, client Peer, era Era, target string) *Seen {
	t.Helper()
	args := append(client.Command[1:len(client.Command):len(client.Command)],
		target, string(s.Transports[0]), string(era), fmt.Sprintf(plan, s.denied()))
	cmd := exec.Command(client.Command[0], args...)
	var out, errs bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errs
	cmd.WaitDelay = time.Second
	timer := time.AfterFunc(60*time.Second, func() { cmd.Process.Kill() })
	defer timer.Stop()
	if err := cmd.Run(); err != nil {
		t.Fatalf("%s at %s: %v: %s", client.Name, target, err, errs.Bytes())
	}
	lines := bytes.Split(bytes.TrimSpace(out.Bytes()), []byte("\n"))
	seen, err := Parse(lines[len(lines)-1])
	if err != nil {
		t.Fatal(err)
	}
	return seen
}

func (s *stand) agent(t *testing.T, name string) string {
	t.Helper()
	for _, a := range s.mesh.Agents {
		if a.Name == name {
			return a.URL
		}
	}
	t.Fatalf("the mesh has no agent %s", name)
	return ""
}

func TestClientsSeeThroughTheSidecarsWhatTheySeeWithout(t *testing.T) {
	b, programs := Prepare(t), front.Build(t)
	networks := make(chan string, 2) // as many servers at once
	networks <- free.Network()
	networks <- free.Network()
	var all sync.WaitGroup
	defer all.Wait()
	for _, server := range b.Servers() {
		network := <-networks
		all.Go(func() {
			defer func() { networks <- network }()
			t.Run(server.Name, func(t *testing.T) { meet(t, b, programs, server, network) })
		})
	}
}

func meet(t *testing.T, b *Bed, programs string, server Peer, network string) {
	s := serve(t, b, programs, server, network)
	for _, client := range b.Clients() {
		if !slices.Contains(client.Transports, server.Transports[0]) {
			continue
		}
		for _, era := range client.Eras {
			if !slices.Contains(server.Eras, era) {
				continue
			}
			t.Run(client.Name+"-"+string(era), func(t *testing.T) {
				direct := s.see(t, client, era, s.URL)
				s.teeth(t, "without sidecars")
				for _, d := range Diff(direct, s.see(t, client, era, s.agent(t, "planner"))) {
					t.Errorf("everything is allowed: %s", d)
				}
				s.teeth(t, "where everything is allowed")
				s.deny(t, direct, s.see(t, client, era, s.agent(t, "intern")))
			})
		}
	}
}

// teeth checks that the server ran what policy denies others, and said so.
func (s *stand) teeth(t *testing.T, where string) {
	t.Helper()
	ran := s.Ran(t)
	if s.Denied != "" {
		return // a server that is not ours keeps no journal
	}
	if !strings.Contains(ran, s.denied()) || !strings.Contains(ran, "secret") {
		t.Errorf("%s the server ran only %q", where, ran)
	}
}

// deny checks what a client saw whom policy denies a tool and a resource.
func (s *stand) deny(t *testing.T, direct, seen *Seen) {
	t.Helper()
	if ran := s.Ran(t); strings.Contains(ran, s.denied()) || strings.Contains(ran, "secret") {
		t.Errorf("the server ran what is denied: %q", ran)
	}
	want := *direct
	want.Calls = slices.Clone(direct.Calls)
	var err error
	if want.Tools, err = Without(direct.Tools, s.denied()); err != nil {
		t.Fatal(err)
	}
	if want.Resources, err = Without(direct.Resources, "note://secret"); err != nil {
		t.Fatal(err)
	}
	as := func(call int, from, to string) []byte {
		return bytes.ReplaceAll(direct.Calls[call], []byte(from), []byte(to))
	}
	want.Calls[deniedTool] = as(unknownTool, "no-such", s.denied())
	want.Calls[deniedResource] = as(unknownResource, "note://nosuch", "note://secret")
	for _, d := range Diff(&want, seen) {
		t.Errorf("a tool and a resource are denied: %s", d)
	}
}

func TestInspectorCallsThroughTheSidecars(t *testing.T) {
	b, programs := Prepare(t), front.Build(t)
	for _, name := range []string{"typescript-v2", "typescript-v1-sse"} { // a server of each transport
		t.Run(name, func(t *testing.T) { inspected(t, b, serve(t, b, programs, b.server(t, name), free.Network())) })
	}
}

func inspected(t *testing.T, b *Bed, s *stand) {
	inspect := func(target, method string, args ...string) string {
		main := filepath.Join(b.scripts, "node_modules", "@modelcontextprotocol", "inspector", "clients", "launcher", "build", "index.js")
		all := append([]string{main, "--cli", target, "--transport", string(s.Transports[0]), "--method", method}, args...)
		cmd := exec.Command(b.node, all...)
		cmd.Env = append(os.Environ(), "HOME="+b.scripts)
		out, err := cmd.CombinedOutput()
		if err != nil {
			out = append(out, []byte(err.Error())...)
		}
		return string(out)
	}
	port := func(u string) string { parsed, _ := url.Parse(u); return parsed.Host }
	for _, step := range [][]string{
		{"tools/list"},
		{"tools/call", "--tool-name", "echo", "--tool-arg", "message=hi"},
		{"tools/call", "--tool-name", "danger"},
		{"resources/list"},
	} {
		direct, through := inspect(s.URL, step[0], step[1:]...), inspect(s.agent(t, "planner"), step[0], step[1:]...)
		if strings.ReplaceAll(through, port(s.agent(t, "planner")), port(s.URL)) != direct {
			t.Errorf("%v: %s, through the sidecars %s", step, direct, through)
		}
		if !strings.Contains(direct, "{") {
			t.Errorf("%v: the inspector says %s", step, direct)
		}
	}
	if listed := inspect(s.agent(t, "intern"), "tools/list"); !strings.Contains(listed, `"echo"`) || strings.Contains(listed, `"danger"`) {
		t.Errorf("the intern sees %s", listed)
	}
	s.Ran(t)
	if inspect(s.agent(t, "planner"), "tools/call", "--tool-name", "danger"); !strings.Contains(s.Ran(t), "danger") {
		t.Error("the planner's call of danger did not run")
	}
	if said := inspect(s.agent(t, "intern"), "tools/call", "--tool-name", "danger"); strings.Contains(said, "done") || strings.Contains(s.Ran(t), "danger") {
		t.Errorf("the intern's call of danger: %s", said)
	}
}
