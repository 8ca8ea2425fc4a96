//go:build bypass

package bypass

import (
	"bytes"
	_ "embed"
	"fmt"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/outrigger-mesh/outrigger/pkg/meshtest/envoy"
	"github.com/outrigger-mesh/outrigger/pkg/meshtest/free"
	"github.com/outrigger-mesh/outrigger/pkg/meshtest/front"
	"github.com/outrigger-mesh/outrigger/pkg/meshtest/sdks"
)

//go:embed envoy.yaml
var envoyConfig string

// policy is what the corpus is written for.
const policy = `apiVersion: outrigger.dev/v1alpha1
kind: AgentPolicy
metadata: {name: bypass, namespace: tools}
spec:
  direction: Inbound
  ports: [{number: %s, protocol: MCP, paths: [/mcp]}]
  rules:
  - name: everything
    action: Allow
    mcp: {methods: [%s]}
  - name: but-danger
    action: Deny
    mcp: {tools: [danger], prompts: [danger], resources: ["file:///danger"]}
`

// methods are those that the specification defines, in any revision.
const methods = `initialize, ping, "notifications/*", server/discover, tools/list, tools/call, resources/list, resources/templates/list,
      resources/read, resources/subscribe, resources/unsubscribe, prompts/list, prompts/get, completion/complete, logging/setLevel,
      subscriptions/listen, tasks/get, tasks/cancel, tasks/result, tasks/list, tasks/update, GET, DELETE`

// How many cases each server runs at the least when nothing is before it: of those
// that are allowed, and of all in which something forbidden comes to run.
const (
	leastPasses = 30
	leastTeeth  = 36
)

// A proxy is one column of the table.
type proxy struct {
	name    string
	address string
	records *records // of ours
}

// A row is what became of one case at one server.
type row struct {
	server   string
	c        *Case
	runs     bool // the server runs something if it gets it
	teeth    bool // the server runs what is denied if it gets it
	findings []Finding
}

// TestNothingGetsPastTheSidecars sends every case through every proxy to every
// server, and prints what each proxy let through. It fails only for ours.
func TestNothingGetsPastTheSidecars(t *testing.T) {
	cases, b, programs := corpus(t), sdks.Prepare(t), front.Build(t)
	binary, err := envoy.Install(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	var rows []row
	var names []string
	for _, server := range b.Servers() {
		if !server.Stateless {
			continue // a case is one request, of no session
		}
		t.Run(server.Name, func(t *testing.T) {
			running := b.Start(t, server)
			direct := strings.TrimPrefix(strings.TrimSuffix(running.URL, server.Path), "http://")
			proxies := []proxy{
				sidecars(t, programs, running),
				envoyProxy(t, binary, running.Port, "Envoy, default", "PASS_THROUGH", "false", ""),
				envoyProxy(t, binary, running.Port, "Envoy, strict", "REJECT_NO_MCP", "true", "max_request_body_size: 4194304"),
			}
			names = nil
			first := len(rows)
			for _, p := range proxies {
				names = append(names, p.name)
			}
			for i := range cases {
				rows = append(rows, try(t, &cases[i], running, direct, proxies))
			}
			telling(t, rows[first:])
			proxies[0].records.explained(t, len(cases))
		})
	}
	t.Log("\n" + table(rows, names))
}

// telling fails if a server runs so little when nothing is before it that it says
// little what it runs behind a proxy.
func telling(t *testing.T, rows []row) {
	t.Helper()
	passes, teeth := 0, 0
	for _, r := range rows {
		if r.runs && r.c.Verdict == Pass {
			passes++
		}
		if r.teeth {
			teeth++
		}
	}
	if passes < leastPasses || teeth < leastTeeth {
		t.Errorf("by itself the server runs only %d of the allowed cases, and what is denied in only %d", passes, teeth)
	}
}

func try(t *testing.T, c *Case, running *sdks.Running, direct string, proxies []proxy) row {
	t.Helper()
	c.Send(direct)
	alone := running.Ran(t)
	r := row{server: running.Name, c: c, runs: alone != "", teeth: Forbidden(alone)}
	for _, p := range proxies {
		a := c.Send(p.address)
		ran := running.Ran(t)
		found := c.Judge(alone, ran)
		r.findings = append(r.findings, found)
		if p.records == nil {
			continue
		}
		if found != Fine {
			t.Errorf("%s: %s: the server ran %q, without sidecars %q; answered %d %.200q %v", c.Name, found, ran, alone, a.Status, a.Body, a.Err)
		}
		if c.Status != 0 && a.Status != c.Status {
			t.Errorf("%s: answered %d %.200q %v, want %d", c.Name, a.Status, a.Body, a.Err, c.Status)
		}
		if problem := p.records.agree(ran); problem != "" {
			t.Errorf("%s: %s", c.Name, problem)
		}
	}
	return r
}

// sidecars puts the mesh in front of the server.
func sidecars(t *testing.T, programs string, running *sdks.Running) proxy {
	t.Helper()
	file := filepath.Join(t.TempDir(), "policy.yaml")
	if err := os.WriteFile(file, fmt.Appendf(nil, policy, running.Port, methods), 0o600); err != nil {
		t.Fatal(err)
	}
	mesh := front.Start(t, programs, running.URL, free.Network(), file)
	agent, err := url.Parse(mesh.Agents[0].URL)
	if err != nil {
		t.Fatal(err)
	}
	for _, s := range mesh.Sidecars {
		if s.Identity == mesh.Server.Identity {
			return proxy{"Outrigger", agent.Host, &records{file: s.Audit, admin: s.Admin}}
		}
	}
	t.Fatal("the server has no sidecar")
	return proxy{}
}

func envoyProxy(t *testing.T, binary, server, name, mode, duplicates, size string) proxy {
	t.Helper()
	port := front.FreePort(t)
	config := strings.NewReplacer("LISTEN_PORT", port, "SERVER_PORT", server, "TRAFFIC_MODE", mode, "REJECT_DUPLICATES", duplicates, "BODY_SIZE", size).Replace(envoyConfig)
	file := filepath.Join(t.TempDir(), "envoy.yaml")
	if err := os.WriteFile(file, []byte(config), 0o600); err != nil {
		t.Fatal(err)
	}
	// Hot restart would ask to be ended with the thread that started it, by itself.
	cmd := exec.Command(binary, "-c", file, "--disable-hot-restart", "--concurrency", "1", "--log-level", "error")
	var out bytes.Buffer
	address := "127.0.0.1:" + port
	if err := front.Await(address, front.Run(t, cmd, &out)); err != nil {
		t.Fatalf("Envoy: %v: %s", err, out.Bytes())
	}
	return proxy{name: name, address: address}
}

// records are what our sidecar said of the calls since the last question.
type records struct {
	file  string
	at    int64
	admin string // of the sidecar, for what it knows
}

// agree says how the record differs from what the server ran, "" if it does not:
// whatever ran must be recorded as allowed, and nothing that ran as denied.
func (r *records) agree(ran string) (problem string) {
	var text string
	for range 100 { // a record follows the answer
		data, err := os.ReadFile(r.file)
		if err != nil {
			return err.Error()
		}
		text = string(data[r.at:])
		if problem = disagreement(text, ran); problem == "" {
			break
		}
		time.Sleep(20 * time.Millisecond)
	}
	r.at += int64(len(text))
	return problem
}

func disagreement(text, ran string) string {
	for _, name := range strings.Fields(strings.ReplaceAll(ran, "prompt ", "")) {
		recorded := false
		for line := range strings.Lines(text) {
			if !strings.Contains(line, `"event":"call"`) || !strings.Contains(line, fmt.Sprintf("%q", name)) {
				continue
			}
			if strings.Contains(line, `"allowed":false`) {
				return fmt.Sprintf("%s ran and is recorded as denied: %s", name, line)
			}
			recorded = true
		}
		if !recorded {
			return fmt.Sprintf("%s ran and there is no record of it", name)
		}
	}
	return ""
}

// table prints the proxies side by side: what each let through, and how often.
func table(rows []row, names []string) string {
	var b strings.Builder
	fmt.Fprintf(&b, "%-28s %-24s %-6s", "case", "server", "should")
	for _, n := range names {
		fmt.Fprintf(&b, "  %-14s", n)
	}
	b.WriteByte('\n')
	teeth, servers := map[string]bool{}, map[string]bool{}
	total := make([]map[Finding]int, len(names))
	for i := range total {
		total[i] = map[Finding]int{}
	}
	for _, r := range rows {
		servers[r.server] = true
		if r.teeth {
			teeth[r.c.Name] = true
		}
		for i, f := range r.findings {
			total[i][f]++
		}
		if !slices.ContainsFunc(r.findings, func(f Finding) bool { return f != Fine }) {
			continue
		}
		fmt.Fprintf(&b, "%-28s %-24s %-6s", r.c.Name, r.server, r.c.Verdict)
		for _, f := range r.findings {
			if f == Fine {
				f = "-"
			}
			fmt.Fprintf(&b, "  %-14s", f)
		}
		b.WriteByte('\n')
	}
	fmt.Fprintf(&b, "%-28s %-24s %-6s", "holes", "", "")
	for i := range names {
		fmt.Fprintf(&b, "  %-14d", total[i][Hole])
	}
	fmt.Fprintf(&b, "\n%-28s %-24s %-6s", "false denials", "", "")
	for i := range names {
		fmt.Fprintf(&b, "  %-14d", total[i][FalseDenial])
	}
	fmt.Fprintf(&b, "\n%d cases at %d servers; %d cases make at least one of these servers run what is denied, if they get to it\n",
		len(rows)/max(1, len(servers)), len(servers), len(teeth))
	return b.String()
}
