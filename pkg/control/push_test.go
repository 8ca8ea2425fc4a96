package control

import (
	"fmt"
	"strings"
	"testing"

	"github.com/outrigger-mesh/outrigger/pkg/xds"
)

// meshOf is a mesh of pods, a service for each fifteen of them, and some policies.
func meshOf(pods int) string {
	var b strings.Builder
	for i := range pods {
		fmt.Fprintf(&b, "apiVersion: outrigger.dev/v1alpha1\nkind: Workload\nmetadata: {name: pod-%d, namespace: ns-%d}\nspec:\n  addresses: [10.%d.%d.%d]\n  tunnelProtocol: HBONE\n  serviceAccount: sa-%d\n  node: node-%d\n  services: {ns-%[2]d/svc-%[8]d.ns-%[2]d.svc.cluster.local: {ports: [{servicePort: 80, targetPort: 8080}]}}\n---\n",
			i, i%20, i>>16&255, i>>8&255, i&255, i%50, i%100, i/15)
	}
	for i := range pods / 15 {
		fmt.Fprintf(&b, "apiVersion: outrigger.dev/v1alpha1\nkind: Service\nmetadata: {name: svc-%d, namespace: ns-%d}\nspec: {addresses: [10.200.%d.%d], ports: [{servicePort: 80, targetPort: 8080}]}\n---\n", i, i%20, i>>8, i&255)
	}
	b.WriteString(fmt.Sprintf(denyYAML, "mtls", "istio-system"))
	return b.String()
}

const manyPods = 3000

func TestSeveralSidecarsAndThreeThousandPods(t *testing.T) {
	l := newLab(t, nil)
	l.write("mesh.yaml", meshOf(manyPods))
	l.write("policy.yaml", fmt.Sprintf(policyYAML, "p", "agents", "x"))
	l.start()
	var replicas []*replica
	for range 4 {
		replicas = append(replicas, l.client("agents", "planner", nil))
	}
	for _, r := range replicas {
		eventually(t, "the whole mesh", func() bool { return len(r.snapshot(AddressType)) == manyPods+manyPods/15 })
		eventually(t, "the policy", r.has(AgentPolicyType, "agents/p"))
	}
	before := replicas[0].snapshot(AgentPolicyType)
	l.write("policy.yaml", fmt.Sprintf(policyYAML, "p", "agents", "y"))
	for _, r := range replicas {
		eventually(t, "the change", func() bool { return r.snapshot(AgentPolicyType)["agents/p"] != before["agents/p"] })
	}
}

// From the file to tables that can be served.
func BenchmarkRead(b *testing.B) {
	yaml := meshOf(manyPods)
	b.ReportAllocs()
	b.SetBytes(int64(len(yaml)))
	for b.Loop() {
		tables(b, yaml)
	}
}

// From tables to one sidecar that holds nothing, over TLS, until it has acknowledged.
func BenchmarkFullPush(b *testing.B) {
	l := newLab(b, nil)
	l.write("mesh.yaml", meshOf(manyPods))
	l.start()
	eventually(b, "ready", func() bool { return l.plane.Status().Ready })
	b.ReportAllocs()
	for b.Loop() {
		r := l.client("agents", "planner", func(c *xds.Config) { c.Types = []xds.Type{{URL: AddressType}} })
		eventually(b, "the mesh", func() bool { return r.client.Status().Types[0].Resources == manyPods+manyPods/15 })
	}
}

// One changed workload, from the tables to what a connected sidecar is sent.
func BenchmarkOneChange(b *testing.B) {
	all := tables(b, meshOf(manyPods))[AddressType]
	c := newCache("istio-system")
	has := map[string]string{}
	for name, r := range all.resources {
		has[name] = r.Version
	}
	has["Kubernetes//Pod/ns-0/pod-0"] = "old"
	w := &deltaWatch{sub: held(has)}
	b.ReportAllocs()
	for b.Loop() {
		if d := c.compare(w, all); len(d.updated) != 1 || len(d.removed) != 0 {
			b.Fatal("compares wrongly")
		}
	}
}

// held is a wildcard subscription that has had these versions.
type held map[string]string

func (h held) ReturnedResources() map[string]string     { return h }
func (h held) SubscribedResources() map[string]struct{} { return nil }
func (h held) IsWildcard() bool                         { return true }
