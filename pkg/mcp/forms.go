package mcp

import (
	"bytes"
	"sync"
)

const (
	maxForm  = 1024 // bytes of an answer that is taken as a form
	maxForms = 1024 // places
)

// forms are how servers answer a call of a tool they do not have. A tool that
// policy hides is answered in the same words, as soon as one such answer passed
// by; before that, in the Go SDK's. All denied names get the same answer at any
// time, whether the server has the tool or not.
type forms struct {
	mu sync.Mutex // guards what follows
	of map[place]form
}

// A form is a result or an error, in the pieces between which the name stands.
type form struct {
	member string // "result" or "error"
	code   int
	pieces [][]byte
}

func newForms() *forms { return &forms{of: map[place]form{}} }

// learn looks whether m, the answer to c, says that there is no such tool.
func (f *forms) learn(p place, c *call, m *message) {
	v, learned := m.Error, form{member: "error", code: int(m.Code)}
	if v.Kind() == 0 {
		v, learned = m.Result, form{member: "result"}
		if m.Member(v, "isError").Kind() != 't' {
			return
		}
	}
	name := []byte(quote(c.object.Name))
	name = name[1 : len(name)-1]
	lower := bytes.ToLower(v.Raw[:min(len(v.Raw), maxForm)])
	if len(v.Raw) > maxForm || len(name) < 3 || !bytes.Contains(v.Raw, name) ||
		!bytes.Contains(lower, []byte("unknown tool")) && !(bytes.Contains(lower, []byte("tool")) && bytes.Contains(lower, []byte("not found"))) {
		return
	}
	for _, piece := range bytes.Split(v.Raw, name) {
		learned.pieces = append(learned.pieces, bytes.Clone(piece))
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if _, known := f.of[p]; known || len(f.of) < maxForms {
		f.of[p] = learned
	}
}

// answer is the place's own answer to a call of a tool it does not have.
func (f *forms) answer(p place, c *call) (body []byte, code int, ok bool) {
	f.mu.Lock()
	learned, ok := f.of[p]
	f.mu.Unlock()
	if !ok || len(c.object.Name) > maxEcho {
		return nil, 0, false
	}
	name := []byte(quote(c.object.Name))
	body = append(append([]byte(`{"jsonrpc":"2.0","id":`), c.id.Raw...), `,"`+learned.member+`":`...)
	body = append(body, bytes.Join(learned.pieces, name[1:len(name)-1])...)
	return append(body, '}'), learned.code, true
}
