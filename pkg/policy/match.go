package policy

import (
	"net/netip"
	"strings"

	"github.com/outrigger-mesh/outrigger/pkg/mesh"
)

// A match is an AuthorizationMatch, compiled.
type match struct {
	namespaces, notNamespaces           []stringMatch
	serviceAccounts, notServiceAccounts []ServiceAccount
	principals, notPrincipals           []stringMatch
	sources, notSources                 []netip.Prefix
	destinations, notDestinations       []netip.Prefix
	ports, notPorts                     []uint16
}

func (m *match) empty() bool {
	return len(m.namespaces)+len(m.notNamespaces)+len(m.serviceAccounts)+len(m.notServiceAccounts)+
		len(m.principals)+len(m.notPrincipals)+len(m.sources)+len(m.notSources)+
		len(m.destinations)+len(m.notDestinations)+len(m.ports)+len(m.notPorts) == 0
}

// A peer is what of a connection L4 authorization compares, taken apart once.
type peer struct {
	principal           mesh.Principal
	account             ServiceAccount // zero if there is none
	source, destination netip.Addr
	port                uint16
}

func newPeer(c *Connection) peer {
	return peer{
		principal:   c.Source,
		account:     ServiceAccount{c.Source.Namespace(), c.Source.ServiceAccount()},
		source:      c.SourceAddr.Addr().Unmap().WithZone(""),
		destination: c.Destination.Addr().Unmap().WithZone(""),
		port:        c.Destination.Port(),
	}
}

// matches tells whether every list holds that is not empty.
func (m *match) matches(p *peer) bool {
	return holds(m.ports, m.notPorts, func(x uint16) bool { return x == p.port }) &&
		holds(m.namespaces, m.notNamespaces, func(s stringMatch) bool { return s.matches("", p.account.Namespace) }) &&
		holds(m.serviceAccounts, m.notServiceAccounts, func(s ServiceAccount) bool { return s == p.account }) &&
		holds(m.principals, m.notPrincipals, func(s stringMatch) bool {
			return s.matches(p.principal.TrustDomain(), p.principal.Path())
		}) &&
		holds(m.sources, m.notSources, func(r netip.Prefix) bool { return r.Contains(p.source) }) &&
		holds(m.destinations, m.notDestinations, func(r netip.Prefix) bool { return r.Contains(p.destination) })
}

func holds[T any](any, none []T, matches func(T) bool) bool {
	found := len(any) == 0
	for i := 0; i < len(any) && !found; i++ {
		found = matches(any[i])
	}
	for i := 0; i < len(none) && found; i++ {
		found = !matches(none[i])
	}
	return found
}

// matches tells whether all of the group's rules have a match.
func (g *group) matches(p *peer) bool {
	if g.never {
		return false
	}
	for _, rule := range g.rules {
		if !anyMatches(rule, p) {
			return false
		}
	}
	return true
}

func anyMatches(rule []match, p *peer) bool {
	for i := range rule {
		if rule[i].matches(p) {
			return true
		}
	}
	return false
}

// A stringMatch is a StringMatch that was validated.
type stringMatch struct {
	kind  MatchKind
	value string
}

// matches compares a string that is in two parts, so that nobody has to join them.
func (s stringMatch) matches(a, b string) bool {
	n, v := len(a)+len(b), s.value
	switch s.kind {
	case MatchPresence:
		return n > 0
	case MatchExact:
		return n == len(v) && v[:len(a)] == a && v[len(a):] == b
	case MatchPrefix:
		if len(v) <= len(a) {
			return strings.HasPrefix(a, v)
		}
		return strings.HasPrefix(v, a) && strings.HasPrefix(b, v[len(a):])
	case MatchSuffix:
		if len(v) <= len(b) {
			return strings.HasSuffix(b, v)
		}
		return strings.HasSuffix(v, b) && strings.HasSuffix(a, v[:len(v)-len(b)])
	}
	return false
}
