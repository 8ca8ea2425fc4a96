package discovery

import (
	"fmt"
	"strings"

	"google.golang.org/protobuf/proto"

	"github.com/outrigger-mesh/outrigger/pkg/policy"
	securitypb "github.com/outrigger-mesh/outrigger/proto/istio/security"
	workloadpb "github.com/outrigger-mesh/outrigger/proto/istio/workload"
)

// authorizationSpec reads an L4 policy. What this version does not understand
// is named where it stands.
func authorizationSpec(in *securitypb.Authorization, version string) policy.AuthorizationSpec {
	s := policy.AuthorizationSpec{
		Name: in.GetName(), Namespace: in.GetNamespace(), Version: version,
		Scope: scope(in), Action: action(in), DryRun: in.GetDryRun(),
		Unknown: unknownHere(in, in.GetExtensions()), Source: sourceOf(in),
	}
	for _, g := range in.GetGroups() {
		group := policy.AuthorizationGroup{Unknown: unknownHere(g, nil)}
		for _, r := range g.GetRules() {
			rule := policy.AuthorizationRule{Unknown: unknownHere(r, nil)}
			for _, m := range r.GetMatches() {
				rule.Matches = append(rule.Matches, authorizationMatch(m))
			}
			group.Rules = append(group.Rules, rule)
		}
		s.Groups = append(s.Groups, group)
	}
	return s
}

func scope(in *securitypb.Authorization) policy.Scope {
	switch in.GetScope() {
	case securitypb.Scope_GLOBAL:
		return policy.ScopeGlobal
	case securitypb.Scope_NAMESPACE:
		return policy.ScopeNamespace
	case securitypb.Scope_WORKLOAD_SELECTOR:
		return policy.ScopeWorkload
	}
	return policy.ScopeUnknown
}

func action(in *securitypb.Authorization) policy.Action {
	switch in.GetAction() {
	case securitypb.Action_ALLOW:
		return policy.ActionAllow
	case securitypb.Action_DENY:
		return policy.ActionDeny
	}
	return 0
}

func authorizationMatch(m *securitypb.Match) policy.AuthorizationMatch {
	out := policy.AuthorizationMatch{
		Namespaces:          stringMatches(m.GetNamespaces()),
		NotNamespaces:       stringMatches(m.GetNotNamespaces()),
		ServiceAccounts:     serviceAccounts(m.GetServiceAccounts()),
		NotServiceAccounts:  serviceAccounts(m.GetNotServiceAccounts()),
		Principals:          stringMatches(m.GetPrincipals()),
		NotPrincipals:       stringMatches(m.GetNotPrincipals()),
		SourceIPs:           ranges(m.GetSourceIps()),
		NotSourceIPs:        ranges(m.GetNotSourceIps()),
		DestinationIPs:      ranges(m.GetDestinationIps()),
		NotDestinationIPs:   ranges(m.GetNotDestinationIps()),
		DestinationPorts:    m.GetDestinationPorts(),
		NotDestinationPorts: m.GetNotDestinationPorts(),
		Unknown:             unknownHere(m, m.GetExtensions()),
	}
	if out.Unknown == "" {
		// Its parts are too small to be named: something unknown in one of them
		// makes the whole match unknown.
		u := unknown(m.ProtoReflect())
		out.Unknown = strings.Join(append(u.fields, u.values...), ", ")
	}
	return out
}

// unknownHere describes what is unknown in m itself, not in its parts.
func unknownHere(m proto.Message, extensions []*workloadpb.Extension) string {
	found := unknownFields(m.ProtoReflect())
	for _, e := range extensions {
		found = append(found, fmt.Sprintf("extension %q", e.GetName()))
	}
	return strings.Join(found, ", ")
}

func stringMatches(in []*securitypb.StringMatch) []policy.StringMatch {
	var out []policy.StringMatch
	for _, m := range in {
		s := policy.StringMatch{}
		switch t := m.GetMatchType().(type) {
		case *securitypb.StringMatch_Exact:
			s = policy.StringMatch{Kind: policy.MatchExact, Value: t.Exact}
		case *securitypb.StringMatch_Prefix:
			s = policy.StringMatch{Kind: policy.MatchPrefix, Value: t.Prefix}
		case *securitypb.StringMatch_Suffix:
			s = policy.StringMatch{Kind: policy.MatchSuffix, Value: t.Suffix}
		case *securitypb.StringMatch_Presence:
			s = policy.StringMatch{Kind: policy.MatchPresence}
		}
		out = append(out, s)
	}
	return out
}

func serviceAccounts(in []*securitypb.ServiceAccountMatch) []policy.ServiceAccount {
	var out []policy.ServiceAccount
	for _, a := range in {
		out = append(out, policy.ServiceAccount{Namespace: a.GetNamespace(), Name: a.GetServiceAccount()})
	}
	return out
}

func ranges(in []*securitypb.Address) []policy.AddressRange {
	var out []policy.AddressRange
	for _, a := range in {
		out = append(out, policy.AddressRange{Address: a.GetAddress(), Length: a.GetLength()})
	}
	return out
}
