package inspect

import (
	"io"
	"net/http"
	"strings"
	"testing"
)

// Trailers of both directions end with us, gRPC's too; what they followed is whole, and
// neither peer waits for them.
func TestTrailersPassInNoDirection(t *testing.T) {
	each(t, func(t *testing.T, start func(testing.TB, http.HandlerFunc) string, c *http.Client) {
		a := start(t, func(w http.ResponseWriter, r *http.Request) {
			body, err := io.ReadAll(r.Body)
			if err != nil || len(r.Trailer) > 0 {
				t.Errorf("the app read trailers %v, %v", r.Trailer, err)
			}
			w.Header().Set("Content-Type", r.Header.Get("Content-Type"))
			w.Header().Set("Trailer", "Grpc-Status")
			w.Write(body)
			http.NewResponseController(w).Flush()
			w.Header().Set("Grpc-Status", "0")
			w.Header().Set(http.TrailerPrefix+"X-Sum", "1")
		})
		d := open(t, a, Config{})
		for _, kind := range []string{"application/json", "text/event-stream", "application/grpc"} {
			for range 3 { // the connection goes on
				r, err := http.NewRequest("POST", "http://"+d.addr+"/", io.NopCloser(strings.NewReader("data: {}\n\n")))
				if err != nil {
					t.Fatal(err)
				}
				r.Header.Set("Content-Type", kind)
				r.Header.Set("TE", "trailers")
				r.Trailer = http.Header{"X-Client-Sum": {"2"}}
				resp, err := c.Do(r)
				if err != nil {
					t.Fatal(err)
				}
				body, err := io.ReadAll(resp.Body)
				resp.Body.Close()
				if err != nil || string(body) != "data: {}\n\n" {
					t.Errorf("%s: got %q, %v", kind, body, err)
				}
				for name, values := range resp.Trailer {
					if len(values) > 0 {
						t.Errorf("%s: trailer %s: %v", kind, name, values)
					}
				}
			}
		}
	})
}
