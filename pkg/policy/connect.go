package policy

import (
	"cmp"
	"fmt"
	"slices"

	"github.com/outrigger-mesh/outrigger/pkg/mesh"
)

// authorizations are the L4 policies that apply to the workload.
type authorizations struct {
	blocked *Decision // denies every connection: something is missing
	deny    groupSet
	allow   groupSet
	dryRun  []*Authorization
	closed  bool     // there are Allow policies: what none allows is denied
	allows  Decision // if nothing is closed
	denies  Decision // if something is, and nothing allowed
}

// A groupSet holds groups in order, indexed, with what each decides.
type groupSet struct {
	groups []decidedGroup
	index  index
}

type decidedGroup struct {
	*group
	decision Decision
}

var nothingKnown = Decision{Reason: "denied because no policies were delivered yet; connect the sidecar to its control plane"}

// Connect decides whether a connection may be opened, by L4 authorization and,
// in its direction, by agent policies that are invalid.
func (p *Policies) Connect(c *Connection) Decision {
	if p == nil {
		return nothingKnown
	}
	if c.Direction == Outbound {
		if d := p.outbound.block(c.Service.Hostname, c.Workload); d != nil {
			return *d
		}
		return Decision{Allowed: true, Reason: "outbound connections are for the receiver to authorize"}
	}
	q := newPeer(c)
	d := p.connect(c, &q)
	if len(p.connections.dryRun) > 0 {
		d.Audits = p.connections.audits(&q)
	}
	return d
}

func (p *Policies) connect(c *Connection, q *peer) Decision {
	a := &p.connections
	if a.blocked != nil {
		return *a.blocked
	}
	if d := p.inbound.block("", nil); d != nil {
		return *d
	}
	if g := a.deny.first(q); g != nil {
		return g.decision
	}
	if !a.closed {
		return a.allows
	}
	if g := a.allow.first(q); g != nil {
		return g.decision
	}
	d := a.denies
	d.Reason += " " + caller(c.Source) + "; allow it in one of them"
	return d
}

// first is the first group that matches, or nil.
func (s *groupSet) first(q *peer) *decidedGroup {
	c := s.index.start()
	s.index.withSource(&c, q.principal)
	if s.index.kinds[keyAccount] {
		s.index.with(&c, key{kind: keyAccount, a: q.account.Namespace, b: q.account.Name})
	}
	if s.index.kinds[keyPort] {
		s.index.with(&c, key{kind: keyPort, n: q.port})
	}
	for i := c.next(); i >= 0; i = c.next() {
		if g := &s.groups[i]; g.matches(q) {
			return g
		}
	}
	return nil
}

func (a *authorizations) audits(q *peer) []Audit {
	var out []Audit
	for _, policy := range a.dryRun {
		for i := range policy.groups {
			if g := &policy.groups[i]; g.matches(q) {
				out = append(out, Audit{Policy: policy.Key(), Rule: g.name, Version: policy.version, Action: policy.action})
				break
			}
		}
	}
	return out
}

// addAuthorizations selects what applies to w: global policies, those of its
// namespace, and those that it lists.
func (p *Policies) addAuthorizations(self *mesh.Self, w *mesh.Workload, all []*Authorization) {
	out := &p.connections
	out.allows = Decision{Allowed: true, Reason: "no L4 policy applies that allows only some"}
	out.denies = Decision{Reason: "denied because there are L4 policies that allow connections and none allows"}
	if w == nil {
		p.block(fmt.Errorf("the mesh has not told of workload %s/%s yet, nor which policies it lists", self.Namespace, self.Name))
		return
	}
	listed := map[string]bool{}
	for _, name := range w.AuthorizationPolicies {
		listed[name] = true
	}
	sorted := slices.SortedFunc(slices.Values(all), func(x, y *Authorization) int {
		return cmp.Or(cmp.Compare(x.namespace, y.namespace), cmp.Compare(x.name, y.name))
	})
	for _, a := range sorted {
		if a.applies(self, w, listed[a.Key()]) {
			p.addAuthorization(a)
		}
		delete(listed, a.Key())
	}
	for _, name := range sortedKeys(listed) {
		p.block(fmt.Errorf("the workload lists policy %s, which was not delivered; deliver it, or correct the workload", name))
	}
}

// block denies every inbound connection because of err.
func (p *Policies) block(err error) {
	if p.connections.blocked == nil {
		p.connections.blocked = &Decision{Reason: "denied because " + err.Error()}
	}
	p.problems = append(p.problems, err)
}

func (a *Authorization) applies(self *mesh.Self, w *mesh.Workload, listed bool) bool {
	switch a.scope {
	case ScopeGlobal:
		return true
	case ScopeNamespace:
		return a.namespace == w.Namespace || listed
	case ScopeWorkload:
		return listed
	}
	return listed || a.namespace == w.Namespace || a.namespace == rootNamespace(self) || a.namespace == ""
}

func (p *Policies) addAuthorization(a *Authorization) {
	out := &p.connections
	switch {
	case a.quarantined != nil:
		err := &QuarantineError{a.Key(), a.quarantined}
		p.problems = append(p.problems, err)
		out.deny.add(a, Decision{Policy: a.Key(), Reason: "denied because " + err.Error()})
	case a.dryRun:
		out.dryRun = append(out.dryRun, a)
	case a.action == ActionDeny:
		out.deny.add(a, Decision{Reason: "denied by"})
	default:
		out.closed = true
		out.allow.add(a, Decision{Allowed: true, Reason: "allowed by"})
	}
}

func (s *groupSet) add(a *Authorization, d Decision) {
	for i := range a.groups {
		g := &a.groups[i]
		if g.never {
			continue
		}
		mine := d
		if a.quarantined == nil {
			mine = Decision{Allowed: d.Allowed, Policy: a.Key(), Rule: g.name, Version: a.version,
				Reason: fmt.Sprintf("%s %s of L4 policy %s", d.Reason, g.name, a.Key())}
		}
		s.index.add(len(s.groups), g.keys())
		s.groups = append(s.groups, decidedGroup{g, mine})
	}
}

// keys are what one of must be true of a connection that the group matches;
// none if that cannot be said. One rule of the group is enough to say it.
func (g *group) keys() []key {
	for _, matches := range g.rules {
		if keys := keysOf(matches); len(keys) > 0 {
			return keys
		}
	}
	return nil
}

func keysOf(matches []match) []key {
	var keys []key
	for i := range matches {
		of := matches[i].keys()
		if len(of) == 0 {
			return nil
		}
		keys = append(keys, of...)
	}
	return keys
}

// keys names the list of the match that says most.
func (m *match) keys() []key {
	var keys []key
	switch {
	case allExact(m.principals):
		for _, s := range m.principals {
			if p, err := mesh.ParsePrincipal("spiffe://" + s.value); err == nil {
				keys = append(keys, principalKey(p))
				continue
			}
			return nil
		}
	case len(m.serviceAccounts) > 0:
		for _, a := range m.serviceAccounts {
			keys = append(keys, key{kind: keyAccount, a: a.Namespace, b: a.Name})
		}
	case allExact(m.namespaces):
		for _, s := range m.namespaces {
			keys = append(keys, key{kind: keyNamespace, a: s.value})
		}
	default:
		for _, port := range m.ports {
			keys = append(keys, key{kind: keyPort, n: port})
		}
	}
	return keys
}

// allExact tells whether there are conditions and all are MatchExact.
func allExact(list []stringMatch) bool {
	for _, s := range list {
		if s.kind != MatchExact {
			return false
		}
	}
	return len(list) > 0
}
