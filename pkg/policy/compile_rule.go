package policy

import (
	"errors"
	"fmt"
	"strings"
	"unicode/utf8"

	"github.com/outrigger-mesh/outrigger/pkg/mesh"
)

func (c *agentCompiler) rules(a *Agent) {
	if len(c.spec.Rules) > maxRules {
		c.add("spec.rules", "split the policy", "has %d entries, at most %d are allowed", len(c.spec.Rules), maxRules)
		return
	}
	first := map[string]int{}
	for i := range c.spec.Rules {
		s, field := &c.spec.Rules[i], fmt.Sprintf("spec.rules[%d]", i)
		if len(s.Name) > maxName || !IsDNSSubdomain(s.Name) {
			c.add(field+".name", "use lower-case letters, digits, '-' and '.', at most 63", "%q is not a rule name", s.Name)
		} else if j, twice := first[s.Name]; twice {
			c.add(field+".name", "give each rule its own name", "%q is also the name of spec.rules[%d]", s.Name, j)
		} else {
			first[s.Name] = i
		}
		if s.Action < ActionAllow || s.Action > ActionRequire {
			c.add(field+".action", "write Allow, Deny or Require", "is not set")
		}
		a.rules = append(a.rules, c.rule(field, s, a))
	}
}

func (c *agentCompiler) rule(field string, s *AgentRule, a *Agent) *rule {
	r := &rule{name: s.Name, action: s.Action, audit: s.AuditOnly,
		source: c.source(field+".source", s.Source),
		scope: scope{
			methods:   c.methods(field+".mcp.methods", s.Methods),
			objects:   len(s.Tools)+len(s.Resources)+len(s.Prompts) > 0,
			tools:     c.globs(field+".mcp.tools", s.Tools),
			resources: c.globs(field+".mcp.resources", s.Resources),
			prompts:   c.globs(field+".mcp.prompts", s.Prompts),
		},
		arguments: c.arguments(field+".mcp.arguments", s.Arguments),
		when:      c.conditions(field+".when", s.When),
		scopes:    s.Scopes,
	}
	c.scopes(field+".scopes", s.Scopes)
	if s.EmptyScope {
		c.add(field+".mcp", "list methods, tools, resources or prompts, remove mcp to mean every call, or remove the rule", "selects nothing")
	}
	if s.Action == ActionRequire && len(s.Arguments) > 0 && !r.scope.objects && len(s.Methods) == 0 {
		c.add(field+".mcp", "say with tools, prompts or methods which calls need these arguments",
			"requires arguments of every request, and most have none")
	}
	if s.Action == ActionRequire && s.Source == nil && len(s.Arguments)+len(s.When)+len(s.Scopes) == 0 {
		c.add(field, "set source, mcp.arguments, when or scopes", "requires nothing")
	}
	r.decide(a)
	return r
}

// decide prepares the answers, so that giving one costs nothing.
func (r *rule) decide(a *Agent) {
	d := Decision{Policy: a.Key(), Rule: r.name, Version: a.version}
	where := fmt.Sprintf("rule %s of agent policy %s", r.name, a.Key())
	r.decision, r.failure, r.base, r.stepUp = d, d, d, d
	r.stepUp.Scopes = r.scopes
	r.stepUp.Reason = fmt.Sprintf("denied because the token lacks a scope that %s asks for: %s", where, strings.Join(r.scopes, " "))
	switch r.action {
	case ActionAllow:
		r.decision.Allowed, r.decision.Reason = true, "allowed by "+where
		r.base.Allowed, r.base.Reason = true, "base protocol method, allowed to whom "+where+" admits"
	case ActionDeny:
		r.decision.Reason = "denied by " + where
		r.failure.Reason = "denied because " + where + " could not be evaluated; guard what may be absent with has(), or correct the rule"
	case ActionRequire:
		r.decision.Reason = "denied because what " + where + " requires does not hold"
		r.failure.Reason = "denied because what " + where + " requires could not be evaluated; guard what may be absent with has(), or correct the rule"
	}
}

func (c *agentCompiler) source(field string, s *AgentSource) *source {
	if s == nil {
		return nil
	}
	n := len(s.SPIFFE) + len(s.ServiceAccounts) + len(s.Namespaces)
	if n == 0 {
		c.add(field, "list spiffe, serviceAccounts or namespaces, or remove source to mean any caller", "selects nobody")
	}
	if n > maxList {
		c.add(field, "split the rule", "has %d entries, at most %d are allowed", n, maxList)
	}
	out := &source{}
	for i, text := range s.SPIFFE {
		if err := out.addSPIFFE(text); err != nil {
			problem := fmt.Sprintf("%q %v", text, err)
			if errors.Is(err, mesh.ErrBadPrincipal) {
				problem = err.Error()
			}
			c.add(fmt.Sprintf("%s.spiffe[%d]", field, i), `write an ID such as "spiffe://cluster.local/ns/agents/sa/planner", or end it in "/*" for all below`, "%s", problem)
		}
	}
	for i, account := range s.ServiceAccounts {
		at := fmt.Sprintf("%s.serviceAccounts[%d]", field, i)
		if account.Namespace == "" {
			account.Namespace = c.spec.Namespace
		} else if !IsDNSLabel(account.Namespace) {
			c.add(at+".namespace", "write a Kubernetes namespace", "%q is not a namespace", account.Namespace)
		}
		if account.Name != "*" && !IsDNSSubdomain(account.Name) {
			c.add(at+".name", `write a service account, or "*" for all of the namespace`, "%q is not a service account", account.Name)
		}
		out.accounts = append(out.accounts, account)
	}
	for i, namespace := range s.Namespaces {
		if !IsDNSLabel(namespace) {
			c.add(fmt.Sprintf("%s.namespaces[%d]", field, i), "write a Kubernetes namespace", "%q is not a namespace", namespace)
		}
		out.accounts = append(out.accounts, ServiceAccount{namespace, "*"})
	}
	return out
}

func (c *agentCompiler) methods(field string, list []string) []methodPattern {
	var out []methodPattern
	for i, text := range list {
		if !isGroup(text) {
			continue
		}
		g, ok := groupNamed(text)
		if !ok {
			c.add(fmt.Sprintf("%s[%d]", field, i), "write "+groupNames, "%q is not a group of methods", text)
		}
		out = append(out, methodPattern{group: g})
	}
	for i, g := range c.globs(field, list) {
		if !isGroup(list[i]) {
			out = append(out, methodPattern{glob: g})
		}
	}
	return out
}

// globs compiles a list of globs; what is wrong leaves an empty one in its place.
func (c *agentCompiler) globs(field string, list []string) []glob {
	if len(list) > maxList {
		c.add(field, "split the rule", "has %d entries, at most %d are allowed", len(list), maxList)
	}
	out := make([]glob, len(list))
	for i, text := range list {
		out[i] = c.glob(fmt.Sprintf("%s[%d]", field, i), text)
	}
	return out
}

func (c *agentCompiler) glob(field, text string) glob {
	if text == "" {
		c.add(field, `remove it, or write "*" for everything`, "is empty")
	}
	if !utf8.ValidString(text) {
		c.add(field, "write UTF-8", "is not UTF-8")
	}
	g, err := parseGlob(text)
	if err != nil {
		c.add(field, `write '\*' for a star and '\\' for a backslash`, "%q %v", shorten(text), err)
	}
	return g
}

const conditionRemedy = "write a CEL expression of type bool over source, destination, mcp, jwt and request, as in mcp.tool.arguments.owner == 'acme'; agent_policy.proto lists their fields at when"

func (c *agentCompiler) conditions(field string, list []string) []*condition {
	if len(list) > maxConditions {
		c.add(field, "join them with &&, or split the rule", "has %d entries, at most %d are allowed", len(list), maxConditions)
		return nil
	}
	var out []*condition
	for i, text := range list {
		compiled, err := newCondition(text)
		if err != nil {
			c.add(fmt.Sprintf("%s[%d]", field, i), conditionRemedy, "%v", err)
			continue
		}
		out = append(out, compiled)
	}
	return out
}

func (c *agentCompiler) arguments(field string, list []AgentArgument) []argument {
	if len(list) > maxArguments {
		c.add(field, "split the rule", "has %d entries, at most %d are allowed", len(list), maxArguments)
		return nil
	}
	var out []argument
	for i := range list {
		out = append(out, c.argument(fmt.Sprintf("%s[%d]", field, i), &list[i]))
	}
	return out
}

func (c *agentCompiler) argument(field string, s *AgentArgument) argument {
	var a argument
	var err error
	if a.path, err = parsePath(s.Path); err != nil {
		c.add(field+".path", `name the argument, such as "repository.owner"`, "%q %v", shorten(s.Path), err)
	}
	conditions := 0
	if s.Exact != nil {
		conditions++
		a.equal = []literal{newLiteral(*s.Exact)}
	}
	if s.Glob != nil {
		conditions++
		g := c.glob(field+".glob", *s.Glob)
		a.glob = &g
	}
	if s.In != nil {
		conditions++
		if len(s.In) == 0 || len(s.In) > maxList {
			c.add(field+".in.values", fmt.Sprintf("write 1 to %d", maxList), "has %d entries", len(s.In))
		}
		for _, text := range s.In {
			a.equal = append(a.equal, newLiteral(text))
		}
	}
	if s.Present != nil {
		conditions++
		a.present = s.Present
	}
	if conditions != 1 {
		c.add(field, "set one of exact, glob, in and present", "has %d conditions", conditions)
	}
	return a
}

// parsePath splits member names at '.'; `\.` is a dot and `\\` a backslash.
func parsePath(text string) ([]string, error) {
	if len(text) > maxGlob {
		return nil, errGlobLong
	}
	if !utf8.ValidString(text) {
		return nil, errors.New("is not UTF-8")
	}
	var path []string
	var name strings.Builder
	for i := 0; i <= len(text); i++ {
		switch {
		case i == len(text) || text[i] == '.':
			if name.Len() == 0 {
				return nil, errors.New("has an empty name")
			}
			path = append(path, name.String())
			name.Reset()
		case text[i] == '\\':
			if i++; i == len(text) || text[i] != '.' && text[i] != '\\' {
				return nil, errors.New(`has a '\' that escapes neither '.' nor '\'`)
			}
			name.WriteByte(text[i])
		default:
			name.WriteByte(text[i])
		}
	}
	if len(path) > maxPath {
		return nil, fmt.Errorf("is %d names deep, at most %d are allowed", len(path), maxPath)
	}
	return path, nil
}
