package mcp

import (
	"bufio"
	"context"
	"net/http"
	"strings"
	"testing"

	sdk "github.com/modelcontextprotocol/go-sdk/mcp"
)

// A client that comes back for a stream gets the rest of it from the server, be it
// while the sidecar still reads in its place or afterwards; the call was never cancelled.
func TestAStreamIsResumedWhereItsClientLeftIt(t *testing.T) {
	for _, c := range []struct {
		name  string
		early bool // the client is back before the call is done
	}{{"before the answer", true}, {"after the answer", false}} {
		t.Run(c.name, func(t *testing.T) {
			resumed := make(chan struct{}, 16)
			o := startByHand(t, rev2511, &sdk.StreamableHTTPOptions{EventStore: sdk.NewMemoryEventStore(nil)}, func(server http.Handler) http.HandlerFunc {
				return func(w http.ResponseWriter, r *http.Request) {
					if r.Method == http.MethodGet {
						resumed <- struct{}{}
					}
					server.ServeHTTP(w, r)
				}
			})
			o.open(t)
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			a, err := o.send(ctx, http.MethodPost, rpc("7", "tools/call", `{"name":"slow","arguments":{}}`))
			if err != nil {
				t.Fatal(err)
			}
			last := until(t, a, "id: ") // the event that primes the client
			<-o.tool.started
			cancel()
			a.Body.Close()
			o.await(1)
			if c.early {
				go func() {
					<-resumed // which the server answers when it has something to say
					close(o.tool.release)
				}()
			} else {
				close(o.tool.release)
				o.await(0)
			}
			b, err := o.send(t.Context(), http.MethodGet, "", "Last-Event-Id: "+last)
			if err != nil {
				t.Fatal(err)
			}
			defer b.Body.Close()
			if b.StatusCode != 200 {
				t.Fatalf("resumed with status %d", b.StatusCode)
			}
			if got := until(t, b, "data: "); !strings.Contains(got, `"id":7`) || !strings.Contains(got, `"result"`) {
				t.Errorf("got %s", got)
			}
			if err := <-o.tool.ended; err != nil {
				t.Errorf("the call was cancelled: %v", err)
			}
		})
	}
}

// until reads lines up to the next that begins with prefix, and returns its rest.
func until(t *testing.T, a *http.Response, prefix string) string {
	t.Helper()
	for lines := bufio.NewScanner(a.Body); lines.Scan(); {
		if rest, ok := strings.CutPrefix(lines.Text(), prefix); ok && rest != "" {
			return rest
		}
	}
	t.Fatalf("the stream ended before %q", prefix)
	return ""
}
