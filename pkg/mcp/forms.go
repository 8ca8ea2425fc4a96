package mcp

import (
	"bytes"
	"strings"
	"sync"

	"github.com/outrigger-mesh/outrigger/pkg/jsonrpc"
)

const (
	maxForm  = 4096 // bytes of an answer that is taken as a form
	maxForms = 1024 // places
)

// forms are how servers answer a call of a tool they do not have. A tool that
// policy hides is answered in the same words, as soon as one such answer passed
// by; before that, in the Go SDK's. All denied names get the same answer at any
// time, whether the server has the tool or not.
//
// An answer is a form only if it says nothing else: it came for one caller and
// will be shown to others.
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
	text, plain := "", false
	if v.Kind() != 0 {
		text, plain = errorText(v)
	} else {
		v, learned.member, learned.code = m.Result, "result", 0
		text, plain = resultText(v)
	}
	if !plain || len(v.Raw) > maxForm || !saysUnknown(text, c.object.Name) {
		return
	}
	name := []byte(quote(c.object.Name))
	for _, piece := range bytes.Split(v.Raw, name[1:len(name)-1]) {
		learned.pieces = append(learned.pieces, bytes.Clone(piece))
	}
	if len(learned.pieces) != 2 {
		return // written in another way, or the name is a part of the rest
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if _, known := f.of[p]; known || len(f.of) < maxForms {
		f.of[p] = learned
	}
}

// errorText is the message of an error that has nothing else.
func errorText(v jsonrpc.Value) (text string, plain bool) {
	for name, member := range v.Members() {
		switch {
		case name.Is("message"):
			text, plain = member.Text()
		case !name.Is("code"):
			return "", false
		}
	}
	return text, plain
}

// resultText is the text of a tool's error that has nothing else.
func resultText(v jsonrpc.Value) (text string, plain bool) {
	isError := false
	for name, member := range v.Members() {
		switch {
		case name.Is("isError"):
			isError = member.Kind() == 't'
		case name.Is("content"):
			text, plain = onlyText(member)
		case !name.Is("resultType") || !member.Is("complete"):
			return "", false
		}
	}
	return text, plain && isError
}

// onlyText is the text of an array that has one text.
func onlyText(content jsonrpc.Value) (text string, plain bool) {
	n := 0
	for element := range content.Elements() {
		n++
		for name, member := range element.Members() {
			switch {
			case name.Is("text"):
				text, plain = member.Text()
			case !name.Is("type") || !member.Is("text"):
				return "", false
			}
		}
	}
	return text, plain && n == 1
}

// saysUnknown tells whether text is one of the ways in which the servers that
// we know say that there is no tool of that name.
func saysUnknown(text, name string) bool {
	before, behind, ok := strings.Cut(text, name)
	if !ok || name == "" {
		return false
	}
	before = strings.ToLower(strings.TrimRight(before, `"'`))
	before = strings.TrimPrefix(before, "mcp error -32602: ")
	behind = strings.ToLower(strings.TrimLeft(behind, `"'`))
	switch before {
	case "unknown tool ", "unknown tool: ", "tool not found: ":
		return behind == ""
	case "tool ":
		return behind == " not found"
	}
	return false
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
