package mcp

import (
	"bytes"
	"slices"
	"strings"
	"sync"

	"github.com/outrigger-mesh/outrigger/pkg/inspect"
	"github.com/outrigger-mesh/outrigger/pkg/mesh"
)

const (
	paramHeader  = "Mcp-Param-"
	maxMirrored  = 4096 // tools whose mirrored arguments are remembered
	maxMirrors   = 64   // arguments of one tool
	maxMirrorAt  = 8    // names on the way to one
	mirrorMarker = "x-mcp-header"
)

// mirrors know which arguments of which tools clients mirror in headers, because
// the tools' schemas say so (SEP-2243). A server that trusts such a header and
// runs by the body, or the reverse, could be told two things.
type mirrors struct {
	mu sync.Mutex // guards what follows
	of map[mirrorKey][]mirror
}

// A mirrorKey is a tool as one workload was shown it.
type mirrorKey struct {
	place  place
	caller mesh.Principal
	tool   string
}

// A mirror is an argument that a header repeats.
type mirror struct {
	header string
	path   []string
}

func newMirrors() *mirrors { return &mirrors{of: map[mirrorKey][]mirror{}} }

// learnMirrors reads the schemas of a list of tools that is shown to the caller.
func (e *exchange) learnMirrors(tools value) {
	marked := bytes.Contains(tools.Raw, []byte(mirrorMarker))
	if !marked && e.mirrors.empty() {
		return
	}
	for tool := range tools.Elements() {
		name, ok := tool.Member("name").Text()
		if !ok || len(name) > maxEcho {
			continue
		}
		var found []mirror
		if marked && bytes.Contains(tool.Raw, []byte(mirrorMarker)) {
			found = readMirrors(nil, tool.Member("inputSchema"), nil)
		}
		e.mirrors.put(mirrorKey{e.place(), e.x.Source, name}, found)
	}
}

func (m *mirrors) empty() bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	return len(m.of) == 0
}

func (m *mirrors) put(key mirrorKey, found []mirror) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if len(found) == 0 {
		delete(m.of, key)
		return
	}
	if _, known := m.of[key]; !known && len(m.of) >= maxMirrored {
		for other := range m.of { // any: the next list brings it back
			delete(m.of, other)
			break
		}
	}
	m.of[key] = found
}

func (m *mirrors) find(key mirrorKey) []mirror {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.of[key]
}

// readMirrors finds the annotations that are reachable through properties alone
// and are on values that a header can repeat; others mean nothing.
func readMirrors(found []mirror, schema value, path []string) []mirror {
	if len(path) == maxMirrorAt {
		return found
	}
	for name, property := range schema.Member("properties").Members() {
		text, ok := name.Text()
		if !ok || len(found) == maxMirrors {
			continue
		}
		at := append(slices.Clone(path), text)
		header, ok := property.Member(mirrorMarker).Text()
		kind := property.Member("type")
		if ok && isToken(header) && (kind.Is("string") || kind.Is("integer") || kind.Is("boolean")) &&
			!slices.ContainsFunc(found, func(m mirror) bool { return strings.EqualFold(m.header, paramHeader+header) }) {
			found = append(found, mirror{paramHeader + header, at})
		}
		found = readMirrors(found, property, at)
	}
	return found
}

// isToken tells whether name may be a part of a header's name (RFC 9110 §5.6.2).
func isToken(name string) bool {
	for i := range len(name) {
		c := name[i]
		if c <= ' ' || c >= 0x7f || strings.IndexByte(`"(),/:;<=>?@[\]{}`, c) >= 0 {
			return false
		}
	}
	return name != "" && len(name) <= 128
}

// checkMirroredArguments compares the headers that mirror arguments with them. It
// knows which these are once a list of tools passed by; headers that no schema
// speaks of go on, as the specification wants.
func (e *exchange) checkMirroredArguments(c *call) *refusal {
	if !e.modern || c.method != &toolsCall || c.kind != request {
		return nil
	}
	known := e.mirrors.find(mirrorKey{e.place(), e.x.Source, c.object.Name})
	for i := range known {
		if problem := known[i].check(e.x.Request.Header, value{Raw: c.args}); problem != "" {
			return &refusal{status: 400, code: codeHeaderMismatch, problem: "the " + known[i].header + " header " + problem}
		}
	}
	return nil
}

// check tells how header and argument differ.
func (m *mirror) check(h inspect.Header, argument value) (problem string) {
	for _, name := range m.path {
		argument = argument.Member(name)
	}
	said := h.Has(m.header)
	var same bool
	text, decodes := mirrored(h.Get(m.header))
	switch argument.Kind() {
	case 0, 'n':
		if said {
			return "mirrors an argument that is not there"
		}
		return ""
	case '"':
		same = argument.Is(text)
	case 't', 'f':
		same = string(argument.Raw) == text
	case '0':
		same = sameNumber(string(argument.Raw), text)
	default:
		return "" // the server will refuse such an argument; nothing can mirror it
	}
	switch {
	case !said:
		return "is missing"
	case !decodes || !same:
		return "and the argument in the body differ"
	}
	return ""
}

// sameNumber compares numbers by value: 42 and 42.0 are the same integer.
func sameNumber(a, b string) bool {
	if a == b {
		return true
	}
	x, ok1 := integerText(a)
	y, ok2 := integerText(b)
	return ok1 && ok2 && x == y
}

// integerText is an integer without the zero fraction and the sign of zero that it
// may be written with.
func integerText(s string) (string, bool) {
	whole, fraction, _ := strings.Cut(s, ".")
	if strings.Trim(fraction, "0") != "" {
		return "", false
	}
	digits := strings.TrimPrefix(whole, "-")
	if digits == "" || strings.Trim(digits, "0123456789") != "" {
		return "", false
	}
	if strings.Trim(digits, "0") == "" {
		return "0", true
	}
	return whole, true
}
