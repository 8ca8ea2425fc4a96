package mcp

import (
	"context"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	sdk "github.com/modelcontextprotocol/go-sdk/mcp"

	"github.com/outrigger-mesh/outrigger/pkg/inspect"
	"github.com/outrigger-mesh/outrigger/pkg/policy"
)

// metaOfClient is all that a client of revision 2026-07-28 says of itself in each message.
const metaOfClient = `"_meta":{"` + metaVersion + `":"` + rev2607 + `","` + metaClientInfo + `":{"name":"t","version":"1"},"` + metaCapabilities + `":{}}`

// A slowTool is a tool of the official server that runs until it is released or
// cancelled.
type slowTool struct {
	started, release chan struct{}
	ended            chan error // what its context said
}

func (s *slowTool) call(ctx context.Context, _ *sdk.CallToolRequest, _ struct{}) (*sdk.CallToolResult, any, error) {
	close(s.started)
	select {
	case <-ctx.Done():
	case <-s.release:
	}
	s.ended <- ctx.Err()
	return &sdk.CallToolResult{}, nil, nil
}

// A byHand is a client that sends messages by hand, each on a connection of its own, to a
// front before the official server with a tool named slow.
type byHand struct {
	url, version, session string
	tool                  *slowTool
	unheard               *inspect.Unheard
}

// startByHand starts the server, whose handler is wrapped, and the front before it.
func startByHand(t *testing.T, version string, o *sdk.StreamableHTTPOptions, wrap func(http.Handler) http.HandlerFunc) *byHand {
	tool, server := &slowTool{make(chan struct{}), make(chan struct{}), make(chan error, 1)}, newSDKServer()
	sdk.AddTool(server, &sdk.Tool{Name: "slow"}, tool.call)
	s := httptest.NewServer(wrap(sdk.NewStreamableHTTPHandler(func(*http.Request) *sdk.Server { return server }, o)))
	t.Cleanup(func() {
		for session := range server.Sessions() {
			session.Close()
		}
		s.CloseClientConnections()
		s.Close()
	})
	config := judged(denying())
	config.Unheard = new(inspect.Unheard)
	f := startFront(t, New(config), policy.Port{Protocol: policy.ProtocolMCP, Paths: []string{"/mcp"}}, dialer(s))
	return &byHand{url: "http://" + f.Addr().String() + "/mcp", version: version, tool: tool, unheard: config.Unheard}
}

// open opens a session.
func (o *byHand) open(t *testing.T) {
	t.Helper()
	for _, body := range []string{
		rpc("1", "initialize", `{"protocolVersion":"`+o.version+`","capabilities":{},"clientInfo":{"name":"t","version":"1"}}`),
		notify("notifications/initialized", `{}`),
	} {
		if err := o.post(t.Context(), body); err != nil {
			t.Fatal(err)
		}
	}
}

// post sends a message and reads what comes back to its end.
func (o *byHand) post(ctx context.Context, body string, header ...string) error {
	a, err := o.send(ctx, http.MethodPost, body, header...)
	if err != nil {
		return err
	}
	defer a.Body.Close()
	if o.session == "" {
		o.session = a.Header.Get(sessionHeader)
	}
	_, err = io.Copy(io.Discard, a.Body)
	return err
}

func (o *byHand) send(ctx context.Context, method, body string, header ...string) (*http.Response, error) {
	r, err := http.NewRequestWithContext(ctx, method, o.url, strings.NewReader(body))
	if err != nil {
		return nil, err
	}
	header = append(header, "Accept: application/json, text/event-stream", versionHeader+": "+o.version)
	if method == http.MethodPost {
		header = append(header, "Content-Type: application/json")
	}
	for _, line := range header {
		name, value, _ := strings.Cut(line, ": ")
		r.Header.Set(name, value)
	}
	if o.session != "" {
		r.Header.Set(sessionHeader, o.session)
	}
	return (&http.Transport{DisableKeepAlives: true}).RoundTrip(r)
}

// await waits until so many calls go on that nobody hears.
func (o *byHand) await(unheard int) {
	for o.unheard.Count() != unheard {
		time.Sleep(time.Millisecond)
	}
}
