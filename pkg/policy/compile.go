package policy

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"strings"

	"github.com/go-json-experiment/json"
)

// Bounds of one policy. They are generous to people and mean to mistakes.
const (
	maxPorts      = 128
	maxRules      = 1024
	maxList       = 1024
	maxArguments  = 64
	maxPath       = 16
	maxConditions = 16
	maxName       = 63
)

// CompileAgent validates and compiles an agent policy, its CEL expressions
// included. The error is a join of FieldErrors.
func CompileAgent(s AgentSpec) (*Agent, error) {
	source := s.Source
	s.Source = nil // the digest is of what the policy means
	c := agentCompiler{spec: &s}
	a := &Agent{name: s.Name, namespace: s.Namespace, version: s.Version, source: source,
		directions: []Direction{max(s.Direction, Inbound)},
		labels:     s.Target.MatchLabels, services: s.Target.Services,
		allMCPPorts: s.AllMCPPorts, skipBase: s.BaseMethods == BaseMethodsSkip}
	for _, field := range s.Unknown {
		c.add(field, "remove it, or upgrade to a version that knows it", "is unknown")
	}
	c.identity()
	if s.Direction > Outbound {
		c.add("spec.direction", "write Inbound or Outbound", "is unknown")
	}
	if s.BaseMethods > BaseMethodsSkip {
		c.add("spec.mcpBaseProtocolMethodsOption", "write MATCH_BASE_PROTOCOL_METHODS or SKIP_BASE_PROTOCOL_METHODS", "is unknown")
	}
	c.labels(s.Target.MatchLabels)
	c.services(s.Target.Services)
	a.ports = c.ports()
	if a.version == "" {
		a.version = digest(s)
	}
	c.terms(a)
	c.rules(a)
	if err := c.err(); err != nil {
		return nil, fmt.Errorf("agent policy %s: %w", a.Key(), err)
	}
	return a, nil
}

// digest names the content of a policy that its carrier did not name.
func digest(s AgentSpec) string {
	text, err := json.Marshal(s, json.Deterministic(true))
	if err != nil {
		return "" // text that is not UTF-8, which is reported where it stands
	}
	sum := sha256.Sum256(text)
	return "sha256:" + hex.EncodeToString(sum[:8])
}

func (s *AgentSpec) unknownAt(field string) bool {
	for _, u := range s.Unknown {
		if u == field || strings.HasPrefix(u, field+".") {
			return true
		}
	}
	return false
}

type agentCompiler struct {
	problems
	spec *AgentSpec
}

func (c *agentCompiler) identity() {
	if !IsDNSSubdomain(c.spec.Name) {
		c.add("metadata.name", "use lower-case letters, digits, '-' and '.', at most 253", "%q is not a DNS-1123 subdomain", c.spec.Name)
	}
	if !IsDNSLabel(c.spec.Namespace) {
		c.add("metadata.namespace", "use lower-case letters, digits and '-', at most 63", "%q is not a DNS-1123 label", c.spec.Namespace)
	}
}

func (c *agentCompiler) labels(labels map[string]string) {
	const field = "spec.target.selector.matchLabels"
	for _, name := range sortedKeys(labels) {
		if !isLabelName(name) {
			c.add(field, `write a label such as "app"`, "%q is not a label name", name)
		}
		if v := labels[name]; v != "" && !isLabelValue(v) {
			c.add(field, "write letters, digits, '-', '_' and '.', at most 63", "%q is not a label value", v)
		}
	}
}

func (c *agentCompiler) services(services []string) {
	if len(services) > maxList {
		c.add("spec.target.services", "split the policy", "has %d entries, at most %d are allowed", len(services), maxList)
	}
	for i, s := range services {
		if !IsDNSSubdomain(s) {
			c.add(fmt.Sprintf("spec.target.services[%d]", i), `write a hostname such as "github.tools.svc.cluster.local"`, "%q is not a hostname", s)
		}
	}
}

func (c *agentCompiler) ports() map[uint16]AgentPort {
	if len(c.spec.Ports) == 0 && !c.spec.AllMCPPorts {
		c.add("spec.ports", "list the ports with their protocol, such as {number: 8080, protocol: MCP}, or set allMcpPorts", "is empty: the policy would govern nothing")
	}
	if len(c.spec.Ports) > maxPorts {
		c.add("spec.ports", "split the policy", "has %d entries, at most %d are allowed", len(c.spec.Ports), maxPorts)
	}
	ports := make(map[uint16]AgentPort, len(c.spec.Ports))
	for i, p := range c.spec.Ports {
		field := fmt.Sprintf("spec.ports[%d]", i)
		if p.Number < 1 || p.Number > 65535 {
			c.add(field+".number", "write 1 to 65535", "is %d", p.Number)
		} else if _, twice := ports[uint16(p.Number)]; twice {
			c.add(field+".number", "declare each port once", "%d is declared twice", p.Number)
		}
		c.port(field, &p)
		ports[uint16(p.Number)] = p
	}
	return ports
}

func (c *agentCompiler) port(field string, p *AgentPort) {
	if p.Protocol == ProtocolUndeclared {
		c.add(field+".protocol", "write MCP, HTTP or Opaque", "is not set")
	}
	if p.Protocol != ProtocolMCP && len(p.Paths) > 0 {
		c.add(field+".paths", "remove them, or write protocol: MCP", "are of no use on a port that does not speak MCP")
	}
	if len(p.Paths) > maxList {
		c.add(field+".paths", "leave it out to accept every path", "has %d entries, at most %d are allowed", len(p.Paths), maxList)
	}
	for i, path := range p.Paths {
		if err := checkPath(path); err != nil {
			c.add(fmt.Sprintf("%s.paths[%d]", field, i), `write an exact path such as "/mcp"`, "%q %v", path, err)
		}
	}
}

// checkPath accepts only paths that a request can have once it is normalised.
func checkPath(path string) error {
	if !strings.HasPrefix(path, "/") {
		return errors.New(`does not begin with "/"`)
	}
	if strings.ContainsAny(path, "?#%*") || !isPrintable(path) {
		return errors.New("has a character that is not of a path: no query, no escape, no glob")
	}
	for segment := range strings.SplitSeq(path[1:], "/") {
		if segment == "." || segment == ".." {
			return errors.New("has a dot segment")
		}
	}
	return nil
}
