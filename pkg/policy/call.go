package policy

// Port tells what is spoken with dst. If two policies disagree the stricter wins:
// MCP over opaque, opaque over undeclared; paths are united. Where an invalid
// policy denies everything it is MCP, and Call denies.
func (p *Policies) Port(d Direction, dst Destination) Port {
	if p == nil {
		return Port{Protocol: ProtocolMCP}
	}
	a := p.agents(d)
	if a == nil || a.block(dst.Service.Hostname, dst.Workload) != nil {
		return Port{Protocol: ProtocolMCP}
	}
	if r := a.rules(d, &dst); r != nil {
		return r.port
	}
	return Port{}
}

// Call decides one call on an MCP port.
func (p *Policies) Call(c *Call) Decision {
	r, d := p.governing(c)
	if r == nil {
		return d
	}
	q := newQuestion(c, p.trustDomain)
	d = r.decide(&q)
	if len(r.audit.rules) > 0 {
		d.Audits = r.audits(&q)
	}
	return d
}

// Visible decides whether a list may show object to the caller of c: whether
// some arguments exist with which the caller could use it. c is the list call.
// Nothing is audited; the call itself will be.
func (p *Policies) Visible(c *Call, object Object) Decision {
	r, d := p.governing(c)
	if r == nil {
		return d
	}
	q := newQuestion(c, p.trustDomain).about(object)
	return r.decide(&q)
}

// governing are the rules for a call, or the decision if there are none.
func (p *Policies) governing(c *Call) (*agentRules, Decision) {
	if p == nil {
		return nil, nothingKnown
	}
	a := p.agents(c.Direction)
	if a == nil {
		return nil, Decision{Reason: "denied because the direction of the call is not known, which is a fault of the sidecar"}
	}
	if d := a.block(c.Destination.Service.Hostname, c.Destination.Workload); d != nil {
		return nil, *d
	}
	r := a.rules(c.Direction, &c.Destination)
	if r == nil || r.port.Protocol != ProtocolMCP {
		return nil, Decision{Reason: "denied because no agent policy declares MCP on the port; list it under spec.ports"}
	}
	return r, Decision{}
}

// decide asks the rules: Deny, then Require, then Allow, then what base
// protocol methods follow.
func (r *agentRules) decide(q *question) Decision {
	c := r.deny.candidates(q)
	for i := c.next(); i >= 0; i = c.next() {
		switch rule := r.deny.rules[i]; rule.acts(q) {
		case yes:
			return rule.decision
		case failed:
			return rule.failure
		}
	}
	c = r.require.candidates(q)
	for i := c.next(); i >= 0; i = c.next() {
		switch rule := r.require.rules[i]; rule.acts(q) {
		case yes:
			return rule.stepsUp(q)
		case failed:
			return rule.failure
		}
	}
	return r.grant(q)
}

// stepsUp is what a Require rule decides that does not hold: whether more scopes
// would do is part of it.
func (r *rule) stepsUp(q *question) Decision {
	if len(r.scopes) > 0 && !q.scopesGranted {
		granted := *q
		granted.scopesGranted = true
		if r.acts(&granted) == no {
			return r.stepUp
		}
	}
	return r.decision
}

// missing is the decision if nothing allowed q. An Allow rule for which only
// scopes are missing says which.
func (r *agentRules) missing(q *question) Decision {
	if r.stepUp {
		granted := *q
		granted.scopesGranted = true
		c := r.allow.candidates(&granted)
		for i := c.next(); i >= 0; i = c.next() {
			if rule := r.allow.rules[i]; len(rule.scopes) > 0 && rule.acts(&granted) == yes {
				return rule.stepUp
			}
		}
	}
	return r.nothing(q)
}

// grant asks the rules that allow. In a list, what depends on arguments is allowed.
func (r *agentRules) grant(q *question) Decision {
	c := r.allow.candidates(q)
	for i := c.next(); i >= 0; i = c.next() {
		switch rule := r.allow.rules[i]; rule.acts(q) {
		case yes, unknown:
			return rule.decision
		}
	}
	if q.known && q.groups&groupBase != 0 {
		c = r.base.candidates(q)
		for i := c.next(); i >= 0; i = c.next() {
			if rule := r.base.rules[i]; rule.source.matches(q.call.Source, q.trustDomain) {
				return rule.base
			}
		}
	}
	return r.missing(q)
}

// audits are the audit-only rules that would have acted.
func (r *agentRules) audits(q *question) []Audit {
	var out []Audit
	c := r.audit.candidates(q)
	for i := c.next(); i >= 0; i = c.next() {
		rule := r.audit.rules[i]
		t := rule.acts(q)
		if t == yes || t == failed && rule.action != ActionAllow {
			d := &rule.decision
			out = append(out, Audit{Policy: d.Policy, Rule: d.Rule, Version: d.Version, Action: rule.action})
		}
	}
	return out
}
