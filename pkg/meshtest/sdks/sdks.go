// Package sdks makes the MCP SDKs that people use meet each other through two
// sidecars: every client with every server, over both HTTP transports and in both
// eras. A client must see exactly what it sees without the sidecars, but for what
// policy hides; and a server must never run what policy denied.
package sdks

import (
	"fmt"
	"slices"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"
)

// Transport is how MCP goes over HTTP.
type Transport string

// Era is the generation of the protocol that a client asks for.
type Era string

const (
	HTTP Transport = "http" // Streamable HTTP
	SSE  Transport = "sse"  // HTTP+SSE of 2024-11-05

	Legacy Era = "legacy" // 2025-11-25 and before
	Modern Era = "modern" // 2026-07-28
)

// A Peer is a program at one end. Arguments are those that come before the ones
// all clients, or all servers, have.
type Peer struct {
	Name       string
	Command    []string
	Path       string // of a server's endpoint
	Transports []Transport
	Eras       []Era
	Stateless  bool   // of a server: it has no sessions
	Denied     string // of a server: the tool that policy denies
}

// A Seen is what a client saw, as it printed it.
type Seen struct {
	Tools     jsontext.Value   `json:"tools"`
	Resources jsontext.Value   `json:"resources"`
	Prompts   jsontext.Value   `json:"prompts"`
	Calls     []jsontext.Value `json:"calls"`
}

// Parse reads the last line that a client printed.
func Parse(line []byte) (*Seen, error) {
	var s Seen
	if err := json.Unmarshal(line, &s); err != nil {
		return nil, fmt.Errorf("read what the client saw: %w: %.300s", err, line)
	}
	for _, v := range append([]*jsontext.Value{&s.Tools, &s.Resources, &s.Prompts}, pointers(s.Calls)...) {
		if err := v.Canonicalize(); err != nil {
			return nil, fmt.Errorf("read what the client saw: %w: %.300s", err, line)
		}
	}
	return &s, nil
}

func pointers(values []jsontext.Value) (all []*jsontext.Value) {
	for i := range values {
		all = append(all, &values[i])
	}
	return all
}

// Diff names what differs between what two clients saw.
func Diff(a, b *Seen) (all []string) {
	report := func(what string, x, y jsontext.Value) {
		if string(x) != string(y) {
			all = append(all, fmt.Sprintf("%s: %s, then %s", what, x, y))
		}
	}
	report("tools", a.Tools, b.Tools)
	report("resources", a.Resources, b.Resources)
	report("prompts", a.Prompts, b.Prompts)
	for i := range max(len(a.Calls), len(b.Calls)) {
		var x, y jsontext.Value
		if i < len(a.Calls) {
			x = a.Calls[i]
		}
		if i < len(b.Calls) {
			y = b.Calls[i]
		}
		report(fmt.Sprintf("call %d", i), x, y)
	}
	return all
}

// Without is a list of names that lacks some.
func Without(list jsontext.Value, hidden ...string) (jsontext.Value, error) {
	var names []string
	if err := json.Unmarshal(list, &names); err != nil {
		return nil, fmt.Errorf("read names: %w: %s", err, list)
	}
	names = slices.DeleteFunc(names, func(n string) bool { return slices.Contains(hidden, n) })
	return json.Marshal(names)
}
