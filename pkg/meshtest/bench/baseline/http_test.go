package baseline

import (
	"context"
	"io"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"
)

func TestHTTPProxiesPassOnCalls(t *testing.T) {
	at := network()
	app, server, front := at(1).String()+":9000", at(2).String()+":9000", at(3).String()+":9000"
	ctx, cancel := context.WithCancel(context.Background())
	var running sync.WaitGroup
	defer running.Wait()
	defer cancel()
	for _, run := range []func() error{
		func() error { return MCPApp(ctx, []string{app}) },
		func() error { return Run(ctx, Config{Kind: HTTP, Side: Server, Listen: server, App: app}) },
		func() error { return Run(ctx, Config{Kind: HTTP, Side: Client, Listen: front, To: server, App: app}) },
	} {
		running.Go(func() {
			if err := run(); err != nil {
				t.Error(err)
			}
		})
	}
	for _, address := range []string{app, server, front} {
		await(t, address).Close()
	}
	client := &http.Client{Timeout: 20 * time.Second, Transport: &http.Transport{DisableKeepAlives: true}}
	res, err := client.Post("http://"+front+"/mcp", "application/json", strings.NewReader(`{"jsonrpc":"2.0","id":2,"method":"tools/call"}`))
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	if body, err := io.ReadAll(res.Body); err != nil || res.StatusCode != 200 || !strings.Contains(string(body), `"isError":false`) {
		t.Errorf("%s: %q, %v", res.Status, body, err)
	}
}
