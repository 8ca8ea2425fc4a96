package demo

import (
	"fmt"
	"strings"

	"github.com/go-json-experiment/json"
)

// news tells, while the mesh is kept, what its logs say of the user's policy.
type news struct {
	*telling
	told map[string]bool // denials, each of which is told once
}

// maxTold bounds how many different denials are told: the audit record has all.
const maxTold = 100

// control takes a line of the control plane's log, about the files it watches.
func (n *news) control(line string) {
	switch {
	case strings.Contains(line, "level=WARN"), strings.Contains(line, "level=ERROR"):
		n.bad("%s", line)
	case strings.Contains(line, "configuration is good again"):
		n.line("%s %s", n.style(green, "✓"), line)
	}
}

// sidecar takes a line of the log of the server's sidecar. It says when no policy
// governs the server's port, and we say what a policy must say to do so.
func (n *news) sidecar(line string) {
	p := n.plan
	switch {
	case strings.Contains(line, `msg="port is closed"`):
		n.bad("no policy in %s governs your server, so every call is denied: it listens on port %d and is the workload %s in namespace %s, with the label app: %s",
			strings.Join(p.policies, ", "), p.serverPort, p.server.name, p.server.namespace, p.server.name)
		n.line("  write in one of them: metadata: {namespace: %s}, spec: {ports: [{number: %d, protocol: MCP}], rules: [...]}; what no rule allows stays denied", p.server.namespace, p.serverPort)
	case strings.Contains(line, `msg="port is governed by an agent policy again"`):
		n.line("%s a policy governs your server again", n.style(green, "✓"))
	case strings.Contains(line, "level=ERROR"):
		n.bad("%s", line)
	}
}

// A denial is what is told of a record.
type denial struct {
	Event  string `json:"event"`
	Source struct {
		Identity string `json:"identity"`
	} `json:"source"`
	MCP struct {
		Method string `json:"method"`
		Name   string `json:"name"`
	} `json:"mcp"`
	Decision struct {
		Allowed bool   `json:"allowed"`
		Reason  string `json:"reason"`
	} `json:"decision"`
}

// audit takes a line of the audit record of the server's sidecar.
func (n *news) audit(line string) {
	var d denial
	if json.Unmarshal([]byte(line), &d) != nil || d.Event != "call" || d.Decision.Allowed {
		return
	}
	what := strings.TrimSpace(d.MCP.Method + " " + d.MCP.Name)
	if what == "" {
		what = "a request"
	}
	text := fmt.Sprintf("%q of %s: %s", what, d.Source.Identity, d.Decision.Reason)
	if n.told[text] || len(n.told) >= maxTold {
		return
	}
	n.told[text] = true
	n.bad("%s", text)
}

func (n *news) bad(format string, args ...any) {
	n.line("%s "+format, append([]any{n.style(red, "✗")}, args...)...)
}
