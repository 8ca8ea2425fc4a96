package sample

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"

	"github.com/go-json-experiment/json"
	"github.com/modelcontextprotocol/go-sdk/jsonrpc"
	"github.com/modelcontextprotocol/go-sdk/mcp"
)

// A Command is a line of JSON that an agent process reads: list the tools, or call one.
type Command struct {
	List      bool           `json:"list,omitzero"`
	Call      string         `json:"call,omitzero"`
	Arguments map[string]any `json:"arguments,omitzero"`
}

// A Reply is the line of JSON that answers a Command.
type Reply struct {
	Protocol string   `json:"protocol"`         // the MCP revision agreed with the server
	Tools    []string `json:"tools,omitzero"`   // of a list
	Text     string   `json:"text,omitzero"`    // of a call that worked
	IsError  bool     `json:"isError,omitzero"` // the tool itself reported an error
	Code     int64    `json:"code,omitzero"`    // JSON-RPC error code
	Error    string   `json:"error,omitzero"`   // JSON-RPC error message, or why the transport broke
	Broken   bool     `json:"broken,omitzero"`  // the transport broke: Error is not an answer
}

// An Agent is an MCP client with one session.
type Agent struct{ session *mcp.ClientSession }

// Connect opens a session with the server at url. protocol is the MCP revision
// to offer; "" is the newest.
func Connect(ctx context.Context, url, protocol string) (*Agent, error) {
	client := mcp.NewClient(&mcp.Implementation{Name: "sample-agent", Version: "1.0.0"}, nil)
	transport := &mcp.StreamableClientTransport{Endpoint: url, MaxRetries: -1, DisableStandaloneSSE: true}
	session, err := client.Connect(ctx, transport, &mcp.ClientSessionOptions{ProtocolVersion: protocol})
	if err != nil {
		return nil, fmt.Errorf("open MCP session with %s: %w", url, err)
	}
	return &Agent{session}, nil
}

// Close ends the session.
func (a *Agent) Close() error { return a.session.Close() }

// Do carries out one command.
func (a *Agent) Do(ctx context.Context, c Command) Reply {
	reply := Reply{Protocol: a.session.InitializeResult().ProtocolVersion}
	if c.List {
		list, err := a.session.ListTools(ctx, nil)
		if err != nil {
			return reply.failed(err)
		}
		reply.Tools = []string{}
		for _, t := range list.Tools {
			reply.Tools = append(reply.Tools, t.Name)
		}
		return reply
	}
	params := &mcp.CallToolParams{Name: c.Call}
	if c.Arguments != nil { // a nil map would be sent as null, which is no object
		params.Arguments = c.Arguments
	}
	result, err := a.session.CallTool(ctx, params)
	if err != nil {
		return reply.failed(err)
	}
	reply.IsError = result.IsError
	for _, content := range result.Content {
		if t, ok := content.(*mcp.TextContent); ok {
			reply.Text += t.Text
		}
	}
	return reply
}

func (r Reply) failed(err error) Reply {
	if answer, ok := errors.AsType[*jsonrpc.Error](err); ok {
		r.Code, r.Error = answer.Code, answer.Message
		return r
	}
	r.Error, r.Broken = err.Error(), true
	return r
}

// RunAgent opens a session and answers each line of commands until there are no more.
func RunAgent(ctx context.Context, url, protocol string, commands io.Reader, replies io.Writer) error {
	agent, err := Connect(ctx, url, protocol)
	if err != nil {
		return errors.Join(err, json.MarshalWrite(replies, Reply{Error: err.Error(), Broken: true}))
	}
	defer agent.Close()
	lines := bufio.NewScanner(commands)
	for lines.Scan() {
		var c Command
		err := json.Unmarshal(lines.Bytes(), &c, json.RejectUnknownMembers(true))
		if err != nil || c.List == (c.Call != "") {
			return fmt.Errorf(`read command %q: %v: write {"list":true} or {"call":"echo","arguments":{"text":"hi"}}`, lines.Text(), err)
		}
		out, err := json.Marshal(agent.Do(ctx, c))
		if err != nil {
			return fmt.Errorf("write reply: %w", err)
		}
		if _, err := fmt.Fprintf(replies, "%s\n", out); err != nil {
			return err
		}
	}
	return lines.Err()
}
