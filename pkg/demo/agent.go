package demo

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"slices"
	"strings"
	"time"

	"github.com/go-json-experiment/json"
)

// stepTimeout is how long one call, or one change of policy, may take.
const stepTimeout = 10 * time.Second

// An agent is an MCP client in a process of its own, with one session.
type agent struct {
	name     string
	cmd      *exec.Cmd
	commands io.WriteCloser
	replies  *bufio.Scanner
}

// A reply is what the agent's process says about one command.
type reply struct {
	Protocol string   `json:"protocol"`
	Tools    []string `json:"tools"`
	Text     string   `json:"text"`
	IsError  bool     `json:"isError"`
	Code     int64    `json:"code"`
	Error    string   `json:"error"`
	Broken   bool     `json:"broken"`
}

func (m *stage) agent(ctx context.Context, i int) (*agent, error) {
	program, err := m.program("outrigger-sample")
	if err != nil {
		return nil, err
	}
	a := &agent{name: m.agents[i].name, cmd: exec.CommandContext(ctx, program, "agent", "--url", m.agentURL(i))}
	a.cmd.SysProcAttr = attributes()
	if a.commands, err = a.cmd.StdinPipe(); err != nil {
		return nil, err
	}
	out, err := a.cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	log, err := os.Create(m.file("logs", "agent-"+a.name+".log"))
	if err != nil {
		return nil, err
	}
	defer log.Close()
	a.cmd.Stderr = log
	a.replies = bufio.NewScanner(out)
	if err := a.cmd.Start(); err != nil {
		return nil, fmt.Errorf("start agent %s: %w", a.name, err)
	}
	return a, nil
}

func (a *agent) close() error {
	return errors.Join(a.commands.Close(), a.cmd.Wait())
}

func (a *agent) do(command map[string]any) (reply, error) {
	line, err := json.Marshal(command)
	if err != nil {
		return reply{}, err
	}
	if _, err := fmt.Fprintf(a.commands, "%s\n", line); err != nil {
		return reply{}, fmt.Errorf("agent %s has ended: %w", a.name, err)
	}
	watchdog := time.AfterFunc(stepTimeout, func() { a.cmd.Process.Kill() })
	defer watchdog.Stop()
	if !a.replies.Scan() {
		return reply{}, fmt.Errorf("agent %s gave no reply to %s within %s", a.name, line, stepTimeout)
	}
	var r reply
	if err := json.Unmarshal(a.replies.Bytes(), &r); err != nil {
		return reply{}, fmt.Errorf("agent %s: %w", a.name, err)
	}
	if r.Broken {
		return reply{}, fmt.Errorf("agent %s: %s", a.name, r.Error)
	}
	return r, nil
}

// list expects to see exactly these tools.
func (a *agent) list(want ...string) (string, error) {
	r, err := a.do(map[string]any{"list": true})
	if err != nil {
		return "", err
	}
	slices.Sort(r.Tools)
	if !slices.Equal(r.Tools, want) {
		return "", fmt.Errorf("%s sees %v, not %v", a.name, r.Tools, want)
	}
	return fmt.Sprintf("%s sees %s (MCP %s)", a.name, strings.Join(r.Tools, ", "), r.Protocol), nil
}

// call expects a result.
func (a *agent) call(tool string, arguments map[string]any) (string, error) {
	r, err := a.do(map[string]any{"call": tool, "arguments": arguments})
	if err != nil {
		return "", err
	}
	if r.Code != 0 || r.IsError {
		return "", fmt.Errorf("%s called %s and got error %d %q", a.name, tool, r.Code, r.Error)
	}
	return fmt.Sprintf("%s called %s: %q", a.name, tool, r.Text), nil
}

// refused expects the answer that a tool gets which does not exist.
func (a *agent) refused(tool string, arguments map[string]any) (string, error) {
	const absent = "no_such_tool"
	hidden, err := a.do(map[string]any{"call": tool, "arguments": arguments})
	if err != nil {
		return "", err
	}
	unknown, err := a.do(map[string]any{"call": absent, "arguments": arguments})
	if err != nil {
		return "", err
	}
	if hidden.Code == 0 {
		return "", fmt.Errorf("%s called %s and was answered %q", a.name, tool, hidden.Text)
	}
	if hidden.Code != unknown.Code || strings.ReplaceAll(hidden.Error, tool, absent) != unknown.Error {
		return "", fmt.Errorf("%s gives %d %q, but a tool that does not exist %d %q", tool, hidden.Code, hidden.Error, unknown.Code, unknown.Error)
	}
	return fmt.Sprintf("%s called %s: error %d %q, as for %s: %q", a.name, tool, hidden.Code, hidden.Error, absent, unknown.Error), nil
}
