package policy

import "github.com/outrigger-mesh/outrigger/pkg/mesh"

// A rule is an AgentRule, compiled.
type rule struct {
	name      string
	action    Action
	audit     bool
	source    *source // nil: any caller
	scope     scope
	arguments []argument
	when      []*condition
	scopes    []string // of OAuth, all of them

	decision Decision // what it decides where it acts
	failure  Decision // what it decides where it cannot be evaluated
	base     Decision // Allow: what it decides for base protocol methods
	stepUp   Decision // what it decides where nothing but scopes is missing
}

// A scope selects requests by method and object.
type scope struct {
	methods   []methodPattern
	objects   bool // any of the lists is set
	tools     []glob
	resources []glob
	prompts   []glob
}

// A question is what rules are asked: a call, or what a call would be.
type question struct {
	call        *Call
	trustDomain string // of the workload that is governed

	method    string
	alias     string // the method whose rights method follows, or ""
	groups    groups
	known     bool // the specification defines method
	object    Object
	arguments []byte
	// argumentsUnknown: the question is whether arguments exist.
	argumentsUnknown bool
	scopesGranted    bool // as if the token had every scope
	lacks            Lacks

	variables *variables // for expressions; nil until one asks
}

func newQuestion(c *Call, trustDomain string) question {
	q := question{call: c, trustDomain: trustDomain, method: c.Method, object: c.Object, arguments: c.Arguments}
	q.groups, q.known = groupsOf(q.method, q.object.Kind)
	q.alias = alias(q.method, q.object.Kind)
	return q
}

// about is the question whether the caller of q could use object with some arguments.
func (q question) about(object Object) question {
	q.method, q.alias = methodOf(object.Kind), ""
	q.object, q.arguments, q.argumentsUnknown = object, nil, true
	q.groups, q.known = groupsOf(q.method, object.Kind)
	return q
}

func (s *scope) matches(q *question, action Action) bool {
	return s.matchesMethods(q, action) && (!s.objects || s.matchesObject(q, action))
}

func (s *scope) matchesMethods(q *question, action Action) bool {
	if len(s.methods) > 0 {
		return s.matchesMethod(q)
	}
	return q.known || action != ActionAllow // nobody meant to allow what nobody knows
}

func (s *scope) matchesMethod(q *question) bool {
	for i := range s.methods {
		if s.methods[i].matches(q) {
			return true
		}
	}
	return false
}

func (s *scope) matchesObject(q *question, action Action) bool {
	switch q.object.Kind {
	case KindTool:
		return anyGlob(s.tools, q.object.Name)
	case KindResource:
		return anyGlob(s.resources, q.object.Name)
	case KindTemplate:
		// A list hides a template only if nothing it stands for could be used.
		if action == ActionAllow || q.argumentsUnknown {
			return anyGlob(s.resources, q.object.Name)
		}
		return anyCouldMatch(s.resources, q.object.Name)
	case KindPrompt:
		return anyGlob(s.prompts, q.object.Name)
	}
	return false
}

func anyGlob(globs []glob, s string) bool {
	for i := range globs {
		if globs[i].matches(s) {
			return true
		}
	}
	return false
}

func anyCouldMatch(globs []glob, template string) bool {
	for i := range globs {
		if globs[i].couldMatch(template) {
			return true
		}
	}
	return false
}

// acts tells whether the rule acts on q: an Allow rule allows, a Deny or
// Require rule denies. If it fails, Deny and Require deny.
func (r *rule) acts(q *question) truth {
	if !r.scope.matches(q, r.action) {
		return no
	}
	if !r.source.matches(q.call.Source, q.trustDomain) {
		return r.actsIf(no)
	}
	return r.actsIf(r.holds(q))
}

// actsIf tells whether a rule acts whose scope matches, by whether its source and
// its conditions hold.
func (r *rule) actsIf(holds truth) truth {
	if r.action != ActionRequire {
		return holds
	}
	switch holds {
	case yes:
		return no
	case no:
		return yes
	}
	return holds
}

// holds tells whether the rule's conditions hold: a no beats a failure beats what is unknown.
func (r *rule) holds(q *question) truth {
	t := q.hasScopes(r.scopes)
	for i := 0; i < len(r.arguments) && t != no; i++ {
		t = t.and(q.holdsArgument(&r.arguments[i], r.action == ActionDeny))
	}
	for i := 0; i < len(r.when) && t != no; i++ {
		t = t.and(r.when[i].holds(q))
	}
	return t
}

func (q *question) holdsArgument(a *argument, deny bool) truth {
	if q.argumentsUnknown || q.lacks.Arguments {
		return unknown
	}
	return a.holds(q.arguments, deny)
}

// keys are what one of must be true of a question on which the rule acts; none
// if that cannot be said.
func (r *rule) keys(trustDomain string) []key {
	if keys := r.scope.keys(r.action); keys != nil {
		return keys
	}
	if r.action == ActionRequire {
		return nil // it acts on whom its source does not admit
	}
	return r.source.keys(trustDomain)
}

func (s *scope) keys(action Action) []key {
	if !s.objects || len(s.resources) > 0 && action != ActionAllow {
		return nil
	}
	var keys []key
	for _, list := range []struct {
		globs []glob
		kinds []Kind
	}{
		{s.tools, []Kind{KindTool}},
		{s.resources, []Kind{KindResource, KindTemplate}},
		{s.prompts, []Kind{KindPrompt}},
	} {
		for i := range list.globs {
			name, exact := list.globs[i].exact()
			if !exact {
				return nil
			}
			for _, k := range list.kinds {
				keys = append(keys, objectKey(k, name))
			}
		}
	}
	return keys
}

// A ruleSet holds rules in order, indexed.
type ruleSet struct {
	rules []*rule
	index index
}

func (s *ruleSet) add(r *rule, keys []key) {
	s.index.add(len(s.rules), keys)
	s.rules = append(s.rules, r)
}

// candidates are the rules of the set that could act on q.
func (s *ruleSet) candidates(q *question) candidates {
	c := s.index.start()
	s.index.with(&c, objectKey(q.object.Kind, q.object.Name))
	s.index.withSource(&c, q.call.Source)
	return c
}

// withSource adds the rules that are filed under the caller.
func (x *index) withSource(c *candidates, caller mesh.Principal) {
	if x.kinds[keyPrincipal] {
		x.with(c, principalKey(caller))
	}
	if x.kinds[keyNamespace] {
		x.with(c, key{kind: keyNamespace, a: caller.Namespace()})
	}
}
