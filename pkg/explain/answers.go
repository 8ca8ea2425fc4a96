package explain

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"strings"

	"github.com/outrigger-mesh/outrigger/pkg/mesh"
	"github.com/outrigger-mesh/outrigger/pkg/policy"
	"github.com/outrigger-mesh/outrigger/pkg/route"
	"github.com/outrigger-mesh/outrigger/pkg/telemetry"
)

// An Answer is what became of a question, for people and for programs.
type Answer struct {
	Allowed  bool     `json:"allowed"`  // nobody that we know of refuses it
	Lines    []string `json:"lines"`    // how it comes about, in order
	Certain  bool     `json:"certain"`  // it does not depend on what is not known here
	Recorded *bool    `json:"recorded"` // of a recorded call: whether it was allowed; nil for others
}

func (a *Answer) say(format string, args ...any) {
	a.Lines = append(a.Lines, fmt.Sprintf(format, args...))
}

// begin says what is to be known before the answer.
func (w *World) begin() *Answer {
	a := &Answer{Allowed: true, Certain: true}
	a.say("asked of %s (%s)", w.self.Principal, joined(w.self.Addresses))
	if len(w.Pending) > 0 {
		a.Allowed = false
		a.say("the sidecar denies everything until it has: %s; what follows is as if it had", strings.Join(w.Pending, ", "))
	}
	for _, p := range w.Problems {
		a.Certain = false
		a.say("not readable in the dump: %v", p)
	}
	return a
}

func joined[T fmt.Stringer](all []T) string {
	var texts []string
	for _, one := range all {
		texts = append(texts, one.String())
	}
	return strings.Join(texts, ", ")
}

// Outbound answers where a connection of the app to a destination would go, and who
// would refuse it: an address and port, or a service's name and port.
func (w *World) Outbound(to route.Destination) *Answer {
	a := w.begin()
	rt, err := w.routes.Resolve(w.snap, to)
	if err != nil {
		a.Allowed = false
		if !w.config.Discovery.Wildcard && errors.Is(err, route.ErrNoRoute) {
			a.Certain = false
			a.say("not known here: the sidecar asks its control plane only for what its app connects to, and has not asked for %v, or not lately; connect once, and take another dump", to)
			return a
		}
		a.say("refused here: %v", err)
		return a
	}
	if rt.Service != nil {
		a.say("%v is service %v", to, rt.Service.Key())
		w.sayEndpoints(a, rt, to)
	}
	for _, e := range w.alone {
		if e.WorkloadUID == rt.Target || rt.Service != nil && w.serves(e.WorkloadUID, rt.Service) {
			a.say("left alone: %s", e)
		}
	}
	switch {
	case len(rt.Hops) == 0 && rt.Hostname != "":
		a.say("%s to %s port %d, as plain TCP", rt.Kind, rt.Hostname, rt.Port)
	case len(rt.Hops) == 0:
		a.say("%s to %s, as plain TCP", rt.Kind, rt.Address)
	}
	for i, h := range rt.Hops {
		where := "inside of it, "
		if i == 0 {
			where = fmt.Sprintf("%s: HBONE to %s, ", rt.Kind, h.Address)
		}
		a.say("%sCONNECT %s, to one of %s", where, h.Authority, joined(h.Expected))
	}
	w.askSender(a, to, rt)
	w.askReceiver(a, rt)
	return a
}

func (w *World) sayEndpoints(a *Answer, rt *route.Route, to route.Destination) {
	number := to.Port
	if to.Hostname == "" {
		number = to.Address.Port()
	}
	all := w.snap.Endpoints(rt.Service.Key(), number)
	if len(all) > 1 && rt.Endpoint.Workload != nil {
		var names []string
		for _, e := range all {
			names = append(names, e.Workload.UID)
		}
		slices.Sort(names)
		a.say("one of %d endpoints, here %s: %s", len(all), rt.Endpoint.Workload.UID, strings.Join(names[:min(len(names), 20)], ", "))
	}
}

// serves tells whether a workload is one of a service.
func (w *World) serves(uid string, svc *mesh.Service) bool {
	for one := range w.snap.Members(svc.Key()) {
		if one.UID == uid {
			return true
		}
	}
	return false
}

// askSender asks the sidecar's own policies.
func (w *World) askSender(a *Answer, to route.Destination, rt *route.Route) {
	target := policy.Destination{Workload: rt.Endpoint.Workload, Address: to.Address}
	if to.Hostname != "" {
		target.Address = netip.AddrPortFrom(netip.Addr{}, to.Port)
	}
	if rt.Service != nil {
		target.Service = rt.Service.Key()
	}
	policies := w.snap.Policies()
	d := policies.Connect(&policy.Connection{
		Direction: policy.Outbound, Source: w.self.Principal, Destination: target.Address, Service: target.Service, Workload: target.Workload,
	})
	if !d.Allowed {
		a.Allowed = false
	}
	a.say("this sidecar: %s", spoken(d))
	sayPort(a, policies.Port(policy.Outbound, target))
}

// askReceiver asks the L4 authorizations that the receiver obeys.
func (w *World) askReceiver(a *Answer, rt *route.Route) {
	to := rt.Endpoint.Workload
	if to == nil {
		a.Certain = false
		a.say("the receiver: not known here")
		return
	}
	c := &policy.Connection{Source: w.self.Principal, Destination: netip.AddrPortFrom(netip.Addr{}, rt.Endpoint.Port)}
	if rt.Kind == route.Plain || rt.Kind == route.Passthrough {
		c.Source = mesh.Principal{}
	}
	if len(w.self.Addresses) > 0 {
		c.SourceAddr = netip.AddrPortFrom(w.self.Addresses[0], 0)
	}
	if len(to.Addresses) > 0 {
		c.Destination = netip.AddrPortFrom(to.Addresses[0], rt.Endpoint.Port)
	}
	d := w.receiver(to).Connect(c)
	if !d.Allowed {
		a.Allowed = false
	}
	if to.Namespace != w.self.Namespace && d.Allowed {
		a.Certain = false
		a.say("the receiver, %s, by the L4 authorizations that this dump knows: %s; ask a dump of its own: a control plane may not send those of %s to others", to.UID, spoken(d), to.Namespace)
	} else {
		a.say("the receiver, %s, by L4 authorization: %s", to.UID, spoken(d))
	}
	if rt.Kind == route.Waypoint || rt.Kind == route.Gateway {
		a.Certain = false
		a.say("what stands between, %s, has rules of its own", rt.Target)
	}
}

// Inbound answers who would refuse a connection from a peer to a port of the app. A
// zero peer is one without a certificate.
func (w *World) Inbound(peer mesh.Principal, from netip.Addr, to uint16) *Answer {
	a := w.begin()
	c := &policy.Connection{Direction: policy.Inbound, Source: peer, SourceAddr: netip.AddrPortFrom(from, 0)}
	if len(w.self.Addresses) > 0 {
		c.Destination = netip.AddrPortFrom(w.self.Addresses[0], to)
	}
	w.sayTrust(a, peer)
	policies := w.snap.Policies()
	d := policies.Connect(c)
	a.Allowed = a.Allowed && d.Allowed
	a.say("a connection to port %d from %s, by L4 authorization: %s", to, named(peer), spoken(d))
	for _, audit := range d.Audits {
		a.say("dry run: %s rule %s would have acted", audit.Policy, audit.Rule)
	}
	for _, p := range policies.Problems() {
		a.say("policy with an error: %v", p)
	}
	port := policies.Port(policy.Inbound, policy.Destination{Workload: w.snap.Self(), Address: c.Destination})
	if port.Protocol == policy.ProtocolUndeclared && slices.Contains(w.config.Inbound.MCPPorts, strconv.Itoa(int(to))) {
		a.Allowed = false
		a.say("denied: the operator declares the port as MCP (inbound.mcpPorts) and no agent policy lists it, so every call is denied; list it under spec.ports of a policy")
		return a
	}
	sayPort(a, port)
	return a
}

// sayTrust tells whether a certificate of the peer's trust domain can be admitted.
func (w *World) sayTrust(a *Answer, peer mesh.Principal) {
	domain := peer.TrustDomain()
	switch _, federated := w.config.Identity.FederatedBundles[domain]; {
	case peer.IsZero() || domain == w.self.Principal.TrustDomain() || federated || slices.Contains(w.config.Identity.TrustDomainAliases, domain):
	case w.config.Identity.Provider == "workload-api":
		a.Certain = false
		a.say("TLS admits the trust domain %s only if the Workload API has a bundle of it", domain)
	default:
		a.Allowed = false
		a.say("refused by TLS: the trust domain %s is neither ours nor an alias (identity.trustDomainAliases) nor federated (identity.federatedBundles)", domain)
	}
}

func named(p mesh.Principal) string {
	if p.IsZero() {
		return "a peer without a certificate"
	}
	return p.String()
}

func sayPort(a *Answer, p policy.Port) {
	switch p.Protocol {
	case policy.ProtocolMCP:
		a.say("agent policy: the port speaks MCP, so each call is asked about; explain one from its audit record")
	case policy.ProtocolHTTP:
		a.say("agent policy: the port speaks HTTP, so requests are read strictly, but no rule is asked about them")
	case policy.ProtocolOpaque:
		a.say("agent policy: the port is opaque, so its bytes are not inspected")
	default:
		a.say("agent policy: none lists the port, so it is not inspected")
	}
}

func spoken(d policy.Decision) string {
	verdict := "denied"
	if d.Allowed {
		verdict = "allowed"
	}
	switch {
	case d.Reason == "":
		return verdict
	case strings.HasPrefix(d.Reason, verdict+" "): // as in "denied because"
		return d.Reason
	}
	return verdict + ": " + d.Reason
}

// ErrNotACall means that a line of the audit record is not about a call.
var ErrNotACall = telemetry.ErrNotACall

// Call decides a recorded call again, from a line of the audit record.
func (w *World) Call(line []byte) (*Answer, error) {
	recorded, decided, err := telemetry.ReadCall(line)
	if err != nil {
		return nil, err
	}
	a := w.begin()
	c := &recorded.Call
	if c.Direction == policy.Inbound && !slices.ContainsFunc(w.self.Addresses, func(own netip.Addr) bool { return own == c.Destination.Address.Addr() }) {
		a.Certain = false
		a.say("the record is of a call to %s: the dump is another sidecar's", c.Destination.Address)
	}
	what := c.Method
	if c.Object.Name != "" {
		what += " " + strconv.Quote(c.Object.Name)
	}
	a.say("%s by %s", what, named(c.Source))
	e := w.snap.Policies().Explain(&recorded)
	a.Allowed, a.Certain, a.Recorded = e.Decision.Allowed, a.Certain && e.Certain, &decided.Allowed
	for _, r := range e.Rules {
		a.say("%s", outcome(r))
	}
	if e.Certain {
		a.say("now: %s", spoken(e.Decision))
		sayNearest(a, &e)
	} else {
		a.say("now: not certain, for a rule asks for what the record does not have; without that rule: %s", spoken(e.Decision))
	}
	a.say("then: %s", spoken(decided))
	if strings.HasPrefix(decided.Reason, "not accepted: ") {
		a.say("the message was refused before policy was asked")
	}
	return a, nil
}

// sayNearest names, of a call that no rule allows, the rule that came closest to
// it and what it asks for in vain.
func sayNearest(a *Answer, e *policy.Explanation) {
	var nearest *policy.RuleOutcome
	for i := range e.Rules {
		r := &e.Rules[i]
		if r.Decides { // a rule denies, however many would allow
			return
		}
		if r.Action == policy.ActionAllow && !r.AuditOnly && len(r.Steps) > 0 && (nearest == nil || len(r.Steps) > len(nearest.Steps)) {
			nearest = r
		}
	}
	if !e.Decision.Allowed && nearest != nil { // steps end with the first that does not hold
		a.say("nearest: %s rule %s would allow it but for: %s", nearest.Policy, nearest.Rule, nearest.Steps[len(nearest.Steps)-1].What)
	}
}

var actions = map[policy.Action]string{policy.ActionAllow: "Allow", policy.ActionDeny: "Deny", policy.ActionRequire: "Require"}

func outcome(r policy.RuleOutcome) string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s rule %s (%s", r.Policy, r.Rule, actions[r.Action])
	if r.AuditOnly {
		b.WriteString(", audit only")
	}
	fmt.Fprintf(&b, "): acts %s", r.Acts)
	for _, s := range r.Steps {
		fmt.Fprintf(&b, "; %s %s", s.What, s.Holds)
	}
	if r.Decides {
		b.WriteString("; it decides")
	}
	return b.String()
}
