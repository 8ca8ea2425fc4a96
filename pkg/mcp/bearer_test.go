package mcp

import (
	"crypto/ed25519"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/outrigger-mesh/outrigger/pkg/inspect"
	"github.com/outrigger-mesh/outrigger/pkg/policy"
	"github.com/outrigger-mesh/outrigger/pkg/token"
)

// A notary signs tokens.
type notary struct{ key ed25519.PrivateKey }

func newNotary(t *testing.T) *notary {
	_, key, err := ed25519.GenerateKey(nil)
	if err != nil {
		t.Fatal(err)
	}
	return &notary{key}
}

func (n *notary) keys() string {
	return `{"keys":[{"kty":"OKP","crv":"Ed25519","x":"` + base64.RawURLEncoding.EncodeToString(n.key.Public().(ed25519.PublicKey)) + `"}]}`
}

func (n *notary) token(claims string) string {
	encode := base64.RawURLEncoding.EncodeToString
	text := encode([]byte(`{"alg":"EdDSA"}`)) + "." + encode(fmt.Appendf(nil, `{"iss":"https://id.example","aud":"mcp","exp":%d%s}`, time.Now().Add(time.Hour).Unix(), claims))
	return text + "." + encode(ed25519.Sign(n.key, []byte(text)))
}

const metadataAt = `resource_metadata="https://tools.example/.well-known/oauth-protected-resource/mcp"`

// withTokens is a harness whose policy wants tokens of n.
func withTokens(t *testing.T, n *notary, b *book, change func(*policy.Tokens)) *harness {
	b.terms.Tokens = &policy.Tokens{Resource: "https://tools.example/mcp", Scopes: []string{"tools:read"}, Policies: "tools/book",
		Issuers: []policy.Issuer{{Name: "https://id.example", Audiences: []string{"mcp"}, Keys: n.keys()}}}
	if change != nil {
		change(b.terms.Tokens)
	}
	v := token.New(token.Config{})
	t.Cleanup(v.Close)
	return newHarness(t, b, Config{Tokens: v})
}

func TestTokensAreValidatedAndForwardedAsPoliciesSay(t *testing.T) {
	n, forger := newNotary(t), newNotary(t)
	valid := n.token(`,"sub":"alice"`)
	for _, c := range []struct {
		name      string
		change    func(*policy.Tokens)
		header    string // Authorization
		query     string
		status    int
		challenge string
		forwarded bool // the Authorization header
		subject   string
	}{
		{"valid", nil, "Bearer " + valid, "", 200, "", true, "alice"},
		{"valid, stripped", func(k *policy.Tokens) { k.Strip = true }, "Bearer " + valid, "", 200, "", false, "alice"},
		{"none", nil, "", "", 401, `Bearer ` + metadataAt + `, scope="tools:read"`, false, ""},
		{"none, no resource", func(k *policy.Tokens) { k.Resource, k.Scopes = "", nil }, "", "", 401, `Bearer`, false, ""},
		{"none, optional", func(k *policy.Tokens) { k.Optional = true }, "", "", 200, "", false, ""},
		{"forged", nil, "Bearer " + forger.token(`,"sub":"alice"`), "", 401,
			`Bearer error="invalid_token", error_description="the token is not valid: its signature does not fit", ` + metadataAt + `, scope="tools:read"`, false, ""},
		{"forged, optional", func(k *policy.Tokens) { k.Optional = true }, "Bearer " + forger.token(""), "", 401,
			`Bearer error="invalid_token", error_description="the token is not valid: its signature does not fit", ` + metadataAt + `, scope="tools:read"`, false, ""},
		{"forged, dropped", func(k *policy.Tokens) { k.Optional, k.Drop = true, true }, "Bearer " + forger.token(`,"sub":"alice"`), "", 200, "", false, ""},
		{"forged, dropped and needed", func(k *policy.Tokens) { k.Drop = true }, "Bearer " + forger.token(""), "", 401, `Bearer ` + metadataAt + `, scope="tools:read"`, false, ""},
		{"for another audience", func(k *policy.Tokens) { k.Issuers[0].Audiences = []string{"other"} }, "Bearer " + valid, "", 401,
			`Bearer error="invalid_token", error_description="the token is not valid: it was issued for another audience", ` + metadataAt + `, scope="tools:read"`, false, ""},
		{"another scheme", func(k *policy.Tokens) { k.Optional = true }, "Basic YTpi", "", 401,
			`Bearer error="invalid_token", error_description="the Authorization header has no bearer token", ` + metadataAt + `, scope="tools:read"`, false, ""},
		{"another scheme, dropped", func(k *policy.Tokens) { k.Optional, k.Drop = true, true }, "Basic YTpi", "", 200, "", false, ""},
		{"in the query", nil, "Bearer " + valid, "a=b&access%5ftoken=x", 400, "", false, ""},
		{"in the query, in other words", nil, "Bearer " + valid, "a=b;Access_Token", 400, "", false, ""},
		{"keys that are not there", func(k *policy.Tokens) { k.Issuers[0].Keys, k.Issuers[0].KeysFile = "", "/nonexistent/keys" }, "Bearer " + valid, "", 503, "", false, ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			b := denying()
			h := withTokens(t, n, b, c.change)
			h.server = func(*seen) *inspect.Response { return jsonReply(200, result1) }
			var header []string
			if c.header != "" {
				header = []string{"Authorization: " + c.header}
			}
			x := h.exchange("POST", rpc("1", "tools/call", `{"name":"a"}`), header...)
			x.Request.RawQuery = c.query
			a := h.do(x)
			if a.status != c.status || a.header.Get("WWW-Authenticate") != c.challenge {
				t.Fatalf("got %d, challenge %s, %s", a.status, a.header.Get("WWW-Authenticate"), a.body)
			}
			if c.status != 200 {
				isError(t, a, c.status, map[bool]int{true: codeInvalidRequest, false: codeRefused}[c.status == 400], "null")
				if len(h.got) != 0 || len(b.asked) != 0 {
					t.Errorf("it went on")
				}
				return
			}
			if h.got[0].header.Has("Authorization") != c.forwarded {
				t.Errorf("the server got %v", h.got[0].header)
			}
			if subject, _ := b.asked[0].Claims["sub"].(string); subject != c.subject {
				t.Errorf("policy saw %v", b.asked[0].Claims)
			}
			h.recorder.Close()
			if text := h.audit.String(); strings.Contains(text, `"subject":"alice"`) != (c.subject != "") || strings.Contains(text, valid) {
				t.Errorf("recorded %s", text)
			}
		})
	}
}

func TestWithoutAVerifierTokensAreRefused(t *testing.T) {
	n := newNotary(t)
	h := withTokens(t, n, denying(), nil)
	h.layer = New(Config{Judge: func(*inspect.Exchange) Judge { return h.judge }})
	if a := h.send("POST", rpc("1", "ping", ""), "Authorization: Bearer "+n.token("")); a.status != 503 || a.header.Get("Retry-After") == "" {
		t.Errorf("got %+v", a)
	}
}

func TestSessionsAndHandlesBelongToATokensSubject(t *testing.T) {
	n := newNotary(t)
	h := withTokens(t, n, denying(), func(k *policy.Tokens) { k.Optional = true })
	alice, eve := "Authorization: Bearer "+n.token(`,"sub":"alice"`), "Authorization: Bearer "+n.token(`,"sub":"eve"`)
	open := func(id, as string) {
		h.server = func(*seen) *inspect.Response {
			return jsonReply(200, `{"jsonrpc":"2.0","id":0,"result":{"protocolVersion":"2025-11-25"}}`, inspect.Field{Name: sessionHeader, Value: id})
		}
		h.send("POST", rpc("0", "initialize", `{}`), as)
		h.server = func(*seen) *inspect.Response { return jsonReply(200, result1) }
	}
	ping := func(id, as string) int { return h.send("POST", rpc("1", "ping", ""), sessionHeader+": "+id, as).status }
	open("a", alice)
	if got := []int{ping("a", alice), ping("a", eve), ping("a", "X: y")}; !slices.Equal(got, []int{200, 403, 403}) {
		t.Errorf("alice's session: %v", got)
	}
	open("b", "X: y") // opened before a token was asked for
	if got := []int{ping("b", "X: y"), ping("b", alice), ping("b", eve), ping("b", "X: y"), ping("b", alice)}; !slices.Equal(got, []int{200, 200, 403, 403, 200}) {
		t.Errorf("a session that became alice's: %v", got)
	}
	h.server = func(*seen) *inspect.Response {
		return jsonReply(200, `{"jsonrpc":"2.0","id":1,"result":{"task":{"taskId":"t"},"requestState":"st"}}`)
	}
	h.send("POST", rpc("1", "tools/call", `{"name":"a"}`), alice)
	h.server = func(*seen) *inspect.Response { return jsonReply(200, result1) }
	if a := h.send("POST", rpc("1", "tasks/get", `{"taskId":"t"}`), alice); a.body != result1 {
		t.Errorf("alice's task: %s", a.body)
	}
	isError(t, h.send("POST", rpc("1", "tasks/get", `{"taskId":"t"}`), eve), 200, codeInvalidParams, "1")
	isError(t, h.send("POST", rpc("1", "tools/call", `{"name":"a","requestState":"st"}`), eve), 400, codeInvalidParams, "1")
}

// A scoped judge denies for want of a scope.
type scoped struct{ *book }

func (s scoped) Call(c *policy.Call) policy.Decision {
	d := s.book.Call(c)
	if c.Object.Name == "write" {
		d = policy.Decision{Policy: "tools/book", Rule: "w", Reason: "no scope", Scopes: []string{"a", "b"}}
	}
	return d
}

func TestMissingScopesAreAskedFor(t *testing.T) {
	n := newNotary(t)
	b := denying()
	h := withTokens(t, n, b, func(k *policy.Tokens) { k.Optional = true })
	h.judge = scoped{b}
	call := func(as string) answer { return h.send("POST", rpc("5", "tools/call", `{"name":"write"}`), as) }
	a := call("Authorization: Bearer " + n.token(`,"scope":"a"`))
	isError(t, a, 403, codeRefused, "5")
	if got := a.header.Get("WWW-Authenticate"); got != `Bearer error="insufficient_scope", error_description="the token lacks a scope", `+metadataAt+`, scope="a b"` {
		t.Errorf("challenge %s", got)
	}
	a = call("X: y")
	isError(t, a, 401, codeRefused, "5")
	if got := a.header.Get("WWW-Authenticate"); got != `Bearer `+metadataAt+`, scope="a b"` {
		t.Errorf("challenge %s", got)
	}
	b.terms.Tokens = nil // nobody could step up
	if a = call("X: y"); a.status != 200 || a.header.Has("WWW-Authenticate") || len(h.got) != 0 {
		t.Errorf("got %+v", a)
	}
	if rs := h.records(); rs[0].Decision.Rule != "w" || rs[0].Result.Status != 403 || rs[1].Result.Status != 401 {
		t.Errorf("recorded %+v", rs)
	}
}

func TestMetadataOfTheResourceIsTold(t *testing.T) {
	n := newNotary(t)
	get := func(h *harness, path string) answer {
		x := h.exchange("GET", "", "Authorization: Bearer of-somebody")
		x.Request.Path, x.Request.Target = path, path
		return h.do(x)
	}
	h := withTokens(t, n, denying("GET"), func(k *policy.Tokens) {
		k.Issuers = append(k.Issuers, k.Issuers[0], policy.Issuer{Name: "https://other.example"})
		k.Scopes = []string{"a", "b"}
	})
	for path, want := range map[string]int{metadataPath: 200, metadataPath + "/mcp": 200, metadataPath + "/other": 404, metadataPath + "x": 401} {
		a := get(h, path)
		if a.status != want {
			t.Errorf("%s: %d %s", path, a.status, a.body)
		}
		if want != 200 {
			continue
		}
		var m map[string]any
		if err := json.Unmarshal([]byte(a.body), &m); err != nil || m["resource"] != "https://tools.example/mcp" ||
			fmt.Sprint(m["authorization_servers"]) != "[https://id.example https://other.example]" || fmt.Sprint(m["scopes_supported"]) != "[a b]" ||
			fmt.Sprint(m["bearer_methods_supported"]) != "[header]" || a.header.Get("Content-Type") != "application/json" {
			t.Errorf("%s: %s, %v", path, a.body, err)
		}
	}
	if len(h.got) != 0 {
		t.Error("the server was asked")
	}
	// Without a resource it is the server's to tell, and it does not get a token that nobody looked at.
	h = withTokens(t, n, denying(), func(k *policy.Tokens) { k.Resource = "" })
	h.server = func(*seen) *inspect.Response { return jsonReply(200, `{"resource":"x"}`) }
	if a := get(h, metadataPath+"/mcp"); a.status != 200 || a.body != `{"resource":"x"}` || h.got[0].header.Has("Authorization") {
		t.Errorf("got %+v", a)
	}
	if a := get(h, metadataPath+"/other"); a.status != 404 || len(h.got) != 1 {
		t.Errorf("got %+v", a)
	}
}
