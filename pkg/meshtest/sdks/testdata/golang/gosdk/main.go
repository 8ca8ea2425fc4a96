// Command gosdk is a server or a client of the official Go SDK:
//
//	gosdk server PORT JOURNAL KIND
//	gosdk client URL TRANSPORT ERA PLAN
package main

import (
	"context"
	"fmt"
	"net/http"
	"os"
	"time"

	"github.com/modelcontextprotocol/go-sdk/mcp"

	"peers/plan"
)

func main() {
	var err error
	switch os.Args[1] {
	case "server":
		err = serve(os.Args[2], os.Args[3], os.Args[4])
	case "client":
		err = call(os.Args[2], os.Args[3], os.Args[5])
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "gosdk:", err)
		os.Exit(1)
	}
}

func serve(port, journal, transport string) error {
	s := mcp.NewServer(&mcp.Implementation{Name: "go-sdk", Version: "1.0.0"}, nil)
	text := func(text string) *mcp.CallToolResult {
		return &mcp.CallToolResult{Content: []mcp.Content{&mcp.TextContent{Text: text}}}
	}
	type words struct {
		Message string `json:"message"`
	}
	mcp.AddTool(s, &mcp.Tool{Name: "echo", Description: "Says it again"},
		func(_ context.Context, _ *mcp.CallToolRequest, in words) (*mcp.CallToolResult, any, error) {
			return text("echo: " + in.Message), nil, plan.Journal(journal, "echo")
		})
	mcp.AddTool(s, &mcp.Tool{Name: "safe", Description: "Does no harm"},
		func(context.Context, *mcp.CallToolRequest, map[string]any) (*mcp.CallToolResult, any, error) {
			return text("safe"), nil, plan.Journal(journal, "safe")
		})
	mcp.AddTool(s, &mcp.Tool{Name: "danger", Description: "Does harm"},
		func(context.Context, *mcp.CallToolRequest, map[string]any) (*mcp.CallToolResult, any, error) {
			return text("done"), nil, plan.Journal(journal, "danger")
		})
	mcp.AddTool(s, &mcp.Tool{Name: "slow", Description: "Takes its time"},
		func(ctx context.Context, _ *mcp.CallToolRequest, _ map[string]any) (*mcp.CallToolResult, any, error) {
			return text("done"), nil, plan.Slow(ctx, journal)
		})
	read := func(text string) mcp.ResourceHandler {
		return func(_ context.Context, r *mcp.ReadResourceRequest) (*mcp.ReadResourceResult, error) {
			if text != "public" {
				if err := plan.Journal(journal, text); err != nil {
					return nil, err
				}
			}
			return &mcp.ReadResourceResult{Contents: []*mcp.ResourceContents{{URI: r.Params.URI, Text: text}}}, nil
		}
	}
	s.AddResource(&mcp.Resource{URI: "note://public", Name: "note"}, read("public"))
	s.AddResource(&mcp.Resource{URI: "note://secret", Name: "secret"}, read("secret"))
	for _, name := range []string{"safe", "danger"} {
		s.AddResource(&mcp.Resource{URI: "file:///" + name, Name: name}, read("file:///"+name))
		s.AddPrompt(&mcp.Prompt{Name: name}, func(context.Context, *mcp.GetPromptRequest) (*mcp.GetPromptResult, error) {
			return &mcp.GetPromptResult{Messages: []*mcp.PromptMessage{{Role: "user", Content: &mcp.TextContent{Text: name}}}}, plan.Journal(journal, "prompt "+name)
		})
	}
	s.AddPrompt(&mcp.Prompt{Name: "greet"}, func(context.Context, *mcp.GetPromptRequest) (*mcp.GetPromptResult, error) {
		return &mcp.GetPromptResult{Messages: []*mcp.PromptMessage{{Role: "user", Content: &mcp.TextContent{Text: "hello"}}}}, nil
	})
	same := func(*http.Request) *mcp.Server { return s }
	var handler http.Handler = mcp.NewStreamableHTTPHandler(same, &mcp.StreamableHTTPOptions{Stateless: transport == "stateless", PropagateRequestCancellation: true})
	if transport == "sse" {
		handler = mcp.NewSSEHandler(same, nil)
	}
	at := &http.Server{Addr: "127.0.0.1:" + port, Handler: handler, Protocols: new(http.Protocols)}
	at.Protocols.SetHTTP1(true)
	at.Protocols.SetUnencryptedHTTP2(true)
	return at.ListenAndServe()
}

func call(url, transport, text string) error {
	calls, err := plan.Read(text)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	var way mcp.Transport = &mcp.StreamableClientTransport{Endpoint: url}
	if transport == "sse" {
		way = &mcp.SSEClientTransport{Endpoint: url}
	}
	c, err := mcp.NewClient(&mcp.Implementation{Name: "go-sdk", Version: "1.0.0"}, nil).Connect(ctx, way, nil)
	if err != nil {
		return err
	}
	defer c.Close()
	seen := plan.Seen{Tools: tools(ctx, c), Resources: resources(ctx, c), Prompts: prompts(ctx, c)}
	for _, one := range calls {
		seen.Calls = append(seen.Calls, plan.Outcome(attempt(ctx, c, one)))
	}
	return seen.Print()
}

func tools(ctx context.Context, c *mcp.ClientSession) any {
	var names []string
	for t, err := range c.Tools(ctx, nil) {
		if err != nil {
			return plan.Failed(err)
		}
		names = append(names, t.Name)
	}
	return plan.Names(names, nil)
}

func resources(ctx context.Context, c *mcp.ClientSession) any {
	var names []string
	for r, err := range c.Resources(ctx, nil) {
		if err != nil {
			return plan.Failed(err)
		}
		names = append(names, r.URI)
	}
	return plan.Names(names, nil)
}

func prompts(ctx context.Context, c *mcp.ClientSession) any {
	var names []string
	for p, err := range c.Prompts(ctx, nil) {
		if err != nil {
			return plan.Failed(err)
		}
		names = append(names, p.Name)
	}
	return plan.Names(names, nil)
}

func attempt(ctx context.Context, c *mcp.ClientSession, one plan.Call) (map[string]any, error) {
	switch {
	case one.Tool != "":
		result, err := c.CallTool(ctx, &mcp.CallToolParams{Name: one.Tool, Arguments: one.Arguments})
		if err != nil {
			return nil, err
		}
		return map[string]any{"isError": result.IsError, "content": result.Content}, nil
	case one.Resource != "":
		result, err := c.ReadResource(ctx, &mcp.ReadResourceParams{URI: one.Resource})
		if err != nil {
			return nil, err
		}
		return map[string]any{"contents": result.Contents}, nil
	}
	result, err := c.GetPrompt(ctx, &mcp.GetPromptParams{Name: one.Prompt})
	if err != nil {
		return nil, err
	}
	return map[string]any{"messages": result.Messages}, nil
}
