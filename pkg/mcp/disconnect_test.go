package mcp

import (
	"context"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	sdk "github.com/modelcontextprotocol/go-sdk/mcp"

	"github.com/outrigger-mesh/outrigger/pkg/inspect"
	"github.com/outrigger-mesh/outrigger/pkg/policy"
)

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

// Closing the response is the cancel in the modern era; in the legacy eras it says
// nothing, and a call goes on until a notification cancels it.
func TestADisconnectCancelsOnlyInTheModernEra(t *testing.T) {
	for _, c := range []struct {
		name    string
		modern  bool
		version string
	}{{"modern", true, rev2607}, {"legacy", false, rev2511}} {
		t.Run(c.name, func(t *testing.T) {
			tool := &slowTool{make(chan struct{}), make(chan struct{}), make(chan error, 1)}
			server := newSDKServer()
			sdk.AddTool(server, &sdk.Tool{Name: "slow"}, tool.call)
			closed := make(chan struct{}, 16)
			handler := sdk.NewStreamableHTTPHandler(func(*http.Request) *sdk.Server { return server }, &sdk.StreamableHTTPOptions{Stateless: c.modern, PropagateRequestCancellation: c.modern})
			left := make(chan error, 16)
			s := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				handler.ServeHTTP(w, r)
				left <- r.Context().Err()
			}))
			s.Config.ConnState = func(_ net.Conn, state http.ConnState) {
				if state == http.StateClosed {
					closed <- struct{}{}
				}
			}
			s.Start()
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
			session := ""
			send := func(ctx context.Context, body string, header ...string) error {
				transport := &http.Transport{DisableKeepAlives: true}
				r, err := http.NewRequestWithContext(ctx, http.MethodPost, "http://"+f.Addr().String()+"/mcp", strings.NewReader(body))
				if err != nil {
					return err
				}
				for _, line := range append(header, "Content-Type: application/json", "Accept: application/json, text/event-stream", versionHeader+": "+c.version) {
					name, value, _ := strings.Cut(line, ": ")
					r.Header.Set(name, value)
				}
				if session != "" {
					r.Header.Set(sessionHeader, session)
				}
				a, err := transport.RoundTrip(r)
				if err != nil {
					return err
				}
				defer a.Body.Close()
				if session == "" {
					session = a.Header.Get(sessionHeader)
				}
				_, err = io.Copy(io.Discard, a.Body)
				return err
			}
			call := rpc("7", "tools/call", `{"name":"slow","arguments":{}}`)
			header := []string{"Mcp-Method: tools/call", "Mcp-Name: slow"}
			if c.modern {
				call = rpc("7", "tools/call", `{"name":"slow","arguments":{},"_meta":{"`+metaVersion+`":"`+rev2607+`","`+metaClientInfo+`":{"name":"t","version":"1"},"`+metaCapabilities+`":{}}}`)
			} else {
				header = nil
				for _, body := range []string{rpc("1", "initialize", `{"protocolVersion":"`+rev2511+`","capabilities":{},"clientInfo":{"name":"t","version":"1"}}`), notify("notifications/initialized", `{}`)} {
					if err := send(t.Context(), body); err != nil {
						t.Fatal(err)
					}
					<-closed
					<-left
				}
			}
			ctx, cancel := context.WithCancel(t.Context())
			done := make(chan error, 1)
			go func() { done <- send(ctx, call, header...) }()
			select {
			case <-tool.started:
			case err := <-done:
				t.Fatalf("the call was not run: %v", err)
			case <-time.After(20 * time.Second):
				t.Fatal("the call was not run")
			}
			cancel()
			<-done
			if c.modern {
				if err := <-tool.ended; err != context.Canceled {
					t.Errorf("the call ended with %v", err)
				}
				return
			}
			for unheard := false; !unheard; time.Sleep(time.Millisecond) { // the sidecar knows that nobody listens
				unheard = limit.Count() == 1
			}
			close(tool.release)
			if err := <-tool.ended; err != nil {
				t.Errorf("the call was cancelled: %v", err)
			}
			if err := <-left; err != nil {
				t.Errorf("the server thought that its client had left: %v", err)
			}
		})
	}
}

// Ids are the clients' own: to a server of the modern era, which knows no sessions, a
// notification that cancels could be about the request of anybody.
func TestACancellationByNotificationPassesOnlyInTheLegacyEras(t *testing.T) {
	meta := `"_meta":{"` + metaVersion + `":"` + rev2607 + `","` + metaClientInfo + `":{"name":"t","version":"1"},"` + metaCapabilities + `":{}}`
	h := newHarness(t, denying(), Config{})
	h.server = func(*seen) *inspect.Response { return &inspect.Response{Status: 202} }
	for _, header := range [][]string{nil, {"Mcp-Method: notifications/cancelled"}} {
		if a := h.send("POST", notify(cancelled, `{"requestId":7,`+meta+`}`), append(header, versionHeader+": "+rev2607)...); a.status != 202 || a.body != "" {
			t.Errorf("a client of the modern era got %+v", a)
		}
	}
	if len(h.got) != 0 {
		t.Errorf("the server got %+v", h.got)
	}
	h.openSession(rev2506)
	h.send("POST", rpc("7", "tools/call", `{"name":"safe"}`), sessionHeader+": s")
	h.send("POST", notify(cancelled, `{"requestId":7}`), sessionHeader+": s")
	if last := h.got[len(h.got)-1]; !strings.Contains(last.body, cancelled) {
		t.Errorf("the server got last %+v", last)
	}
	told := 0
	for _, r := range h.records() {
		if r.MCP.Method != cancelled {
			continue
		}
		modern := r.MCP.Protocol == rev2607
		if told++; modern == r.Decision.Allowed || modern != strings.Contains(r.Decision.Reason, "closing the response") {
			t.Errorf("record %d: %+v", told, r)
		}
	}
	if told != 3 {
		t.Errorf("%d records", told)
	}
}
