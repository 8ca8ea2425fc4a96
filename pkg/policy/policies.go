// Package policy compiles Istio's L4 authorizations and our agent policies and
// answers whether a connection or a call may pass, and what a list may show. It
// does not know where policies come from or what is done with its answers.
package policy

import (
	"cmp"
	"fmt"
	"slices"
	"strings"

	"github.com/outrigger-mesh/outrigger/pkg/mesh"
)

// Protocol is what a policy says is spoken on a port.
type Protocol uint8

const (
	ProtocolUndeclared Protocol = iota // no agent policy lists the port: L4 authorization alone decides
	ProtocolOpaque                     // any bytes, not inspected
	ProtocolHTTP                       // HTTP: read strictly, but only L4 authorization decides
	ProtocolMCP                        // MCP: whatever cannot be inspected as MCP is denied
)

// Inspected tells whether more is read of it than bytes.
func (p Protocol) Inspected() bool { return p == ProtocolHTTP || p == ProtocolMCP }

// A Port is what agent policies say about a port.
type Port struct {
	Protocol Protocol
	Paths    []string // exact request paths of the MCP endpoint; none: every path
}

// Equal tells whether the same is spoken, on the same paths.
func (p Port) Equal(other Port) bool {
	return p.Protocol == other.Protocol && slices.Equal(p.Paths, other.Paths)
}

// Policies is everything that applies to the workload a sidecar serves,
// compiled. It never changes, and any number of goroutines may ask it; a nil
// *Policies denies everything.
type Policies struct {
	trustDomain string // of the workload
	connections authorizations
	inbound     agents
	outbound    agents
	problems    []error
}

// New compiles what of a and p applies to the workload w that self names; the
// rest is left out. w is nil while the mesh has not told of the workload: then
// nothing inbound is allowed, because it is not known which policies w lists.
//
// A policy that selects by labels is treated as invalid, and so denies all
// that it could govern, while self.Labels is nil.
func New(self *mesh.Self, w *mesh.Workload, a []*Authorization, p []*Agent) *Policies {
	out := &Policies{trustDomain: self.Principal.TrustDomain()}
	out.addAuthorizations(self, w, a)
	sorted := slices.SortedFunc(slices.Values(p), func(x, y *Agent) int {
		return cmp.Or(cmp.Compare(x.namespace, y.namespace), cmp.Compare(x.name, y.name))
	})
	builder := agentsBuilder{self: self, workload: w, out: out}
	for _, agent := range sorted {
		builder.add(agent)
	}
	out.inbound.build(out.trustDomain)
	out.outbound.build(out.trustDomain)
	return out
}

// Problems says which of the policies that apply here are invalid, or missing,
// and make Connect deny because of it, and what to do about each.
func (p *Policies) Problems() []error {
	if p == nil {
		return nil
	}
	return p.problems
}

// A QuarantineError says that a policy is invalid and denies what it governs.
type QuarantineError struct {
	Policy string // "namespace/name"
	Reason error
}

// Error is one line, because it is part of every decision: of a reason with many
// lines, the first with how many follow.
func (e *QuarantineError) Error() string {
	reason, rest, more := strings.Cut(e.Reason.Error(), "\n")
	if len(reason) > maxReason {
		reason = reason[:maxReason] + "..."
	}
	if more {
		reason += fmt.Sprintf(" (and %d more problems)", 1+strings.Count(rest, "\n"))
	}
	return fmt.Sprintf("policy %s is invalid, and denies all it would govern until it is corrected or removed: %s", e.Policy, reason)
}

const maxReason = 500 // bytes of what is wrong with a policy in a decision

// Unwrap is what is wrong with the policy.
func (e *QuarantineError) Unwrap() error { return e.Reason }

// agents are the agent policies of one direction.
func (p *Policies) agents(d Direction) *agents {
	switch d {
	case Inbound:
		return &p.inbound
	case Outbound:
		return &p.outbound
	}
	return nil
}
