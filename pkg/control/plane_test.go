package control

import (
	"fmt"
	"os"
	"strings"
	"testing"

	discoveryv3 "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/outrigger-mesh/outrigger/pkg/xds"
)

func TestFilesReachTheSidecar(t *testing.T) {
	l := newLab(t, nil)
	l.write("mesh.yaml", fmt.Sprintf(workloadYAML, "planner", "agents", "127.0.15.21")+
		"apiVersion: outrigger.dev/v1alpha1\nkind: Service\nmetadata: {name: github, namespace: tools}\nspec:\n  addresses: [10.0.0.1, n1/10.0.0.2]\n  ports: [{servicePort: 80, targetPort: 8080}]\n")
	l.write("policy.yaml", fmt.Sprintf(policyYAML, "p", "agents", "get_*")+fmt.Sprintf(policyYAML, "other", "elsewhere", "x")+fmt.Sprintf(policyYAML, "root", "istio-system", "x")+fmt.Sprintf(denyYAML, "mtls", "istio-system"))
	l.start()
	r := l.client("agents", "planner", nil)
	const workload = "Kubernetes//Pod/agents/planner"
	eventually(t, "addresses", r.has(AddressType, workload, "tools/github.tools.svc.cluster.local"))
	eventually(t, "authorizations", r.has(AuthorizationType, "istio-system/mtls"))
	eventually(t, "policies of the own and the root namespace", r.has(AgentPolicyType, "agents/p", "istio-system/root"))

	// A change travels alone.
	before := r.snapshot(AgentPolicyType)
	l.write("policy.yaml", fmt.Sprintf(policyYAML, "p", "agents", "create_*")+fmt.Sprintf(policyYAML, "root", "istio-system", "x")+fmt.Sprintf(denyYAML, "mtls", "istio-system"))
	eventually(t, "the change", func() bool { return r.snapshot(AgentPolicyType)["agents/p"] != before["agents/p"] })
	r.mu.Lock()
	if len(r.last) != 1 || r.held[AgentPolicyType]["istio-system/root"] != before["istio-system/root"] {
		t.Errorf("sent again: %v", r.last)
	}
	r.mu.Unlock()

	// A malformed file keeps what it said.
	l.write("policy.yaml", fmt.Sprintf(policyYAML, "p", "agents", "create_*")+"kind: [\n")
	eventually(t, "the problem shows", func() bool { return len(l.plane.Status().Problems) == 1 })
	if p := l.plane.Status().Problems[0]; p.Line == 0 || p.Remedy == "" || p.Effect != effectKept {
		t.Errorf("problem %+v", p)
	}
	if !r.has(AuthorizationType, "istio-system/mtls")() {
		t.Error("the malformed file displaced the good one")
	}

	// A removed file takes its objects along.
	if err := os.Remove(l.file("policy.yaml")); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the removal", r.has(AgentPolicyType))
	eventually(t, "the removal", r.has(AuthorizationType))
	if p := l.plane.Status().Problems; len(p) != 0 {
		t.Errorf("problems %v", p)
	}
}

func TestRejectionIsShownAndCorrected(t *testing.T) {
	l := newLab(t, nil)
	l.write("a.yaml", fmt.Sprintf(policyYAML, "bad", "agents", "x")+fmt.Sprintf(policyYAML, "good", "agents", "x"))
	l.start()
	r := l.client("agents", "planner", nil)
	eventually(t, "the good one", r.has(AgentPolicyType, "agents/good"))
	status := func() TypeStatus {
		for _, n := range l.plane.Status().Nodes {
			for _, ts := range n.Types {
				if ts.Type == AgentPolicyType {
					return ts
				}
			}
		}
		return TypeStatus{}
	}
	eventually(t, "the NACK", func() bool { return strings.HasPrefix(status().Rejection, "agents/bad: rule 3 is bad") })
	l.write("a.yaml", fmt.Sprintf(policyYAML, "corrected", "agents", "x")+fmt.Sprintf(policyYAML, "good", "agents", "x"))
	eventually(t, "the correction", r.has(AgentPolicyType, "agents/good", "agents/corrected"))
	eventually(t, "the ACK", func() bool { ts := status(); return ts.Rejection == "" && !ts.LastACK.IsZero() && !ts.Pending })
}

func TestRestartSendsOnlyWhatChanged(t *testing.T) {
	l := newLab(t, nil)
	l.write("a.yaml", fmt.Sprintf(policyYAML, "a", "agents", "x"))
	l.write("b.yaml", fmt.Sprintf(policyYAML, "b", "agents", "x"))
	l.write("c.yaml", fmt.Sprintf(policyYAML, "bad", "agents", "x"))
	l.start()
	r := l.client("agents", "planner", func(c *xds.Config) { c.Types = []xds.Type{{URL: AgentPolicyType}} })
	eventually(t, "both", r.has(AgentPolicyType, "agents/a", "agents/b"))
	l.stop()
	eventually(t, "the loss", func() bool { return !r.client.Status().Connected })
	if !r.has(AgentPolicyType, "agents/a", "agents/b")() {
		t.Error("content was lost with the stream")
	}
	if err := os.Remove(l.file("a.yaml")); err != nil {
		t.Fatal(err)
	}
	if err := os.Remove(l.file("c.yaml")); err != nil {
		t.Fatal(err)
	}
	l.write("d.yaml", fmt.Sprintf(policyYAML, "d", "agents", "x"))
	l.start()
	eventually(t, "caught up", r.has(AgentPolicyType, "agents/b", "agents/d"))
	r.mu.Lock()
	defer r.mu.Unlock()
	if len(r.last) != 1 || r.last[0] != "agents/d" {
		t.Errorf("sent again: %v", r.last)
	}
	if r.client.Status().Types[0].Resources != 2 {
		t.Errorf("holds %+v", r.client.Status().Types[0])
	}
}

func TestMalformedFileAtStartHoldsEverythingBack(t *testing.T) {
	l := newLab(t, nil)
	l.write("a.yaml", fmt.Sprintf(policyYAML, "a", "agents", "x"))
	l.write("b.yaml", "kind: AgentPolicy\n")
	l.start()
	r := l.client("agents", "planner", nil)
	eventually(t, "the sidecar asks", func() bool {
		nodes := l.plane.Status().Nodes
		return len(nodes) == 1 && len(nodes[0].Types) == 3
	})
	st := l.plane.Status()
	if st.Ready || len(st.Problems) == 0 || st.Problems[0].Effect != effectHeld {
		t.Errorf("status %+v", st)
	}
	r.mu.Lock()
	if r.calls != 0 {
		t.Error("something was served: a sidecar would take what is missing for removed")
	}
	r.mu.Unlock()
	l.write("b.yaml", fmt.Sprintf(policyYAML, "b", "agents", "x"))
	eventually(t, "both", r.has(AgentPolicyType, "agents/a", "agents/b"))

	// Once it serves, a file that was never good contributes nothing.
	l.write("c.yaml", "kind: AgentPolicy\n")
	eventually(t, "the problem", func() bool { p := l.plane.Status().Problems; return len(p) > 0 && p[0].Effect == effectNone })
	l.write("d.yaml", fmt.Sprintf(policyYAML, "d", "agents", "x"))
	eventually(t, "the rest goes on", r.has(AgentPolicyType, "agents/a", "agents/b", "agents/d"))
}

func TestUnknownTypeDoesNotEndTheStream(t *testing.T) {
	l := newLab(t, nil)
	l.write("a.yaml", fmt.Sprintf(policyYAML, "a", "agents", "x"))
	l.start()
	r := l.client("agents", "planner", func(c *xds.Config) {
		c.Types = []xds.Type{{URL: "type.googleapis.com/envoy.config.core.v3.TypedExtensionConfig", Names: []string{"x"}}, {URL: AgentPolicyType}}
	})
	eventually(t, "the known type", r.has(AgentPolicyType, "agents/a"))
	l.write("a.yaml", fmt.Sprintf(policyYAML, "b", "agents", "x"))
	eventually(t, "the change on the same stream", r.has(AgentPolicyType, "agents/b"))
	if n := len(l.plane.Status().Nodes); n != 1 {
		t.Errorf("%d streams", n)
	}
}

func TestOnDemandAnswersEveryName(t *testing.T) {
	l := newLab(t, nil)
	svc := "apiVersion: outrigger.dev/v1alpha1\nkind: Service\nmetadata: {name: github, namespace: tools}\nspec: {addresses: [10.96.0.50], ports: [{servicePort: 80, targetPort: 8080}]}\n---\n"
	member := "apiVersion: outrigger.dev/v1alpha1\nkind: Workload\nmetadata: {name: gh, namespace: tools}\nspec:\n  addresses: [10.1.0.7]\n  services: {tools/github.tools.svc.cluster.local: {ports: [{servicePort: 80, targetPort: 8080}]}}\n---\n"
	l.write("mesh.yaml", fmt.Sprintf(workloadYAML, "planner", "agents", "10.1.0.5")+svc+member)
	l.start()
	r := l.client("agents", "planner", func(c *xds.Config) { c.Types = []xds.Type{{URL: AddressType, OnDemand: true}} })
	eventually(t, "the empty first answer", func() bool { return r.client.Status().Types[0].Synced })
	if n := r.client.Status().Types[0].Resources; n != 0 {
		t.Fatalf("%d resources came unasked", n)
	}
	const planner, gh, github = "Kubernetes//Pod/agents/planner", "Kubernetes//Pod/tools/gh", "tools/github.tools.svc.cluster.local"
	ask := func(name string) {
		t.Helper()
		if err := r.client.Subscribe(AddressType, name); err != nil {
			t.Fatal(err)
		}
	}
	ask("/10.1.0.5")
	eventually(t, "the workload by address", r.has(AddressType, planner))
	ask("/10.96.0.50")
	eventually(t, "the service with its workload", r.has(AddressType, planner, gh, github))
	calls := func() int { r.mu.Lock(); defer r.mu.Unlock(); return r.calls }
	before := calls()
	ask("/10.9.9.9")
	eventually(t, "the negative answer", func() bool { return calls() == before+1 })
	l.write("mesh.yaml", fmt.Sprintf(workloadYAML, "planner", "agents", "10.1.0.5")+fmt.Sprintf(workloadYAML, "late", "agents", "10.9.9.9")+svc+member)
	eventually(t, "what was absent appears", r.has(AddressType, planner, gh, github, "Kubernetes//Pod/agents/late"))
}

// A sidecar asks for the same names again and again, and holds no more for that.
func TestNamesAreCountedOnce(t *testing.T) {
	s := &node{names: map[string]bool{}}
	begin := &discoveryv3.DeltaDiscoveryRequest{TypeUrl: AddressType, ResourceNamesSubscribe: []string{"a"}}
	end := &discoveryv3.DeltaDiscoveryRequest{TypeUrl: AddressType, ResourceNamesSubscribe: []string{"nothing"}, ResourceNamesUnsubscribe: []string{"a"}}
	for range maxNames + 1 {
		for _, r := range []*discoveryv3.DeltaDiscoveryRequest{begin, end} {
			if err := s.subscribe(r); err != nil {
				t.Fatal(err)
			}
		}
	}
	many := &discoveryv3.DeltaDiscoveryRequest{TypeUrl: AddressType}
	for i := range maxNames {
		many.ResourceNamesSubscribe = append(many.ResourceNamesSubscribe, fmt.Sprint(i))
	}
	if err := s.subscribe(many); status.Code(err) != codes.ResourceExhausted {
		t.Errorf("%d names: %v", len(s.names), err)
	}
}
