package mcp

import (
	"context"
	"errors"
	"net"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/modelcontextprotocol/go-sdk/jsonrpc"
	sdk "github.com/modelcontextprotocol/go-sdk/mcp"

	"github.com/outrigger-mesh/outrigger/pkg/inspect"
	"github.com/outrigger-mesh/outrigger/pkg/policy"
)

// newSDKServer is the official SDK's server with two tools, one that asks the
// client, a resource and a prompt.
func newSDKServer() *sdk.Server {
	server := sdk.NewServer(&sdk.Implementation{Name: "github", Version: "1"}, nil)
	type in struct {
		Text string `json:"text,omitempty"`
	}
	for _, name := range []string{"safe", "danger"} {
		sdk.AddTool(server, &sdk.Tool{Name: name, Description: name}, func(ctx context.Context, r *sdk.CallToolRequest, in in) (*sdk.CallToolResult, any, error) {
			return &sdk.CallToolResult{Content: []sdk.Content{&sdk.TextContent{Text: name + " did " + in.Text}}}, nil, nil
		})
	}
	sdk.AddTool(server, &sdk.Tool{Name: "ask"}, func(ctx context.Context, r *sdk.CallToolRequest, in in) (*sdk.CallToolResult, any, error) {
		answer, err := r.Session.Elicit(ctx, &sdk.ElicitParams{Message: "may I?"})
		if err != nil {
			return nil, nil, err
		}
		return &sdk.CallToolResult{Content: []sdk.Content{&sdk.TextContent{Text: "the answer is " + answer.Action}}}, nil, nil
	})
	server.AddResource(&sdk.Resource{Name: "readme", URI: "file:///readme"}, func(ctx context.Context, r *sdk.ReadResourceRequest) (*sdk.ReadResourceResult, error) {
		return &sdk.ReadResourceResult{Contents: []*sdk.ResourceContents{{URI: r.Params.URI, Text: "read me"}}}, nil
	})
	server.AddPrompt(&sdk.Prompt{Name: "greet"}, func(ctx context.Context, r *sdk.GetPromptRequest) (*sdk.GetPromptResult, error) {
		return &sdk.GetPromptResult{Messages: []*sdk.PromptMessage{{Role: "user", Content: &sdk.TextContent{Text: "hello"}}}}, nil
	})
	return server
}

func newSDKClient() *sdk.Client {
	return sdk.NewClient(&sdk.Implementation{Name: "planner", Version: "1"}, &sdk.ClientOptions{
		ElicitationHandler: func(context.Context, *sdk.ElicitRequest) (*sdk.ElicitResult, error) {
			return &sdk.ElicitResult{Action: "decline"}, nil
		},
	})
}

func dialer(s *httptest.Server) func(context.Context) (net.Conn, error) {
	return func(ctx context.Context) (net.Conn, error) {
		var d net.Dialer
		return d.DialContext(ctx, "tcp", s.Listener.Addr().String())
	}
}

// connectSDK is the official SDK's client behind a front of judge.
func connectSDK(t testing.TB, judge Judge, o *sdk.StreamableHTTPOptions, version string) *sdk.ClientSession {
	server := newSDKServer()
	s := httptest.NewServer(sdk.NewStreamableHTTPHandler(func(*http.Request) *sdk.Server { return server }, o))
	t.Cleanup(func() { s.CloseClientConnections(); s.Close() })
	layer := New(Config{Judge: func(*inspect.Exchange) Judge { return judge }})
	f := startFront(t, layer, policy.Port{Protocol: policy.ProtocolMCP, Paths: []string{"/mcp"}}, dialer(s))
	transport := &http.Transport{}
	t.Cleanup(transport.CloseIdleConnections)
	session, err := newSDKClient().Connect(t.Context(), &sdk.StreamableClientTransport{Endpoint: "http://" + f.Addr().String() + "/mcp",
		HTTPClient: &http.Client{Transport: transport}}, &sdk.ClientSessionOptions{ProtocolVersion: version})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { session.Close() })
	return session
}

func TestOfficialClientAndServer(t *testing.T) {
	for _, c := range []struct {
		name, version, want string
		options             sdk.StreamableHTTPOptions
	}{
		{"modern", "", rev2607, sdk.StreamableHTTPOptions{Stateless: true}},
		{"modern json", "", rev2607, sdk.StreamableHTTPOptions{Stateless: true, JSONResponse: true}},
		{"legacy 2025-11-25", rev2511, rev2511, sdk.StreamableHTTPOptions{}},
		{"legacy 2025-06-18", rev2506, rev2506, sdk.StreamableHTTPOptions{}},
		{"legacy 2025-03-26", rev2503, rev2503, sdk.StreamableHTTPOptions{}},
		{"legacy 2024-11-05", rev2024, rev2024, sdk.StreamableHTTPOptions{}},
		{"legacy resumable", rev2511, rev2511, sdk.StreamableHTTPOptions{EventStore: sdk.NewMemoryEventStore(nil)}},
		{"legacy stateless", rev2511, rev2511, sdk.StreamableHTTPOptions{Stateless: true}},
		{"modern client falls back", "", rev2511, sdk.StreamableHTTPOptions{}},
	} {
		t.Run(c.name, func(t *testing.T) {
			session := connectSDK(t, denying("* danger", "tools/call absent", "* file:///no", "* hidden"), &c.options, c.version)
			if got := session.InitializeResult().ProtocolVersion; got != c.want {
				t.Errorf("negotiated %s, want %s", got, c.want)
			}
			useSession(t, session)
		})
	}
}

func TestOfficialClientAndServerOverEventStream(t *testing.T) {
	server := newSDKServer()
	s := httptest.NewServer(sdk.NewSSEHandler(func(*http.Request) *sdk.Server { return server }, nil))
	t.Cleanup(func() { s.CloseClientConnections(); s.Close() })
	judge := denying("* danger", "tools/call absent", "* file:///no", "* hidden")
	layer := New(Config{Judge: func(*inspect.Exchange) Judge { return judge }})
	f := startFront(t, layer, policy.Port{Protocol: policy.ProtocolMCP, Paths: []string{"/sse"}}, dialer(s))
	transport := &http.Transport{}
	t.Cleanup(transport.CloseIdleConnections)
	session, err := newSDKClient().Connect(t.Context(), &sdk.SSEClientTransport{Endpoint: "http://" + f.Addr().String() + "/sse",
		HTTPClient: &http.Client{Transport: transport}}, &sdk.ClientSessionOptions{ProtocolVersion: rev2024})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { session.Close() })
	useSession(t, session)
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	r, err := session.CallTool(ctx, &sdk.CallToolParams{Name: "ask"})
	if err != nil || r.Content[0].(*sdk.TextContent).Text != "the answer is decline" {
		t.Errorf("ask: %+v, %v", r, err)
	}
}

func useSession(t *testing.T, session *sdk.ClientSession) {
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	tools, err := session.ListTools(ctx, nil)
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, tool := range tools.Tools {
		names = append(names, tool.Name)
	}
	if !slices.Equal(names, []string{"ask", "safe"}) {
		t.Errorf("the list shows %v", names)
	}
	r, err := session.CallTool(ctx, &sdk.CallToolParams{Name: "safe", Arguments: map[string]any{"text": "größe"}})
	if err != nil || r.Content[0].(*sdk.TextContent).Text != "safe did größe" {
		t.Errorf("safe: %+v, %v", r, err)
	}
	denied := func(name string) string {
		_, err := session.CallTool(ctx, &sdk.CallToolParams{Name: name})
		wire, ok := errors.AsType[*jsonrpc.Error](err)
		if !ok || wire.Code != -32602 {
			t.Fatalf("%s: %v", name, err)
		}
		return strings.ReplaceAll(wire.Message, name, "NAME")
	}
	if a, b, own := denied("danger"), denied("absent"), denied("the-server-has-no-such-tool"); a != b || a != own {
		t.Errorf("hidden: %q, absent: %q, the server's own: %q", a, b, own)
	}
	if r, err := session.ReadResource(ctx, &sdk.ReadResourceParams{URI: "file:///readme"}); err != nil || r.Contents[0].Text != "read me" {
		t.Errorf("resource: %+v, %v", r, err)
	}
	if _, err := session.ReadResource(ctx, &sdk.ReadResourceParams{URI: "file:///no"}); err == nil {
		t.Error("a denied resource was read")
	}
	if r, err := session.GetPrompt(ctx, &sdk.GetPromptParams{Name: "greet"}); err != nil || len(r.Messages) != 1 {
		t.Errorf("prompt: %+v, %v", r, err)
	}
	if _, err := session.GetPrompt(ctx, &sdk.GetPromptParams{Name: "hidden"}); err == nil {
		t.Error("a denied prompt was got")
	}
}

func TestOfficialServerMayAskOnlyWhatPolicyAllows(t *testing.T) {
	for _, c := range []struct {
		judge Judge
		want  string
	}{
		{denying(), "the answer is decline"},
		{denying("elicitation/create "), "Method not found"},
	} {
		session := connectSDK(t, c.judge, &sdk.StreamableHTTPOptions{}, rev2511)
		ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
		r, err := session.CallTool(ctx, &sdk.CallToolParams{Name: "ask"})
		cancel()
		if err != nil {
			t.Fatal(err)
		}
		if text := r.Content[0].(*sdk.TextContent).Text; !strings.Contains(text, c.want) {
			t.Errorf("got %q, want %q", text, c.want)
		}
	}
}
