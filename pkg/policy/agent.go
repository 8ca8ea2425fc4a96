package policy

import (
	"github.com/outrigger-mesh/outrigger/pkg/mesh"
)

// An Agent is one agent policy, compiled.
type Agent struct {
	name, namespace string
	version         string
	directions      []Direction
	labels          map[string]string // none: every workload
	services        []string          // as written; none: every service
	ports           map[uint16]AgentPort
	allMCPPorts     bool
	skipBase        bool
	rules           []*rule
	filterLinked    bool
	recording       *Recording // nil: nothing
	tokens          *Tokens    // nil: they are not looked at
	quarantined     error      // why the policy is invalid; nil if it is not
	source          []byte
}

// Key is the policy's "namespace/name".
func (a *Agent) Key() string { return a.namespace + "/" + a.name }

// Source is what the decoder read the policy from; nil if it could not read it.
func (a *Agent) Source() []byte { return a.source }

// Version is what the carrier called the content, or a digest of it.
func (a *Agent) Version() string { return a.version }

// Quarantined is why the policy is invalid and denies what it governs; nil if it is valid.
func (a *Agent) Quarantined() error { return a.quarantined }

// QuarantineAgent stands for a new policy that is invalid because of reason: it
// denies whatever the policy would govern, on every port. partial is as much of
// the policy as could be read; a part of its target or its direction that makes
// no sense, or that partial.Unknown names, selects everything. If partial is nil
// nothing could be read and the policy denies its namespace, in both
// directions; if namespace is "" it denies the mesh.
func QuarantineAgent(name, namespace string, reason error, partial *AgentSpec) *Agent {
	a := &Agent{name: name, namespace: namespace, quarantined: reason,
		directions: []Direction{Inbound, Outbound}}
	if partial == nil {
		return a
	}
	a.version, a.source = partial.Version, partial.Source
	if partial.Direction <= Outbound && !partial.unknownAt("spec.direction") {
		a.directions = []Direction{max(partial.Direction, Inbound)}
	}
	if partial.unknownAt("spec.target") {
		return a
	}
	var c agentCompiler
	if c.labels(partial.Target.MatchLabels); len(c.list) == 0 {
		a.labels = partial.Target.MatchLabels
	}
	c = agentCompiler{}
	if c.services(partial.Target.Services); len(c.list) == 0 {
		a.services = partial.Target.Services
	}
	return a
}

// selects tells whether the policy could apply to the workload that self names:
// by namespace and labels. known is false if that depends on labels that nobody
// told us.
func (a *Agent) selects(self *mesh.Self) (selected, known bool) {
	if a.namespace != "" && a.namespace != self.Namespace && a.namespace != rootNamespace(self) {
		return false, true
	}
	if len(a.labels) > 0 && self.Labels == nil {
		return true, false
	}
	for name, value := range a.labels {
		if got, ok := self.Labels[name]; !ok || got != value {
			return false, true
		}
	}
	return true, true
}

// hostname is the service's hostname as the mesh knows it.
func (a *Agent) hostname(service string, self *mesh.Self) string {
	if IsDNSLabel(service) {
		return service + "." + a.namespace + ".svc." + clusterDomain(self)
	}
	return service
}

// governs tells whether the rules apply to a port that is declared as MCP.
func (a *Agent) governs(port uint16) bool {
	return a.allMCPPorts || a.ports[port].Protocol == ProtocolMCP
}

func rootNamespace(self *mesh.Self) string {
	if self.RootNamespace == "" {
		return "istio-system"
	}
	return self.RootNamespace
}

func clusterDomain(self *mesh.Self) string {
	if self.ClusterDomain == "" {
		return "cluster.local"
	}
	return self.ClusterDomain
}
