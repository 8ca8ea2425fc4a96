package baseline

import (
	"context"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"
)

func TestHTTPProxiesPassOnCalls(t *testing.T) {
	s, end := newStage(t)
	defer end()
	s.run(func(ctx context.Context) error { return MCPApp(ctx, []string{s.app}) },
		func(ctx context.Context) error {
			return Run(ctx, Config{Kind: HTTP, Side: Server, Listen: s.server, App: s.app})
		},
		func(ctx context.Context) error {
			return Run(ctx, Config{Kind: HTTP, Side: Client, Listen: s.front, To: s.server, App: s.app})
		})
	for _, address := range []string{s.app, s.server, s.front} {
		await(t, address).Close()
	}
	client := &http.Client{Timeout: 20 * time.Second, Transport: &http.Transport{DisableKeepAlives: true}}
	res, err := client.Post("http://"+s.front+"/mcp", "application/json", strings.NewReader(`{"jsonrpc":"2.0","id":2,"method":"tools/call"}`))
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	if body, err := io.ReadAll(res.Body); err != nil || res.StatusCode != 200 || !strings.Contains(string(body), `"isError":false`) {
		t.Errorf("%s: %q, %v", res.Status, body, err)
	}
}
