package policy

import (
	"errors"
	"strings"
	"testing"
)

func TestPoliciesSayWhatTheyAre(t *testing.T) {
	reason := errors.New("bad")
	s := one("a", ActionAllow)
	s.Version = "7"
	good, bad := mustAuthorization(t, s), QuarantineAuthorization("b", "tools", ScopeGlobal, reason)
	if good.Key() != "tools/a" || good.Version() != "7" || good.Quarantined() != nil || !errors.Is(bad.Quarantined(), reason) {
		t.Errorf("got %+v and %+v", good, bad)
	}
	agent, worse := mustAgent(t, agentSpec()), QuarantineAgent("q", "tools", reason, &AgentSpec{Version: "9"})
	if agent.Key() != "tools/p" || agent.Quarantined() != nil || worse.Version() != "9" || !errors.Is(worse.Quarantined(), reason) {
		t.Errorf("got %+v and %+v", agent, worse)
	}
	p := New(testSelf(), testWorkload(), []*Authorization{bad}, []*Agent{worse})
	for _, err := range p.Problems() {
		if !errors.Is(err, reason) {
			t.Errorf("%v does not unwrap", err)
		}
	}
}

func TestRootNamespaceAndClusterDomainAreConfigurable(t *testing.T) {
	self := testSelf()
	self.RootNamespace, self.ClusterDomain = "mesh", "example.org"
	s := agentSpec()
	s.Namespace = "mesh"
	short := agentSpec()
	short.Target.Services = []string{"github"}
	for name, c := range map[string]struct {
		spec AgentSpec
		want Protocol
	}{"root": {s, ProtocolMCP}, "domain": {short, ProtocolUndeclared}} {
		p := New(self, testWorkload(), nil, []*Agent{mustAgent(t, c.spec)})
		if got := p.Port(Inbound, at(8080)).Protocol; got != c.want {
			t.Errorf("%s: got %v, want %v", name, got, c.want)
		}
	}
}

func TestReasonOfAQuarantineIsOneShortLine(t *testing.T) {
	_, reason := CompileAgent(AgentSpec{Rules: []AgentRule{{Name: strings.Repeat("x", 2000)}, {}, {}}})
	p := New(testSelf(), testWorkload(), nil, []*Agent{QuarantineAgent("q", "tools", reason, nil)})
	d := p.Connect(testConnection(planner))
	if strings.Contains(d.Reason, "\n") || len(d.Reason) > 800 || !strings.Contains(d.Reason, "metadata.name") || !strings.Contains(d.Reason, "more problems") {
		t.Errorf("%d bytes: %q", len(d.Reason), d.Reason)
	}
}
