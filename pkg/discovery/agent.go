package discovery

import (
	"google.golang.org/protobuf/proto"

	"github.com/outrigger-mesh/outrigger/pkg/policy"
	policypb "github.com/outrigger-mesh/outrigger/proto/outrigger/policy/v1alpha1"
)

// agentSpec reads an agent policy. version is the carrier's, for a policy that
// names none itself.
func agentSpec(in *policypb.AgentPolicy, version string) policy.AgentSpec {
	spec, u := in.GetSpec(), unknown(in.ProtoReflect())
	s := policy.AgentSpec{
		Name: in.GetName(), Namespace: in.GetNamespace(), Version: or(in.GetVersion(), version),
		Target: policy.AgentTarget{
			MatchLabels: spec.GetTarget().GetSelector().GetMatchLabels(),
			Services:    spec.GetTarget().GetServices(),
		},
		Direction:    direction(spec.GetDirection()),
		AllMCPPorts:  spec.GetAllMcpPorts(),
		FilterLinked: spec.GetMcpLinkedResourcesOption() == policypb.AgentPolicySpec_FILTER_LINKED_RESOURCES,
		Tokens:       tokens(spec.GetJwt()), RecordedArguments: recording(spec.GetRecordedArguments()),
		Unknown: append(u.fields, u.values...),
	}
	s.Source = sourceOf(in)
	if spec.GetMcpBaseProtocolMethodsOption() == policypb.AgentPolicySpec_SKIP_BASE_PROTOCOL_METHODS {
		s.BaseMethods = policy.BaseMethodsSkip
	}
	for _, p := range spec.GetPorts() {
		s.Ports = append(s.Ports, policy.AgentPort{Number: p.GetNumber(), Protocol: protocol(p.GetProtocol()), Paths: p.GetPaths()})
	}
	for _, r := range spec.GetRules() {
		s.Rules = append(s.Rules, agentRule(r))
	}
	return s
}

func direction(d policypb.AgentPolicySpec_Direction) policy.Direction {
	switch d {
	case policypb.AgentPolicySpec_Inbound:
		return policy.Inbound
	case policypb.AgentPolicySpec_Outbound:
		return policy.Outbound
	}
	return 0
}

func protocol(p policypb.Port_Protocol) policy.Protocol {
	switch p {
	case policypb.Port_MCP:
		return policy.ProtocolMCP
	case policypb.Port_HTTP:
		return policy.ProtocolHTTP
	case policypb.Port_Opaque:
		return policy.ProtocolOpaque
	}
	return policy.ProtocolUndeclared
}

func agentRule(in *policypb.Rule) policy.AgentRule {
	r := policy.AgentRule{
		Name: in.GetName(), AuditOnly: in.GetMode() == policypb.Rule_AuditOnly, Source: agentSource(in.GetSource()),
		EmptyScope: in.Mcp != nil && proto.Size(in.Mcp) == 0,
		Methods:    in.GetMcp().GetMethods(), Tools: in.GetMcp().GetTools(),
		Resources: in.GetMcp().GetResources(), Prompts: in.GetMcp().GetPrompts(),
		When: in.GetWhen(), Scopes: in.GetScopes(),
	}
	switch in.GetAction() {
	case policypb.Rule_Allow:
		r.Action = policy.ActionAllow
	case policypb.Rule_Deny:
		r.Action = policy.ActionDeny
	case policypb.Rule_Require:
		r.Action = policy.ActionRequire
	}
	for _, a := range in.GetMcp().GetArguments() {
		r.Arguments = append(r.Arguments, argument(a))
	}
	return r
}

func agentSource(in *policypb.Source) *policy.AgentSource {
	if in == nil {
		return nil
	}
	s := &policy.AgentSource{SPIFFE: in.GetSpiffe(), Namespaces: in.GetNamespaces()}
	for _, a := range in.GetServiceAccounts() {
		s.ServiceAccounts = append(s.ServiceAccounts, policy.ServiceAccount{Namespace: a.GetNamespace(), Name: a.GetName()})
	}
	return s
}

func argument(in *policypb.Argument) policy.AgentArgument {
	a := policy.AgentArgument{Path: in.GetPath()}
	switch c := in.GetCondition().(type) {
	case *policypb.Argument_Exact:
		a.Exact = &c.Exact
	case *policypb.Argument_Glob:
		a.Glob = &c.Glob
	case *policypb.Argument_In:
		a.In = append([]string{}, c.In.GetValues()...)
	case *policypb.Argument_Present:
		a.Present = &c.Present
	}
	return a
}

func recording(in *policypb.RecordedArguments) *policy.AgentRecording {
	if in == nil {
		return nil
	}
	r := &policy.AgentRecording{Reveal: in.GetReveal()}
	switch in.GetForm() {
	case policypb.RecordedArguments_Digest:
		r.Form = policy.RecordDigest
	case policypb.RecordedArguments_Redacted:
		r.Form = policy.RecordRedacted
	}
	return r
}

func tokens(in *policypb.JWTAuthentication) *policy.Tokens {
	if in == nil {
		return nil
	}
	t := &policy.Tokens{
		Optional: in.GetPresence() == policypb.JWTAuthentication_Optional,
		Drop:     in.GetUnacceptable() == policypb.JWTAuthentication_Drop,
		Strip:    in.GetForwarding() == policypb.JWTAuthentication_Strip,
		Resource: in.GetResource(), Scopes: in.GetScopesSupported(),
	}
	for _, i := range in.GetIssuers() {
		t.Issuers = append(t.Issuers, policy.Issuer{
			Name: i.GetIssuer(), Audiences: i.GetAudiences(), Algorithms: i.GetAlgorithms(),
			KeysURL: i.GetJwksUri(), KeysFile: i.GetJwksFile(), Keys: i.GetJwks(),
		})
	}
	return t
}
