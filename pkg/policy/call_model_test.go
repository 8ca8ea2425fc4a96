package policy

import (
	"encoding/json"
	"math/big"
	"math/rand/v2"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/outrigger-mesh/outrigger/pkg/mesh"
)

// modelCall is what the proto's comments say, written down as naively as possible.
// It knows of the expressions in modelConditions only.
func modelCall(specs []AgentSpec, c *Call) bool {
	specs = slices.Clone(specs)
	slices.SortFunc(specs, func(a, b AgentSpec) int { return strings.Compare(a.Namespace+"/"+a.Name, b.Namespace+"/"+b.Name) })
	denied, allowed := false, false
	for _, s := range specs {
		for _, r := range s.Rules {
			if r.AuditOnly || !modelScope(&r, c) {
				continue
			}
			admitted := modelSource(r.Source, s.Namespace, c.Source)
			holds, failed := modelHolds(&r, c)
			switch r.Action {
			case ActionDeny:
				denied = denied || admitted && (holds || failed)
			case ActionRequire:
				denied = denied || !admitted || !holds
			case ActionAllow:
				allowed = allowed || admitted && holds
			}
		}
		for _, r := range s.Rules {
			allowed = allowed || modelBase(c) && s.BaseMethods == BaseMethodsMatch && !r.AuditOnly &&
				r.Action == ActionAllow && modelSource(r.Source, s.Namespace, c.Source)
		}
	}
	return allowed && !denied
}

func modelBase(c *Call) bool {
	return c.Object.Kind == KindNone && slices.Contains([]string{"initialize", "tools/list", "prompts/list", "GET"}, c.Method)
}

func modelSource(s *AgentSource, namespace string, who mesh.Principal) bool {
	if s == nil {
		return true
	}
	id := who.String()
	for _, pattern := range s.SPIFFE {
		if pattern == id || strings.HasSuffix(pattern, "/*") && strings.HasPrefix(id, strings.TrimSuffix(pattern, "*")) {
			return true
		}
	}
	for _, a := range s.ServiceAccounts {
		if a.Namespace == "" {
			a.Namespace = namespace
		}
		below, ok := strings.CutPrefix(id, "spiffe://td/ns/"+a.Namespace+"/sa/")
		if ok && (a.Name == "*" || a.Name == below) {
			return true
		}
	}
	for _, n := range s.Namespaces {
		if strings.HasPrefix(id, "spiffe://td/ns/"+n+"/sa/") {
			return true
		}
	}
	return false
}

func modelScope(r *AgentRule, c *Call) bool {
	known := c.Object.Kind != KindUnknown
	names := []string{c.Method}
	if c.Method == "completion/complete" {
		switch c.Object.Kind {
		case KindPrompt:
			names = append(names, "prompts/get")
		case KindTemplate:
			names = append(names, "resources/read")
		}
	}
	method := len(r.Methods) == 0 && (known || r.Action != ActionAllow)
	for _, m := range r.Methods {
		switch m {
		case "@base":
			method = method || modelBase(c)
		case "@tools":
			method = method || known && (c.Object.Kind == KindTool || c.Method == "tools/list")
		case "@prompts":
			method = method || known && (c.Object.Kind == KindPrompt || c.Method == "prompts/list")
		case "@resources":
			method = method || c.Object.Kind == KindResource || c.Object.Kind == KindTemplate
		default:
			for _, name := range names {
				method = method || modelGlob(m, name)
			}
		}
	}
	if len(r.Tools)+len(r.Resources)+len(r.Prompts) == 0 {
		return method
	}
	lists := map[Kind][]string{KindTool: r.Tools, KindResource: r.Resources, KindTemplate: r.Resources, KindPrompt: r.Prompts}
	return method && slices.ContainsFunc(lists[c.Object.Kind], func(pattern string) bool {
		return modelGlob(pattern, c.Object.Name)
	})
}

func modelHolds(r *AgentRule, c *Call) (holds, failed bool) {
	holds = true
	for _, a := range r.Arguments {
		holds = holds && modelArgument(a, c.Arguments, r.Action == ActionDeny)
	}
	for _, text := range r.When {
		ok, failure := modelConditions[text](c)
		if !ok && !failure {
			return false, false
		}
		failed = failed || failure
	}
	if !holds {
		return false, false
	}
	return holds && !failed, failed
}

func modelArgument(a AgentArgument, raw []byte, deny bool) bool {
	decoder := json.NewDecoder(strings.NewReader(string(raw)))
	decoder.UseNumber()
	var value any
	present := len(raw) > 0 && decoder.Decode(&value) == nil
	for name := range strings.SplitSeq(a.Path, ".") {
		m, _ := value.(map[string]any)
		var ok bool
		value, ok = m[name]
		present = present && ok
	}
	if a.Present != nil {
		if present && value == nil {
			return deny
		}
		return present == *a.Present
	}
	texts := a.In
	if a.Exact != nil {
		texts = []string{*a.Exact}
	}
	switch v := value.(type) {
	case string:
		return a.Glob != nil && modelGlob(*a.Glob, v) || slices.Contains(texts, v)
	case bool:
		return slices.Contains(texts, strconv.FormatBool(v))
	case json.Number:
		for _, text := range texts {
			x, _ := new(big.Rat).SetString(string(v))
			y, ok := new(big.Rat).SetString(text)
			if !ok {
				continue
			}
			fx, _ := x.Float64()
			fy, _ := y.Float64()
			if x.Cmp(y) == 0 || deny && fx == fy {
				return true
			}
		}
	}
	return false
}

var modelConditions = map[string]func(*Call) (holds, failed bool){
	"mcp.tool.name == 'get_a'":                  func(c *Call) (bool, bool) { return c.Object == Object{KindTool, "get_a"}, false },
	"source.identity.namespace == 'a'":          func(c *Call) (bool, bool) { return c.Source.Namespace() == "a", false },
	"jwt.sub == 'x'":                            func(*Call) (bool, bool) { return false, true },
	"mcp.methodName.endsWith('/call') || false": func(c *Call) (bool, bool) { return strings.HasSuffix(c.Method, "/call"), false },
}

func (m maker) agentRule(name string) AgentRule {
	text := func(from ...string) func() string { return func() string { return pick(m, from...) } }
	r := AgentRule{Name: name, Action: pick(m, ActionAllow, ActionAllow, ActionAllow, ActionDeny, ActionRequire), AuditOnly: m.maybe(10),
		Methods:   some(m, 25, text("tools/call", "tools/*", "*", "@tools", "@base", "@prompts", "@resources", "prompts/get", "resources/read", "v/x")),
		Tools:     some(m, 35, text("get_a", "get_b", "get_*", "*", "*_a")),
		Resources: some(m, 15, text("f:/a", "f:/*", "f:/a/{x}")),
		Prompts:   some(m, 15, text("p", "q", "*")),
		When: some(m, 15, text(slices.Sorted(func(yield func(string) bool) {
			for k := range modelConditions {
				if !yield(k) {
					return
				}
			}
		})...)),
	}
	if m.maybe(60) {
		r.Source = &AgentSource{
			SPIFFE:          some(m, 40, text("spiffe://td/ns/a/sa/x", "spiffe://td2/ns/a/sa/x", "spiffe://td/*", "spiffe://td/ns/b/*", "spiffe://td/spire/agent")),
			ServiceAccounts: some(m, 40, func() ServiceAccount { return ServiceAccount{pick(m, "a", "b", ""), pick(m, "x", "y", "*")} }),
			Namespaces:      some(m, 20, text("a", "b")),
		}
		if len(r.Source.SPIFFE)+len(r.Source.ServiceAccounts)+len(r.Source.Namespaces) == 0 {
			r.Source.Namespaces = []string{"a"}
		}
	}
	if m.maybe(30) {
		a := AgentArgument{Path: pick(m, "s", "n", "o.s")}
		switch m.IntN(4) {
		case 0:
			a.Exact = ptr(pick(m, "1", "a", "true", "9007199254740992"))
		case 1:
			a.Glob = ptr(pick(m, "a*", "*"))
		case 2:
			a.In = []string{"b", "1.0"}
		default:
			a.Present = ptr(m.maybe(50))
		}
		r.Arguments = append(r.Arguments, a)
	}
	return r
}

func (m maker) agentSpec(name string) (AgentSpec, bool) {
	s := AgentSpec{Name: name, Namespace: pick(m, "a", "a", "istio-system"), BaseMethods: BaseMethods(m.IntN(2)),
		Ports: []AgentPort{{80, ProtocolMCP, nil}}}
	for i := range m.IntN(6) {
		s.Rules = append(s.Rules, m.agentRule("r"+strconv.Itoa(i)))
	}
	_, err := CompileAgent(s)
	return s, err == nil // a Require rule that requires nothing is rejected
}

func (m maker) call() *Call {
	c := &Call{Direction: Inbound, Source: m.principal(), Destination: at(80)}
	c.Method, c.Object = "tools/call", Object{KindTool, pick(m, "get_a", "get_b", "put_a")}
	switch m.IntN(12) {
	case 0:
		c.Method, c.Object = pick(m, "initialize", "tools/list", "prompts/list", "GET"), Object{}
	case 1:
		c.Method, c.Object = pick(m, "prompts/get", "completion/complete"), Object{KindPrompt, pick(m, "p", "q")}
	case 2:
		c.Method, c.Object = "resources/read", Object{KindResource, pick(m, "f:/a", "f:/b", "g")}
	case 3:
		c.Method, c.Object = "v/x", Object{Kind: KindUnknown}
	case 4:
		c.Method, c.Object = "sampling/createMessage", Object{}
	}
	if m.maybe(80) {
		value := func() string {
			return pick(m, `"a"`, `"ab"`, `"b"`, `1`, `1.0`, `10e-1`, `9007199254740993`, `true`, `null`, `[]`, `{"s":1}`, `"\u0061"`)
		}
		c.Arguments = []byte(`{"s":` + value() + `, "n" : ` + value() + `,"o":{"s":` + value() + `}}`)
	}
	return c
}

func checkCallModel(t *testing.T, m maker) (allowed, denied int) {
	t.Helper()
	var specs []AgentSpec
	var compiled []*Agent
	for i := range m.IntN(4) {
		if s, ok := m.agentSpec(string(rune('p' + i))); ok {
			specs = append(specs, s)
			compiled = append(compiled, mustAgent(t, s))
		}
	}
	if len(specs) == 0 {
		return 0, 0
	}
	self := &mesh.Self{Principal: mesh.NewPrincipal("td", "a", "self"), Namespace: "a", Labels: map[string]string{}}
	p := New(self, &mesh.Workload{Namespace: "a"}, nil, compiled)
	for range 30 {
		c := m.call()
		want, got := modelCall(specs, c), p.Call(c)
		if got.Allowed != want {
			text, _ := json.MarshalIndent(specs, "", " ")
			t.Fatalf("allowed = %v, the model says %v\n%s %+v by %s with %s\n%s\n%+v", got.Allowed, want, c.Method, c.Object, c.Source, c.Arguments, text, got)
		}
		if want {
			allowed++
		} else {
			denied++
		}
	}
	return allowed, denied
}

func TestCallAgreesWithModel(t *testing.T) {
	m := maker{rand.New(rand.NewPCG(3, 4))}
	allowed, denied := 0, 0
	for range 1500 {
		a, d := checkCallModel(t, m)
		allowed, denied = allowed+a, denied+d
	}
	if allowed < 5000 || denied < 5000 {
		t.Errorf("%d allowed and %d denied: the random policies say too little", allowed, denied)
	}
}

func FuzzCallAgreesWithModel(f *testing.F) {
	f.Add(uint64(1), uint64(2))
	f.Fuzz(func(t *testing.T, a, b uint64) { checkCallModel(t, maker{rand.New(rand.NewPCG(a, b))}) })
}
