package policy

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"

	"github.com/outrigger-mesh/outrigger/pkg/mesh"
)

// maxDirect is how many destinations that were dialled by a workload's own
// address are remembered.
const maxDirect = 1024

// agents are the agent policies that apply to a workload in one direction.
type agents struct {
	trustDomain string
	policies    []placed
	blocks      []block
	ports       map[uint16]*portRules
	byService   bool // some policy is for some services only

	mu     sync.Mutex // guards what follows
	direct map[directKey]*agentRules
}

// A placed policy is one that applies, with what depends on where.
type placed struct {
	*Agent
	hosts map[string]bool // of the services it is for; nil: all
}

// A block denies everything to some services, or to all.
type block struct {
	hosts    map[string]bool // nil: all
	decision Decision
}

// portRules are the rules of one port, by the service that is dialled.
type portRules struct {
	byHost map[string]*agentRules
	others *agentRules // for every other service and for none; nil: undeclared
}

// A directKey is a workload that was dialled by its own address.
type directKey struct {
	workload *mesh.Workload
	port     uint16
}

// block is why nothing may pass, or nil. The destination is a service's
// hostname, if it is not "", or an endpoint.
func (a *agents) block(host string, w *mesh.Workload) *Decision {
	for i := range a.blocks {
		if b := &a.blocks[i]; b.hosts == nil || b.hosts[host] || host == "" && isEndpoint(w, b.hosts) {
			return &b.decision
		}
	}
	return nil
}

func isEndpoint(w *mesh.Workload, hosts map[string]bool) bool {
	if w == nil {
		return false
	}
	for name := range w.Services {
		if hosts[name.Hostname] {
			return true
		}
	}
	return false
}

// rules are those that govern a destination; nil if none declares its port.
func (a *agents) rules(d Direction, dst *Destination) *agentRules {
	port := dst.Address.Port()
	if a.byService && d == Outbound && dst.Service == (mesh.Name{}) && dst.Workload != nil && len(dst.Workload.Services) > 0 {
		return a.directRules(directKey{dst.Workload, port})
	}
	rules := a.ports[port]
	if rules == nil {
		return nil
	}
	if d == Outbound && rules.byHost != nil {
		if r := rules.byHost[dst.Service.Hostname]; r != nil {
			return r
		}
	}
	return rules.others
}

// directRules are the rules for a workload dialled by its own address, as a
// client of a headless service does: those of every service it is an endpoint of.
func (a *agents) directRules(k directKey) *agentRules {
	a.mu.Lock()
	defer a.mu.Unlock()
	if r, ok := a.direct[k]; ok {
		return r
	}
	if len(a.direct) >= maxDirect {
		clear(a.direct)
	}
	if a.direct == nil {
		a.direct = map[directKey]*agentRules{}
	}
	var all []placement
	for _, p := range a.policies {
		all = append(all, p.placements(k)...)
	}
	r := newAgentRules(all, a.trustDomain)
	a.direct[k] = r
	return r
}

// placements are the ports of p that mean k: the port itself and, of services
// that p is for, the service ports that lead to it.
func (p placed) placements(k directKey) []placement {
	if p.hosts == nil {
		return []placement{{p.Agent, k.port}}
	}
	var out []placement
	for name, mappings := range k.workload.Services {
		if !p.hosts[name.Hostname] {
			continue
		}
		out = append(out, placement{p.Agent, k.port})
		for _, m := range mappings {
			if m.Target == k.port && m.Service != k.port {
				out = append(out, placement{p.Agent, m.Service})
			}
		}
	}
	return out
}

// build makes the rules of every declared port.
func (a *agents) build(trustDomain string) {
	a.trustDomain = trustDomain
	a.ports = map[uint16]*portRules{}
	for _, p := range a.policies {
		a.byService = a.byService || p.hosts != nil
		for port := range p.ports {
			if a.ports[port] == nil {
				a.ports[port] = a.portRules(port)
			}
		}
	}
}

func (a *agents) portRules(port uint16) *portRules {
	rules := &portRules{others: a.rulesFor(port, "")}
	for _, p := range a.policies {
		if _, declared := p.ports[port]; !declared && !p.allMCPPorts {
			continue
		}
		for host := range p.hosts {
			if rules.byHost == nil {
				rules.byHost = map[string]*agentRules{}
			}
			if rules.byHost[host] == nil {
				rules.byHost[host] = a.rulesFor(port, host)
			}
		}
	}
	return rules
}

func (a *agents) rulesFor(port uint16, host string) *agentRules {
	var all []placement
	for _, p := range a.policies {
		if p.hosts == nil || p.hosts[host] {
			all = append(all, placement{p.Agent, port})
		}
	}
	return newAgentRules(all, a.trustDomain)
}

// agentsBuilder sorts out which agent policies apply where.
type agentsBuilder struct {
	self     *mesh.Self
	workload *mesh.Workload
	out      *Policies
}

var (
	errNoLabels   = errors.New("it selects by labels, and the sidecar was not told the labels of its pod; tell it, or select without labels")
	errNoServices = errors.New("it selects by service, and the mesh has not told which services the workload is an endpoint of")
)

func (b *agentsBuilder) add(a *Agent) {
	selected, known := a.selects(b.self)
	if !selected {
		return
	}
	reason := a.quarantined
	if !known && reason == nil {
		reason = errNoLabels
	}
	for _, d := range a.directions {
		b.addTo(d, a, reason)
	}
}

func (b *agentsBuilder) addTo(d Direction, a *Agent, reason error) {
	var hosts map[string]bool
	if len(a.services) > 0 {
		hosts = map[string]bool{}
		for _, s := range a.services {
			hosts[a.hostname(s, b.self)] = true
		}
	}
	if d == Inbound && hosts != nil {
		// Which service was dialled does not matter here, only whose endpoint we are.
		switch {
		case b.workload == nil && reason == nil:
			reason = errNoServices
		case b.workload != nil && !isEndpoint(b.workload, hosts):
			return
		}
		hosts = nil
	}
	to := b.out.agents(d)
	if reason == nil {
		to.policies = append(to.policies, placed{a, hosts})
		return
	}
	err := &QuarantineError{a.Key(), reason}
	to.blocks = append(to.blocks, block{hosts, Decision{Policy: a.Key(), Version: a.version, Reason: "denied because " + err.Error()}})
	if !slices.ContainsFunc(b.out.problems, func(e error) bool { return e.Error() == err.Error() }) {
		b.out.problems = append(b.out.problems, err)
	}
}

// agentRules are the rules that govern a destination, of all policies together.
type agentRules struct {
	port     Port
	terms    Terms
	stepUp   bool // some rule asks for scopes
	deny     ruleSet
	require  ruleSet
	allow    ruleSet
	base     ruleSet // Allow rules whose source may use the base protocol methods
	audit    ruleSet
	policies []string
	versions []string // of the policies, in their order
}

// A placement is a policy by the port under which it declares a destination.
type placement struct {
	*Agent
	at uint16
}

// newAgentRules compiles what the placements say; nil if none declares a port.
func newAgentRules(all []placement, trustDomain string) *agentRules {
	r := &agentRules{port: mergePorts(all)}
	if r.port.Protocol == ProtocolUndeclared {
		return nil
	}
	if r.port.Protocol != ProtocolMCP {
		return r
	}
	seen := map[*Agent]bool{}
	for _, p := range all {
		if p.governs(p.at) && !seen[p.Agent] {
			seen[p.Agent] = true
			r.add(p.Agent, trustDomain)
		}
	}
	return r
}

// mergePorts takes the stricter protocol, and the paths of all that say MCP.
func mergePorts(all []placement) Port {
	var out Port
	every := false
	for _, p := range all {
		declared, ok := p.ports[p.at]
		if !ok {
			continue
		}
		out.Protocol = max(out.Protocol, declared.Protocol)
		if declared.Protocol == ProtocolMCP {
			every = every || len(declared.Paths) == 0
			out.Paths = append(out.Paths, declared.Paths...)
		}
	}
	if every {
		out.Paths = nil
	}
	slices.Sort(out.Paths)
	out.Paths = slices.Compact(out.Paths)
	return out
}

func (r *agentRules) add(a *Agent, trustDomain string) {
	r.policies = append(r.policies, a.Key())
	r.versions = append(r.versions, a.Version())
	r.terms.add(a)
	for _, rule := range a.rules {
		keys := rule.keys(trustDomain)
		r.stepUp = r.stepUp || len(rule.scopes) > 0
		switch {
		case rule.audit:
			r.audit.add(rule, keys)
		case rule.action == ActionDeny:
			r.deny.add(rule, keys)
		case rule.action == ActionRequire:
			r.require.add(rule, keys)
		default:
			r.allow.add(rule, keys)
			if !a.skipBase {
				r.base.add(rule, rule.source.keys(trustDomain))
			}
		}
	}
}

// nothing is the decision if no rule allows q.
func (r *agentRules) nothing(q *question) Decision {
	names := r.policies
	more := ""
	if len(names) > 3 {
		names, more = names[:3], fmt.Sprintf(" and %d more", len(r.policies)-3)
	}
	object := ""
	if q.object.Name != "" {
		object = " " + quote(q.object.Name)
	}
	// All of them together decided; the record must lead to each.
	return Decision{Policy: strings.Join(r.policies, ","), Version: strings.Join(r.versions, ","), Reason: fmt.Sprintf("denied because no rule of agent policies %v%s allows %s%s to %s; allow it in one of them",
		names, more, quote(q.method), object, caller(q.call.Source))}
}

func caller(p mesh.Principal) string {
	if p.IsZero() {
		return "a caller that is not authenticated"
	}
	return quote(p.String())
}
