package discovery

import (
	"context"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"google.golang.org/protobuf/proto"

	"github.com/outrigger-mesh/outrigger/pkg/manifest"
	"github.com/outrigger-mesh/outrigger/pkg/mesh"
	"github.com/outrigger-mesh/outrigger/pkg/policy"
	"github.com/outrigger-mesh/outrigger/pkg/store"
	"github.com/outrigger-mesh/outrigger/pkg/xds"
	securitypb "github.com/outrigger-mesh/outrigger/proto/istio/security"
	workloadpb "github.com/outrigger-mesh/outrigger/proto/istio/workload"
	policypb "github.com/outrigger-mesh/outrigger/proto/outrigger/policy/v1alpha1"
)

const meshYAML = `
apiVersion: outrigger.dev/v1alpha1
kind: Workload
metadata: {name: github-1, namespace: tools, labels: {app: github}}
spec:
  addresses: [10.0.0.2, "fd00::2"]
  tunnelProtocol: HBONE
  serviceAccount: github
  waypoint: tools/gate.tools
  networkGateway: east/10.0.0.1
  capacity: 3
  services:
    tools/github.tools.svc.cluster.local:
      ports: [{servicePort: 80, targetPort: 8080}]
---
apiVersion: outrigger.dev/v1alpha1
kind: Service
metadata: {name: github, namespace: tools}
spec:
  addresses: [10.1.0.1, east/10.2.0.0/16, {network: west, address: 10.3.0.1}]
  ports: [{servicePort: 80, targetPort: 8080}]
---
apiVersion: outrigger.dev/v1alpha1
kind: Authorization
metadata: {name: mutual, namespace: istio-system}
spec:
  scope: GLOBAL
  action: DENY
  groups:
  - rules:
    - matches:
      - notPrincipals: [{presence: {}}]
        sourceIps: [10.0.0.0/8]
`

const policyYAML = `apiVersion: outrigger.dev/v1alpha1
kind: AgentPolicy
metadata: {name: policy, namespace: tools}
spec:
  ports: [{number: 8080, protocol: MCP}]
  rules:
  - name: all
    action: Allow
`

func documents(t testing.TB, text string) []*manifest.Document {
	t.Helper()
	all, err := manifest.Parse("mesh.yaml", []byte(text))
	if err != nil {
		t.Fatal(err)
	}
	return all
}

func TestDocumentsBecomeResources(t *testing.T) {
	wants := []Document{
		{kindWorkload, AddressType, "Kubernetes//Pod/tools/github-1", &workloadpb.Address{Type: &workloadpb.Address_Workload{Workload: githubWorkload(func(w *workloadpb.Workload) {
			w.Addresses, w.ClusterId, w.TunnelProtocol = append(w.Addresses, ip("fd00::2")), "Kubernetes", workloadpb.TunnelProtocol_HBONE
			w.Waypoint = &workloadpb.GatewayAddress{Destination: &workloadpb.GatewayAddress_Hostname{Hostname: &workloadpb.NamespacedHostname{Namespace: "tools", Hostname: "gate.tools"}}, HboneMtlsPort: 15008}
			w.NetworkGateway = &workloadpb.GatewayAddress{Destination: &workloadpb.GatewayAddress_Address{Address: &workloadpb.NetworkAddress{Network: "east", Address: ip("10.0.0.1")}}, HboneMtlsPort: 15008}
			w.Capacity = wrap(3)
			w.Services = map[string]*workloadpb.PortList{"tools/github.tools.svc.cluster.local": {Ports: []*workloadpb.Port{{ServicePort: 80, TargetPort: 8080}}}}
		})}}},
		{kindService, AddressType, "tools/github.tools.svc.cluster.local", &workloadpb.Address{Type: &workloadpb.Address_Service{Service: githubService(func(s *workloadpb.Service) {
			s.Hostname = "github.tools.svc.cluster.local"
			s.Addresses = []*workloadpb.NetworkAddress{{Address: ip("10.1.0.1")}, {Network: "east", Address: ip("10.2.0.0"), Length: proto.Uint32(16)}, {Network: "west", Address: ip("10.3.0.1")}}
			s.Ports = []*workloadpb.Port{{ServicePort: 80, TargetPort: 8080}}
		})}}},
		{kindAuthorization, AuthorizationType, "istio-system/mutual", &securitypb.Authorization{Name: "mutual", Namespace: "istio-system", Action: securitypb.Action_DENY,
			Groups: []*securitypb.Group{{Rules: []*securitypb.Rules{{Matches: []*securitypb.Match{{
				NotPrincipals: []*securitypb.StringMatch{{MatchType: &securitypb.StringMatch_Presence{}}},
				SourceIps:     []*securitypb.Address{{Address: ip("10.0.0.0"), Length: 8}},
			}}}}}}}},
		{kindAgentPolicy, AgentPolicyType, "tools/policy", goodAgentPolicy()},
	}
	for i, d := range documents(t, meshYAML+"---\n"+policyYAML) {
		got, err := Read(d)
		if err != nil {
			t.Fatal(err)
		}
		want := wants[i]
		if a, ok := got.Message.(*securitypb.Authorization); ok {
			m := a.Groups[0].Rules[0].Matches[0]
			if _, presence := m.NotPrincipals[0].MatchType.(*securitypb.StringMatch_Presence); !presence {
				t.Errorf("condition is %v", m.NotPrincipals[0])
			}
			m.NotPrincipals[0].MatchType = &securitypb.StringMatch_Presence{}
		}
		if got.Kind != want.Kind || got.TypeURL != want.TypeURL || got.Name != want.Name || !proto.Equal(got.Message, want.Message) {
			t.Errorf("got  %v\nwant %v", got, want)
		}
	}
}

func TestDocumentErrorsSayWhere(t *testing.T) {
	for _, test := range []struct {
		fact, old, new string
		line           int
		says, name     string
	}{
		{"another version", "outrigger.dev/v1alpha1", "outrigger.dev/v2", 1, APIVersion, ""},
		{"another kind", "kind: AgentPolicy", "kind: AgentPolcy", 2, "AgentPolicy", "tools/policy"},
		{"no namespace", ", namespace: tools", "", 3, "metadata.namespace is missing", ""},
		{"no spec", "spec:", "status:", 1, "spec is missing", "tools/policy"},
		{"unknown field", "    action: Allow", "    acton: Allow", 8, "acton", "tools/policy"},
		{"unknown field beside spec", "kind: AgentPolicy", "kind: AgentPolicy\nspce: {}", 3, "spce", "tools/policy"},
		{"what only the check finds", "number: 8080", "number: 80800", 5, "spec.ports[0].number", "tools/policy"},
		{"a list that is empty", "    action: Allow", "    action: Allow\n    mcp: {methods: [tools/call], tools: []}", 9, "tools is a list without entries", "tools/policy"},
		{"no action", "    action: Allow", "    mode: Enforce", 7, "spec.rules[0].action", "tools/policy"},
	} {
		d := documents(t, strings.Replace(policyYAML, test.old, test.new, 1))[0]
		got, err := Read(d)
		faults := manifest.Errors(err)
		if got.Message != nil || len(faults) == 0 {
			t.Errorf("%s: got %v, %v", test.fact, got, err)
			continue
		}
		if faults[0].Line != test.line || !strings.Contains(err.Error(), test.says) || got.Name != test.name {
			t.Errorf("%s: %q says\n%v", test.fact, got.Name, err)
		}
	}
	for _, bad := range []string{"addresses: [10.0.0]", "addresses: [[1]]", "waypoint: gate", "waypoint: east/10.0.0.0/8", "name: other", "tunnelProtocol: LEGACY_ISTIO_MTLS"} {
		_, err := Read(documents(t, "apiVersion: outrigger.dev/v1alpha1\nkind: Workload\nmetadata: {name: a, namespace: b}\nspec:\n  "+bad+"\n")[0])
		if faults := manifest.Errors(err); len(faults) != 1 || faults[0].Line != 5 {
			t.Errorf("%s: %v", bad, err)
		}
	}
}

// A folder is a directory with policy files.
type folder struct {
	*testing.T
	path string
	d    *Discovery
	st   *store.Store
}

func newFolder(t *testing.T) *folder {
	path := t.TempDir()
	d, st := newDiscovery(t, FileKind(path))
	f := &folder{t, path, d, st}
	f.write("mesh.yaml", meshYAML)
	d.load(path)
	return f
}

func (f *folder) write(name, text string) {
	f.Helper()
	if err := os.WriteFile(filepath.Join(f.path, name), []byte(text), 0o600); err != nil {
		f.Fatal(err)
	}
}

func (f *folder) want(fact string, open bool, rejected ...string) {
	f.Helper()
	f.d.load(f.path)
	if got := connects(f.st.Snapshot()); got != open {
		f.Errorf("%s: connects %v, want %v", fact, got, open)
	}
	var names []string
	for _, r := range f.d.Rejected() {
		names = append(names, filepath.Base(r.Name))
	}
	if !slices.Equal(names, rejected) {
		f.Errorf("%s: status tells %v, want %v", fact, names, rejected)
	}
}

func TestFilesFailClosed(t *testing.T) {
	f := newFolder(t)
	f.want("a mesh without agent policies", true)
	for fact, bad := range map[string]string{
		"not YAML":               "{",
		"empty":                  "# nothing\n",
		"unknown kind":           strings.Replace(policyYAML, "kind: AgentPolicy", "kind: AgentPolcy", 1),
		"bad policy":             strings.Replace(policyYAML, "Allow", "Alow", 1),
		"policy of no namespace": strings.Replace(policyYAML, ", namespace: tools", "", 1),
		"policy twice":           policyYAML + "---\n" + policyYAML,
		"bad authorization":      "apiVersion: outrigger.dev/v1alpha1\nkind: Authorization\nmetadata: {name: x, namespace: tools}\nspec: {scope: GLOBL}\n",
		"good and bad":           policyYAML + "---\n" + strings.NewReplacer("Allow", "Alow", "name: policy", "name: second").Replace(policyYAML),
	} {
		f.write("policy.yaml", bad)
		f.want("new file: "+fact, false, "policy.yaml")
		f.write("policy.yaml", policyYAML)
		f.want("mended: "+fact, true)
		good := f.st.Snapshot().AgentPolicy("tools/policy")
		f.write("policy.yaml", bad)
		f.want("changed file: "+fact, true, "policy.yaml")
		if f.st.Snapshot().AgentPolicy("tools/policy") != good {
			t.Errorf("%s: displaced a good policy", fact)
		}
		if err := os.Remove(filepath.Join(f.path, "policy.yaml")); err != nil {
			t.Fatal(err)
		}
		f.want("removed: "+fact, true)
		if f.st.Snapshot().AgentPolicy("tools/policy") != nil {
			t.Errorf("%s: a removed file is still in effect", fact)
		}
	}
}

func TestOneNameInTwoFilesDeniesUntilMended(t *testing.T) {
	f := newFolder(t)
	f.write("a.yaml", policyYAML)
	f.write("b.yml", policyYAML)
	f.want("two files", false, "b.yml")
	f.write("b.yml", strings.Replace(policyYAML, "name: policy", "name: second", 1))
	f.want("renamed", true)
	f.write(".hidden.yaml", policyYAML)
	f.write("notes.txt", policyYAML)
	f.want("files that are not read", true)
}

func TestWhatOnePathMendsIsNoLongerToldOfAnother(t *testing.T) {
	first, second := filepath.Join(t.TempDir(), "a.yaml"), filepath.Join(t.TempDir(), "b.yaml")
	d, _ := newDiscovery(t)
	write := func(path, text string) {
		t.Helper()
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		d.load(path)
	}
	write(first, policyYAML)
	write(second, policyYAML)
	if len(d.Rejected()) != 1 {
		t.Fatalf("of one name in two paths is told %v", d.Rejected())
	}
	renamed := strings.Replace(policyYAML, "name: policy", "name: second", 1)
	write(first, renamed)
	write(second, policyYAML)
	write(first, policyYAML)
	write(first, renamed)
	if got := d.Rejected(); len(got) != 0 {
		t.Errorf("mended, and still told: %v", got)
	}
	if err := os.Remove(second); err != nil {
		t.Fatal(err)
	}
	d.load(second)
	write(first, renamed)
	if got := d.Rejected(); len(got) != 1 || got[0].Name != second {
		t.Errorf("of a file that is gone is told %v", got)
	}
}

func TestNothingIsAllowedUntilTheFileIsThere(t *testing.T) {
	path := filepath.Join(t.TempDir(), "policy.yaml")
	d, st := newDiscovery(t, FileKind(path))
	d.load(path)
	if s := st.Snapshot(); s.Policies() != nil || !slices.Equal(s.Pending(), []string{FileKind(path)}) {
		t.Fatalf("pending %v", s.Pending())
	}
	if err := os.WriteFile(path, []byte(policyYAML+"---\n"+meshYAML), 0o600); err != nil {
		t.Fatal(err)
	}
	d.load(path)
	if s := st.Snapshot(); !connects(s) || s.AgentPolicy("tools/policy") == nil {
		t.Fatalf("file is there, pending %v, rejected %v", s.Pending(), d.Rejected())
	}
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	d.load(path)
	if st.Snapshot().AgentPolicy("tools/policy") == nil || len(d.Rejected()) != 1 {
		t.Fatal("a file that is gone took its policies with it")
	}
}

func TestControlPlaneGoesBeforeFiles(t *testing.T) {
	f := newFolder(t)
	f.write("policy.yaml", policyYAML)
	f.want("file", true)
	s := func() *store.Snapshot { return f.st.Snapshot() }
	name := mesh.Name{Namespace: "tools", Hostname: "github.tools.svc.cluster.local"}
	file := s()
	f.d.Apply(AgentPolicyType, []xds.Resource{resource(t, "tools/policy", goodAgentPolicy())}, nil, true)
	f.d.Apply(AddressType, []xds.Resource{resource(t, githubUID, githubWorkload()), resource(t, name.String(), githubService(func(s *workloadpb.Service) { s.Hostname = name.Hostname }))}, nil, true)
	f.d.Apply(AuthorizationType, []xds.Resource{resource(t, "istio-system/mutual", &securitypb.Authorization{Name: "mutual", Namespace: "istio-system", Action: securitypb.Action_DENY})}, nil, true)
	plane := s()
	if plane.AgentPolicy("tools/policy") == file.AgentPolicy("tools/policy") || plane.Service(name) == file.Service(name) ||
		plane.WorkloadByUID(githubUID) == file.WorkloadByUID(githubUID) || plane.Authorization("istio-system/mutual") == file.Authorization("istio-system/mutual") {
		t.Fatal("the control plane does not go first")
	}
	f.want("the file is read again", true)
	if s().AgentPolicy("tools/policy") != plane.AgentPolicy("tools/policy") || s().Service(name) != plane.Service(name) || s().WorkloadByUID(githubUID) != plane.WorkloadByUID(githubUID) {
		t.Fatal("the file displaced what the control plane says")
	}
	f.d.Apply(AgentPolicyType, nil, []string{"tools/policy"}, false)
	f.d.Apply(AddressType, nil, []string{githubUID, name.String()}, false)
	f.d.Apply(AuthorizationType, nil, []string{"istio-system/mutual"}, false)
	if p := s().AgentPolicy("tools/policy"); p == nil || p.Version() == "v1" {
		t.Fatal("the file's policy did not come back")
	}
	if w := s().WorkloadByUID(githubUID); w == nil || w.Capacity != 3 || s().Service(name) == nil || s().Authorization("istio-system/mutual") == nil {
		t.Fatal("the file's workload, service or authorization did not come back")
	}
}

// The real watcher, a real file, and a decision that follows it.
func TestFileIsWatched(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "policy.yaml")
	d, st := newDiscovery(t, FileKind(path))
	versions := make(chan string, 100)
	defer st.Watch(func(s *store.Snapshot) {
		if p := s.AgentPolicy("tools/policy"); p != nil {
			versions <- p.Version()
		}
	})()
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error)
	go func() { done <- d.File(ctx, path) }()
	expect := func() string {
		select {
		case v := <-versions:
			return v
		case <-time.After(20 * time.Second):
			t.Error("the change was not noticed")
			return ""
		}
	}
	write := func(text string) {
		if err := os.WriteFile(path+".new", []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if err := os.Rename(path+".new", path); err != nil {
			t.Fatal(err)
		}
	}
	write(policyYAML)
	first := expect()
	write(strings.Replace(policyYAML, "8080", "9090", 1))
	for second := expect(); second == first && second != ""; second = expect() {
	}
	cancel()
	if err := <-done; err != nil {
		t.Fatal(err)
	}
}

func FuzzAddress(f *testing.F) {
	for _, m := range []proto.Message{githubWorkload(), newer(githubService())} {
		f.Add(githubUID, resource(f, "", m).Body.Value)
	}
	fuzz(f, AddressType)
}

func FuzzAuthorization(f *testing.F) {
	for _, d := range documents(f, meshYAML) {
		if got, err := Read(d); err == nil && got.TypeURL == AuthorizationType {
			f.Add(got.Name, resource(f, "", got.Message).Body.Value)
		}
	}
	f.Add("tools/policy", resource(f, "", newer(&securitypb.Authorization{Name: "policy", Namespace: "tools"})).Body.Value)
	fuzz(f, AuthorizationType)
}

func FuzzAgentPolicy(f *testing.F) {
	f.Add("tools/policy", resource(f, "", goodAgentPolicy()).Body.Value)
	f.Add("tools/policy", resource(f, "", newer(&policypb.AgentPolicy{Name: "policy", Namespace: "tools"})).Body.Value)
	fuzz(f, AgentPolicyType)
}

// fuzz applies whatever comes: a resource is in the store under its name or it
// is rejected, and a policy that was rejected denies.
func fuzz(f *testing.F, url string) {
	f.Fuzz(func(t *testing.T, name string, body []byte) {
		d, st := newDiscovery(t)
		r := xds.Resource{Name: name, Body: documentBody(url, body)}
		bad := d.Apply(url, []xds.Resource{r}, nil, true)
		s := st.Snapshot()
		service := mesh.Name{}
		service.Namespace, service.Hostname, _ = strings.Cut(name, "/")
		held := s.WorkloadByUID(name) != nil || s.Service(service) != nil
		if url != AddressType {
			held = s.Authorization(name) != nil || s.AgentPolicy(name) != nil
		}
		switch {
		case len(bad) == 0 && !held, len(bad) > 0 && held && url == AddressType, len(bad) > 0 && !held && url != AddressType:
			t.Fatalf("rejected %v, held %v", bad, held)
		}
		s.Policies().Connect(&policy.Connection{})
		d.Apply(url, nil, []string{name}, false)
		if c := st.Snapshot().Counts(); c.Workloads+c.Services+c.Authorizations+c.AgentPolicies != 0 {
			t.Fatalf("removed, and there is still %+v", c)
		}
	})
}

func FuzzDocument(f *testing.F) {
	f.Add(meshYAML)
	f.Add(policyYAML)
	f.Fuzz(func(t *testing.T, text string) {
		all, err := manifest.Parse("f", []byte(text))
		if err != nil {
			return
		}
		for _, d := range all {
			doc, err := Read(d)
			if (err == nil) != (doc.Message != nil) {
				t.Fatalf("message %v, error %v", doc.Message, err)
			}
			if err == nil {
				if err := (&content{Change: emptyChange()}).take(doc, d, defaultCluster); err != nil {
					t.Fatalf("good when read, bad when taken: %v", err)
				}
			}
		}
	})
}
