package mcp

import (
	"io"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/outrigger-mesh/outrigger/pkg/inspect"
)

// A stream that stands for what is to come ends with the token it was opened with, in
// both eras; that of a call ends with its answer.
func TestAStandingStreamEndsWithItsToken(t *testing.T) {
	modern := func(method string) []string { return []string{versionHeader + ": " + rev2607, "Mcp-Method: " + method} }
	const late = `data: {"jsonrpc":"2.0","id":7,"result":{}}` + "\n\n"
	for _, c := range []struct {
		name, method, body string
		header             []string
		lasts              time.Duration
		code               int // of the error in the stream; 0: none
	}{
		{"the stream of a session", "GET", "", []string{sessionHeader + ": s"}, time.Hour + 30*time.Second, 0},
		{"a subscription", "POST", rpc("7", "subscriptions/listen", `{"notifications":{"toolsListChanged":true},`+metaOfClient+`}`), modern("subscriptions/listen"), time.Hour + 30*time.Second, codeRefused},
		{"a call", "POST", rpc("7", "tools/call", `{"name":"slow",`+metaOfClient+`}`), append(modern("tools/call"), "Mcp-Name: slow"), 2 * time.Hour, 0},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				n := newNotary(t)
				h := withTokens(t, n, denying(), nil)
				bearer := "Authorization: Bearer " + n.token(`,"sub":"alice"`)
				h.server = func(*seen) *inspect.Response {
					return jsonReply(200, `{"jsonrpc":"2.0","id":0,"result":{"protocolVersion":"`+rev2511+`"}}`, inspect.Field{Name: sessionHeader, Value: "s"})
				}
				if a := h.send("POST", rpc("0", "initialize", `{}`), bearer); a.status != 200 {
					t.Fatalf("initialize: %+v", a)
				}
				began := time.Now()
				h.server = func(*seen) *inspect.Response {
					r, w := io.Pipe()
					go func() {
						time.Sleep(2 * time.Hour)
						io.WriteString(w, late)
						w.Close()
					}()
					return &inspect.Response{Status: 200, Header: inspect.Header{{Name: "Content-Type", Value: "text/event-stream"}}, Body: r, ContentLength: -1}
				}
				a := h.send(c.method, c.body, append(c.header, bearer)...)
				if lasted := time.Since(began).Round(time.Second); lasted != c.lasts || a.status != 200 || a.err != nil {
					t.Errorf("lasted %v: %+v", lasted, a)
				}
				switch {
				case c.code != 0:
					isError(t, answer{status: a.status, body: strings.TrimPrefix(strings.TrimSpace(a.body[strings.Index(a.body, "data:"):]), "data: ")}, 200, c.code, "7")
				case c.lasts == 2*time.Hour && !strings.Contains(a.body, `"result"`):
					t.Errorf("the call was not answered: %q", a.body)
				case c.lasts < 2*time.Hour && a.body != "":
					t.Errorf("got %q", a.body)
				}
				if a := h.send(c.method, c.body, append(c.header, bearer)...); a.status != 401 || !strings.Contains(a.header.Get("WWW-Authenticate"), "invalid_token") {
					t.Errorf("the next request: %+v", a)
				}
				h.recorder.Close()
				time.Sleep(4 * time.Hour) // the servers end
			})
		})
	}
}
