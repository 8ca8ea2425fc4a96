package control

import (
	"strings"
	"testing"

	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"

	"github.com/outrigger-mesh/outrigger/pkg/discovery"
	"github.com/outrigger-mesh/outrigger/pkg/manifest"
	securitypb "github.com/outrigger-mesh/outrigger/proto/istio/security"
	workloadpb "github.com/outrigger-mesh/outrigger/proto/istio/workload"
)

func testConfig() *Config {
	return &Config{RootNamespace: "istio-system", ClusterID: "Kubernetes", TrustDomain: "cluster.local"}
}

func readAll(yaml string) ([]*object, error) {
	documents, err := manifest.Parse("f.yaml", []byte(yaml))
	if err != nil {
		return nil, err
	}
	return (&reader{testConfig()}).read(documents)
}

// tables builds the served state of one file.
func tables(t testing.TB, yaml string) map[string]*table {
	t.Helper()
	objects, err := readAll(yaml)
	if err != nil {
		t.Fatal(err)
	}
	var all []located
	for _, o := range objects {
		all = append(all, located{"f.yaml", o})
	}
	built, problems := build(all, "istio-system")
	if len(problems) > 0 {
		t.Fatal(problems)
	}
	return built
}

func decode[M proto.Message](t testing.TB, r *resource, m M) M {
	t.Helper()
	if r == nil {
		t.Fatal("no such resource")
	}
	if err := r.Resource.Resource.UnmarshalTo(m); err != nil {
		// The Any's URL is the type's, so this is the wire-compatible name.
		if err := proto.Unmarshal(r.Resource.Resource.Value, m); err != nil {
			t.Fatal(err)
		}
	}
	return m
}

func wantProto(t *testing.T, got proto.Message, want string) {
	t.Helper()
	m := got.ProtoReflect().New().Interface()
	if err := protojson.Unmarshal([]byte(want), m); err != nil {
		t.Fatal(err)
	}
	if !proto.Equal(got, m) {
		t.Errorf("got  %s\nwant %s", protojson.Format(got), protojson.Format(m))
	}
}

func TestWorkloadIsDefaultedAndSpelledByPeople(t *testing.T) {
	built := tables(t, `apiVersion: outrigger.dev/v1alpha1
kind: Workload
metadata: {name: gh, namespace: tools}
spec:
  addresses: [127.0.15.31, "fd00::1"]
  tunnelProtocol: HBONE
  nativeTunnel: true
  waypoint: tools/waypoint.tools.svc.cluster.local
  networkGateway: n2/192.0.2.1
  capacity: 3
  services:
    tools/github.tools.svc.cluster.local: {ports: [{servicePort: 80, targetPort: 8080, appProtocol: HTTP11}]}
---
apiVersion: outrigger.dev/v1alpha1
kind: Service
metadata: {name: github, namespace: tools}
spec:
  addresses: [10.96.0.1, n1/10.96.0.2, 240.240.0.0/16]
`)
	a := decode(t, built[AddressType].resources["Kubernetes//Pod/tools/gh"], &workloadpb.Address{})
	wantProto(t, a, `{"workload": {"uid": "Kubernetes//Pod/tools/gh", "name": "gh", "namespace": "tools", "addresses": ["fwAPHw==", "/QAAAAAAAAAAAAAAAAAAAQ=="],
		"tunnelProtocol": "HBONE", "nativeTunnel": true, "trustDomain": "cluster.local", "serviceAccount": "default", "clusterId": "Kubernetes",
		"canonicalName": "gh", "workloadName": "gh", "capacity": 3,
		"waypoint": {"hostname": {"namespace": "tools", "hostname": "waypoint.tools.svc.cluster.local"}, "hboneMtlsPort": 15008},
		"networkGateway": {"address": {"network": "n2", "address": "wAACAQ=="}, "hboneMtlsPort": 15008},
		"services": {"tools/github.tools.svc.cluster.local": {"ports": [{"servicePort": 80, "targetPort": 8080, "appProtocol": "HTTP11"}]}}}}`)
	s := decode(t, built[AddressType].resources["tools/github.tools.svc.cluster.local"], &workloadpb.Address{})
	wantProto(t, s, `{"service": {"name": "github", "namespace": "tools", "hostname": "github.tools.svc.cluster.local",
		"addresses": [{"address": "CmAAAQ=="}, {"network": "n1", "address": "CmAAAg=="}, {"address": "8PAAAA==", "length": 16}]}}`)
}

func TestErrorsOfDocuments(t *testing.T) {
	head := func(kind, spec string) string {
		version := discovery.APIVersion
		if strings.HasSuffix(kind, "AuthorizationPolicy") || kind == "PeerAuthentication" {
			version = istioVersion
		}
		return "apiVersion: " + version + "\nkind: " + kind + "\nmetadata: {name: a, namespace: b}\nspec:\n" + spec
	}
	for _, tt := range []struct {
		name, yaml string
		line       int
		problem    string
		remedy     string
	}{
		{"kind", head("Agentpolicy", "  {}\n"), 2, `kind "Agentpolicy" is not known`, "AgentPolicy"},
		{"version", "apiVersion: v1\nkind: Pod\nmetadata: {name: a, namespace: b}\n", 1, `apiVersion "v1"`, discovery.APIVersion},
		{"no name", "apiVersion: x\nkind: y\nmetadata: {namespace: b}\n", 3, "metadata.name", "lower-case"},
		{"bad namespace", "apiVersion: x\nkind: y\nmetadata: {name: a, namespace: B_}\n", 3, "metadata.namespace", "lower-case"},
		{"unknown field in metadata", "apiVersion: x\nkind: y\nmetadata: {name: a, namespace: b, label: {}}\n", 3, `unknown field "label"`, `"labels"`},
		{"no spec", "apiVersion: outrigger.dev/v1alpha1\nkind: Workload\nmetadata: {name: a, namespace: b}\n", 1, "spec is missing", "under spec"},
		{"no namespace", "apiVersion: outrigger.dev/v1alpha1\nkind: Workload\nmetadata: {name: a}\nspec: {}\n", 3, "metadata.namespace is missing", "lower-case"},
		{"no good namespace", "apiVersion: outrigger.dev/v1alpha1\nkind: Workload\nmetadata: {name: a, namespace: B}\nspec: {}\n", 3, "is not a namespace", "lower-case"},
		{"bad address", head("Workload", "  addresses: [10.0.0]\n"), 5, `"10.0.0" is not an IP address`, ""},
		{"no address", head("Workload", "  node: n\n"), 5, "no address", "addresses"},
		{"contradicting name", head("Workload", "  addresses: [10.0.0.1]\n  name: x\n"), 6, `spec.name is "x"`, "remove"},
		{"bad service key", head("Workload", "  addresses: [10.0.0.1]\n  services:\n    github: {}\n"), 7, "not namespace/hostname", "namespace/hostname"},
		{"port", head("Workload", "  addresses: [10.0.0.1]\n  services:\n    tools/github.tools.svc.cluster.local:\n      ports:\n      - {servicePort: 80, targetPort: 70000}\n"), 9, "70000 is not a port", "65535"},
		{"VIP", head("Service", "  addresses: [x/y/z]\n"), 5, "is not an address", ""},
		{"enum", head("Workload", "  addresses: [10.0.0.1]\n  tunnelProtocol: Hbone\n"), 6, `"Hbone" is not known`, "HBONE"},
		{"policy without ports", head("AgentPolicy", "  rules: []\n"), 5, "", ""},
		{"bad CEL in a policy", head("AgentPolicy", "  ports: [{number: 1, protocol: MCP}]\n  rules:\n  - name: a\n    action: Allow\n    when:\n    - \"this is not CEL\"\n"), 10, "spec.rules[0].when[0]", ""},
		{"L7 DENY", head("AuthorizationPolicy", "  action: DENY\n  rules:\n  - to:\n    - operation: {methods: [POST]}\n"), 8, "would deny nothing", "AgentPolicy"},
		{"empty source", head("AuthorizationPolicy", "  action: DENY\n  rules:\n  - from:\n    - source: {}\n"), 8, "would match nothing", "set a field"},
		{"condition without values", head("AuthorizationPolicy", "  rules:\n  - when:\n    - {key: source.ip}\n"), 7, "a condition without values", "notValues"},
		{"L7 condition of DENY", head("AuthorizationPolicy", "  action: DENY\n  rules:\n  - when:\n    - {key: request.headers, values: [x]}\n"), 8, "would deny nothing", "AgentPolicy"},
		{"CUSTOM", head("AuthorizationPolicy", "  action: CUSTOM\n"), 5, `action "CUSTOM"`, "DENY"},
		{"targetRefs", head("AuthorizationPolicy", "  targetRefs: [{kind: Service}]\n"), 5, "waypoint", "selector"},
		{"bad range", head("AuthorizationPolicy", "  rules:\n  - from:\n    - source: {ipBlocks: [10.0.0.0/33]}\n"), 7, "10.0.0.0/33", ""},
		{"bad port", head("AuthorizationPolicy", "  rules:\n  - to:\n    - operation: {ports: [\"0\"]}\n"), 7, `"0" is not a port`, ""},
		{"portLevelMtls", head("PeerAuthentication", "  portLevelMtls: {\"80\": {mode: STRICT}}\n"), 5, "portLevelMtls", ""},
		{"mode", head("PeerAuthentication", "  mtls: {mode: strict}\n"), 5, `mode "strict"`, "STRICT"},
		{"twice in a file", strings.Repeat(head("Service", "  canonical: true\n")+"---\n", 2), 9, "defined twice, first in line 1", "keep one"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			_, err := readAll(tt.yaml)
			es := manifest.Errors(err)
			if len(es) == 0 {
				t.Fatalf("accepted: %v", err)
			}
			if e := es[0]; e.Line != tt.line || !strings.Contains(e.Problem, tt.problem) || !strings.Contains(e.Remedy+e.Problem, tt.remedy) {
				t.Errorf("got %v", e)
			}
		})
	}
}

func TestAuthorizationPolicyIsConvertedAsIstiodDoes(t *testing.T) {
	for _, tt := range []struct {
		name, namespace, spec, want string
	}{
		{"no spec allows nothing", "b", "", `{"name": "a", "namespace": "b", "scope": "NAMESPACE"}`},
		{"empty rule allows all", "b", "spec: {rules: [{}]}\n", `{"name": "a", "namespace": "b", "scope": "NAMESPACE", "groups": [{}]}`},
		{"root namespace is global", "istio-system", "spec: {}\n", `{"name": "a", "namespace": "istio-system"}`},
		{"L7 makes an ALLOW rule match nothing", "b", "spec:\n  rules:\n  - to: [{operation: {methods: [GET], ports: [\"80\"]}}]\n  - to: [{operation: {ports: [\"81\"]}}]\n",
			`{"name": "a", "namespace": "b", "scope": "NAMESPACE", "groups": [{"rules": [{"matches": [{"destinationPorts": [81]}]}]}]}`},
		{"L7 condition makes an ALLOW rule match nothing", "b", "spec:\n  rules:\n  - when: [{key: \"request.auth.claims[iss]\", values: [x]}]\n",
			`{"name": "a", "namespace": "b", "scope": "NAMESPACE"}`},
		{"a DENY rule keeps its L4 part", "b", "spec:\n  action: DENY\n  rules:\n  - to: [{operation: {methods: [GET], ports: [\"80\"]}}]\n",
			`{"name": "a", "namespace": "b", "scope": "NAMESPACE", "action": "DENY", "groups": [{"rules": [{"matches": [{"destinationPorts": [80]}]}]}]}`},
		{"all of it", "b", `spec:
  selector: {matchLabels: {app: x}}
  rules:
  - from:
    - source: {principals: ["spiffe://cluster.local/ns/a/sa/b", "*"], notNamespaces: ["dev-*"], serviceAccounts: [c, d/e], ipBlocks: [10.0.0.0/8, 192.0.2.1]}
    - source: {namespaces: ["*-x"]}
    to:
    - operation: {ports: ["80"], notPorts: ["81"]}
    when:
    - {key: source.ip, notValues: [10.1.0.0/16]}
    - {key: destination.port, values: ["82"]}
`, `{"name": "a", "namespace": "b", "scope": "WORKLOAD_SELECTOR", "groups": [{"rules": [
			{"matches": [{"destinationPorts": [80], "notDestinationPorts": [81]}]},
			{"matches": [
				{"principals": [{"exact": "cluster.local/ns/a/sa/b"}, {"presence": {}}], "notNamespaces": [{"prefix": "dev-"}],
				 "serviceAccounts": [{"namespace": "b", "serviceAccount": "c"}, {"namespace": "d", "serviceAccount": "e"}],
				 "sourceIps": [{"address": "CgAAAA==", "length": 8}, {"address": "wAACAQ==", "length": 32}]},
				{"namespaces": [{"suffix": "-x"}]}]},
			{"matches": [{"notSourceIps": [{"address": "CgEAAA==", "length": 16}]}]},
			{"matches": [{"destinationPorts": [82]}]}]}]}`},
	} {
		t.Run(tt.name, func(t *testing.T) {
			built := tables(t, "apiVersion: security.istio.io/v1\nkind: AuthorizationPolicy\nmetadata: {name: a, namespace: "+tt.namespace+"}\n"+tt.spec)
			wantProto(t, decode(t, built[AuthorizationType].resources[tt.namespace+"/a"], &securitypb.Authorization{}), tt.want)
		})
	}
}

func TestWorkloadsListThePoliciesThatSelectThem(t *testing.T) {
	pod := func(name, namespace, app string) string {
		return "apiVersion: outrigger.dev/v1alpha1\nkind: Workload\nmetadata: {name: " + name + ", namespace: " + namespace + ", labels: {app: " + app + "}}\nspec: {addresses: [10.0.0.1]}\n---\n"
	}
	selecting := func(name, namespace, app string) string {
		return "apiVersion: security.istio.io/v1\nkind: AuthorizationPolicy\nmetadata: {name: " + name + ", namespace: " + namespace + "}\nspec: {selector: {matchLabels: {app: " + app + "}}}\n---\n"
	}
	peer := func(name, namespace, selector, mode string) string {
		if selector != "" {
			selector = "selector: {matchLabels: {app: " + selector + "}}, "
		}
		return "apiVersion: security.istio.io/v1\nkind: PeerAuthentication\nmetadata: {name: " + name + ", namespace: " + namespace + "}\nspec: {" + selector + "mtls: {mode: " + mode + "}}\n---\n"
	}
	built := tables(t, pod("one", "b", "x")+pod("two", "b", "y")+pod("three", "c", "x")+
		selecting("own", "b", "x")+selecting("root", "istio-system", "x")+
		peer("mesh", "istio-system", "", "STRICT")+peer("ns", "c", "", "PERMISSIVE")+peer("pod", "b", "y", "DISABLE"))
	for uid, want := range map[string]string{
		"Kubernetes//Pod/b/one":   "b/own istio-system/istio_converted_static_strict istio-system/root",
		"Kubernetes//Pod/b/two":   "",
		"Kubernetes//Pod/c/three": "istio-system/root",
	} {
		w := decode(t, built[AddressType].resources[uid], &workloadpb.Address{}).GetWorkload()
		if got := strings.Join(w.AuthorizationPolicies, " "); got != want {
			t.Errorf("%s lists %q, want %q", uid, got, want)
		}
	}
	wantProto(t, decode(t, built[AuthorizationType].resources["istio-system/"+strictName], &securitypb.Authorization{}),
		`{"name": "istio_converted_static_strict", "namespace": "istio-system", "scope": "WORKLOAD_SELECTOR", "action": "DENY",
		"groups": [{"rules": [{"matches": [{"notPrincipals": [{"presence": {}}]}]}]}]}`)
}

func TestVersionsFollowTheContent(t *testing.T) {
	policy := func(tool string) *resource {
		return tables(t, "apiVersion: outrigger.dev/v1alpha1\nkind: AgentPolicy\nmetadata: {name: a, namespace: b}\nspec:\n  ports: [{number: 80, protocol: MCP}]\n  rules: [{name: r, action: Allow, mcp: {tools: ["+tool+"]}}]\n")[AgentPolicyType].resources["b/a"]
	}
	if a, b := policy("x"), policy("\"x\" # the same\n   "); a.Version != b.Version || a.Version == "" {
		t.Errorf("versions %q and %q of one content", a.Version, b.Version)
	}
	if policy("x").Version == policy("y").Version {
		t.Error("one version of two contents")
	}
}

func FuzzDocuments(f *testing.F) {
	f.Add("apiVersion: outrigger.dev/v1alpha1\nkind: Workload\nmetadata: {name: a, namespace: b}\nspec: {addresses: [10.0.0.1], waypoint: a/b, networkGateway: n/10.0.0.1}\n")
	f.Add("apiVersion: security.istio.io/v1\nkind: AuthorizationPolicy\nmetadata: {name: a, namespace: b}\nspec:\n  rules:\n  - from: [{source: {principals: [\"*\"], ipBlocks: [\"::/0\"]}}]\n    when: [{key: source.ip, values: [10.0.0.0/8]}]\n")
	f.Add("apiVersion: security.istio.io/v1\nkind: PeerAuthentication\nmetadata: {name: a, namespace: b}\nspec: {mtls: {mode: STRICT}}\n")
	f.Add("apiVersion: outrigger.dev/v1alpha1\nkind: Service\nmetadata: {name: a, namespace: b}\nspec: {addresses: [x/10.0.0.1/8, \"::ffff:1.2.3.4/120\"]}\n")
	f.Fuzz(func(t *testing.T, yaml string) {
		objects, err := readAll(yaml)
		for _, e := range manifest.Errors(err) {
			if e.Line < 1 || e.Problem == "" {
				t.Fatalf("bad error %+v", e)
			}
		}
		if err != nil {
			return
		}
		var all []located
		for _, o := range objects {
			all = append(all, located{"f", o})
		}
		if _, problems := build(all, "istio-system"); len(problems) > 0 {
			t.Fatal(problems)
		}
	})
}
