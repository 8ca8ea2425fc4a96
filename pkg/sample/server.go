// Package sample is an MCP server and an MCP client on the official Go SDK, for
// the demo, the tests and the benchmark. Neither knows of the mesh.
package sample

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"sync/atomic"
	"time"

	"github.com/modelcontextprotocol/go-sdk/mcp"
)

// A Server is an MCP server with a few tools of a code host. It counts what its
// tools really did.
type Server struct {
	Stateless bool // serve revision 2026-07-28, which has no sessions

	executed atomic.Int64
}

// Executed counts the tool calls that were really run.
func (s *Server) Executed() int64 { return s.executed.Load() }

type searchInput struct {
	Query string `json:"query" jsonschema:"words to look for"`
}
type repositoryInput struct {
	Repository string `json:"repository" jsonschema:"owner/name"`
}
type issueInput struct {
	Repository string `json:"repository" jsonschema:"owner/name"`
	Title      string `json:"title" jsonschema:"title of the issue"`
}
type echoInput struct {
	Text string `json:"text" jsonschema:"what to say back"`
}

// Handler is the MCP endpoint, for any path.
func (s *Server) Handler() http.Handler {
	return mcp.NewStreamableHTTPHandler(func(*http.Request) *mcp.Server { return s.mcp() },
		&mcp.StreamableHTTPOptions{Stateless: s.Stateless})
}

func (s *Server) mcp() *mcp.Server {
	server := mcp.NewServer(&mcp.Implementation{Name: "github-sample", Version: "1.0.0"}, nil)
	addText(s, server, "search_issues", "Find issues by words", func(in searchInput) string {
		return fmt.Sprintf("2 issues match %q: #7, #12", in.Query)
	})
	addText(s, server, "get_repository", "Read a repository's description", func(in repositoryInput) string {
		return in.Repository + ": a repository"
	})
	addText(s, server, "create_issue", "Open an issue", func(in issueInput) string {
		return fmt.Sprintf("opened issue #13 %q in %s", in.Title, in.Repository)
	})
	addText(s, server, "delete_repository", "Delete a repository for good", func(in repositoryInput) string {
		return "deleted " + in.Repository
	})
	addText(s, server, "echo", "Say it back", func(in echoInput) string { return in.Text })
	return server
}

func addText[In any](s *Server, server *mcp.Server, name, description string, run func(In) string) {
	mcp.AddTool(server, &mcp.Tool{Name: name, Description: description},
		func(_ context.Context, _ *mcp.CallToolRequest, in In) (*mcp.CallToolResult, any, error) {
			s.executed.Add(1)
			return &mcp.CallToolResult{Content: []mcp.Content{&mcp.TextContent{Text: run(in)}}}, nil, nil
		})
}

// Serve serves MCP over plain streamable HTTP on ln until ctx ends. It takes over ln.
func (s *Server) Serve(ctx context.Context, ln net.Listener) error {
	server := &http.Server{Handler: s.Handler(), ReadHeaderTimeout: 10 * time.Second}
	defer context.AfterFunc(ctx, func() { server.Close() })()
	if err := server.Serve(ln); !errors.Is(err, http.ErrServerClosed) {
		return fmt.Errorf("serve MCP on %s: %w", ln.Addr(), err)
	}
	return nil
}
