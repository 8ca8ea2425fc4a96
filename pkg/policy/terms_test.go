package policy

import (
	"net/netip"
	"slices"
	"strings"
	"testing"

	"github.com/outrigger-mesh/outrigger/pkg/mesh"
)

var termsSelf = mesh.Self{Principal: mesh.NewPrincipal("cluster.local", "tools", "github"), Namespace: "tools"}

var termsCaller = mesh.NewPrincipal("cluster.local", "agents", "planner")

// termsSpec is a policy on port 9000 with rules.
func termsSpec(name string, rules ...AgentRule) AgentSpec {
	return AgentSpec{Name: name, Namespace: "tools", Version: name + "-1", Ports: []AgentPort{{Number: 9000, Protocol: ProtocolMCP}}, Rules: rules}
}

func termsPolicies(t *testing.T, specs ...AgentSpec) *Policies {
	t.Helper()
	var all []*Agent
	for _, s := range specs {
		a, err := CompileAgent(s)
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, a)
	}
	return New(&termsSelf, &mesh.Workload{}, nil, all)
}

func termsCall(method string, o Object, claims map[string]any) *Call {
	return &Call{Direction: Inbound, Source: termsCaller, Destination: destination9000(), Method: method, Object: o, Claims: claims}
}

func destination9000() Destination {
	var d Destination
	d.Address = netip.MustParseAddrPort("127.0.15.31:9000")
	return d
}

func issuerOf(name string) Issuer {
	return Issuer{Name: name, Audiences: []string{"aud"}, KeysURL: "https://id.example/keys"}
}

func TestStricterTermsWin(t *testing.T) {
	lax, strict := termsSpec("a"), termsSpec("b")
	lax.Tokens = &Tokens{Issuers: []Issuer{issuerOf("x")}, Optional: true, Drop: true, Scopes: []string{"s", "r"}}
	lax.RecordedArguments = &AgentRecording{Form: RecordRedacted, Reveal: []string{"a", "b.c"}}
	terms := termsPolicies(t, lax).Terms(Inbound, destination9000())
	if k := terms.Tokens; k == nil || !k.Optional || !k.Drop || k.Strip || k.Policies != "tools/a" || terms.FilterLinked || !terms.Arguments.Reveals([]string{"b", "c", "d"}) {
		t.Errorf("got %+v", terms)
	}
	strict.Tokens = &Tokens{Issuers: []Issuer{issuerOf("y")}, Strip: true, Resource: "https://x.example/mcp", Scopes: []string{"s", "t"}}
	strict.RecordedArguments = &AgentRecording{Form: RecordRedacted, Reveal: []string{"b"}}
	strict.FilterLinked = true
	terms = termsPolicies(t, lax, strict, termsSpec("c")).Terms(Inbound, destination9000())
	k := terms.Tokens
	if k.Optional || k.Drop || !k.Strip || k.Policies != "tools/a,tools/b" || k.Resource != "https://x.example/mcp" || len(k.Issuers) != 2 || !slices.Equal(k.Scopes, []string{"r", "s", "t"}) {
		t.Errorf("tokens: %+v", k)
	}
	if !terms.FilterLinked || terms.Arguments.Reveals([]string{"a"}) || !terms.Arguments.Reveals([]string{"b", "c"}) || terms.Arguments.Digest {
		t.Errorf("got %+v, %+v", terms, terms.Arguments)
	}
	strict.RecordedArguments = &AgentRecording{Form: RecordDigest}
	if terms = termsPolicies(t, lax, strict).Terms(Inbound, destination9000()); !terms.Arguments.Digest {
		t.Errorf("got %+v", terms.Arguments)
	}
	for _, terms := range []Terms{(*Policies)(nil).Terms(Inbound, destination9000()), termsPolicies(t, lax).Terms(Outbound, destination9000())} {
		if terms.Tokens != nil || terms.Arguments != nil || terms.FilterLinked {
			t.Errorf("ungoverned: %+v", terms)
		}
	}
}

func TestMissingScopesAreNamed(t *testing.T) {
	write := AgentRule{Name: "write", Action: ActionAllow, Tools: []string{"create_*"}, Scopes: []string{"tools:read", "tools:write"}}
	tool := func(name string) Object { return Object{KindTool, name} }
	admin := AgentRule{Name: "admin", Action: ActionRequire, Tools: []string{"delete"}, Scopes: []string{"admin"}}
	all := AgentRule{Name: "all", Action: ActionAllow, Tools: []string{"delete", "get"}}
	other := AgentRule{Name: "other", Action: ActionRequire, Tools: []string{"get"}, When: []string{`jwt.sub == "bob"`}, Scopes: []string{"x"}}
	p := termsPolicies(t, termsSpec("a", write, admin, all, other))
	scope := func(text string) map[string]any { return map[string]any{"scope": text} }
	for _, c := range []struct {
		name   string
		object Object
		claims map[string]any
		allow  bool
		scopes []string
	}{
		{"all there", tool("create_issue"), scope("tools:write openid tools:read"), true, nil},
		{"as a list", tool("create_issue"), map[string]any{"scp": []any{"tools:write", "tools:read"}}, true, nil},
		{"one missing", tool("create_issue"), scope("tools:read"), false, []string{"tools:read", "tools:write"}},
		{"a prefix is not it", tool("create_issue"), scope("tools:read tools:writer"), false, []string{"tools:read", "tools:write"}},
		{"no token", tool("create_issue"), nil, false, []string{"tools:read", "tools:write"}},
		{"no scopes help", tool("drop"), scope("tools:read tools:write"), false, nil},
		{"required", tool("delete"), scope("x"), false, []string{"admin"}},
		{"required and there", tool("delete"), scope("admin"), true, nil},
		{"something else is missing too", tool("get"), map[string]any{"sub": "eve"}, false, nil},
		{"nothing else is missing", tool("get"), map[string]any{"sub": "bob"}, false, []string{"x"}},
	} {
		d := p.Call(termsCall("tools/call", c.object, c.claims))
		if d.Allowed != c.allow || !slices.Equal(d.Scopes, c.scopes) {
			t.Errorf("%s: %+v", c.name, d)
		}
		list := p.Visible(termsCall("tools/list", Object{}, c.claims), c.object)
		if want := c.allow || c.scopes != nil; list.Allowed != want {
			t.Errorf("%s: shown %v, want %v", c.name, list.Allowed, want)
		}
	}
}

func TestConditionsSeeBothEndsAndWhatTheClientSays(t *testing.T) {
	for _, c := range []struct {
		when string
		want bool
	}{
		{`destination.spiffeId == "spiffe://cluster.local/ns/tools/sa/github"`, true},
		{`mcp.client.name == "ide" && mcp.client.version == "2"`, true},
		{`has(mcp.client.capabilities.sampling) && !has(mcp.client.capabilities.roots)`, true},
		{`mcp.elicitation.mode == "url" && mcp.elicitation.url.startsWith("https://id.example/")`, true},
		{`jwt.sub == "alice" && "admin" in jwt.groups`, true},
		{`jwt.nosuch == "x"`, false},
	} {
		p := termsPolicies(t, termsSpec("a", AgentRule{Name: "r", Action: ActionAllow, When: []string{c.when}}))
		call := termsCall("elicitation/create", Object{}, map[string]any{"sub": "alice", "groups": []any{"admin"}})
		call.Callee = termsSelf.Principal
		call.Client = Client{"ide", "2", []byte(`{"sampling":{}}`)}
		call.Elicitation = Elicitation{"url", "https://id.example/login"}
		if d := p.Call(call); d.Allowed != c.want {
			t.Errorf("%s: %+v", c.when, d)
		}
	}
}

func TestTermsThatMakeNoSenseAreRefused(t *testing.T) {
	good := func() *Tokens { return &Tokens{Issuers: []Issuer{issuerOf("x")}} }
	for want, change := range map[string]func(s *AgentSpec){
		"spec.jwt.issuers:":                 func(s *AgentSpec) { s.Tokens = &Tokens{} },
		"spec.jwt.issuers[0].issuer:":       func(s *AgentSpec) { s.Tokens = good(); s.Tokens.Issuers[0].Name = "" },
		"spec.jwt.issuers[0].audiences:":    func(s *AgentSpec) { s.Tokens = good(); s.Tokens.Issuers[0].Audiences = nil },
		"spec.jwt.issuers[0].algorithms[0]": func(s *AgentSpec) { s.Tokens = good(); s.Tokens.Issuers[0].Algorithms = []string{"HS256"} },
		"spec.jwt.issuers[0].jwksUri:":      func(s *AgentSpec) { s.Tokens = good(); s.Tokens.Issuers[0].KeysURL = "http://id.example/keys" },
		"spec.jwt.issuers[0].jwksFile:": func(s *AgentSpec) {
			s.Tokens = good()
			s.Tokens.Issuers[0].KeysURL, s.Tokens.Issuers[0].KeysFile = "", "keys.json"
		},
		"spec.jwt.issuers[0].jwks:": func(s *AgentSpec) {
			s.Tokens = good()
			s.Tokens.Issuers[0].KeysURL, s.Tokens.Issuers[0].Keys = "", "{}"
		},
		"spec.jwt.issuers[0]: has 2 places": func(s *AgentSpec) { s.Tokens = good(); s.Tokens.Issuers[0].KeysFile = "/keys.json" },
		"spec.jwt.resource:":                func(s *AgentSpec) { s.Tokens = good(); s.Tokens.Resource = "https://x.example/mcp#a" },
		"spec.jwt.scopesSupported[0]:":      func(s *AgentSpec) { s.Tokens = good(); s.Tokens.Scopes = []string{"a b"} },
		"spec.recordedArguments.form:":      func(s *AgentSpec) { s.RecordedArguments = &AgentRecording{} },
		"spec.recordedArguments.reveal:": func(s *AgentSpec) {
			s.RecordedArguments = &AgentRecording{Form: RecordDigest, Reveal: []string{"a"}}
		},
		"spec.recordedArguments.reveal[0]:": func(s *AgentSpec) {
			s.RecordedArguments = &AgentRecording{Form: RecordRedacted, Reveal: []string{"a..b"}}
		},
		"spec.rules[0].scopes[0]:": func(s *AgentSpec) {
			s.Rules = []AgentRule{{Name: "r", Action: ActionAllow, Scopes: []string{`"`}}}
		},
	} {
		s := termsSpec("a")
		change(&s)
		if _, err := CompileAgent(s); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: got %v", want, err)
		}
	}
	for _, url := range []string{"https://id.example/keys", "http://127.0.0.1:80/keys", "http://[::1]/k", "http://localhost/k"} {
		s := termsSpec("a")
		s.Tokens = good()
		s.Tokens.Issuers[0].KeysURL = url
		if _, err := CompileAgent(s); err != nil {
			t.Errorf("%s: %v", url, err)
		}
	}
}
