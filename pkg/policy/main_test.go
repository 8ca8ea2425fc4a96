package policy

import (
	"net/netip"
	"testing"

	"go.uber.org/goleak"

	"github.com/outrigger-mesh/outrigger/pkg/mesh"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

var (
	planner  = mesh.NewPrincipal("cluster.local", "agents", "planner")
	writer   = mesh.NewPrincipal("cluster.local", "agents", "writer")
	stranger = mesh.NewPrincipal("other.org", "agents", "planner")
	nobody   = mesh.Principal{}
)

// testSelf is the pod of tools/github, with its labels known.
func testSelf() *mesh.Self {
	return &mesh.Self{
		Principal: mesh.NewPrincipal("cluster.local", "tools", "github"),
		Name:      "github-1", Namespace: "tools",
		Addresses: []netip.Addr{netip.MustParseAddr("10.0.0.9")},
		Labels:    map[string]string{"app": "github", "tier": "gold"},
	}
}

func testWorkload(listed ...string) *mesh.Workload {
	return &mesh.Workload{
		Name: "github-1", Namespace: "tools", ServiceAccount: "github", TrustDomain: "cluster.local",
		Addresses:             []netip.Addr{netip.MustParseAddr("10.0.0.9")},
		AuthorizationPolicies: listed,
		Services: map[mesh.Name][]mesh.PortMapping{
			{Namespace: "tools", Hostname: "github.tools.svc.cluster.local"}: {{Service: 80, Target: 8080}},
		},
	}
}

func testConnection(source mesh.Principal) *Connection {
	return &Connection{
		Source:      source,
		SourceAddr:  netip.MustParseAddrPort("10.0.0.1:40000"),
		Destination: netip.MustParseAddrPort("10.0.0.9:8080"),
	}
}

func mustAuthorization(t testing.TB, s AuthorizationSpec) *Authorization {
	t.Helper()
	a, err := CompileAuthorization(s)
	if err != nil {
		t.Fatal(err)
	}
	return a
}

func mustAgent(t testing.TB, s AgentSpec) *Agent {
	t.Helper()
	a, err := CompileAgent(s)
	if err != nil {
		t.Fatal(err)
	}
	return a
}
