package policy

import (
	"math/rand/v2"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"github.com/outrigger-mesh/outrigger/pkg/mesh"
)

// modelConnect is L4 authorization written down as naively as possible.
func modelConnect(specs []AuthorizationSpec, w *mesh.Workload, c *Connection) bool {
	for _, name := range w.AuthorizationPolicies {
		if !slices.ContainsFunc(specs, func(s AuthorizationSpec) bool { return s.Namespace+"/"+s.Name == name }) {
			return false
		}
	}
	allows, allowed := false, false
	for _, s := range specs {
		applies := s.Scope == ScopeGlobal || s.Scope == ScopeNamespace && s.Namespace == w.Namespace ||
			slices.Contains(w.AuthorizationPolicies, s.Namespace+"/"+s.Name)
		if !applies || s.DryRun {
			continue
		}
		matches := false
		for _, g := range s.Groups {
			matches = matches || modelGroup(g, s.Action, c)
		}
		if s.Unknown != "" {
			matches = s.Action == ActionDeny
		}
		if s.Action == ActionDeny && matches {
			return false
		}
		if s.Action == ActionAllow {
			allows, allowed = true, allowed || matches
		}
	}
	return !allows || allowed
}

func modelGroup(g AuthorizationGroup, action Action, c *Connection) bool {
	all := g.Unknown == "" || action == ActionDeny
	for _, r := range g.Rules {
		rule := len(r.Matches) == 0
		for _, m := range r.Matches {
			rule = rule || modelMatch(m, action, c)
		}
		if r.Unknown != "" {
			rule = action == ActionDeny
		}
		all = all && rule
	}
	return all
}

func modelMatch(m AuthorizationMatch, action Action, c *Connection) bool {
	conditions, result := 0, true
	check := func(n int, want, got bool) {
		if n > 0 {
			conditions++
			result = result && want == got
		}
	}
	anyString := func(list []StringMatch, s string) bool {
		return slices.ContainsFunc(list, func(m StringMatch) bool {
			switch m.Kind {
			case MatchExact:
				return s == m.Value
			case MatchPrefix:
				return strings.HasPrefix(s, m.Value)
			case MatchSuffix:
				return strings.HasSuffix(s, m.Value)
			}
			return s != ""
		})
	}
	anyAddress := func(list []AddressRange, a netip.Addr) bool {
		return slices.ContainsFunc(list, func(r AddressRange) bool {
			base, _ := netip.AddrFromSlice(r.Address)
			return netip.PrefixFrom(base, int(r.Length)).Contains(a)
		})
	}
	id := strings.TrimPrefix(c.Source.String(), "spiffe://")
	account := ServiceAccount{c.Source.Namespace(), c.Source.ServiceAccount()}
	check(len(m.Namespaces), true, anyString(m.Namespaces, account.Namespace))
	check(len(m.NotNamespaces), false, anyString(m.NotNamespaces, account.Namespace))
	check(len(m.ServiceAccounts), true, slices.Contains(m.ServiceAccounts, account))
	check(len(m.NotServiceAccounts), false, slices.Contains(m.NotServiceAccounts, account))
	check(len(m.Principals), true, anyString(m.Principals, id))
	check(len(m.NotPrincipals), false, anyString(m.NotPrincipals, id))
	check(len(m.SourceIPs), true, anyAddress(m.SourceIPs, c.SourceAddr.Addr()))
	check(len(m.NotSourceIPs), false, anyAddress(m.NotSourceIPs, c.SourceAddr.Addr()))
	check(len(m.DestinationIPs), true, anyAddress(m.DestinationIPs, c.Destination.Addr()))
	check(len(m.NotDestinationIPs), false, anyAddress(m.NotDestinationIPs, c.Destination.Addr()))
	check(len(m.DestinationPorts), true, slices.Contains(m.DestinationPorts, uint32(c.Destination.Port())))
	check(len(m.NotDestinationPorts), false, slices.Contains(m.NotDestinationPorts, uint32(c.Destination.Port())))
	if m.Unknown != "" {
		return result && action == ActionDeny
	}
	return result && conditions > 0
}

// A maker makes small random things, so that they often meet.
type maker struct{ *rand.Rand }

func (m maker) maybe(percent int) bool { return m.IntN(100) < percent }

func pick[T any](m maker, from ...T) T { return from[m.IntN(len(from))] }

func some[T any](m maker, percent int, one func() T) []T {
	var out []T
	for m.maybe(percent) && len(out) < 3 {
		out = append(out, one())
	}
	return out
}

func (m maker) principal() mesh.Principal {
	if m.maybe(10) {
		return mesh.Principal{}
	}
	if m.maybe(10) {
		p, _ := mesh.ParsePrincipal("spiffe://td/spire/agent")
		return p
	}
	return mesh.NewPrincipal(pick(m, "td", "td2"), pick(m, "a", "b"), pick(m, "x", "y"))
}

func (m maker) stringMatch(values ...string) func() StringMatch {
	return func() StringMatch {
		s := StringMatch{Kind: MatchKind(1 + m.IntN(4)), Value: pick(m, values...)}
		switch n := len(s.Value); {
		case s.Kind == MatchPrefix && m.maybe(60):
			s.Value = s.Value[:1+m.IntN(n)]
		case s.Kind == MatchSuffix && m.maybe(60):
			s.Value = s.Value[m.IntN(n):]
		case m.maybe(50):
			s.Kind = MatchExact
		}
		return s
	}
}

func (m maker) address() AddressRange {
	return AddressRange{[]byte{10, 0, 0, byte(m.IntN(4))}, uint32(pick(m, 8, 31, 32))}
}

func (m maker) unknown() string {
	return pick(m, "", "", "", "", "", "", "", "", "", "", "", "", "field 9")
}

func (m maker) match() AuthorizationMatch {
	ids := m.stringMatch("td/ns/a/sa/x", "td/ns/b/sa/y", "td2/ns/a/sa/x", "td/spire/agent", "odd")
	namespaces := m.stringMatch("a", "b")
	account := func() ServiceAccount { return ServiceAccount{pick(m, "a", "b"), pick(m, "x", "y")} }
	port := func() uint32 { return uint32(m.IntN(3)) }
	return AuthorizationMatch{
		Namespaces: some(m, 20, namespaces), NotNamespaces: some(m, 10, namespaces),
		ServiceAccounts: some(m, 20, account), NotServiceAccounts: some(m, 10, account),
		Principals: some(m, 25, ids), NotPrincipals: some(m, 10, ids),
		SourceIPs: some(m, 10, m.address), NotSourceIPs: some(m, 10, m.address),
		DestinationIPs: some(m, 10, m.address), NotDestinationIPs: some(m, 10, m.address),
		DestinationPorts: some(m, 20, port), NotDestinationPorts: some(m, 10, port),
		Unknown: m.unknown(),
	}
}

func (m maker) authorization(name string) AuthorizationSpec {
	return AuthorizationSpec{
		Name: name, Namespace: pick(m, "a", "b"), Scope: Scope(1 + m.IntN(3)),
		Action: pick(m, ActionAllow, ActionAllow, ActionDeny), DryRun: m.maybe(10), Unknown: m.unknown(),
		Groups: some(m, 70, func() AuthorizationGroup {
			return AuthorizationGroup{Unknown: m.unknown(), Rules: some(m, 70, func() AuthorizationRule {
				return AuthorizationRule{Unknown: m.unknown(), Matches: some(m, 70, m.match)}
			})}
		}),
	}
}

func (m maker) connection() *Connection {
	addr := func() netip.AddrPort {
		return netip.AddrPortFrom(netip.AddrFrom4([4]byte{10, 0, 0, byte(m.IntN(4))}), uint16(m.IntN(3)))
	}
	return &Connection{Source: m.principal(), SourceAddr: addr(), Destination: addr()}
}

func checkConnectModel(t *testing.T, m maker) (allowed, denied int) {
	t.Helper()
	var specs []AuthorizationSpec
	var compiled []*Authorization
	w := &mesh.Workload{Namespace: "a", Name: "w"}
	for i := range m.IntN(5) {
		s := m.authorization(string(rune('p' + i)))
		specs = append(specs, s)
		compiled = append(compiled, mustAuthorization(t, s))
		if m.maybe(40) {
			w.AuthorizationPolicies = append(w.AuthorizationPolicies, s.Namespace+"/"+s.Name)
		}
	}
	if m.maybe(3) {
		w.AuthorizationPolicies = append(w.AuthorizationPolicies, "a/missing")
	}
	p := New(&mesh.Self{Namespace: "a"}, w, compiled, nil)
	for range 20 {
		c := m.connection()
		want, got := modelConnect(specs, w, c), p.Connect(c)
		if got.Allowed != want {
			t.Fatalf("allowed = %v, the model says %v\n%+v\n%+v\n%+v", got.Allowed, want, *c, specs, got)
		}
		if want {
			allowed++
		} else {
			denied++
		}
	}
	return allowed, denied
}

func TestConnectAgreesWithModel(t *testing.T) {
	m := maker{rand.New(rand.NewPCG(1, 2))}
	allowed, denied := 0, 0
	for range 4000 {
		a, d := checkConnectModel(t, m)
		allowed, denied = allowed+a, denied+d
	}
	if allowed < 10000 || denied < 10000 {
		t.Errorf("%d allowed and %d denied: the random policies say too little", allowed, denied)
	}
}

func FuzzConnectAgreesWithModel(f *testing.F) {
	f.Add(uint64(1), uint64(2))
	f.Fuzz(func(t *testing.T, a, b uint64) { checkConnectModel(t, maker{rand.New(rand.NewPCG(a, b))}) })
}
