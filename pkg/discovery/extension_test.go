package discovery

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	typedv3 "github.com/cncf/xds/go/xds/type/v3"
	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/anypb"
	"google.golang.org/protobuf/types/known/structpb"
	"google.golang.org/protobuf/types/known/wrapperspb"

	"github.com/outrigger-mesh/outrigger/pkg/policy"
	"github.com/outrigger-mesh/outrigger/pkg/store"
	"github.com/outrigger-mesh/outrigger/pkg/xds"
	policypb "github.com/outrigger-mesh/outrigger/proto/outrigger/policy/v1alpha1"
)

const extensionName = "outrigger-agent-policy"

func extension(t testing.TB, body proto.Message) xds.Resource {
	t.Helper()
	typed, err := anypb.New(body)
	if err != nil {
		t.Fatal(err)
	}
	r := resource(t, extensionName, &corev3.TypedExtensionConfig{Name: extensionName, TypedConfig: typed})
	r.Version = ""
	return r
}

func structOf(t testing.TB, text string) *structpb.Struct {
	t.Helper()
	s := &structpb.Struct{}
	if err := protojson.Unmarshal([]byte(text), s); err != nil {
		t.Fatal(err)
	}
	return s
}

func typed(t testing.TB, text string) xds.Resource {
	t.Helper()
	return extension(t, &typedv3.TypedStruct{TypeUrl: AgentPolicyType, Value: structOf(t, text)})
}

// flat is the message as JSON; tool is what it allows.
func flat(name, tool string) string {
	return fmt.Sprintf(`{"name": %q, "namespace": "tools", "spec": {"ports": [{"number": 8080, "protocol": "MCP"}],
		"rules": [{"name": "r", "action": "Allow", "mcp": {"tools": [%q]}}]}}`, name, tool)
}

const asDocument = `{"apiVersion": "outrigger.dev/v1alpha1", "kind": "AgentPolicy", "metadata": {"name": "a", "namespace": "tools"},
	"spec": {"ports": [{"number": 8080, "protocol": "MCP"}], "rules": [{"name": "r", "action": "Allow", "mcp": {"tools": ["one"]}}]}}`

func ecds(t *testing.T) (*Discovery, *store.Store) {
	t.Helper()
	d, st := newDiscovery(t, store.KindWorkloads, store.KindAuthorizations, CarrierECDS.Kind())
	d.Apply(AddressType, []xds.Resource{resource(t, githubUID, githubWorkload())}, nil, true)
	d.Apply(AuthorizationType, nil, nil, true)
	return d, st
}

// inForce tells which policies are valid and which are in quarantine.
func inForce(s *store.Snapshot) string {
	var all []string
	for key, p := range s.AgentPolicies() {
		if p.Quarantined() != nil {
			key += "!"
		}
		all = append(all, key)
	}
	slices.Sort(all)
	return strings.Join(all, " ")
}

func TestEveryFormOfAnExtensionIsTheSamePolicy(t *testing.T) {
	message := &policypb.AgentPolicy{}
	if err := protojson.Unmarshal([]byte(flat("a", "one")), message); err != nil {
		t.Fatal(err)
	}
	for form, r := range map[string]xds.Resource{
		"TypedStruct of the message":  typed(t, flat("a", "one")),
		"TypedStruct of the document": typed(t, asDocument),
		"Struct of the message":       extension(t, structOf(t, flat("a", "one"))),
		"Struct of the document":      extension(t, structOf(t, asDocument)),
		"the message itself":          extension(t, message),
	} {
		t.Run(form, func(t *testing.T) {
			key, m, err := readExtension(r)
			if err != nil || key != "tools/a" || !proto.Equal(m, message) {
				t.Fatalf("%s: %v, %v", key, m, err)
			}
			d, st := ecds(t)
			if bad := d.Apply(ExtensionType, []xds.Resource{r}, nil, true); bad != nil || inForce(st.Snapshot()) != "tools/a" {
				t.Fatalf("rejected %v, in force %s", bad, inForce(st.Snapshot()))
			}
		})
	}
}

func TestExtensionsMerge(t *testing.T) {
	a, b, broken := typed(t, flat("a", "one")), typed(t, flat("b", "one")), strings.Replace(flat("a", "one"), "Allow", "Alow", 1)
	nameless := typed(t, `{"spec": {}}`)
	alien := extension(t, wrapperspb.String("x"))
	for fact, steps := range map[string][]struct {
		said     []xds.Resource
		rejected int
		want     string
	}{
		"all of one name apply together":      {{[]xds.Resource{a, b}, 0, "tools/a tools/b"}},
		"what is absent is gone":              {{[]xds.Resource{a, b}, 0, "tools/a tools/b"}, {[]xds.Resource{b}, 0, "tools/b"}, {nil, 0, ""}},
		"the same policy twice is one":        {{[]xds.Resource{a, a}, 0, "tools/a"}},
		"two policies of one name deny":       {{[]xds.Resource{a, typed(t, flat("a", "two"))}, 1, "tools/a tools/a#2!"}, {[]xds.Resource{a}, 0, "tools/a"}},
		"a new one that is bad denies":        {{[]xds.Resource{typed(t, broken), b}, 1, "tools/a! tools/b"}, {[]xds.Resource{a, b}, 0, "tools/a tools/b"}},
		"a bad one displaces no good one":     {{[]xds.Resource{a}, 0, "tools/a"}, {[]xds.Resource{typed(t, broken)}, 1, "tools/a"}},
		"a nameless one denies everything":    {{[]xds.Resource{a}, 0, "tools/a"}, {[]xds.Resource{a, nameless}, 1, "/" + extensionName + "! tools/a"}, {[]xds.Resource{a}, 0, "tools/a"}},
		"a nameless one may be a missing one": {{[]xds.Resource{a, b}, 0, "tools/a tools/b"}, {[]xds.Resource{b, alien}, 1, "tools/a tools/b"}, {[]xds.Resource{b}, 0, "tools/b"}},
	} {
		t.Run(fact, func(t *testing.T) {
			d, st := ecds(t)
			for i, step := range steps {
				if bad := d.Apply(ExtensionType, step.said, nil, i == 0); len(bad) != step.rejected || len(d.Rejected()) != step.rejected {
					t.Fatalf("step %d: rejected %v, status tells %v", i, bad, d.Rejected())
				}
				if got := inForce(st.Snapshot()); got != step.want {
					t.Fatalf("step %d: in force %q, want %q", i, got, step.want)
				}
			}
		})
	}
}

func TestExtensionsThatCannotBeReadAreRejected(t *testing.T) {
	deep := strings.Repeat(`{"a":`, 200) + "1" + strings.Repeat("}", 200)
	for fault, r := range map[string]xds.Resource{
		"type_url":                        extension(t, &typedv3.TypedStruct{TypeUrl: AuthorizationType, Value: structOf(t, flat("a", "one"))}),
		"no value":                        extension(t, &typedv3.TypedStruct{TypeUrl: AgentPolicyType}),
		"at most":                         typed(t, fmt.Sprintf(`{"name": %q}`, strings.Repeat("x", maxExtension))),
		"max depth":                       typed(t, `{"name": "a", "namespace": "b", "spec": `+deep+`}`),
		"unknown":                         typed(t, `{"name": "a", "namespace": "b", "spec": {"rulez": []}}`),
		"holds a":                         typed(t, `{"apiVersion": "outrigger.dev/v1alpha1", "kind": "Authorization", "metadata": {"name": "a", "namespace": "b"}, "spec": {}}`),
		"tools is a list without entries": typed(t, `{"name": "a", "namespace": "b", "spec": {"rules": [{"name": "r", "action": "Allow", "mcp": {"methods": ["tools/call"], "tools": []}}]}}`),
		"no name":                         typed(t, `{"spec": {}}`),
		"typed_con":                       {Name: "x", Err: fmt.Errorf("typed_con")},
	} {
		if _, _, err := readExtension(r); err == nil || !strings.Contains(err.Error(), fault) {
			t.Errorf("%s: %v", fault, err)
		}
	}
}

func TestNothingIsAllowedUntilEveryCarrierHasDelivered(t *testing.T) {
	d, st := newDiscovery(t, CarrierMesh.Kind(), CarrierPlane.Kind(), CarrierECDS.Kind())
	for _, deliver := range []func(){
		func() { d.Apply(ExtensionType, nil, nil, true) },
		func() { d.Plane().Apply(AgentPolicyType, nil, nil, true) },
		func() { d.Apply(AgentPolicyType, nil, nil, true) },
	} {
		if st.Snapshot().Policies() != nil {
			t.Fatal("allowed while a carrier is pending")
		}
		before := len(st.Snapshot().Pending())
		deliver()
		if len(st.Snapshot().Pending()) != before-1 {
			t.Fatalf("pending %v", st.Snapshot().Pending())
		}
	}
	if st.Snapshot().Policies() == nil {
		t.Fatal("still nothing allowed")
	}
}

func TestCarriersRank(t *testing.T) {
	d, st := newDiscovery(t, "never")
	version := func(v string) *policypb.AgentPolicy {
		return goodAgentPolicy(func(p *policypb.AgentPolicy) { p.Version = v })
	}
	bad := goodAgentPolicy(func(p *policypb.AgentPolicy) { p.Spec.Rules[0].Action = 0 })
	mesh := func(p *policypb.AgentPolicy) {
		d.Apply(AgentPolicyType, []xds.Resource{resource(t, "tools/policy", p)}, nil, false)
	}
	plane := func(p *policypb.AgentPolicy) {
		d.Plane().Apply(AgentPolicyType, []xds.Resource{resource(t, "tools/policy", p)}, nil, false)
	}
	want := func(v string) {
		t.Helper()
		p := st.Snapshot().AgentPolicy("tools/policy")
		if got := p.Version(); got != v || p.Quarantined() != nil {
			t.Errorf("version %s (%v), want %s of carriers %v", got, p.Quarantined(), v, d.CarriedBy("tools/policy"))
		}
	}
	d.Apply(ExtensionType, []xds.Resource{extension(t, version("ecds"))}, nil, true)
	want("ecds")
	plane(version("plane"))
	want("plane")
	mesh(bad) // was never valid, and gives way
	want("plane")
	mesh(version("mesh"))
	want("mesh")
	mesh(bad) // does not displace its own good version
	want("mesh")
	if got := fmt.Sprint(d.CarriedBy("tools/policy")); got != "[mesh xds ecds]" {
		t.Errorf("carriers %s", got)
	}
	d.Apply(AgentPolicyType, nil, []string{"tools/policy"}, false)
	want("plane")
	d.Plane().Apply(AgentPolicyType, nil, []string{"tools/policy"}, false)
	want("ecds")
	d.Apply(ExtensionType, nil, []string{extensionName}, false)
	if p := st.Snapshot().AgentPolicy("tools/policy"); p != (*policy.Agent)(nil) {
		t.Errorf("nobody carries it, and it is in force")
	}
}
