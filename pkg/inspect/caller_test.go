package inspect

import (
	"io"
	"net/http"
	"slices"
	"strings"
	"testing"

	"github.com/outrigger-mesh/outrigger/pkg/mesh"
	"github.com/outrigger-mesh/outrigger/pkg/policy"
)

// forgeries are fields that no caller may write, each in two spellings.
var forgeries = []string{
	"X-Forwarded-Client-Spiffe-Id", "X-Forwarded-Client-Cert", "Client-Cert", "Client-Cert-Chain", "X-SSL-Client-Cert", "Ssl-Client-Verify",
	"Forwarded", "X-Forwarded-For", "X-Forwarded-Host", "X-Forwarded-Proto", "X-Forwarded-Port", "X-Forwarded-Prefix", "X-Forwarded-User",
	"X-Real-Ip", "True-Client-Ip", "Cf-Connecting-Ip", "X-Client-Ip", "X-Original-Url", "X-Rewrite-Url", "X-Original-Host", "X-Host",
	"X-Envoy-External-Address", "X-Envoy-Peer-Metadata", "X-Envoy-Original-Path", "X-Auth-Request-User", "Remote-User", "X-Remote-User", "L5d-Client-Id",
}

// innocents are fields that only look a little like them.
var innocents = []string{"X-Forwardedness", "X-Request-Id", "Forwardedness", "Traceparent", "Tracestate", "Baggage", "Authorization", "Cookie", "X", "X-Hostname", "Client-Certain", "Remote-Control", "X-Realm"}

func TestTheAppLearnsOnlyTheVerifiedCaller(t *testing.T) {
	source := must(mesh.ParsePrincipal("spiffe://cluster.local/ns/agents/sa/planner"))
	const cert = `By=spiffe://a/ns/b/sa/c;Hash=00;Subject="";URI=spiffe://cluster.local/ns/agents/sa/planner`
	for _, c := range []struct {
		name         string
		conversation Conversation
		want         http.Header
	}{
		{"inbound", Conversation{Direction: policy.Inbound, Source: source}, http.Header{CallerHeader: {source.String()}}},
		{"inbound, with the certificate", Conversation{Direction: policy.Inbound, Source: source, ClientCert: cert},
			http.Header{CallerHeader: {source.String()}, ClientCertHeader: {cert}}},
		{"inbound, nobody", Conversation{Direction: policy.Inbound, ClientCert: cert}, http.Header{}},
		{"outbound", Conversation{Direction: policy.Outbound, Source: source, ClientCert: cert}, http.Header{}},
	} {
		for protocol, peers := range map[string]struct {
			app    func(testing.TB, http.HandlerFunc) string
			client func(testing.TB) *http.Client
		}{"HTTP/1.1": {app, client}, "HTTP/2": {h2App, h2Client}} {
			t.Run(c.name+", "+protocol, func(t *testing.T) {
				var got http.Header
				a := peers.app(t, func(w http.ResponseWriter, r *http.Request) { got = r.Header.Clone() })
				d := open(t, a, Config{Conversation: &c.conversation})
				req, err := http.NewRequest("GET", "http://"+d.addr+"/", nil)
				if err != nil {
					t.Fatal(err)
				}
				for _, name := range forgeries {
					req.Header[name] = []string{"forged", "twice"}
					req.Header[strings.ReplaceAll(strings.ToLower(name), "-", "_")] = []string{"forged"}
				}
				for _, name := range innocents {
					req.Header.Set(name, "kept")
				}
				resp, err := peers.client(t).Do(req)
				if err != nil {
					t.Fatal(err)
				}
				resp.Body.Close()
				for name, values := range got {
					if slices.Contains(values, "forged") || slices.Contains(values, "twice") {
						t.Errorf("the app saw %s: %q", name, values)
					}
				}
				for _, name := range []string{CallerHeader, ClientCertHeader} {
					if !slices.Equal(got[name], c.want[name]) {
						t.Errorf("%s: %q, want %q", name, got[name], c.want[name])
					}
				}
				for _, name := range innocents {
					if got.Get(name) != "kept" {
						t.Errorf("%s was not kept", name)
					}
				}
			})
		}
	}
}

func TestClientCertIsOfIstiosForm(t *testing.T) {
	got := ClientCert("spiffe://td/ns/a/sa/b", "8c51f7a1", "spiffe://td/ns/c/sa/d")
	if want := `By=spiffe://td/ns/a/sa/b;Hash=8c51f7a1;Subject="";URI=spiffe://td/ns/c/sa/d`; got != want {
		t.Errorf("got %s, want %s", got, want)
	}
}

func must[T any](v T, err error) T {
	if err != nil {
		panic(err)
	}
	return v
}

func TestEveryRequestOfAConnectionIsIntroduced(t *testing.T) {
	source := must(mesh.ParsePrincipal("spiffe://cluster.local/ns/agents/sa/planner"))
	a := app(t, func(w http.ResponseWriter, r *http.Request) { io.WriteString(w, r.Header.Get(CallerHeader)) })
	d := open(t, a, Config{Conversation: &Conversation{Direction: policy.Inbound, Source: source}})
	got := say(t, d.addr, "GET /1 HTTP/1.1\r\nHost: a\r\n\r\nGET /2 HTTP/1.1\r\nHost: a\r\nConnection: close\r\n"+CallerHeader+": forged\r\n\r\n")
	if n := strings.Count(got, source.String()); n != 2 || strings.Contains(got, "forged") {
		t.Errorf("introduced %d times: %q", n, got)
	}
}
