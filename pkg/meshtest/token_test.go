package meshtest_test

import (
	"bytes"
	"crypto/ed25519"
	"encoding/base64"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/outrigger-mesh/outrigger/pkg/mesh"
	"github.com/outrigger-mesh/outrigger/pkg/meshtest"
	policies "github.com/outrigger-mesh/outrigger/pkg/policy"
	"github.com/outrigger-mesh/outrigger/pkg/sample"
	"github.com/outrigger-mesh/outrigger/pkg/telemetry"
)

// An issuer signs tokens, and serves the key they are signed with.
type issuer struct {
	key   ed25519.PrivateKey
	url   string
	asked atomic.Int32
}

func newIssuer(t *testing.T) *issuer {
	public, key, err := ed25519.GenerateKey(nil)
	if err != nil {
		t.Fatal(err)
	}
	i := &issuer{key: key}
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		i.asked.Add(1)
		fmt.Fprintf(w, `{"keys":[{"kty":"OKP","crv":"Ed25519","x":%q}]}`, base64.RawURLEncoding.EncodeToString(public))
	}))
	t.Cleanup(s.Close)
	i.url = s.URL
	return i
}

func (i *issuer) token(audience, scope string) string {
	encode := base64.RawURLEncoding.EncodeToString
	text := encode([]byte(`{"alg":"EdDSA"}`)) + "." + encode(fmt.Appendf(nil, `{"iss":%q,"aud":%q,"sub":"alice","scope":%q,"exp":%d}`, i.url, audience, scope, time.Now().Add(time.Hour).Unix()))
	return "Bearer " + text + "." + encode(ed25519.Sign(i.key, []byte(text)))
}

const tokenPolicy = `apiVersion: outrigger.dev/v1alpha1
kind: AgentPolicy
metadata: {name: tools, namespace: tools}
spec:
  ports: [{number: %%d, protocol: MCP}]
  jwt:
    resource: https://tools.example/mcp
    issuers: [{issuer: %q, audiences: [tools], jwksUri: %q}]
  rules:
  - {name: search, action: Allow, source: {namespaces: [agents]}, mcp: {tools: [search_issues]}, when: ['jwt.sub == "alice"']}
  - {name: speak, action: Allow, mcp: {tools: [echo]}, scopes: [speak]}
`

// tell posts a call of the modern era and returns status, challenge and body.
func tell(t *testing.T, m *meshtest.Mesh, tool, authorization string) (int, string, string) {
	t.Helper()
	args := `{"text":"hi"}`
	if tool == "search_issues" {
		args = `{"query":"x"}`
	}
	body := `{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"` + tool + `","arguments":` + args + `,"_meta":{` +
		`"io.modelcontextprotocol/protocolVersion":"2026-07-28","io.modelcontextprotocol/clientInfo":{"name":"t","version":"1"},"io.modelcontextprotocol/clientCapabilities":{}}}}`
	r, err := http.NewRequestWithContext(t.Context(), http.MethodPost, "http://"+m.Agent+"/mcp", strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	for name, value := range map[string]string{"Content-Type": "application/json", "Accept": "application/json, text/event-stream",
		"MCP-Protocol-Version": "2026-07-28", "Mcp-Method": "tools/call", "Mcp-Name": tool, "Authorization": authorization} {
		if value != "" {
			r.Header.Set(name, value)
		}
	}
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}, Timeout: 20 * time.Second}
	a, err := client.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer a.Body.Close()
	text, err := io.ReadAll(io.LimitReader(a.Body, 1<<20))
	if err != nil {
		t.Fatal(err)
	}
	return a.StatusCode, a.Header.Get("WWW-Authenticate"), string(text)
}

// Tokens beside SPIFFE through both sidecars: who has none, one for somebody else or
// one without a scope is told how to get a better one, and the record of each call
// is enough to decide it again.
func TestTokensAreAskedForAndDecisionsReproduced(t *testing.T) {
	id := newIssuer(t)
	m := meshtest.New(t, meshtest.Config{Policy: fmt.Sprintf(tokenPolicy, id.url, id.url)})
	server := &sample.Server{Stateless: true}
	serveMCP(t, m, server)
	const at = `resource_metadata="https://tools.example/.well-known/oauth-protected-resource/mcp"`
	for _, c := range []struct {
		name, tool, authorization string
		status                    int
		challenge, answer         string
		runs                      int64
	}{
		{"allowed", "search_issues", id.token("tools", ""), 200, "", `"result"`, 1},
		{"no token", "search_issues", "", 401, `Bearer ` + at, `"error"`, 0},
		{"for somebody else", "search_issues", id.token("other", ""), 401, `Bearer error="invalid_token", error_description="the token is not valid: it was issued for another audience", ` + at, `"error"`, 0},
		{"of somebody else", "search_issues", newIssuer(t).token("tools", ""), 401, `Bearer error="invalid_token", error_description="the token is not valid: its issuer is not accepted", ` + at, `"error"`, 0},
		{"without a scope", "echo", id.token("tools", "read"), 403, `Bearer error="insufficient_scope", error_description="the token lacks a scope", ` + at + `, scope="speak"`, `"id":1`, 0},
		{"with the scope", "echo", id.token("tools", "read speak"), 200, "", `"result"`, 1},
		{"hidden", "delete_repository", id.token("tools", "speak"), 200, "", "unknown tool", 0},
	} {
		before := server.Executed()
		status, challenge, answer := tell(t, m, c.tool, c.authorization)
		if status != c.status || challenge != c.challenge || !strings.Contains(answer, c.answer) || server.Executed()-before != c.runs {
			t.Errorf("%s: %d, %s, %s; the server ran %d", c.name, status, challenge, answer, server.Executed()-before)
		}
	}
	if n := id.asked.Load(); n != 1 {
		t.Errorf("the issuer was asked %d times", n)
	}
	reproduce(t, m, id, 4)
}

// reproduce decides the recorded calls again, with the same policy, offline.
func reproduce(t *testing.T, m *meshtest.Mesh, id *issuer, calls int) {
	t.Helper()
	spec := policies.AgentSpec{Name: "tools", Namespace: "tools", Version: "1", Ports: []policies.AgentPort{{Number: uint32(m.App.Port()), Protocol: policies.ProtocolMCP}},
		Tokens: &policies.Tokens{Issuers: []policies.Issuer{{Name: id.url, Audiences: []string{"tools"}, KeysURL: id.url}}},
		Rules: []policies.AgentRule{
			{Name: "search", Action: policies.ActionAllow, Source: &policies.AgentSource{Namespaces: []string{"agents"}}, Tools: []string{"search_issues"}, When: []string{`jwt.sub == "alice"`}},
			{Name: "speak", Action: policies.ActionAllow, Tools: []string{"echo"}, Scopes: []string{"speak"}},
		}}
	agent, err := policies.CompileAgent(spec)
	if err != nil {
		t.Fatal(err)
	}
	p := policies.New(&mesh.Self{Principal: mesh.NewPrincipal("cluster.local", "tools", "server"), Namespace: "tools"}, &mesh.Workload{}, nil, []*policies.Agent{agent})
	m.Eventually(func() error {
		data, err := os.ReadFile(m.Audit("server"))
		if err != nil {
			return err
		}
		found := 0
		for line := range bytes.Lines(data) {
			r, decided, err := telemetry.ReadCall(line)
			if err != nil || decided.Policy == "" {
				continue // a connection, or a call that was not for policy to decide
			}
			found++
			again := p.Explain(&r)
			if again.Decision.Allowed != decided.Allowed || again.Decision.Rule != decided.Rule || !again.Certain {
				return fmt.Errorf("decided as %+v, explained as %+v from %s", decided, again, line)
			}
		}
		if found != calls {
			return fmt.Errorf("%d decisions in %s", found, data)
		}
		return nil
	})
}
