package mcp

import (
	"context"
	"encoding/json"
	"iter"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	sdk "github.com/modelcontextprotocol/go-sdk/mcp"

	"github.com/outrigger-mesh/outrigger/pkg/inspect"
	"github.com/outrigger-mesh/outrigger/pkg/policy"
	"github.com/outrigger-mesh/outrigger/pkg/token"
)

// withHeader sends one header more.
type withHeader struct {
	http.RoundTripper
	name, value string
}

func (w *withHeader) RoundTrip(r *http.Request) (*http.Response, error) {
	r = r.Clone(r.Context())
	if w.value != "" {
		r.Header.Set(w.name, w.value)
	}
	return w.RoundTripper.RoundTrip(r)
}

// connectTo is client behind a front of c, before server.
func connectTo(t *testing.T, server *sdk.Server, client *sdk.Client, c Config, stateless bool, way *withHeader) (*sdk.ClientSession, error) {
	s := httptest.NewServer(sdk.NewStreamableHTTPHandler(func(*http.Request) *sdk.Server { return server }, &sdk.StreamableHTTPOptions{Stateless: stateless}))
	t.Cleanup(func() { s.CloseClientConnections(); s.Close() })
	f := startFront(t, New(c), policy.Port{Protocol: policy.ProtocolMCP, Paths: []string{"/mcp"}}, dialer(s))
	transport := &http.Transport{}
	t.Cleanup(transport.CloseIdleConnections)
	way.RoundTripper = transport
	o := &sdk.ClientSessionOptions{ProtocolVersion: rev2511}
	if stateless {
		o.ProtocolVersion = ""
	}
	return client.Connect(t.Context(), &sdk.StreamableClientTransport{Endpoint: "http://" + f.Addr().String() + "/mcp", HTTPClient: &http.Client{Transport: way}}, o)
}

func judged(j Judge) Config { return Config{Judge: func(*inspect.Exchange) Judge { return j }} }

func count[T any](all iter.Seq[T]) (n int) {
	for range all {
		n++
	}
	return n
}

func TestTheOfficialClientEndsItsSessionWhateverIsDenied(t *testing.T) {
	server, b := newSDKServer(), denying()
	session, err := connectTo(t, server, newSDKClient(), judged(b), false, &withHeader{})
	if err != nil {
		t.Fatal(err)
	}
	if n := count(server.Sessions()); n != 1 {
		t.Fatalf("%d sessions", n)
	}
	b.mu.Lock()
	b.deny["DELETE"], b.deny["GET"] = true, true
	b.mu.Unlock()
	if err := session.Close(); err != nil {
		t.Error(err)
	}
	if n := count(server.Sessions()); n != 0 {
		t.Errorf("the server keeps %d sessions", n)
	}
}

func TestTheOfficialClientSurvivesAMissingScope(t *testing.T) {
	n, b := newNotary(t), denying()
	b.terms.Tokens = &policy.Tokens{Resource: "https://tools.example/mcp", Issuers: []policy.Issuer{{Name: "https://id.example", Audiences: []string{"mcp"}, Keys: n.keys()}}}
	v := token.New(token.Config{})
	t.Cleanup(v.Close)
	c := judged(scoped{b})
	c.Tokens = v
	if _, err := connectTo(t, newSDKServer(), newSDKClient(), c, false, &withHeader{}); err == nil {
		t.Error("connected without a token")
	}
	session, err := connectTo(t, newSDKServer(), newSDKClient(), c, false, &withHeader{name: "Authorization", value: "Bearer " + n.token(`,"sub":"alice"`)})
	if err != nil {
		t.Fatal(err)
	}
	defer session.Close()
	if _, err := session.CallTool(t.Context(), &sdk.CallToolParams{Name: "write"}); err == nil {
		t.Error("a tool without its scope was called")
	}
	if r, err := session.CallTool(t.Context(), &sdk.CallToolParams{Name: "safe"}); err != nil || r.IsError {
		t.Errorf("afterwards: %+v, %v", r, err)
	}
}

func TestTheOfficialPeersMirrorArguments(t *testing.T) {
	server := newSDKServer()
	server.AddTool(&sdk.Tool{Name: "deploy", InputSchema: json.RawMessage(`{"type":"object","properties":{"region":{"type":"string","x-mcp-header":"Region"},"n":{"type":"integer","x-mcp-header":"N"}}}`)},
		func(ctx context.Context, r *sdk.CallToolRequest) (*sdk.CallToolResult, error) {
			return &sdk.CallToolResult{Content: []sdk.Content{&sdk.TextContent{Text: string(r.Params.Arguments)}}}, nil
		})
	way := &withHeader{name: "Mcp-Param-Region"}
	session, err := connectTo(t, server, newSDKClient(), judged(denying()), true, way)
	if err != nil {
		t.Fatal(err)
	}
	defer session.Close()
	if _, err := session.ListTools(t.Context(), nil); err != nil {
		t.Fatal(err)
	}
	args := map[string]any{"region": "eu", "n": 42}
	if r, err := session.CallTool(t.Context(), &sdk.CallToolParams{Name: "deploy", Arguments: args}); err != nil || r.IsError {
		t.Errorf("got %+v, %v", r, err)
	}
	way.value = "us"
	if _, err := session.CallTool(t.Context(), &sdk.CallToolParams{Name: "deploy", Arguments: args}); err == nil || !strings.Contains(err.Error(), "Mcp-Param-Region") {
		t.Errorf("a header that lies: %v", err)
	}
}

func TestTheOfficialPeersProgressAndRoots(t *testing.T) {
	server := newSDKServer()
	sdk.AddTool(server, &sdk.Tool{Name: "slow"}, func(ctx context.Context, r *sdk.CallToolRequest, _ struct{}) (*sdk.CallToolResult, any, error) {
		for _, token := range []any{r.Params.GetProgressToken(), "of somebody else"} {
			if err := r.Session.NotifyProgress(ctx, &sdk.ProgressNotificationParams{ProgressToken: token, Progress: 1}); err != nil {
				return nil, nil, err
			}
		}
		//lint:ignore SA1019 clients of earlier revisions have roots
		roots, err := r.Session.ListRoots(ctx, nil)
		if err != nil {
			return nil, nil, err
		}
		text, _ := json.Marshal(roots.Roots)
		return &sdk.CallToolResult{Content: []sdk.Content{&sdk.TextContent{Text: string(text)}}}, nil, nil
	})
	progress := make(chan any, 8)
	client := sdk.NewClient(&sdk.Implementation{Name: "planner", Version: "1"}, &sdk.ClientOptions{
		ProgressNotificationHandler: func(_ context.Context, r *sdk.ProgressNotificationClientRequest) { progress <- r.Params.ProgressToken },
	})
	//lint:ignore SA1019 clients of earlier revisions have roots
	client.AddRoots(&sdk.Root{URI: "file:///work"}, &sdk.Root{URI: "file:///secret"})
	session, err := connectTo(t, server, client, judged(denying("roots/list file:///secret")), false, &withHeader{})
	if err != nil {
		t.Fatal(err)
	}
	defer session.Close()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	params := &sdk.CallToolParams{Name: "slow"}
	params.SetProgressToken("mine")
	r, err := session.CallTool(ctx, params)
	if err != nil || r.IsError {
		t.Fatalf("got %+v, %v", r, err)
	}
	if text := r.Content[0].(*sdk.TextContent).Text; !strings.Contains(text, "file:///work") || strings.Contains(text, "secret") {
		t.Errorf("the server saw %s", text)
	}
	if got := <-progress; got != "mine" || len(progress) != 0 {
		t.Errorf("progress of %v, and %d more", got, len(progress))
	}
}
