package policy

import (
	"net/netip"
	"slices"
	"strings"

	"github.com/outrigger-mesh/outrigger/pkg/mesh"
)

// A match is an AuthorizationMatch, compiled.
type match struct {
	uses uses // which lists are not all empty; first, so that little else is read

	namespaces, notNamespaces           []stringMatch
	serviceAccounts, notServiceAccounts []ServiceAccount
	principals, notPrincipals           []stringMatch
	sources, notSources                 []netip.Prefix
	destinations, notDestinations       []netip.Prefix
	ports, notPorts                     []uint16
}

// uses is a set of types of condition.
type uses uint8

const (
	usesNamespaces uses = 1 << iota
	usesAccounts
	usesPrincipals
	usesSources
	usesDestinations
	usesPorts
)

// used is the set of the types of which a list is not empty.
func (m *match) used() uses {
	var u uses
	for of, n := range map[uses]int{
		usesNamespaces:   len(m.namespaces) + len(m.notNamespaces),
		usesAccounts:     len(m.serviceAccounts) + len(m.notServiceAccounts),
		usesPrincipals:   len(m.principals) + len(m.notPrincipals),
		usesSources:      len(m.sources) + len(m.notSources),
		usesDestinations: len(m.destinations) + len(m.notDestinations),
		usesPorts:        len(m.ports) + len(m.notPorts),
	} {
		if n > 0 {
			u |= of
		}
	}
	return u
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
	u := m.uses
	switch {
	case u&usesPorts != 0 && !(len(m.ports) == 0 || slices.Contains(m.ports, p.port)),
		u&usesPorts != 0 && slices.Contains(m.notPorts, p.port),
		u&usesAccounts != 0 && !(len(m.serviceAccounts) == 0 || slices.Contains(m.serviceAccounts, p.account)),
		u&usesAccounts != 0 && slices.Contains(m.notServiceAccounts, p.account),
		u&usesNamespaces != 0 && !holdString(m.namespaces, m.notNamespaces, "", p.account.Namespace),
		u&usesPrincipals != 0 && !holdString(m.principals, m.notPrincipals, p.principal.TrustDomain(), p.principal.Path()),
		u&usesSources != 0 && !holdAddress(m.sources, m.notSources, p.source),
		u&usesDestinations != 0 && !holdAddress(m.destinations, m.notDestinations, p.destination):
		return false
	}
	return true
}

func holdString(any, none []stringMatch, a, b string) bool {
	return (len(any) == 0 || anyString(any, a, b)) && !anyString(none, a, b)
}

func holdAddress(any, none []netip.Prefix, a netip.Addr) bool {
	return (len(any) == 0 || anyContains(any, a)) && !anyContains(none, a)
}

func anyString(list []stringMatch, a, b string) bool {
	for i := range list {
		if list[i].matches(a, b) {
			return true
		}
	}
	return false
}

func anyContains(list []netip.Prefix, a netip.Addr) bool {
	for i := range list {
		if list[i].Contains(a) {
			return true
		}
	}
	return false
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
func (s *stringMatch) matches(a, b string) bool {
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
