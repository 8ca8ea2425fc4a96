package explain

import (
	"net/netip"
	"strings"
	"testing"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"
	"go.uber.org/goleak"

	"github.com/outrigger-mesh/outrigger/pkg/admin"
	"github.com/outrigger-mesh/outrigger/pkg/mesh"
	"github.com/outrigger-mesh/outrigger/pkg/route"
	"github.com/outrigger-mesh/outrigger/pkg/sidecar"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

var (
	planner = mesh.NewPrincipal("cluster.local", "agents", "planner")
	intern  = mesh.NewPrincipal("cluster.local", "agents", "intern")
)

// world is what a sidecar of tools/github knew: itself, an agent, and a service with
// two endpoints of which one is behind a waypoint that is not known.
func world(t *testing.T, change func(*admin.Dump)) *World {
	t.Helper()
	config := sidecar.DefaultConfig()
	config.Workload.Name, config.Workload.Namespace, config.Workload.ServiceAccount = "github-0", "tools", "github"
	config.Workload.Addresses = []string{"10.1.0.1"}
	config.Discovery.Wildcard = true
	config.Inbound.MCPPorts = []string{"9377"}
	config.Identity.FederatedBundles = map[string]string{"partner": "partner.pem"}
	svc := mesh.Name{Namespace: "agents", Hostname: "planner.agents.svc.cluster.local"}
	address := func(text string) []netip.Addr { return []netip.Addr{netip.MustParseAddr(text)} }
	workloads := []*mesh.Workload{
		{UID: "self", Name: "github-0", Namespace: "tools", ServiceAccount: "github", TrustDomain: "cluster.local", Addresses: address("10.1.0.1"), Tunnel: mesh.TunnelHBONE, Capacity: 1},
		{UID: "agent", Name: "planner-0", Namespace: "agents", ServiceAccount: "planner", TrustDomain: "cluster.local", Addresses: address("10.1.0.2"), Tunnel: mesh.TunnelHBONE, Capacity: 1,
			Services: map[mesh.Name][]mesh.PortMapping{svc: {{Service: 80, Target: 8080}}}},
		{UID: "behind", Name: "behind-0", Namespace: "agents", ServiceAccount: "behind", TrustDomain: "cluster.local", Addresses: address("10.1.0.3"), Tunnel: mesh.TunnelHBONE, Capacity: 1,
			Waypoint: &mesh.GatewayAddress{Hostname: mesh.Name{Namespace: "agents", Hostname: "gone"}}},
	}
	services := []*mesh.Service{{Name: "planner", Namespace: "agents", Hostname: svc.Hostname, Ports: []mesh.PortMapping{{Service: 80, Target: 8080}}}}
	d := admin.Dump{
		Workloads: admin.Workloads(workloads), Services: admin.Services(services, workloads), Config: config,
		Policies: []admin.Policy{
			{Name: "strict", Namespace: "istio-system", Spec: jsontext.Value(`{"scope":"GLOBAL","action":"DENY","groups":[{"rules":[{"matches":[{"notPrincipals":[{"presence":{}}]}]}]}]}`)},
			{Name: "no-intern", Namespace: "tools", Spec: jsontext.Value(`{"scope":"NAMESPACE","action":"DENY","groups":[{"rules":[{"matches":[{"principals":[{"exact":"cluster.local/ns/agents/sa/intern"}]}]}]}]}`)},
			{Name: "not-from-tools", Namespace: "agents", Spec: jsontext.Value(`{"scope":"NAMESPACE","action":"DENY","groups":[{"rules":[{"matches":[{"namespaces":[{"exact":"tools"}]}]}]}]}`)},
		},
		AgentPolicies: []admin.Policy{{Name: "github", Namespace: "tools", Spec: jsontext.Value(
			`{"ports":[{"number":9000,"protocol":"MCP"}],"rules":[{"name":"reads","action":"Allow","source":{"serviceAccounts":[{"namespace":"agents","name":"planner"}]},"mcp":{"tools":["get_*"]}}]}`)}},
	}
	if change != nil {
		change(&d)
	}
	text, err := json.Marshal(d)
	if err != nil {
		t.Fatal(err)
	}
	w, err := Load(strings.NewReader(string(text)))
	if err != nil {
		t.Fatal(err)
	}
	return w
}

func TestInboundNamesWhoRefuses(t *testing.T) {
	w := world(t, nil)
	for _, c := range []struct {
		peer    mesh.Principal
		port    uint16
		allowed bool
		says    string
	}{
		{planner, 9000, true, "the port speaks MCP"},
		{planner, 9001, true, "none lists the port"},
		{intern, 9000, false, "tools/no-intern"},
		{mesh.Principal{}, 9000, false, "istio-system/strict"},
		{mesh.NewPrincipal("elsewhere", "agents", "planner"), 9000, false, "refused by TLS"},
		{mesh.NewPrincipal("partner", "agents", "planner"), 9000, true, "MCP"},
		{planner, 9377, false, "inbound.mcpPorts"},
	} {
		a := w.Inbound(c.peer, netip.Addr{}, c.port)
		if text := strings.Join(a.Lines, "\n"); a.Allowed != c.allowed || !a.Certain || !strings.Contains(text, c.says) {
			t.Errorf("%v to %d: %+v", c.peer, c.port, a)
		}
	}
}

func TestOutboundNamesTheWayAndWhoRefuses(t *testing.T) {
	w := world(t, nil)
	for _, c := range []struct {
		to      string
		allowed bool
		says    []string
	}{
		{"planner.agents:80", false, []string{"HBONE to 10.1.0.2:15008, CONNECT 10.1.0.2:8080", planner.String(), "the receiver, agent", "agents/not-from-tools"}},
		{"10.1.0.1:80", true, []string{"the receiver, self", "tunnel"}},
		{"10.1.0.3:80", false, []string{"refused here", "waypoint"}},
		{"10.9.9.9:80", false, []string{"refused here", "unknown destinations are refused"}},
		{"nobody.agents:80", false, []string{"refused here", "no service"}},
	} {
		d := route.Destination{Port: 80}
		if address, err := netip.ParseAddrPort(c.to); err == nil {
			d = route.Destination{Address: address}
		} else {
			d.Hostname, _, _ = strings.Cut(c.to, ":")
		}
		a := w.Outbound(d)
		text := strings.Join(a.Lines, "\n")
		for _, says := range c.says {
			if !strings.Contains(text, says) {
				t.Errorf("to %s: %q is missing in %s", c.to, says, text)
			}
		}
		if a.Allowed != c.allowed {
			t.Errorf("to %s: allowed %v: %s", c.to, a.Allowed, text)
		}
	}
}

func TestWhatIsLeftAloneIsSaidAndNotChosen(t *testing.T) {
	svc := mesh.Name{Namespace: "agents", Hostname: "planner.agents.svc.cluster.local"}
	w := world(t, func(d *admin.Dump) {
		other := &mesh.Workload{UID: "another", Name: "planner-1", Namespace: "agents", ServiceAccount: "planner", TrustDomain: "cluster.local", Capacity: 1000,
			Addresses: []netip.Addr{netip.MustParseAddr("10.1.0.4")}, Tunnel: mesh.TunnelHBONE, Services: map[mesh.Name][]mesh.PortMapping{svc: {{Service: 80, Target: 8080}}}}
		d.Workloads = append(d.Workloads, admin.Workloads([]*mesh.Workload{other})...)
		d.Ejections = []admin.Ejection{{WorkloadUID: "another", Until: "2026-11-25T12:00:00Z", Failures: 5, Problem: "connection refused"}}
	})
	text := strings.Join(w.Outbound(route.Destination{Hostname: "planner.agents", Port: 80}).Lines, "\n")
	for _, says := range []string{"one of 2 endpoints, here agent", "left alone: another until 2026-11-25T12:00:00Z", "5 connections failed, the last: connection refused"} {
		if !strings.Contains(text, says) {
			t.Errorf("%q is missing in %s", says, text)
		}
	}
}

func TestWhatWasNotAskedForIsNotSaidToBeRefused(t *testing.T) {
	w := world(t, func(d *admin.Dump) {
		config := d.Config.(sidecar.Config)
		config.Discovery.Wildcard = false
		d.Config = config
	})
	a := w.Outbound(route.Destination{Hostname: "other.tools", Port: 80})
	if text := strings.Join(a.Lines, "\n"); a.Certain || !strings.Contains(text, "not known here") || strings.Contains(text, "refused") {
		t.Errorf("%+v", a)
	}
}

func TestARecordedCallIsDecidedAgain(t *testing.T) {
	w := world(t, nil)
	const record = `{"time":"2026-11-25T12:00:00Z","event":"call","direction":"inbound","source":{"identity":"spiffe://cluster.local/ns/agents/sa/planner","address":"10.1.0.2:4000"},` +
		`"destination":{"identity":"spiffe://cluster.local/ns/tools/sa/github","namespace":"tools","workload":"github-0","address":"10.1.0.1:9000"},` +
		`"mcp":{"protocol":"2025-11-25","method":"tools/call","kind":"tool","name":"NAME","id":1},"request":{"port":9000,"method":"POST","path":"/mcp","host":"h"},` +
		`"decision":{"allowed":ALLOWED,"reason":"so it was"}}`
	for name, allowed := range map[string]bool{"get_issue": true, "delete": false} {
		line := strings.NewReplacer("NAME", name, "ALLOWED", "true").Replace(record)
		a, err := w.Call([]byte(line))
		if err != nil {
			t.Fatal(err)
		}
		if text := strings.Join(a.Lines, "\n"); a.Allowed != allowed || !a.Certain || !*a.Recorded || !strings.Contains(text, "tools/github rule reads (Allow): acts") {
			t.Errorf("%s: %+v", name, a)
		} else if doubled := strings.Contains(text, "denied: denied") || strings.Contains(text, "allowed: denied"); doubled || !allowed && !strings.Contains(text, "now: denied because no rule") {
			t.Errorf("%s: the verdict is said twice or not at all: %s", name, text)
		} else if near := strings.Contains(text, "nearest: tools/github rule reads would allow it but for: object"); near == allowed {
			t.Errorf("%s: the nearest rule is said: %v: %s", name, near, text)
		}
	}
	unnamed := strings.NewReplacer("tools/call", "tools/list", `"kind":"tool","name":"NAME",`, "", "ALLOWED", "true").Replace(record)
	if a, err := w.Call([]byte(unnamed)); err != nil || !strings.Contains(strings.Join(a.Lines, "\n"), "\ntools/list by spiffe://") {
		t.Errorf("a call of no object gave %+v, %v", a, err)
	}
	if _, err := w.Call([]byte(`{"event":"connection"}`)); err != ErrNotACall {
		t.Errorf("a connection's record gave %v", err)
	}
}

func TestWhatIsMissingInADumpIsSaid(t *testing.T) {
	w := world(t, func(d *admin.Dump) {
		d.Pending = []string{"agent policies"}
		d.Policies = append(d.Policies, admin.Policy{Name: "bad", Namespace: "tools", Problem: "it was never good"})
		d.AgentPolicies = append(d.AgentPolicies, admin.Policy{Name: "wrong", Namespace: "tools", Spec: jsontext.Value(`{"direction":"Sideways"}`)})
		d.Workloads[0].WorkloadIPs = []string{"nowhere"}
	})
	a := w.Inbound(planner, netip.Addr{}, 9000)
	if text := strings.Join(a.Lines, "\n"); a.Allowed || a.Certain || !strings.Contains(text, "agent policies") || !strings.Contains(text, "it was never good") || !strings.Contains(text, "nowhere") ||
		!strings.Contains(text, "AgentPolicy tools/wrong: ") || !strings.Contains(text, "Sideways") {
		t.Errorf("%+v", a)
	}
	for _, text := range []string{"", "{}", "[]", `{"config":3}`, `{"config":{}}`} {
		if _, err := Load(strings.NewReader(text)); err == nil {
			t.Errorf("%q was read", text)
		}
	}
}

func FuzzLoad(f *testing.F) {
	f.Add([]byte(`{"workloads":[{"uid":"a","workloadIps":["10.0.0.1"]}],"services":[{"namespace":"a","hostname":"b","vips":["/10.0.0.2"],"ports":{"80":1}}],"config":{"workload":{"name":"n","namespace":"a","serviceAccount":"s","trustDomain":"t"}}}`))
	f.Fuzz(func(t *testing.T, text []byte) {
		w, err := Load(strings.NewReader(string(text)))
		if err != nil {
			return
		}
		w.Inbound(planner, netip.Addr{}, 80)
		w.Outbound(route.Destination{Address: netip.MustParseAddrPort("10.0.0.2:80")})
	})
}
