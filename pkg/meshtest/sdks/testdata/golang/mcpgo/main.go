// Command mcpgo is a server or a client of mark3labs/mcp-go:
//
//	mcpgo server PORT JOURNAL KIND
//	mcpgo client URL TRANSPORT ERA PLAN
package main

import (
	"context"
	"fmt"
	"os"
	"time"

	"github.com/mark3labs/mcp-go/client"
	"github.com/mark3labs/mcp-go/mcp"
	"github.com/mark3labs/mcp-go/server"

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
		fmt.Fprintln(os.Stderr, "mcpgo:", err)
		os.Exit(1)
	}
}

func serve(port, journal, transport string) error {
	s := server.NewMCPServer("mcp-go", "1.0.0")
	s.AddTool(mcp.NewTool("echo", mcp.WithDescription("Says it again"), mcp.WithString("message", mcp.Required())),
		func(_ context.Context, r mcp.CallToolRequest) (*mcp.CallToolResult, error) {
			return mcp.NewToolResultText("echo: " + r.GetString("message", "")), plan.Journal(journal, "echo")
		})
	s.AddTool(mcp.NewTool("danger", mcp.WithDescription("Does harm")),
		func(context.Context, mcp.CallToolRequest) (*mcp.CallToolResult, error) {
			return mcp.NewToolResultText("done"), plan.Journal(journal, "danger")
		})
	s.AddResource(mcp.NewResource("note://public", "note"),
		func(context.Context, mcp.ReadResourceRequest) ([]mcp.ResourceContents, error) {
			return []mcp.ResourceContents{mcp.TextResourceContents{URI: "note://public", Text: "public"}}, nil
		})
	s.AddResource(mcp.NewResource("note://secret", "secret"),
		func(context.Context, mcp.ReadResourceRequest) ([]mcp.ResourceContents, error) {
			return []mcp.ResourceContents{mcp.TextResourceContents{URI: "note://secret", Text: "secret"}}, plan.Journal(journal, "secret")
		})
	s.AddTool(mcp.NewTool("safe", mcp.WithDescription("Does no harm")),
		func(context.Context, mcp.CallToolRequest) (*mcp.CallToolResult, error) {
			return mcp.NewToolResultText("safe"), plan.Journal(journal, "safe")
		})
	for _, name := range []string{"safe", "danger"} {
		uri := "file:///" + name
		s.AddResource(mcp.NewResource(uri, name), func(context.Context, mcp.ReadResourceRequest) ([]mcp.ResourceContents, error) {
			return []mcp.ResourceContents{mcp.TextResourceContents{URI: uri, Text: name}}, plan.Journal(journal, uri)
		})
		s.AddPrompt(mcp.NewPrompt(name), func(context.Context, mcp.GetPromptRequest) (*mcp.GetPromptResult, error) {
			return mcp.NewGetPromptResult("", []mcp.PromptMessage{mcp.NewPromptMessage(mcp.RoleUser, mcp.NewTextContent(name))}), plan.Journal(journal, "prompt "+name)
		})
	}
	s.AddTool(mcp.NewTool("slow", mcp.WithDescription("Takes its time")),
		func(ctx context.Context, _ mcp.CallToolRequest) (*mcp.CallToolResult, error) {
			return mcp.NewToolResultText("done"), plan.Slow(ctx, journal)
		})
	s.AddPrompt(mcp.NewPrompt("greet"), func(context.Context, mcp.GetPromptRequest) (*mcp.GetPromptResult, error) {
		return mcp.NewGetPromptResult("", []mcp.PromptMessage{mcp.NewPromptMessage(mcp.RoleUser, mcp.NewTextContent("hello"))}), nil
	})
	if transport == "sse" {
		return server.NewSSEServer(s).Start("127.0.0.1:" + port)
	}
	return server.NewStreamableHTTPServer(s, server.WithStateLess(transport == "stateless")).Start("127.0.0.1:" + port)
}

func connect(ctx context.Context, url, transport string) (*client.Client, error) {
	make := func(url string) (*client.Client, error) { return client.NewStreamableHttpClient(url) }
	if transport == "sse" {
		make = func(url string) (*client.Client, error) { return client.NewSSEMCPClient(url) }
	}
	c, err := make(url)
	if err != nil {
		return nil, err
	}
	if err := c.Start(ctx); err != nil {
		return nil, err
	}
	var hello mcp.InitializeRequest
	hello.Params.ProtocolVersion = "2025-11-25"
	hello.Params.ClientInfo = mcp.Implementation{Name: "mcp-go", Version: "1.0.0"}
	_, err = c.Initialize(ctx, hello)
	return c, err
}

func call(url, transport, text string) error {
	calls, err := plan.Read(text)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	c, err := connect(ctx, url, transport)
	if err != nil {
		return err
	}
	defer c.Close()
	var seen plan.Seen
	seen.Tools = plan.Names(tools(ctx, c))
	seen.Resources = plan.Names(resources(ctx, c))
	seen.Prompts = plan.Names(prompts(ctx, c))
	for _, one := range calls {
		seen.Calls = append(seen.Calls, plan.Outcome(attempt(ctx, c, one)))
	}
	return seen.Print()
}

func tools(ctx context.Context, c *client.Client) (names []string, err error) {
	all, err := c.ListTools(ctx, mcp.ListToolsRequest{})
	if err == nil {
		for _, t := range all.Tools {
			names = append(names, t.Name)
		}
	}
	return names, err
}

func resources(ctx context.Context, c *client.Client) (names []string, err error) {
	all, err := c.ListResources(ctx, mcp.ListResourcesRequest{})
	if err == nil {
		for _, r := range all.Resources {
			names = append(names, r.URI)
		}
	}
	return names, err
}

func prompts(ctx context.Context, c *client.Client) (names []string, err error) {
	all, err := c.ListPrompts(ctx, mcp.ListPromptsRequest{})
	if err == nil {
		for _, p := range all.Prompts {
			names = append(names, p.Name)
		}
	}
	return names, err
}

func attempt(ctx context.Context, c *client.Client, one plan.Call) (map[string]any, error) {
	switch {
	case one.Tool != "":
		var r mcp.CallToolRequest
		r.Params.Name, r.Params.Arguments = one.Tool, one.Arguments
		result, err := c.CallTool(ctx, r)
		if err != nil {
			return nil, err
		}
		return map[string]any{"isError": result.IsError, "content": result.Content}, nil
	case one.Resource != "":
		var r mcp.ReadResourceRequest
		r.Params.URI = one.Resource
		result, err := c.ReadResource(ctx, r)
		if err != nil {
			return nil, err
		}
		return map[string]any{"contents": result.Contents}, nil
	}
	var r mcp.GetPromptRequest
	r.Params.Name = one.Prompt
	result, err := c.GetPrompt(ctx, r)
	if err != nil {
		return nil, err
	}
	return map[string]any{"messages": result.Messages}, nil
}
