package mcp

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/netip"
	"testing"
	"time"

	"github.com/outrigger-mesh/outrigger/pkg/inspect"
	"github.com/outrigger-mesh/outrigger/pkg/mesh"
	"github.com/outrigger-mesh/outrigger/pkg/policy"
	"github.com/outrigger-mesh/outrigger/pkg/telemetry"
)

// A scripted connection gives its text once for each time that it is due, and costs
// nothing itself: it is either end of a conversation without a system call.
type scripted struct {
	net.Conn
	opening, text []byte
	due           int         // how often text is still to be read
	more          func() bool // asked where none is due; nil: it is written to first
}

func (c *scripted) Read(p []byte) (int, error) {
	switch {
	case len(c.opening) > 0:
		n := copy(p, c.opening)
		c.opening = nil
		return n, nil
	case c.due == 0 && (c.more == nil || !c.more()):
		return 0, io.EOF
	}
	if c.due > 0 {
		c.due--
	}
	return copy(p, c.text), nil
}

func (c *scripted) Write(p []byte) (int, error) {
	if c.more == nil && len(p) > 0 {
		c.due++
	}
	return len(p), nil
}

func (c *scripted) Close() error                     { return nil }
func (c *scripted) SetReadDeadline(time.Time) error  { return nil }
func (c *scripted) SetWriteDeadline(time.Time) error { return nil }

// benchPolicies are like those of the bench of the pair: allow rules, one of them with
// a condition on arguments, and a deny rule.
func benchPolicies(b *testing.B, self *mesh.Self) *policy.Policies {
	from := &policy.AgentSource{Namespaces: []string{"agents"}}
	agent, err := policy.CompileAgent(policy.AgentSpec{
		Name: "tools", Namespace: "tools", Ports: []policy.AgentPort{{Number: 9000, Protocol: policy.ProtocolMCP, Paths: []string{"/mcp"}}},
		Rules: []policy.AgentRule{
			{Name: "nobody-deletes", Action: policy.ActionDeny, Tools: []string{"delete_*"}},
			{Name: "bench-reads", Action: policy.ActionAllow, Source: from, Tools: []string{"get_*", "list_*", "search_code"}},
			{Name: "bench-searches-a-little", Action: policy.ActionAllow, Source: from, Tools: []string{"search_issues"},
				When: []string{"mcp.tool.arguments.limit <= 100.0 && mcp.tool.arguments.query.size() > 0"}},
		},
	})
	if err != nil {
		b.Fatal(err)
	}
	return policy.New(self, nil, nil, []*policy.Agent{agent})
}

// BenchmarkGovernedCall is everything that a call of 1 KiB and its answer cost a
// server's sidecar but for the tunnel and the system calls: HTTP, JSON, policy with a
// condition on arguments, access log, audit record and metrics.
func BenchmarkGovernedCall(b *testing.B) {
	self := &mesh.Self{Principal: mesh.NewPrincipal("cluster.local", "tools", "server"), Namespace: "tools"}
	policies := benchPolicies(b, self)
	recorder, err := telemetry.New(telemetry.Config{AccessLog: io.Discard, Audit: io.Discard, Self: *self})
	if err != nil {
		b.Fatal(err)
	}
	defer recorder.Close()
	record := recorder.Connection(policy.Inbound, netip.MustParseAddrPort("127.0.15.30:4711"))
	record.Source, record.Destination = planner, self.Principal

	const head = "POST /mcp HTTP/1.1\r\nHost: tracker.bench\r\nUser-Agent: bench\r\nAccept: application/json, text/event-stream\r\n" +
		"%sContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%s"
	const initialize = `{"jsonrpc":"2.0","id":1,"method":"initialize","params":{"protocolVersion":"2025-11-25","capabilities":{},"clientInfo":{"name":"bench","version":"1"}}}`
	const initialized = `{"jsonrpc":"2.0","id":1,"result":{"protocolVersion":"2025-11-25","capabilities":{"tools":{}},"serverInfo":{"name":"fixed","version":"1"}}}`
	call := padded(1000, `{"jsonrpc":"2.0","id":2,"method":"tools/call","params":{"name":"search_issues","arguments":{"limit":20,"query":"%s"}}}`)
	result := padded(1000, `{"jsonrpc":"2.0","id":2,"result":{"content":[{"type":"text","text":"%s"}],"isError":false}}`)
	answer := func(body []byte, header string) []byte {
		return fmt.Appendf(nil, "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n%sContent-Length: %d\r\n\r\n%s", header, len(body), body)
	}
	const session = "Mcp-Session-Id: session-00000001-of-the-app\r\n"
	up := &scripted{opening: answer([]byte(initialized), session), text: answer(result, "")}
	down := &scripted{
		opening: fmt.Appendf(nil, head, "", len(initialize), initialize),
		text:    fmt.Appendf(nil, head, session+"Mcp-Protocol-Version: 2025-11-25\r\n", len(call), call),
		more:    b.Loop,
	}
	up.due = -1 // what opens the session is not counted
	b.SetBytes(int64(len(call) + len(result)))
	b.ReportAllocs()
	err = inspect.Serve(b.Context(), down, inspect.Config{
		Conversation: &inspect.Conversation{Direction: policy.Inbound, Source: planner, Destination: self.Principal, Record: record,
			Port: policy.Port{Protocol: policy.ProtocolMCP, Paths: []string{"/mcp"}}, Target: policy.Destination{Address: netip.MustParseAddrPort("127.0.15.31:9000")}},
		Layers:   []inspect.Layer{New(Config{})},
		Policies: func() (*policy.Policies, uint64) { return policies, 1 },
		Upstream: func(context.Context) (net.Conn, error) { return up, nil },
	})
	if err != nil {
		b.Fatal(err)
	}
}
