package mcp

import (
	"bufio"
	"context"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	sdk "github.com/modelcontextprotocol/go-sdk/mcp"

	"github.com/outrigger-mesh/outrigger/pkg/inspect"
	"github.com/outrigger-mesh/outrigger/pkg/policy"
)

// A client that comes back for a stream gets the rest of it from the server, be it
// while the sidecar still reads in its place or afterwards; the call was never cancelled.
func TestAStreamIsResumedWhereItsClientLeftIt(t *testing.T) {
	for _, c := range []struct {
		name  string
		early bool // the client is back before the call is done
	}{{"before the answer", true}, {"after the answer", false}} {
		t.Run(c.name, func(t *testing.T) {
			tool := &slowTool{make(chan struct{}), make(chan struct{}), make(chan error, 1)}
			server := newSDKServer()
			sdk.AddTool(server, &sdk.Tool{Name: "slow"}, tool.call)
			handler := sdk.NewStreamableHTTPHandler(func(*http.Request) *sdk.Server { return server }, &sdk.StreamableHTTPOptions{EventStore: sdk.NewMemoryEventStore(nil)})
			resumed := make(chan struct{}, 16)
			s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				if r.Method == http.MethodGet {
					resumed <- struct{}{}
				}
				handler.ServeHTTP(w, r)
			}))
			t.Cleanup(func() {
				for session := range server.Sessions() {
					session.Close()
				}
				s.CloseClientConnections()
				s.Close()
			})
			config, limit := judged(denying()), &inspect.Unheard{}
			config.Unheard = limit
			f := startFront(t, New(config), policy.Port{Protocol: policy.ProtocolMCP, Paths: []string{"/mcp"}}, dialer(s))
			o := &resumingClient{t: t, url: "http://" + f.Addr().String() + "/mcp"}
			o.post(t.Context(), rpc("1", "initialize", `{"protocolVersion":"`+rev2511+`","capabilities":{},"clientInfo":{"name":"t","version":"1"}}`))
			o.post(t.Context(), notify("notifications/initialized", `{}`))
			ctx, cancel := context.WithCancel(t.Context())
			a := o.post(ctx, rpc("7", "tools/call", `{"name":"slow","arguments":{}}`))
			last := o.until(a, "id: ") // the event that primes the client
			<-tool.started
			cancel()
			a.Body.Close()
			for limit.Count() == 0 {
				time.Sleep(time.Millisecond)
			}
			if !c.early {
				close(tool.release)
				for limit.Count() > 0 {
					time.Sleep(time.Millisecond)
				}
			}
			if c.early {
				go func() {
					<-resumed // which the server answers when it has something to say
					close(tool.release)
				}()
			}
			b := o.send(t.Context(), http.MethodGet, "", "Last-Event-Id: "+last)
			defer b.Body.Close()
			if b.StatusCode != 200 {
				t.Fatalf("resumed with status %d", b.StatusCode)
			}
			if got := o.until(b, "data: "); !strings.Contains(got, `"id":7`) || !strings.Contains(got, `"result"`) {
				t.Errorf("got %s", got)
			}
			if err := <-tool.ended; err != nil {
				t.Errorf("the call was cancelled: %v", err)
			}
		})
	}
}

// A resumingClient sends messages by hand.
type resumingClient struct {
	t            *testing.T
	url, session string
}

func (o *resumingClient) post(ctx context.Context, body string) *http.Response {
	o.t.Helper()
	a := o.send(ctx, http.MethodPost, body, "Content-Type: application/json")
	if o.session == "" {
		o.session = a.Header.Get(sessionHeader)
	}
	return a
}

func (o *resumingClient) send(ctx context.Context, method, body string, header ...string) *http.Response {
	o.t.Helper()
	r, err := http.NewRequestWithContext(ctx, method, o.url, strings.NewReader(body))
	if err != nil {
		o.t.Fatal(err)
	}
	for _, line := range append(header, "Accept: application/json, text/event-stream", versionHeader+": "+rev2511) {
		name, value, _ := strings.Cut(line, ": ")
		r.Header.Set(name, value)
	}
	if o.session != "" {
		r.Header.Set(sessionHeader, o.session)
	}
	transport := &http.Transport{DisableKeepAlives: true}
	a, err := transport.RoundTrip(r)
	if err != nil {
		o.t.Fatal(err)
	}
	return a
}

// until reads lines up to the next that begins with prefix, and returns its rest.
func (o *resumingClient) until(a *http.Response, prefix string) string {
	o.t.Helper()
	for lines := bufio.NewScanner(a.Body); lines.Scan(); {
		if rest, ok := strings.CutPrefix(lines.Text(), prefix); ok && rest != "" {
			return rest
		}
	}
	o.t.Fatalf("the stream ended before %q", prefix)
	return ""
}
