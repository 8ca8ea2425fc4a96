package demo

import (
	"bytes"
	"fmt"
	"io"
	"path/filepath"
	"strings"
)

// A telling writes the story: plain lines, or a picture with ticks on a terminal.
type telling struct {
	out      io.Writer
	terminal bool
	plan     *layout
	steps    int
}

func newTelling(out io.Writer, terminal bool, p *layout) *telling {
	return &telling{out: out, terminal: terminal, plan: p}
}

const (
	green = "\x1b[32m"
	red   = "\x1b[31m"
	dim   = "\x1b[2m"
	bold  = "\x1b[1m"
	plain = "\x1b[0m"
)

func (t *telling) style(style, text string) string {
	if !t.terminal {
		return text
	}
	return style + text + plain
}

func (t *telling) line(format string, args ...any) { fmt.Fprintf(t.out, format+"\n", args...) }

func (t *telling) begin() {
	t.line("%s", t.style(bold, "Outrigger demo: an agent's calls cross the mesh, inspected"))
	if t.terminal {
		t.line(`
   agent ──▶ sidecar ══════ HBONE: HTTP/2 CONNECT over mutual TLS ══════▶ sidecar ──▶ MCP server
             planner                                                      github
                ▲                                                           ▲
                └──── workloads, authorizations, policies; certificates ────┘
                                      outrigger-control
`)
	}
	t.line("state: %s", t.plan.dir)
}

func (t *telling) ready(m *stage) {
	names := make([]string, 0, len(m.processes))
	for _, p := range m.processes {
		names = append(names, fmt.Sprintf("%s (pid %d)", p.name, p.cmd.Process.Pid))
	}
	t.line("up: %s", strings.Join(names, ", "))
	t.line("")
}

// step tells what is about to be shown and, once it was, what was seen.
func (t *telling) step(title string, show func() (seen string, err error)) error {
	t.steps++
	if t.terminal {
		fmt.Fprintf(t.out, "%s %d. %s", t.style(dim, "…"), t.steps, title)
	}
	seen, err := show()
	mark := t.style(green, "✓")
	if err != nil {
		mark, seen = t.style(red, "✗"), err.Error()
	}
	if t.terminal {
		fmt.Fprint(t.out, "\r\x1b[K")
	}
	t.line("%s %d. %s", mark, t.steps, title)
	for l := range strings.SplitSeq(seen, "\n") {
		t.line("      %s", t.style(dim, l))
	}
	if err != nil {
		return fmt.Errorf("step %d, %s: %w", t.steps, title, err)
	}
	return nil
}

func (t *telling) end() {
	t.line("")
	t.line("%s", t.style(bold, "All of it held."))
}

func (t *telling) keeping() {
	t.line("")
	if err := t.plan.serverDown(); err != nil {
		t.line("%s nothing answers at %s yet: %v", t.style(red, "✗"), t.plan.config.Server, err)
	}
	t.line(keepingLine)
	for i, a := range t.plan.agents {
		t.line("  as %s, call   %s", spiffeID(a), t.plan.agentURL(i))
	}
	t.line("  policy, watched  %s", strings.Join(t.plan.policies, ", "))
	t.line("  audit record     %s", filepath.Join(t.plan.dir, "logs", "audit-"+t.plan.server.name+".jsonl"))
	t.line("  control's log    %s", t.plan.file("logs", "control.log"))
	t.line("  everything else  %s", t.plan.file(endpointsFile))
}

const keepingLine = "The mesh stays up until Ctrl-C."

// IsKeeping tells from what a demo with Keep has printed whether it has shown
// all there was to show and now only keeps the mesh up.
func IsKeeping(printed []byte) bool { return bytes.Contains(printed, []byte(keepingLine)) }
