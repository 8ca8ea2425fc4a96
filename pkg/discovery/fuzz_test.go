package discovery

import (
	"testing"

	typedv3 "github.com/cncf/xds/go/xds/type/v3"
	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/anypb"

	"github.com/outrigger-mesh/outrigger/pkg/store"
	"github.com/outrigger-mesh/outrigger/pkg/xds"
	securitypb "github.com/outrigger-mesh/outrigger/proto/istio/security"
)

// What a control plane may send in a resource's body.
const (
	fuzzAddress = iota
	fuzzAuthorization
	fuzzPolicy
	fuzzExtension // the body of a TypedExtensionConfig
	fuzzTyped     // a TypedStruct in one
	fuzzStruct    // a Struct in one
	fuzzKinds
)

func encoded(t testing.TB, m proto.Message) []byte {
	t.Helper()
	b, err := proto.Marshal(m)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// fuzzResource is a resource of a kind whose content is data.
func fuzzResource(t testing.TB, kind int, name string, data []byte) (typeURL string, r xds.Resource) {
	t.Helper()
	within := func(inner string) []byte {
		return encoded(t, &corev3.TypedExtensionConfig{Name: extensionName, TypedConfig: &anypb.Any{TypeUrl: "type.googleapis.com/" + inner, Value: data}})
	}
	switch kind {
	case fuzzAddress:
		typeURL = AddressType
	case fuzzAuthorization:
		typeURL = AuthorizationType
	case fuzzPolicy:
		typeURL = AgentPolicyType
	case fuzzTyped:
		typeURL, data = ExtensionType, within("xds.type.v3.TypedStruct")
	case fuzzStruct:
		typeURL, data = ExtensionType, within("google.protobuf.Struct")
	default:
		typeURL = ExtensionType
	}
	return typeURL, xds.Resource{Name: name, Body: &anypb.Any{TypeUrl: typeURL, Value: data}}
}

// Whatever a control plane sends, nothing crashes and nothing is lost silently:
// each resource is in effect, or named as rejected while, if it is a policy,
// something stands in for it that denies. And all of it can be deleted.
func FuzzApply(f *testing.F) {
	f.Add(fuzzAddress, githubUID, encoded(f, resource(f, "", githubWorkload()).Body)[2:])
	f.Add(fuzzAddress, githubUID, resource(f, "", githubWorkload()).Body.Value)
	f.Add(fuzzAddress, "tools/github.tools", resource(f, "", newer(githubService())).Body.Value)
	f.Add(fuzzAuthorization, "tools/policy", encoded(f, newer(&securitypb.Authorization{Name: "policy", Namespace: "tools", Action: 77})))
	f.Add(fuzzPolicy, "tools/policy", encoded(f, goodAgentPolicy()))
	f.Add(fuzzPolicy, "tools/policy", encoded(f, newer(goodAgentPolicy())))
	f.Add(fuzzExtension, extensionName, typed(f, asDocument).Body.Value)
	for _, text := range []string{asDocument, flat("a", "one"), `{}`, `{"name": "a"}`, `{"apiVersion": "x", "kind": 7}`} {
		f.Add(fuzzTyped, extensionName, encoded(f, &typedv3.TypedStruct{TypeUrl: AgentPolicyType, Value: structOf(f, text)}))
		f.Add(fuzzStruct, extensionName, encoded(f, structOf(f, text)))
	}
	f.Fuzz(func(t *testing.T, kind int, name string, data []byte) {
		if kind < 0 || kind >= fuzzKinds || name == "" {
			return
		}
		d, st := newDiscovery(t, "never")
		typeURL, r := fuzzResource(t, kind, name, data)
		for range 2 { // and again, as if it had changed
			bad := d.Apply(typeURL, []xds.Resource{r, r}, nil, true)
			if got := len(d.Rejected()); (got > 0) != (len(bad) > 0) {
				t.Fatalf("rejected %v, and status tells of %d", bad, got)
			}
			snap := st.Snapshot()
			counts := snap.Counts()
			there := counts.Workloads + counts.Services + counts.Authorizations + counts.AgentPolicies
			if there == 0 && !(typeURL == AddressType && len(bad) > 0) {
				t.Fatalf("lost without a trace; rejected %v", bad)
			}
			for _, p := range snap.AgentPolicies() {
				if p.Quarantined() != nil && len(bad) == 0 {
					t.Fatal("in quarantine, and not rejected")
				}
			}
		}
		d.Apply(typeURL, nil, []string{name}, false)
		if got := st.Snapshot().Counts(); got != (store.Counts{Staged: got.Staged}) {
			t.Fatalf("deleted, and still there: %+v", got)
		}
	})
}
