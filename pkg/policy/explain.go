package policy

import (
	"fmt"
	"strings"
)

// A Recorded is a call as far as its record tells of it.
type Recorded struct {
	Call  Call
	Lacks Lacks
}

// Lacks says what of a call is not known. Only what a rule asks for matters.
type Lacks struct {
	Arguments    bool // of the tool or prompt
	Claims       bool // of the token, but for iss, sub and scope, which Call.Claims has
	Headers      bool // of the HTTP request
	Session      bool // the session's id
	Capabilities bool // of the client
	Elicitation  bool // what the server asked for
}

// An Explanation is how a decision comes about, rule by rule.
type Explanation struct {
	// Decision is what the policies decide; if Certain is false, it may be another,
	// depending on what the record lacks.
	Decision Decision
	Certain  bool
	Rules    []RuleOutcome // all rules that govern the destination, in the order in which they are asked
}

// A RuleOutcome is what came of one rule.
type RuleOutcome struct {
	Policy, Version, Rule string
	Action                Action
	AuditOnly             bool
	Acts                  Truth // whether it allows (an Allow rule) or denies (the others)
	Steps                 []Step
	Decides               bool // it is the one that the decision names
}

// A Step is one of the things that a rule asks for. The first that does not hold ends it.
type Step struct {
	What  string // "method", "object", "source", "scopes", "argument a.b", "when[0] ..."
	Holds Truth
}

// Truth is what came of a question about a call.
type Truth uint8

const (
	No      Truth = Truth(no)
	Yes     Truth = Truth(yes)
	Unknown Truth = Truth(unknown) // it depends on what the record lacks
	Failed  Truth = Truth(failed)  // it could not be evaluated, which denies
)

func (t Truth) String() string {
	return [...]string{"no", "yes", "unknown", "failed"}[t]
}

// Explain decides a recorded call again. It is Call with its reasons: with a call of
// which nothing is lacking, both decide alike.
func (p *Policies) Explain(r *Recorded) Explanation {
	rules, d := p.governing(&r.Call)
	if rules == nil {
		return Explanation{Decision: d, Certain: true}
	}
	q := newQuestion(&r.Call, p.trustDomain)
	q.lacks = r.Lacks
	x := explainer{q: &q}
	x.explain(rules)
	return x.Explanation
}

type explainer struct {
	Explanation
	q       *question
	settled bool // Decision is what it will be
	doubt   bool // a rule before could have decided, if more were known
}

// explain asks all rules as decide does, and does not stop at the one that decides.
func (x *explainer) explain(r *agentRules) {
	for _, set := range [...]*ruleSet{&r.deny, &r.require} {
		for _, rule := range set.rules {
			x.add(rule, x.ask(rule), func(t truth) Decision {
				if t == failed {
					return rule.failure
				}
				return rule.stepsUp(x.q)
			}, yes, failed)
		}
	}
	refusals := x.doubt && !x.settled // what could have denied may not have
	for _, rule := range r.allow.rules {
		x.add(rule, x.ask(rule), func(truth) Decision { return rule.decision }, yes)
	}
	if !x.settled && x.q.known && x.q.groups&groupBase != 0 {
		for _, rule := range r.base.rules {
			if rule.source.matches(x.q.call.Source, x.q.trustDomain) {
				x.Decision, x.settled = rule.base, true
				break
			}
		}
	}
	if !x.settled {
		x.Decision = r.missing(x.q)
	}
	// An earlier Allow rule would only have allowed too.
	x.Certain = !x.doubt || x.settled && x.Decision.Allowed && !refusals
	for _, rule := range r.audit.rules {
		o := x.ask(rule)
		x.Rules = append(x.Rules, o)
		if o.Acts == Yes || o.Acts == Failed && rule.action != ActionAllow {
			x.Decision.Audits = append(x.Decision.Audits, Audit{Policy: o.Policy, Rule: o.Rule, Version: o.Version, Action: rule.action})
		}
	}
}

// add takes the outcome of a rule, which decides if it is one of those.
func (x *explainer) add(r *rule, o RuleOutcome, decision func(truth) Decision, decides ...truth) {
	for _, t := range decides {
		if truth(o.Acts) == t && !x.settled {
			x.Decision, x.settled, o.Decides = decision(t), true, true
		}
	}
	x.doubt = x.doubt || o.Acts == Unknown && !x.settled
	x.Rules = append(x.Rules, o)
}

// ask is acts, step by step.
func (x *explainer) ask(r *rule) RuleOutcome {
	q := x.q
	o := RuleOutcome{Policy: r.decision.Policy, Version: r.decision.Version, Rule: r.name, Action: r.action, AuditOnly: r.audit}
	step := func(what string, t truth) bool {
		o.Steps = append(o.Steps, Step{what, Truth(t)})
		return t == yes
	}
	s := &r.scope
	if !step("method", truthOf(s.matchesMethods(q, r.action))) || s.objects && !step("object", truthOf(s.matchesObject(q, r.action))) {
		return o
	}
	t := yes
	if r.source != nil && !step("source", truthOf(r.source.matches(q.call.Source, q.trustDomain))) {
		t = no
	}
	ask := func(what string, holds func() truth) {
		if t != no {
			one := holds()
			step(what, one)
			t = t.and(one)
		}
	}
	if len(r.scopes) > 0 {
		ask("scopes "+strings.Join(r.scopes, " "), func() truth { return q.hasScopes(r.scopes) })
	}
	for i := range r.arguments {
		a := &r.arguments[i]
		ask("argument "+strings.Join(a.path, "."), func() truth { return q.holdsArgument(a, r.action == ActionDeny) })
	}
	for i, c := range r.when {
		ask(fmt.Sprintf("when[%d] %s", i, c.text), func() truth { return c.holds(q) })
	}
	o.Acts = Truth(r.actsIf(t))
	return o
}
