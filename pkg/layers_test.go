// Package pkg_test holds the architecture's laws to what the code imports.
//
// A new arrow between two packages is a design decision: change the table here
// in the same commit, and say why. Of two packages the one with the higher level
// may know the other, never the reverse.
package pkg_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os/exec"
	"slices"
	"strings"
	"testing"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const module = "github.com/outrigger-mesh/outrigger/"

// A room is a package below pkg/, with the packages below it.
type room struct {
	level   int
	imports string // rooms it may import; "*" means every one below it
}

var rooms = map[string]room{
	"nowait":    {-1, ""},
	"mesh":      {0, ""},
	"relay":     {0, "nowait"},
	"capture":   {0, ""},
	"gate":      {0, ""},
	"jsonrpc":   {0, ""},
	"ratelimit": {0, ""},
	"xds":       {0, ""},
	"watch":     {0, ""},
	"pace":      {0, ""},
	"manifest":  {0, ""},
	"proxyv2":   {0, ""},
	"tls13":     {0, "nowait"},
	"sample":    {0, ""}, // an MCP server and an agent to try the mesh with
	"authority": {1, "mesh"},
	"identity":  {1, "mesh watch tls13"},
	"policy":    {1, "mesh"},
	"telemetry": {2, "mesh policy"},
	"token":     {2, "policy"}, // policies say whose tokens are valid
	"store":     {2, "mesh pace policy"},
	"hbone":     {2, "mesh identity relay nowait gate"},
	"admission": {3, "pace policy store"},
	"discovery": {3, "mesh pace policy store xds watch manifest"},
	"route":     {3, "mesh store"},
	"inspect":   {3, "mesh policy telemetry nowait gate"},
	"mcp":       {4, "mesh policy telemetry token inspect jsonrpc ratelimit"},
	"a2a":       {4, "mesh policy telemetry inspect jsonrpc ratelimit"},
	"guard":     {4, "mesh policy jsonrpc"},
	"virtual":   {5, "inspect jsonrpc mcp"},
	"inbound":   {5, "mesh relay proxyv2 capture identity policy telemetry store hbone admission inspect"},
	"outbound":  {5, "mesh relay capture identity policy telemetry store hbone admission route inspect"},
	"admin":     {5, "mesh store"},
	"sidecar":   {6, "*"},
	"control":   {6, "mesh policy authority discovery manifest watch"},
	"inject":    {6, "mesh manifest"},
	"explain":   {7, "mesh policy telemetry store discovery route admin sidecar"},
	"demo":      {7, "*"},
	"command":   {8, "*"},
	"meshtest":  {9, "*"},
}

// dataPath is what law 1 keeps apart from configuration.
var dataPath = strings.Fields("relay capture hbone route admission inspect mcp a2a guard virtual inbound outbound")

// homes are the rooms that may import what begins with a path. Of several
// paths the longest holds. meshtest may import anything.
var homes = map[string]string{
	// Law 2: generated protobuf types.
	module + "proto/":                               "xds discovery identity control",
	"google.golang.org/protobuf/":                   "xds discovery identity control manifest",
	"google.golang.org/protobuf/types/known/":       "xds discovery identity control sidecar",
	"google.golang.org/genproto/":                   "xds control",
	"github.com/envoyproxy/go-control-plane/envoy/": "xds discovery control sidecar",
	"github.com/cncf/xds/":                          "discovery",
	"github.com/envoyproxy/go-control-plane/pkg/":   "control",
	"google.golang.org/grpc":                        "xds identity control sidecar",
	"go.yaml.in/yaml/":                              "manifest",
	"sigs.k8s.io/yaml":                              "manifest",
	"github.com/fsnotify/fsnotify":                  "watch",
	"github.com/spf13/":                             "command",
	"github.com/prometheus/":                        "telemetry",
	"cel.dev/":                                      "policy",
	"github.com/spiffe/go-spiffe/":                  "identity",
	"github.com/go-jose/go-jose/":                   "token",
	"golang.org/x/net/http2":                        "hbone inspect",
	"golang.org/x/net/netutil":                      "admin control",
	"github.com/modelcontextprotocol/go-sdk/":       "sample",
	"github.com/santhosh-tekuri/jsonschema/":        "guard",
	"github.com/google/jsonschema-go/":              "command",
	"golang.org/x/term":                             "demo command",
	"github.com/nlnwa/whatwg-url/":                  "mcp",
	"golang.org/x/time/":                            "ratelimit",
	"golang.org/x/text/":                            "jsonrpc guard",
	"golang.org/x/sys/":                             "capture watch command hbone",
	"golang.org/x/sync/":                            "*",
	"github.com/go-json-experiment/json":            "*",
}

// unlinked is what a binary must not contain.
var unlinked = map[string][]string{
	"cmd/outrigger":         {"k8s.io/", "sigs.k8s.io/", "github.com/modelcontextprotocol/"},
	"cmd/outrigger-control": {"github.com/modelcontextprotocol/"},
}

// A node is a package as go list tells it.
type node struct {
	ImportPath, Name, Doc     string
	Imports, Deps             []string
	TestGoFiles, XTestGoFiles []string
	TestImports, XTestImports []string
}

// roomOf names the room a package of ours is in, "" if it is in none.
func roomOf(path string) string {
	rest, ok := strings.CutPrefix(path, module+"pkg/")
	if !ok {
		return ""
	}
	name, _, _ := strings.Cut(rest, "/")
	return name
}

// violations are the breaches of law in a graph, one sentence each.
func violations(graph []node) []string {
	var found []string
	report := func(format string, args ...any) { found = append(found, fmt.Sprintf(format, args...)) }
	for _, n := range graph {
		own := strings.TrimPrefix(n.ImportPath, module)
		if strings.HasPrefix(own, "proto/") || own == "pkg" {
			continue
		}
		if !documented(n) {
			report("%s has no package comment", own)
		}
		for _, banned := range unlinked[own] {
			for _, d := range n.Deps {
				if strings.HasPrefix(d, banned) {
					report("%s links %s", own, d)
				}
			}
		}
		if name := roomOf(n.ImportPath); name != "" {
			checkRoom(n, name, own, report)
		}
	}
	return found
}

func documented(n node) bool {
	if n.Name == "main" {
		return strings.HasPrefix(n.Doc, "Command ")
	}
	return strings.HasPrefix(n.Doc, "Package "+n.Name+" ") || strings.HasPrefix(n.Doc, "Package "+n.Name+"\n")
}

func checkRoom(n node, name, own string, report func(string, ...any)) {
	r, ok := rooms[name]
	if !ok {
		report("%s is not in the table of rooms: give it a level and its imports", own)
		return
	}
	for _, path := range n.Imports {
		to := strings.TrimPrefix(path, module)
		switch target := roomOf(path); {
		case strings.HasPrefix(path, module+"cmd/"):
			report("%s imports the command %s", own, to)
		case target == name || target == "" && !strings.Contains(strings.SplitN(path, "/", 2)[0], "."):
		case target == "":
			checkHome(name, own, path, report)
		case !r.mayImport(target):
			report("%s imports %s: this arrow is not in the table", own, to)
		}
	}
	for _, path := range slices.Concat(n.TestImports, n.XTestImports) {
		if target := roomOf(path); target != "" && target != "meshtest" && rooms[target].level > r.level {
			report("a test of %s imports %s, which is above it", own, strings.TrimPrefix(path, module))
		}
	}
	for _, d := range n.Deps {
		if target := roomOf(d); slices.Contains(dataPath, name) && configures(target) || configures(name) && slices.Contains(dataPath, target) {
			report("%s depends on %s: the data path and the configuration meet only in store and sidecar", own, target)
		}
	}
	if len(n.TestGoFiles)+len(n.XTestGoFiles) > 0 && !slices.Contains(slices.Concat(n.TestImports, n.XTestImports), "go.uber.org/goleak") {
		report("the tests of %s do not look for leaked goroutines: goleak.VerifyTestMain", own)
	}
}

func configures(room string) bool { return room == "xds" || room == "discovery" }

func (r room) mayImport(target string) bool {
	t, ok := rooms[target]
	return ok && t.level < r.level && (r.imports == "*" || slices.Contains(strings.Fields(r.imports), target))
}

func checkHome(name, own, path string, report func(string, ...any)) {
	if name == "meshtest" {
		return
	}
	longest := ""
	for prefix := range homes {
		if strings.HasPrefix(path, prefix) && len(prefix) > len(longest) {
			longest = prefix
		}
	}
	switch home := homes[longest]; {
	case longest == "":
		report("%s imports %s, which has no home in the table", own, path)
	case home != "*" && !slices.Contains(strings.Fields(home), name):
		report("%s imports %s, whose home is %s", own, path, strings.ReplaceAll(home, " ", ", "))
	}
}

// load asks go list about all packages there are; some may not compile.
func load(t *testing.T) []node {
	t.Helper()
	out, err := exec.Command("go", "list", "-e", "-json=ImportPath,Name,Doc,Imports,Deps,TestGoFiles,XTestGoFiles,TestImports,XTestImports", module+"...").Output()
	if err != nil {
		var exit *exec.ExitError
		if errors.As(err, &exit) {
			t.Fatalf("go list: %v\n%s", err, exit.Stderr)
		}
		t.Fatal(err)
	}
	var graph []node
	for d := json.NewDecoder(strings.NewReader(string(out))); ; {
		var n node
		if err := d.Decode(&n); err == io.EOF {
			return graph
		} else if err != nil {
			t.Fatal(err)
		}
		graph = append(graph, n)
	}
}

func TestCodeKeepsTheLaws(t *testing.T) {
	graph := load(t)
	if len(graph) < 10 {
		t.Fatalf("go list found only %d packages", len(graph))
	}
	for _, v := range violations(graph) {
		t.Error(v)
	}
}

func TestTableIsInOrder(t *testing.T) {
	for name, r := range rooms {
		for _, target := range strings.Fields(r.imports) {
			if target != "*" && !r.mayImport(target) {
				t.Errorf("%s may import %s, which is not below it", name, target)
			}
		}
	}
	for path, home := range homes {
		for _, name := range strings.Fields(home) {
			if _, ok := rooms[name]; !ok && name != "*" {
				t.Errorf("the home of %s, %s, is not in the table of rooms", path, name)
			}
		}
	}
	for _, name := range dataPath {
		if _, ok := rooms[name]; !ok {
			t.Errorf("%s of the data path is not in the table of rooms", name)
		}
	}
}

// ours is a graph of one lawful package, changed by the caller.
func ours(path, imports string, change func(*node)) []node {
	name := path[strings.LastIndex(path, "/")+1:]
	n := node{ImportPath: module + path, Name: name, Doc: "Package " + name + " does.", Imports: expand(imports)}
	if change != nil {
		change(&n)
	}
	return []node{n}
}

// expand completes the paths of our own packages.
func expand(paths string) []string {
	var list []string
	for p := range strings.FieldsSeq(paths) {
		for _, top := range []string{"pkg/", "cmd/", "proto/"} {
			if strings.HasPrefix(p, top) {
				p = module + p
			}
		}
		list = append(list, p)
	}
	return list
}

func TestCheckerSeesEachBreach(t *testing.T) {
	deps := func(paths string) func(*node) { return func(n *node) { n.Deps = expand(paths) } }
	tests := func(paths string) func(*node) {
		return func(n *node) { n.TestGoFiles, n.TestImports = []string{"x_test.go"}, expand(paths) }
	}
	for _, tt := range []struct {
		name  string
		graph []node
		want  string // "" means lawful
	}{
		{"lawful", ours("pkg/inspect", "io net/http pkg/mesh pkg/policy pkg/telemetry golang.org/x/sync/errgroup", nil), ""},
		{"below its own room", ours("pkg/jsonrpc/sse", "pkg/jsonrpc", nil), ""},
		{"upward", ours("pkg/mesh", "pkg/policy", nil), "pkg/mesh imports pkg/policy: this arrow is not in the table"},
		{"sideways", ours("pkg/policy", "pkg/identity", nil), "pkg/policy imports pkg/identity: this arrow is not in the table"},
		{"downward but new", ours("pkg/inspect", "pkg/store", nil), "pkg/inspect imports pkg/store: this arrow is not in the table"},
		{"upward from one that may import everything below", ours("pkg/sidecar", "pkg/command", nil), "pkg/sidecar imports pkg/command: this arrow is not in the table"},
		{"unknown room", ours("pkg/util", "", nil), "pkg/util is not in the table of rooms: give it a level and its imports"},
		{"to an unknown room", ours("pkg/sidecar", "pkg/util", nil), "pkg/sidecar imports pkg/util: this arrow is not in the table"},
		{"command", ours("pkg/meshtest", "cmd/outrigger", nil), "pkg/meshtest imports the command cmd/outrigger"},
		{"law 1, forth", ours("pkg/inbound", "", deps("pkg/discovery")), "pkg/inbound depends on discovery: the data path and the configuration meet only in store and sidecar"},
		{"law 1, back", ours("pkg/discovery", "", deps("pkg/hbone")), "pkg/discovery depends on hbone: the data path and the configuration meet only in store and sidecar"},
		{"law 2, our protos", ours("pkg/command", "proto/istio/workload", nil), "pkg/command imports " + module + "proto/istio/workload, whose home is xds, discovery, identity, control"},
		{"law 2, the runtime", ours("pkg/store", "google.golang.org/protobuf/proto", nil), "pkg/store imports google.golang.org/protobuf/proto, whose home is xds, discovery, identity, control, manifest"},
		{"law 2, lawful", ours("pkg/discovery", "proto/istio/workload google.golang.org/protobuf/proto", nil), ""},
		{"law 4", ours("pkg/mcp", "github.com/prometheus/client_golang/prometheus", nil), "pkg/mcp imports github.com/prometheus/client_golang/prometheus, whose home is telemetry"},
		{"law 4, homeless", ours("pkg/mcp", "example.com/left/pad", nil), "pkg/mcp imports example.com/left/pad, which has no home in the table"},
		{"law 4, longest path", ours("pkg/sidecar", "google.golang.org/protobuf/types/known/structpb", nil), ""},
		{"meshtest is at home everywhere", ours("pkg/meshtest/peers", "github.com/modelcontextprotocol/go-sdk/mcp pkg/sidecar", nil), ""},
		{"no comment", ours("pkg/mesh", "", func(n *node) { n.Doc = "" }), "pkg/mesh has no package comment"},
		{"comment of another", ours("pkg/mesh", "", func(n *node) { n.Doc = "Package mess is." }), "pkg/mesh has no package comment"},
		{"command's comment", ours("cmd/outrigger", "", func(n *node) { n.Name, n.Doc = "main", "Command outrigger is the sidecar." }), ""},
		{"command without one", ours("cmd/outrigger", "", func(n *node) { n.Name, n.Doc = "main", "" }), "cmd/outrigger has no package comment"},
		{"Kubernetes in the sidecar", ours("cmd/outrigger", "", deps("k8s.io/api/core/v1")), "cmd/outrigger links k8s.io/api/core/v1"},
		{"SDK in the sidecar", ours("cmd/outrigger", "", deps("github.com/modelcontextprotocol/go-sdk/mcp")), "cmd/outrigger links github.com/modelcontextprotocol/go-sdk/mcp"},
		{"Kubernetes in the control plane", ours("cmd/outrigger-control", "", deps("k8s.io/api/core/v1")), ""},
		{"test from above", ours("pkg/mesh", "", tests("go.uber.org/goleak pkg/sidecar")), "a test of pkg/mesh imports pkg/sidecar, which is above it"},
		{"test with meshtest", ours("pkg/mesh", "", tests("go.uber.org/goleak pkg/meshtest")), ""},
		{"test that lets goroutines leak", ours("pkg/mesh", "", tests("testing")), "the tests of pkg/mesh do not look for leaked goroutines: goleak.VerifyTestMain"},
		{"generated code", ours("proto/istio/workload", "example.com/x", func(n *node) { n.Doc = "" }), ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if got := strings.Join(violations(tt.graph), "; "); got != tt.want {
				t.Errorf("got %q, want %q", got, tt.want)
			}
		})
	}
}
