package policy

import (
	"fmt"
	"net/netip"
)

// An Authorization is one of Istio's L4 policies, compiled.
type Authorization struct {
	name, namespace string
	version         string
	scope           Scope
	action          Action
	groups          []group
	dryRun          bool
	quarantined     error // why the policy is invalid; nil if it is not
	source          []byte
}

// A group matches if all of its rules do.
type group struct {
	name  string // as the record names it: rules[2]
	rules [][]match
	never bool // what is unknown in it counts as not fulfilled
}

// Key is the policy's "namespace/name".
func (a *Authorization) Key() string { return a.namespace + "/" + a.name }

// Source is what the decoder read the policy from; nil if it could not read it.
func (a *Authorization) Source() []byte { return a.source }

// Scope is which workloads the policy governs.
func (a *Authorization) Scope() Scope { return a.scope }

// Action is what the policy does.
func (a *Authorization) Action() Action { return a.action }

// Version is what the carrier called the content; "" if it has no name for it.
func (a *Authorization) Version() string { return a.version }

// Quarantined is why the policy is invalid and denies what it governs; nil if it is valid.
func (a *Authorization) Quarantined() error { return a.quarantined }

// CompileAuthorization validates and compiles an L4 policy. The error is a join
// of FieldErrors.
//
// Evaluation is ztunnel's, except where ztunnel would let pass what was not
// understood: a policy with a CIDR, port, condition, scope or action that makes
// no sense is rejected as a whole; see AuthorizationSpec for unknown fields.
func CompileAuthorization(s AuthorizationSpec) (*Authorization, error) {
	c := authorizationCompiler{action: s.Action}
	if s.Name == "" {
		c.add("name", "name the policy", "is empty")
	}
	if s.Namespace == "" && s.Scope != ScopeGlobal {
		c.add("namespace", "name the namespace the policy lives in", "is empty")
	}
	if s.Scope < ScopeGlobal || s.Scope > ScopeWorkload {
		c.add("scope", "use a scope that this version knows", "is unknown")
	}
	if s.Action != ActionAllow && s.Action != ActionDeny {
		c.add("action", "use ALLOW or DENY", "is unknown")
	}
	a := &Authorization{name: s.Name, namespace: s.Namespace, version: s.Version, source: s.Source,
		scope: s.Scope, action: s.Action, dryRun: s.DryRun}
	for i := range s.Groups {
		a.groups = append(a.groups, c.group(i, &s.Groups[i]))
	}
	if err := c.err(); err != nil {
		return nil, fmt.Errorf("authorization %s: %w", a.Key(), err)
	}
	if s.Unknown != "" {
		a.groups = nil
		if s.Action == ActionDeny {
			a.groups = []group{{name: s.Unknown}}
		}
	}
	return a, nil
}

// QuarantineAuthorization stands for a new policy that is invalid because of
// reason: it denies whatever the policy would govern. ScopeUnknown means that
// the scope could not be read; then it denies whatever any scope would govern:
// the workloads that list the policy and those of its namespace, or of the mesh
// if that is the root namespace.
func QuarantineAuthorization(name, namespace string, scope Scope, reason error) *Authorization {
	return &Authorization{name: name, namespace: namespace, scope: scope, action: ActionDeny,
		groups: []group{{}}, quarantined: reason}
}

type authorizationCompiler struct {
	problems
	action Action
}

func (c *authorizationCompiler) group(i int, s *AuthorizationGroup) group {
	g := group{name: fmt.Sprintf("rules[%d]", i)}
	// A Deny group with something unknown in it matches if what is known does.
	g.never = s.Unknown != "" && c.action == ActionAllow
	for j := range s.Rules {
		rule := &s.Rules[j]
		if rule.Unknown != "" {
			g.never = g.never || c.action == ActionAllow
			continue // fulfilled
		}
		if len(rule.Matches) == 0 {
			continue // fulfilled
		}
		matches := []match{}
		for k := range rule.Matches {
			field := fmt.Sprintf("groups[%d].rules[%d].matches[%d]", i, j, k)
			if m, possible := c.match(field, &rule.Matches[k]); possible {
				matches = append(matches, m)
			}
		}
		g.rules = append(g.rules, matches)
	}
	return g
}

// match compiles a match; possible is false if it can never match.
func (c *authorizationCompiler) match(field string, s *AuthorizationMatch) (m match, possible bool) {
	m = match{
		namespaces:         c.strings(field+".namespaces", s.Namespaces),
		notNamespaces:      c.strings(field+".not_namespaces", s.NotNamespaces),
		serviceAccounts:    c.serviceAccounts(field+".service_accounts", s.ServiceAccounts),
		notServiceAccounts: c.serviceAccounts(field+".not_service_accounts", s.NotServiceAccounts),
		principals:         c.strings(field+".principals", s.Principals),
		notPrincipals:      c.strings(field+".not_principals", s.NotPrincipals),
		sources:            c.prefixes(field+".source_ips", s.SourceIPs),
		notSources:         c.prefixes(field+".not_source_ips", s.NotSourceIPs),
		destinations:       c.prefixes(field+".destination_ips", s.DestinationIPs),
		notDestinations:    c.prefixes(field+".not_destination_ips", s.NotDestinationIPs),
		ports:              c.ports(field+".destination_ports", s.DestinationPorts),
		notPorts:           c.ports(field+".not_destination_ports", s.NotDestinationPorts),
	}
	m.uses = m.used()
	if s.Unknown != "" {
		return m, c.action == ActionDeny
	}
	return m, m.uses != 0
}

func (c *authorizationCompiler) strings(field string, list []StringMatch) []stringMatch {
	var out []stringMatch
	for i, s := range list {
		at := fmt.Sprintf("%s[%d]", field, i)
		switch {
		case s.Kind < MatchExact || s.Kind > MatchPresence:
			c.add(at, "set exact, prefix, suffix or presence", "has no condition")
		case s.Kind != MatchPresence && s.Value == "":
			// Exact "" would match whoever is not authenticated.
			c.add(at, "use presence to match any value", "is empty")
		}
		out = append(out, stringMatch{s.Kind, s.Value})
	}
	return out
}

func (c *authorizationCompiler) serviceAccounts(field string, list []ServiceAccount) []ServiceAccount {
	for i, s := range list {
		if s.Namespace == "" || s.Name == "" {
			c.add(fmt.Sprintf("%s[%d]", field, i), "name the namespace and the service account", "is incomplete")
		}
	}
	return list
}

func (c *authorizationCompiler) prefixes(field string, list []AddressRange) []netip.Prefix {
	var out []netip.Prefix
	for i, r := range list {
		a, ok := netip.AddrFromSlice(r.Address)
		if !ok {
			c.add(fmt.Sprintf("%s[%d]", field, i), "write 4 or 16", "has an address of %d bytes", len(r.Address))
			continue
		}
		if r.Length > uint32(a.BitLen()) {
			c.add(fmt.Sprintf("%s[%d]", field, i), fmt.Sprintf("write at most %d", a.BitLen()), "has a prefix of %d bits", r.Length)
			continue
		}
		out = append(out, unmapPrefix(netip.PrefixFrom(a, int(r.Length)).Masked()))
	}
	return out
}

// unmapPrefix turns a range inside ::ffff:0:0/96 into the IPv4 range that it is.
func unmapPrefix(p netip.Prefix) netip.Prefix {
	if p.Addr().Is4In6() && p.Bits() >= 96 {
		return netip.PrefixFrom(p.Addr().Unmap(), p.Bits()-96)
	}
	return p
}

func (c *authorizationCompiler) ports(field string, list []uint32) []uint16 {
	var out []uint16
	for i, p := range list {
		if p > 65535 {
			c.add(fmt.Sprintf("%s[%d]", field, i), "write at most 65535", "is port %d", p)
		}
		out = append(out, uint16(p))
	}
	return out
}
