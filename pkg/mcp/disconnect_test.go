package mcp

import (
	"context"
	"net/http"
	"strings"
	"testing"
	"time"

	sdk "github.com/modelcontextprotocol/go-sdk/mcp"

	"github.com/outrigger-mesh/outrigger/pkg/inspect"
)

// Closing the response is the cancel in the modern era; in the legacy eras it says
// nothing, and a call goes on until a notification cancels it.
func TestADisconnectCancelsOnlyInTheModernEra(t *testing.T) {
	for _, c := range []struct {
		name    string
		modern  bool
		version string
	}{{"modern", true, rev2607}, {"legacy", false, rev2511}} {
		t.Run(c.name, func(t *testing.T) {
			left := make(chan error, 16)
			o := startByHand(t, c.version, &sdk.StreamableHTTPOptions{Stateless: c.modern, PropagateRequestCancellation: c.modern}, func(server http.Handler) http.HandlerFunc {
				return func(w http.ResponseWriter, r *http.Request) {
					server.ServeHTTP(w, r)
					left <- r.Context().Err()
				}
			})
			call := rpc("7", "tools/call", `{"name":"slow","arguments":{},`+metaOfClient+`}`)
			header := []string{"Mcp-Method: tools/call", "Mcp-Name: slow"}
			if !c.modern {
				call, header = rpc("7", "tools/call", `{"name":"slow","arguments":{}}`), nil
				o.open(t)
				for range 2 {
					<-left
				}
			}
			ctx, cancel := context.WithCancel(t.Context())
			done := make(chan error, 1)
			go func() { done <- o.post(ctx, call, header...) }()
			select {
			case <-o.tool.started:
			case err := <-done:
				t.Fatalf("the call was not run: %v", err)
			case <-time.After(20 * time.Second):
				t.Fatal("the call was not run")
			}
			cancel()
			<-done
			if c.modern {
				if err := <-o.tool.ended; err != context.Canceled {
					t.Errorf("the call ended with %v", err)
				}
				return
			}
			o.await(1) // the sidecar knows that nobody listens
			close(o.tool.release)
			if err := <-o.tool.ended; err != nil {
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
	h := newHarness(t, denying(), Config{})
	h.server = func(*seen) *inspect.Response { return &inspect.Response{Status: 202} }
	for _, header := range [][]string{nil, {"Mcp-Method: notifications/cancelled"}} {
		if a := h.send("POST", notify(cancelled, `{"requestId":7,`+metaOfClient+`}`), append(header, versionHeader+": "+rev2607)...); a.status != 202 || a.body != "" {
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
