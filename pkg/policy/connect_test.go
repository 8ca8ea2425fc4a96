package policy

import (
	"errors"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"github.com/outrigger-mesh/outrigger/pkg/mesh"
)

func exact(values ...string) []StringMatch { return stringMatches(MatchExact, values) }

func stringMatches(k MatchKind, values []string) []StringMatch {
	var out []StringMatch
	for _, v := range values {
		out = append(out, StringMatch{k, v})
	}
	return out
}

// one is a policy with one group of one rule.
func one(name string, action Action, matches ...AuthorizationMatch) AuthorizationSpec {
	return AuthorizationSpec{Name: name, Namespace: "tools", Scope: ScopeNamespace, Action: action,
		Groups: []AuthorizationGroup{{Rules: []AuthorizationRule{{Matches: matches}}}}}
}

func cidr(s string) []AddressRange {
	p := netip.MustParsePrefix(s)
	return []AddressRange{{p.Addr().AsSlice(), uint32(p.Bits())}}
}

// TestMatchSemantics asks one Allow policy with one match.
func TestMatchSemantics(t *testing.T) {
	const plannerID = "cluster.local/ns/agents/sa/planner"
	for _, c := range []struct {
		name   string
		match  AuthorizationMatch
		source mesh.Principal
		want   bool
	}{
		{"an empty match never matches", AuthorizationMatch{}, planner, false},
		{"principal exact", AuthorizationMatch{Principals: exact(plannerID)}, planner, true},
		{"principal of another trust domain", AuthorizationMatch{Principals: exact(plannerID)}, stranger, false},
		{"principal with its scheme", AuthorizationMatch{Principals: exact("spiffe://" + plannerID)}, planner, false},
		{"principal that is no SPIFFE ID", AuthorizationMatch{Principals: exact("*")}, planner, false},
		{"principal prefix inside the trust domain", AuthorizationMatch{Principals: stringMatches(MatchPrefix, []string{"cluster.l"})}, planner, true},
		{"principal prefix into the path", AuthorizationMatch{Principals: stringMatches(MatchPrefix, []string{"cluster.local/ns/agents/"})}, planner, true},
		{"principal prefix of another trust domain", AuthorizationMatch{Principals: stringMatches(MatchPrefix, []string{"clusterXlocal/ns/agents/"})}, planner, false},
		{"principal suffix of another trust domain", AuthorizationMatch{Principals: stringMatches(MatchSuffix, []string{"Xlocal/ns/agents/sa/planner"})}, planner, false},
		{"principal prefix that differs", AuthorizationMatch{Principals: stringMatches(MatchPrefix, []string{"cluster.local/ns/other"})}, planner, false},
		{"principal suffix in the path", AuthorizationMatch{Principals: stringMatches(MatchSuffix, []string{"/planner"})}, planner, true},
		{"principal suffix into the trust domain", AuthorizationMatch{Principals: stringMatches(MatchSuffix, []string{"local/ns/agents/sa/planner"})}, planner, true},
		{"principal suffix longer than it", AuthorizationMatch{Principals: stringMatches(MatchSuffix, []string{"x" + plannerID})}, planner, false},
		{"principal present", AuthorizationMatch{Principals: stringMatches(MatchPresence, []string{""})}, planner, true},
		{"nobody is not present", AuthorizationMatch{Principals: stringMatches(MatchPresence, []string{""})}, nobody, false},
		{"nobody passes negatives", AuthorizationMatch{NotPrincipals: stringMatches(MatchPresence, []string{""})}, nobody, true},
		{"any of a list", AuthorizationMatch{Principals: exact("a/b", plannerID)}, planner, true},
		{"none of a negative list", AuthorizationMatch{NotPrincipals: exact("a/b", plannerID)}, planner, false},
		{"positive and negative", AuthorizationMatch{Namespaces: exact("agents"), NotPrincipals: exact(plannerID)}, planner, false},
		{"positive and other negative", AuthorizationMatch{Namespaces: exact("agents"), NotPrincipals: exact(plannerID)}, writer, true},
		{"namespace of any trust domain", AuthorizationMatch{Namespaces: exact("agents")}, stranger, true},
		{"service account of any trust domain", AuthorizationMatch{ServiceAccounts: []ServiceAccount{{"agents", "planner"}}}, stranger, true},
		{"another service account", AuthorizationMatch{ServiceAccounts: []ServiceAccount{{"agents", "planner"}}}, writer, false},
		{"not a service account", AuthorizationMatch{NotServiceAccounts: []ServiceAccount{{"agents", "planner"}}}, writer, true},
		{"source range", AuthorizationMatch{SourceIPs: cidr("10.0.0.0/24")}, planner, true},
		{"source range, mapped", AuthorizationMatch{SourceIPs: cidr("::ffff:10.0.0.0/120")}, planner, true},
		{"source outside", AuthorizationMatch{SourceIPs: cidr("10.1.0.0/16")}, planner, false},
		{"not source range", AuthorizationMatch{NotSourceIPs: cidr("10.0.0.0/24")}, planner, false},
		{"destination range", AuthorizationMatch{DestinationIPs: cidr("10.0.0.9/32")}, planner, true},
		{"not destination range", AuthorizationMatch{NotDestinationIPs: cidr("0.0.0.0/0")}, planner, false},
		{"port that is dialled", AuthorizationMatch{DestinationPorts: []uint32{80, 8080}}, planner, true},
		{"another port", AuthorizationMatch{DestinationPorts: []uint32{80}}, planner, false},
		{"not a port", AuthorizationMatch{NotDestinationPorts: []uint32{8080}}, planner, false},
		{"two types, one does not match", AuthorizationMatch{Namespaces: exact("agents"), DestinationPorts: []uint32{80}}, planner, false},
		{"an unknown condition is not fulfilled", AuthorizationMatch{Namespaces: exact("agents"), Unknown: "field 99"}, planner, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			p := New(testSelf(), testWorkload(), []*Authorization{mustAuthorization(t, one("a", ActionAllow, c.match))}, nil)
			if d := p.Connect(testConnection(c.source)); d.Allowed != c.want {
				t.Errorf("allowed = %v, want %v: %s", d.Allowed, c.want, d.Reason)
			}
		})
	}
}

func TestGroupsAndRules(t *testing.T) {
	yes := AuthorizationMatch{Namespaces: exact("agents")}
	no := AuthorizationMatch{Namespaces: exact("other")}
	rule := func(m ...AuthorizationMatch) AuthorizationRule { return AuthorizationRule{Matches: m} }
	group := func(r ...AuthorizationRule) AuthorizationGroup { return AuthorizationGroup{Rules: r} }
	for _, c := range []struct {
		name   string
		groups []AuthorizationGroup
		want   bool
		rule   string
	}{
		{"no group never matches", nil, false, ""},
		{"an empty group matches all", []AuthorizationGroup{group()}, true, "rules[0]"},
		{"an empty rule matches all", []AuthorizationGroup{group(rule())}, true, "rules[0]"},
		{"groups are alternatives", []AuthorizationGroup{group(rule(no)), group(rule(yes))}, true, "rules[1]"},
		{"rules all match", []AuthorizationGroup{group(rule(yes), rule(no))}, false, ""},
		{"matches are alternatives", []AuthorizationGroup{group(rule(no, yes))}, true, "rules[0]"},
		{"an empty match beside one that does not match", []AuthorizationGroup{group(rule(no, AuthorizationMatch{}))}, false, ""},
		{"an empty match beside one that matches", []AuthorizationGroup{group(rule(AuthorizationMatch{}, yes))}, true, "rules[0]"},
		{"an unknown rule is not fulfilled", []AuthorizationGroup{group(rule(yes), AuthorizationRule{Unknown: "field 3"})}, false, ""},
		{"an unknown group is not fulfilled", []AuthorizationGroup{{Unknown: "field 3"}}, false, ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := AuthorizationSpec{Name: "a", Namespace: "tools", Version: "7", Scope: ScopeNamespace, Action: ActionAllow, Groups: c.groups}
			d := New(testSelf(), testWorkload(), []*Authorization{mustAuthorization(t, s)}, nil).Connect(testConnection(planner))
			if d.Allowed != c.want || d.Rule != c.rule {
				t.Errorf("got %v by %q, want %v by %q", d.Allowed, d.Rule, c.want, c.rule)
			}
			if c.want && (d.Policy != "tools/a" || d.Version != "7") {
				t.Errorf("decision names policy %q version %q", d.Policy, d.Version)
			}
		})
	}
}

func TestUnknownMakesDenyPoliciesWider(t *testing.T) {
	other := AuthorizationMatch{Namespaces: exact("other")}
	for _, c := range []struct {
		name string
		spec AuthorizationSpec
		want bool // allowed
	}{
		{"beside a condition that does not hold", one("a", ActionDeny, AuthorizationMatch{Namespaces: exact("other"), Unknown: "field 99"}), true},
		{"beside a condition that holds", one("a", ActionDeny, AuthorizationMatch{Namespaces: exact("agents"), Unknown: "field 99"}), false},
		{"alone in a match", one("a", ActionDeny, AuthorizationMatch{Unknown: "extension x"}), false},
		{"in a rule", AuthorizationSpec{Name: "a", Namespace: "tools", Scope: ScopeNamespace, Action: ActionDeny,
			Groups: []AuthorizationGroup{{Rules: []AuthorizationRule{{Matches: []AuthorizationMatch{other}, Unknown: "field 3"}}}}}, false},
		{"in the policy", AuthorizationSpec{Name: "a", Namespace: "tools", Scope: ScopeNamespace, Action: ActionDeny, Unknown: "field 9"}, false},
		{"in an Allow policy", AuthorizationSpec{Name: "a", Namespace: "tools", Scope: ScopeNamespace, Action: ActionAllow,
			Groups: []AuthorizationGroup{{}}, Unknown: "field 9"}, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			p := New(testSelf(), testWorkload(), []*Authorization{mustAuthorization(t, c.spec)}, nil)
			if d := p.Connect(testConnection(planner)); d.Allowed != c.want {
				t.Errorf("allowed = %v, want %v: %s", d.Allowed, c.want, d.Reason)
			}
		})
	}
}

func TestCombination(t *testing.T) {
	all := AuthorizationMatch{NotNamespaces: exact("nowhere")}
	none := AuthorizationMatch{Namespaces: exact("nowhere")}
	scoped := func(s AuthorizationSpec, scope Scope, namespace string) AuthorizationSpec {
		s.Scope, s.Namespace = scope, namespace
		return s
	}
	dry := func(s AuthorizationSpec) AuthorizationSpec { s.DryRun = true; return s }
	for _, c := range []struct {
		name     string
		specs    []AuthorizationSpec
		listed   []string
		want     bool
		policy   string
		audits   []string
		problems int
	}{
		{name: "no policy allows", want: true},
		{name: "deny beats allow", specs: []AuthorizationSpec{one("a", ActionAllow, all), one("b", ActionDeny, all)}, policy: "tools/b"},
		{name: "deny that does not match", specs: []AuthorizationSpec{one("b", ActionDeny, none)}, want: true},
		{name: "allow that does not match", specs: []AuthorizationSpec{one("a", ActionAllow, none)}},
		{name: "one of two allows", specs: []AuthorizationSpec{one("a", ActionAllow, none), one("b", ActionAllow, all)}, want: true, policy: "tools/b"},
		{name: "global", specs: []AuthorizationSpec{scoped(one("a", ActionDeny, all), ScopeGlobal, "istio-system")}, policy: "istio-system/a"},
		{name: "another namespace", specs: []AuthorizationSpec{scoped(one("a", ActionDeny, all), ScopeNamespace, "other")}, want: true},
		{name: "workload, not listed", specs: []AuthorizationSpec{scoped(one("a", ActionDeny, all), ScopeWorkload, "tools")}, want: true},
		{name: "workload, listed", specs: []AuthorizationSpec{scoped(one("a", ActionDeny, all), ScopeWorkload, "tools")}, listed: []string{"tools/a"}, policy: "tools/a"},
		{name: "workload, listed from another namespace", specs: []AuthorizationSpec{scoped(one("strict", ActionDeny, all), ScopeWorkload, "istio-system")}, listed: []string{"istio-system/strict"}, policy: "istio-system/strict"},
		{name: "listed and missing", specs: []AuthorizationSpec{one("a", ActionAllow, all)}, listed: []string{"tools/gone"}, problems: 1},
		{name: "dry-run deny only records", specs: []AuthorizationSpec{dry(one("a", ActionDeny, all))}, want: true, audits: []string{"tools/a rules[0]"}},
		{name: "dry-run allow does not close", specs: []AuthorizationSpec{dry(one("a", ActionAllow, none))}, want: true},
		{name: "first by name decides", specs: []AuthorizationSpec{one("b", ActionDeny, all), one("a", ActionDeny, all)}, policy: "tools/a"},
	} {
		t.Run(c.name, func(t *testing.T) {
			var compiled []*Authorization
			for _, s := range c.specs {
				compiled = append(compiled, mustAuthorization(t, s))
			}
			p := New(testSelf(), testWorkload(c.listed...), compiled, nil)
			d := p.Connect(testConnection(planner))
			if d.Allowed != c.want || d.Policy != c.policy {
				t.Errorf("got %v by %q, want %v by %q: %s", d.Allowed, d.Policy, c.want, c.policy, d.Reason)
			}
			var audits []string
			for _, a := range d.Audits {
				audits = append(audits, a.Policy+" "+a.Rule)
			}
			if !slices.Equal(audits, c.audits) {
				t.Errorf("audits = %q, want %q", audits, c.audits)
			}
			if len(p.Problems()) != c.problems || d.Reason == "" {
				t.Errorf("problems = %v, reason = %q", p.Problems(), d.Reason)
			}
		})
	}
}

func TestStrictMutualTLSPolicyOfIstio(t *testing.T) {
	strict := AuthorizationSpec{Name: "istio_converted_static_strict", Namespace: "istio-system", Scope: ScopeWorkload, Action: ActionDeny,
		Groups: []AuthorizationGroup{{Rules: []AuthorizationRule{{Matches: []AuthorizationMatch{{NotPrincipals: []StringMatch{{Kind: MatchPresence}}}}}}}}}
	p := New(testSelf(), testWorkload("istio-system/istio_converted_static_strict"), []*Authorization{mustAuthorization(t, strict)}, nil)
	if p.Connect(testConnection(nobody)).Allowed || !p.Connect(testConnection(planner)).Allowed {
		t.Error("strict mTLS does not tell who is authenticated")
	}
}

func TestNothingKnownDenies(t *testing.T) {
	var none *Policies
	if none.Connect(testConnection(planner)).Allowed || none.Call(&Call{}).Allowed || none.Visible(&Call{}, Object{}).Allowed {
		t.Error("nil policies allow")
	}
	if none.Port(Inbound, Destination{}).Protocol != ProtocolMCP || none.Problems() != nil {
		t.Error("nil policies leave a port undeclared")
	}
	p := New(testSelf(), nil, nil, nil)
	if d := p.Connect(testConnection(planner)); d.Allowed || len(p.Problems()) != 1 {
		t.Errorf("a workload that the mesh has not told of is open: %+v", d)
	}
	out := testConnection(planner)
	out.Direction = Outbound
	if d := p.Connect(out); !d.Allowed {
		t.Errorf("outbound is for the receiver: %s", d.Reason)
	}
}

func TestCompileAuthorizationRejects(t *testing.T) {
	bad := func(m AuthorizationMatch) AuthorizationSpec { return one("a", ActionAllow, m) }
	for field, s := range map[string]AuthorizationSpec{
		"scope":     {Name: "a", Namespace: "n", Action: ActionAllow},
		"action":    {Name: "a", Namespace: "n", Scope: ScopeNamespace},
		"name":      {Namespace: "n", Scope: ScopeNamespace, Action: ActionAllow},
		"namespace": {Name: "a", Scope: ScopeNamespace, Action: ActionAllow},
		"groups[0].rules[0].matches[0].principals[0]":            bad(AuthorizationMatch{Principals: []StringMatch{{}}}),
		"groups[0].rules[0].matches[0].not_principals[0]":        bad(AuthorizationMatch{NotPrincipals: exact("")}),
		"groups[0].rules[0].matches[0].namespaces[1]":            bad(AuthorizationMatch{Namespaces: exact("a", "")}),
		"groups[0].rules[0].matches[0].service_accounts[0]":      bad(AuthorizationMatch{ServiceAccounts: []ServiceAccount{{"", "x"}}}),
		"groups[0].rules[0].matches[0].source_ips[0]":            bad(AuthorizationMatch{SourceIPs: []AddressRange{{[]byte{1, 2, 3}, 8}}}),
		"groups[0].rules[0].matches[0].not_destination_ips[0]":   bad(AuthorizationMatch{NotDestinationIPs: []AddressRange{{[]byte{1, 2, 3, 4}, 33}}}),
		"groups[0].rules[0].matches[0].destination_ports[0]":     bad(AuthorizationMatch{DestinationPorts: []uint32{65536}}),
		"groups[0].rules[0].matches[0].not_destination_ports[0]": bad(AuthorizationMatch{NotDestinationPorts: []uint32{1 << 31}}),
	} {
		_, err := CompileAuthorization(s)
		all := Problems(err)
		if len(all) != 1 || all[0].Field != field || all[0].Remedy == "" {
			t.Errorf("%s: got %v", field, err)
		}
	}
}

func TestQuarantinedAuthorizationDeniesItsScope(t *testing.T) {
	reason := errors.New("it has a port 70000")
	for _, c := range []struct {
		name, namespace string
		scope           Scope
		listed          []string
		want            bool // allowed
	}{
		{"global", "istio-system", ScopeGlobal, nil, false},
		{"own namespace", "tools", ScopeNamespace, nil, false},
		{"another namespace", "other", ScopeNamespace, nil, true},
		{"listed", "tools", ScopeWorkload, []string{"tools/a"}, false},
		{"not listed", "tools", ScopeWorkload, nil, true},
		{"unknown scope, own namespace", "tools", ScopeUnknown, nil, false},
		{"unknown scope, root namespace", "istio-system", ScopeUnknown, nil, false},
		{"unknown scope, another namespace", "other", ScopeUnknown, nil, true},
		{"unknown scope, another namespace, listed", "other", ScopeUnknown, []string{"other/a"}, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			allow := mustAuthorization(t, one("b", ActionAllow, AuthorizationMatch{Namespaces: exact("agents")}))
			p := New(testSelf(), testWorkload(c.listed...), []*Authorization{allow, QuarantineAuthorization("a", c.namespace, c.scope, reason)}, nil)
			d := p.Connect(testConnection(planner))
			if d.Allowed != c.want {
				t.Fatalf("allowed = %v, want %v: %s", d.Allowed, c.want, d.Reason)
			}
			var q *QuarantineError
			if !c.want && (!strings.Contains(d.Reason, c.namespace+"/a") || !strings.Contains(d.Reason, reason.Error()) ||
				len(p.Problems()) != 1 || !errors.As(p.Problems()[0], &q)) {
				t.Errorf("reason %q, problems %v", d.Reason, p.Problems())
			}
		})
	}
}
