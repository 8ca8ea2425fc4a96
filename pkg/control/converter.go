package control

import (
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/outrigger-mesh/outrigger/pkg/discovery"
	"github.com/outrigger-mesh/outrigger/pkg/manifest"
	securitypb "github.com/outrigger-mesh/outrigger/proto/istio/security"
)

// A converter converts one rule.
type converter struct {
	d         *manifest.Document
	namespace string
	deny      bool
	path      []string
	faults    []error
}

func (c *converter) fault(problem, remedy string, path ...string) {
	c.faults = append(c.faults, c.d.Fault(problem, remedy, slices.Concat(c.path, path)...))
}

// rule answers nil for an Allow rule that asks for what connections do not
// show, such as a method: it matches nothing. A Deny rule keeps what they do
// show, and denies more than it says; where nothing would be left it is
// rejected, while istiod would quietly serve a policy that denies nothing.
func (c *converter) rule(r *istioRule) *securitypb.Group {
	group := &securitypb.Group{}
	var to, from []*securitypb.Match
	unseen := false
	for i := range r.To {
		m, l7 := c.operation(&r.To[i].Operation, i)
		to, unseen = append(to, m), unseen || l7
	}
	for i := range r.From {
		m, l7 := c.source(&r.From[i].Source, i)
		from, unseen = append(from, m), unseen || l7
	}
	if len(to) > 0 {
		group.Rules = append(group.Rules, &securitypb.Rules{Matches: to})
	}
	if len(from) > 0 {
		group.Rules = append(group.Rules, &securitypb.Rules{Matches: from})
	}
	for i := range r.When {
		m, l7 := c.condition(&r.When[i], i)
		unseen = unseen || l7
		if m != nil {
			group.Rules = append(group.Rules, &securitypb.Rules{Matches: []*securitypb.Match{m}})
		}
	}
	if unseen && !c.deny {
		return nil
	}
	return group
}

// anySet tells whether any of the lists is set.
func anySet(lists ...[]string) bool {
	return slices.ContainsFunc(lists, func(l []string) bool { return len(l) > 0 })
}

// seen checks that something of an entry is left on connections. An empty match
// never matches: a Deny rule would deny nothing.
func (c *converter) seen(l7, l4 bool, path ...string) {
	switch {
	case !l7 && !l4:
		c.fault("it says nothing, and would match nothing", "set a field, or remove the entry", path...)
	case c.deny && !l4:
		c.fault("a DENY rule on what only requests show would deny nothing on connections", "write an AgentPolicy for it", path...)
	}
}

func (c *converter) operation(o *istioOperation, i int) (m *securitypb.Match, l7 bool) {
	path := []string{"to", strconv.Itoa(i), "operation"}
	l7 = anySet(o.Hosts, o.NotHosts, o.Methods, o.NotMethods, o.Paths, o.NotPaths)
	c.seen(l7, anySet(o.Ports, o.NotPorts), path...)
	return &securitypb.Match{
		DestinationPorts:    c.ports(o.Ports, append(path, "ports")),
		NotDestinationPorts: c.ports(o.NotPorts, append(path, "notPorts")),
	}, l7
}

func (c *converter) source(s *istioSource, i int) (m *securitypb.Match, l7 bool) {
	path := []string{"from", strconv.Itoa(i), "source"}
	l7 = anySet(s.RequestPrincipals, s.NotRequestPrincipals, s.RemoteIPBlocks, s.NotRemoteIPBlocks)
	c.seen(l7, anySet(s.Principals, s.NotPrincipals, s.Namespaces, s.NotNamespaces, s.ServiceAccounts, s.NotServiceAccounts, s.IPBlocks, s.NotIPBlocks), path...)
	return &securitypb.Match{
		Namespaces:         matches(s.Namespaces),
		NotNamespaces:      matches(s.NotNamespaces),
		Principals:         principals(s.Principals),
		NotPrincipals:      principals(s.NotPrincipals),
		ServiceAccounts:    c.accounts(s.ServiceAccounts, append(path, "serviceAccounts")),
		NotServiceAccounts: c.accounts(s.NotServiceAccounts, append(path, "notServiceAccounts")),
		SourceIps:          c.ranges(s.IPBlocks, append(path, "ipBlocks")),
		NotSourceIps:       c.ranges(s.NotIPBlocks, append(path, "notIpBlocks")),
	}, l7
}

// condition answers nil for one that connections do not show.
func (c *converter) condition(w *istioCondition, i int) (m *securitypb.Match, l7 bool) {
	path := []string{"when", strconv.Itoa(i)}
	yes, no := append(path[:2:2], "values"), append(path[:2:2], "notValues")
	if !anySet(w.Values, w.NotValues) {
		c.fault("a condition without values", "set values or notValues", path...)
	}
	switch w.Key {
	case "source.ip":
		return &securitypb.Match{SourceIps: c.ranges(w.Values, yes), NotSourceIps: c.ranges(w.NotValues, no)}, false
	case "source.namespace":
		return &securitypb.Match{Namespaces: matches(w.Values), NotNamespaces: matches(w.NotValues)}, false
	case "source.principal":
		return &securitypb.Match{Principals: principals(w.Values), NotPrincipals: principals(w.NotValues)}, false
	case "destination.ip":
		return &securitypb.Match{DestinationIps: c.ranges(w.Values, yes), NotDestinationIps: c.ranges(w.NotValues, no)}, false
	case "destination.port":
		return &securitypb.Match{DestinationPorts: c.ports(w.Values, yes), NotDestinationPorts: c.ports(w.NotValues, no)}, false
	}
	c.seen(true, false, append(path, "key")...)
	return nil, true
}

func matches(texts []string) (list []*securitypb.StringMatch) {
	for _, t := range texts {
		list = append(list, discovery.StringMatch(t))
	}
	return list
}

func principals(texts []string) (list []*securitypb.StringMatch) {
	for _, t := range texts {
		list = append(list, discovery.StringMatch(strings.TrimPrefix(t, "spiffe://")))
	}
	return list
}

func (c *converter) accounts(texts, path []string) (list []*securitypb.ServiceAccountMatch) {
	for i, t := range texts {
		m, err := discovery.ServiceAccountMatch(t, c.namespace)
		if err != nil {
			c.fault(err.Error(), "", append(path, strconv.Itoa(i))...)
		}
		list = append(list, m)
	}
	return list
}

func (c *converter) ranges(texts, path []string) (list []*securitypb.Address) {
	for i, t := range texts {
		a, err := discovery.AddressRange(t)
		if err != nil {
			c.fault(err.Error(), "", append(path, strconv.Itoa(i))...)
		}
		list = append(list, a)
	}
	return list
}

func (c *converter) ports(texts, path []string) (list []uint32) {
	for i, t := range texts {
		n, err := strconv.ParseUint(t, 10, 16)
		if err != nil || n == 0 {
			c.fault(fmt.Sprintf("%q is not a port", t), "it must be from 1 to 65535", append(path, strconv.Itoa(i))...)
		}
		list = append(list, uint32(n))
	}
	return list
}
