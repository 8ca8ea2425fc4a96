package discovery

import (
	"reflect"
	"testing"

	"google.golang.org/protobuf/encoding/protojson"

	"github.com/outrigger-mesh/outrigger/pkg/policy"
	policypb "github.com/outrigger-mesh/outrigger/proto/outrigger/policy/v1alpha1"
)

func TestTermsAreReadWhole(t *testing.T) {
	in := &policypb.AgentPolicy{}
	if err := protojson.Unmarshal([]byte(`{"name":"p","namespace":"tools","version":"1","spec":{
		"ports":[{"number":9000,"protocol":"MCP"}],
		"recordedArguments":{"form":"Redacted","reveal":["a.b"]},
		"mcpLinkedResourcesOption":"FILTER_LINKED_RESOURCES",
		"jwt":{"presence":"Optional","unacceptable":"Drop","forwarding":"Strip","resource":"https://x.example/mcp","scopesSupported":["s"],
			"issuers":[{"issuer":"u","audiences":["a"],"jwksUri":"https://id.example/k","algorithms":["ES256"]},
				{"issuer":"f","audiences":["b"],"jwksFile":"/k"},{"issuer":"t","audiences":["c"],"jwks":"{\"keys\":[{\"kty\":\"EC\"}]}"}]},
		"rules":[{"name":"r","action":"Allow","scopes":["w"]}]}}`), in); err != nil {
		t.Fatal(err)
	}
	s := agentSpec(in, "")
	want := &policy.Tokens{Optional: true, Drop: true, Strip: true, Resource: "https://x.example/mcp", Scopes: []string{"s"}, Issuers: []policy.Issuer{
		{Name: "u", Audiences: []string{"a"}, KeysURL: "https://id.example/k", Algorithms: []string{"ES256"}},
		{Name: "f", Audiences: []string{"b"}, KeysFile: "/k"},
		{Name: "t", Audiences: []string{"c"}, Keys: `{"keys":[{"kty":"EC"}]}`},
	}}
	if !reflect.DeepEqual(s.Tokens, want) {
		t.Errorf("tokens %+v", s.Tokens)
	}
	if !s.FilterLinked || !reflect.DeepEqual(s.RecordedArguments, &policy.AgentRecording{Form: policy.RecordRedacted, Reveal: []string{"a.b"}}) ||
		!reflect.DeepEqual(s.Rules[0].Scopes, []string{"w"}) || len(s.Unknown) != 0 {
		t.Errorf("got %+v", s)
	}
	if _, err := policy.CompileAgent(s); err != nil {
		t.Error(err)
	}
	in.Spec.RecordedArguments, in.Spec.Jwt = &policypb.RecordedArguments{Form: policypb.RecordedArguments_Digest}, &policypb.JWTAuthentication{}
	if s = agentSpec(in, ""); s.RecordedArguments.Form != policy.RecordDigest || s.Tokens.Optional || s.Tokens.Drop || s.Tokens.Strip {
		t.Errorf("got %+v", s)
	}
}
