//go:build sdks

package sdks

import (
	"crypto/ed25519"
	"encoding/base64"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/outrigger-mesh/outrigger/pkg/demo"
	"github.com/outrigger-mesh/outrigger/pkg/meshtest/free"
	"github.com/outrigger-mesh/outrigger/pkg/meshtest/front"
)

// An authorizer is an authorization server: its metadata, its keys, and tokens for those
// who have a secret (RFC 8414, RFC 7517, RFC 6749 §4.4).
type authorizer struct {
	*httptest.Server
	key ed25519.PrivateKey

	mu    sync.Mutex // guards what follows
	asked []string   // scopes that tokens were asked for with, in order
}

func newAuthorizer(t *testing.T) *authorizer {
	_, key, err := ed25519.GenerateKey(nil)
	if err != nil {
		t.Fatal(err)
	}
	a := &authorizer{key: key}
	mux := http.NewServeMux()
	a.Server = httptest.NewServer(mux)
	t.Cleanup(a.Close)
	mux.HandleFunc("/.well-known/oauth-authorization-server", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		fmt.Fprintf(w, `{"issuer":%q,"authorization_endpoint":%q,"token_endpoint":%q,"response_types_supported":["code"],`+
			`"grant_types_supported":["client_credentials"],"token_endpoint_auth_methods_supported":["client_secret_basic"]}`, a.URL, a.URL+"/authorize", a.URL+"/token")
	})
	mux.HandleFunc("/keys", func(w http.ResponseWriter, _ *http.Request) {
		fmt.Fprintf(w, `{"keys":[{"kty":"OKP","crv":"Ed25519","x":%q}]}`, base64.RawURLEncoding.EncodeToString(key.Public().(ed25519.PublicKey)))
	})
	mux.HandleFunc("POST /token", a.token)
	return a
}

func (a *authorizer) token(w http.ResponseWriter, r *http.Request) {
	who, secret, _ := r.BasicAuth()
	if secret != "secret" || r.FormValue("grant_type") != "client_credentials" {
		http.Error(w, `{"error":"invalid_client"}`, http.StatusUnauthorized)
		return
	}
	scope := r.FormValue("scope")
	a.mu.Lock()
	a.asked = append(a.asked, scope)
	a.mu.Unlock()
	encode := base64.RawURLEncoding.EncodeToString
	text := encode([]byte(`{"alg":"EdDSA"}`)) + "." + encode(fmt.Appendf(nil, `{"iss":%q,"aud":%q,"sub":%q,"scope":%q,"exp":%d}`,
		a.URL, r.FormValue("resource"), who, scope, time.Now().Add(time.Hour).Unix()))
	w.Header().Set("Content-Type", "application/json")
	fmt.Fprintf(w, `{"access_token":%q,"token_type":"Bearer","expires_in":3600,"scope":%q}`, text+"."+encode(ed25519.Sign(a.key, []byte(text))), scope)
}

func (a *authorizer) scopes() []string {
	a.mu.Lock()
	defer a.mu.Unlock()
	asked := a.asked
	a.asked = nil
	return asked
}

const oauthPolicy = `apiVersion: outrigger.dev/v1alpha1
kind: AgentPolicy
metadata: {name: sdks, namespace: tools}
spec:
  direction: Inbound
  ports: [{number: %[1]s, protocol: MCP}]
  jwt:
    resource: %[2]q
    scopesSupported: [read]
    issuers: [{issuer: %[3]q, audiences: [%[2]q], jwksUri: %[4]q}]
  rules:
  - {name: base, action: Allow, mcp: {methods: [tools/list]}}
  - {name: read, action: Allow, mcp: {tools: [safe]}, scopes: [read]}
  - {name: write, action: Allow, mcp: {tools: [danger]}, scopes: [read, write]}
`

// oauth puts the mesh in front of a server, with a policy that wants tokens for the very
// URL that the agent has.
func oauth(t *testing.T, b *Bed, programs string, id *authorizer) (*Running, string) {
	t.Helper()
	server := b.Start(t, b.server(t, "typescript-v1"))
	file := filepath.Join(t.TempDir(), "policy.yaml")
	write := func(resource string) {
		t.Helper()
		if err := os.WriteFile(file, fmt.Appendf(nil, oauthPolicy, server.Port, resource, id.URL, id.URL+"/keys"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write("http://127.0.0.1:1/mcp")
	var mesh *demo.Endpoints = front.Start(t, programs, server.URL, free.Network(), file)
	agent := mesh.Agents[0].URL
	at, err := url.Parse(agent)
	if err != nil {
		t.Fatal(err)
	}
	write(agent)
	want := fmt.Sprintf("resource_metadata=%q", "http://"+at.Host+"/.well-known/oauth-protected-resource"+at.Path)
	for by := time.Now().Add(time.Minute); ; time.Sleep(20 * time.Millisecond) {
		a, err := http.Post(agent, "application/json", strings.NewReader(`{"jsonrpc":"2.0","id":1,"method":"ping"}`))
		if err != nil {
			t.Fatal(err)
		}
		a.Body.Close()
		if challenge := a.Header.Get("WWW-Authenticate"); a.StatusCode == 401 && strings.Contains(challenge, want) {
			return server, agent
		} else if time.Now().After(by) {
			t.Fatalf("%d %s, want %s", a.StatusCode, challenge, want)
		}
	}
}

// From a challenge of ours real clients find the authorization server, get a token for the
// resource, and step up where a scope is missing; what is hidden makes them ask for nothing.
func TestClientsGetTheTokensThatTheSidecarsAskFor(t *testing.T) {
	b, programs, id := Prepare(t), front.Build(t), newAuthorizer(t)
	server, agent := oauth(t, b, programs, id)
	for _, c := range []struct{ sdk, scope, asked string }{
		{"v1", "read write", "read write"}, // with a secret, it asks for the scopes that it was told, whatever the challenge says
		{"v2", "", "read, read write"},
	} {
		t.Run("typescript-"+c.sdk, func(t *testing.T) {
			id.scopes()
			server.Ran(t)
			command := append(b.script("oauth.mjs"), c.sdk, agent, id.URL, c.scope)
			out, err := exec.CommandContext(t.Context(), command[0], command[1:]...).Output()
			if err != nil {
				t.Fatalf("%v: %s", err, out)
			}
			seen, err := Parse(out)
			if err != nil {
				t.Fatal(err)
			}
			if string(seen.Tools) != `["danger","safe"]` {
				t.Errorf("it sees %s", seen.Tools)
			}
			if string(seen.Calls[0]) != `{"safe":"safe"}` || string(seen.Calls[1]) != `{"danger":"done"}` || !strings.Contains(string(seen.Calls[2]), "echo") {
				t.Errorf("its calls: %s", seen.Calls)
			}
			if ran := server.Ran(t); ran != "safe\ndanger\n" {
				t.Errorf("the server ran %q", ran)
			}
			if asked := strings.Join(id.scopes(), ", "); asked != c.asked {
				t.Errorf("it asked for tokens with %s", asked)
			}
		})
	}
}
