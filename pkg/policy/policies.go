// Package policy compiles Istio's L4 authorizations and our agent policies and
// answers whether a connection or a call may pass, and what a list may show. It
// does not know where policies come from or what is done with its answers.
package policy

import "github.com/outrigger-mesh/outrigger/pkg/mesh"

// Protocol is what a policy says is spoken on a port.
type Protocol uint8

const (
	ProtocolUndeclared Protocol = iota // no agent policy lists the port: L4 authorization alone decides
	ProtocolOpaque                     // any bytes, not inspected
	ProtocolMCP                        // MCP: whatever cannot be inspected as MCP is denied
)

// A Port is what agent policies say about a port.
type Port struct {
	Protocol Protocol
	Paths    []string // exact request paths of the MCP endpoint; none: every path
}

// Policies is everything that applies to the workload a sidecar serves,
// compiled. It never changes; a nil *Policies denies everything.
type Policies struct {
	// fields are the implementation's
}

// Connect decides whether a connection may be opened, by L4 authorization.
func (p *Policies) Connect(c *Connection) Decision { panic("unwritten") }

// Port tells what is spoken with dst. If two policies disagree the stricter wins:
// MCP over opaque, opaque over undeclared; paths are united.
func (p *Policies) Port(d Direction, dst Destination) Port { panic("unwritten") }

// Call decides one call on an MCP port.
func (p *Policies) Call(c *Call) Decision { panic("unwritten") }

// Visible decides whether a list may show object to the caller of c: whether
// some arguments exist with which the caller could use it. c is the list call.
func (p *Policies) Visible(c *Call, object Object) Decision { panic("unwritten") }

// New compiles what applies to the workload w that self names. w is nil while
// the mesh has not told of the workload.
func New(self *mesh.Self, w *mesh.Workload, a []*Authorization, p []*Agent) *Policies {
	panic("unwritten")
}

// An Authorization is one of Istio's L4 policies, compiled.
type Authorization struct{}

// CompileAuthorization validates and compiles an L4 policy.
func CompileAuthorization(s AuthorizationSpec) (*Authorization, error) { panic("unwritten") }

// QuarantineAuthorization stands for a new policy that is invalid because of
// reason: it denies whatever the policy would govern. ScopeUnknown means that
// the scope could not be read.
func QuarantineAuthorization(name, namespace string, scope Scope, reason error) *Authorization {
	panic("unwritten")
}

// An Agent is one agent policy, compiled.
type Agent struct{}

// CompileAgent validates and compiles an agent policy.
func CompileAgent(s AgentSpec) (*Agent, error) { panic("unwritten") }

// QuarantineAgent stands for a new policy that is invalid because of reason: it
// denies whatever the policy would govern. partial is as much of it as could be
// read, or nil.
func QuarantineAgent(name, namespace string, reason error, partial *AgentSpec) *Agent {
	panic("unwritten")
}

// Key is the policy's "namespace/name".
func (a *Authorization) Key() string { panic("unwritten") }

// Key is the policy's "namespace/name".
func (a *Agent) Key() string { panic("unwritten") }

// Version is what the carrier called the content, or a digest of it.
func (a *Agent) Version() string { panic("unwritten") }
