package mcp

import (
	"bytes"
	"strings"
	"sync"

	"github.com/outrigger-mesh/outrigger/pkg/jsonrpc"
	"github.com/outrigger-mesh/outrigger/pkg/policy"
)

const (
	maxForm  = 4096 // bytes of an answer that is taken as a form
	maxForms = 4096
)

// forms are how servers answer when they are asked for what they do not have. A
// thing that policy hides is answered in the same words, with the same HTTP status,
// if one such answer passed by before. If not, it is answered in the Go SDK's words,
// and from then on so are the things that the server does not have: whichever comes
// first, nobody can tell the one from the other.
//
// An answer is a form only if it says nothing else: it came for one caller and
// will be shown to others.
type forms struct {
	mu sync.Mutex // guards what follows
	of map[formKey]form
}

// A formKey is what servers answer in different ways: each its own, to each method
// and kind of thing, and in each era, whose results have other members.
type formKey struct {
	place  place
	method string
	kind   policy.Kind
	modern bool
}

// A form is a result or an error, in the pieces between which the name stands.
type form struct {
	status int    // of HTTP
	member string // "result" or "error"
	code   int
	pieces [][]byte
	own    bool // nothing of the above: it is our own
}

func newForms() *forms { return &forms{of: map[formKey]form{}} }

func (e *exchange) formKey(c *call) formKey {
	return formKey{e.place(), c.name, c.object.Kind, e.modern}
}

// learnable tells whether servers say of such a thing that there is none. Other keys
// have no forms: the names of methods that nobody knows are the caller's to choose, and
// would fill the map.
func (k formKey) learnable() bool {
	switch k.kind {
	case policy.KindTool, policy.KindResource, policy.KindTemplate, policy.KindPrompt:
		return true
	}
	return false
}

// pin makes our own form the one that holds, if none does yet.
func (f *forms) pin(key formKey) {
	if !key.learnable() {
		return
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if _, known := f.of[key]; !known && len(f.of) < maxForms {
		f.of[key] = form{own: true}
	}
}

// learn looks whether m, the answer to c, says that there is no such thing. It
// reports whether our own form must take its place.
func (f *forms) learn(key formKey, c *call, m *message) (rephrase bool) {
	v, learned := m.Error, form{status: c.record.Status, member: "error", code: int(m.Code)}
	text, times, plain := "", 0, false
	if v.Kind() != 0 {
		text, times, plain = errorText(v, c.object.Name)
	} else if c.object.Kind == policy.KindTool && m.Member(m.Result, "isError").Kind() == 't' {
		v, learned.member, learned.code = m.Result, "result", 0
		text, plain = resultText(v)
	}
	if !plain || len(v.Raw) > maxForm || !saysUnknown(text, c.object.Name) {
		return false
	}
	name := []byte(quote(c.object.Name))
	for _, piece := range bytes.Split(v.Raw, name[1:len(name)-1]) {
		learned.pieces = append(learned.pieces, bytes.Clone(piece))
	}
	if len(learned.pieces)-1 != times+strings.Count(text, c.object.Name) {
		learned.pieces = nil // the name is written in another way, or is a part of the rest
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	held, known := f.of[key]
	if !held.own && learned.pieces != nil && (known || len(f.of) < maxForms) {
		f.of[key] = learned
	}
	return held.own
}

// errorText is the message of an error that has nothing else, but perhaps what was
// asked for in its data, so many times.
func errorText(v jsonrpc.Value, asked string) (text string, times int, plain bool) {
	for name, member := range v.Members() {
		switch {
		case name.Is("message"):
			text, plain = member.Text()
		case name.Is("data") && member.Kind() == '{':
			for key, value := range member.Members() {
				if !key.Is("uri") || !value.Is(asked) {
					return "", 0, false
				}
				times++
			}
		case !name.Is("code"):
			return "", 0, false
		}
	}
	return text, times, plain
}

// resultText is the text of a tool's error that has nothing else.
func resultText(v jsonrpc.Value) (text string, plain bool) {
	for name, member := range v.Members() {
		switch {
		case name.Is("isError"):
		case name.Is("content"):
			text, plain = onlyText(member)
		case name.Is("_meta") && onlyServerInfo(member):
		case !name.Is("resultType") || !member.Is("complete"):
			return "", false
		}
	}
	return text, plain
}

// onlyServerInfo tells whether _meta says nothing but who the server is, which is
// the same for everybody.
func onlyServerInfo(meta jsonrpc.Value) bool {
	for name := range meta.Members() {
		if !name.Is("io.modelcontextprotocol/serverInfo") {
			return false
		}
	}
	return meta.Kind() == '{'
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

// vocabulary is all that a form may say besides the name: whoever the answer was
// for, others learn nothing from it.
var vocabulary = map[string]bool{
	"tool": true, "resource": true, "prompt": true, "uri": true, "template": true, "handler": true, "name": true,
	"for": true, "the": true, "a": true, "is": true, "was": true, "does": true, "no": true, "not": true, "such": true,
	"found": true, "exist": true, "exists": true, "unknown": true, "invalid": true, "params": true,
	"mcp": true, "error": true, "-32602": true, "-32002": true,
}

// denials are the words of which a form has one: what it says is that there is
// nothing, not that something is wrong with it.
var denials = map[string]bool{"not": true, "no": true, "unknown": true}

// saysUnknown tells whether text says, and says only, that there is nothing of
// that name.
func saysUnknown(text, name string) bool {
	if name == "" || strings.Count(text, name) > 1 {
		return false
	}
	text = strings.ToLower(strings.Replace(text, name, " ", 1))
	denies := false
	for word := range strings.FieldsFuncSeq(text, func(r rune) bool { return strings.ContainsRune(" :'\"`.,()", r) }) {
		if !vocabulary[word] {
			return false
		}
		denies = denies || denials[word]
	}
	return denies
}

// answer is the place's own answer to a call for something it does not have.
func (f *forms) answer(key formKey, c *call) (status, code int, body []byte, ok bool) {
	f.mu.Lock()
	learned, ok := f.of[key]
	f.mu.Unlock()
	if !ok || learned.own || len(c.object.Name) > maxEcho {
		return 0, 0, nil, false
	}
	name := []byte(quote(c.object.Name))
	body = append(append([]byte(`{"jsonrpc":"2.0","id":`), c.id.Raw...), `,"`+learned.member+`":`...)
	body = append(body, bytes.Join(learned.pieces, name[1:len(name)-1])...)
	return learned.status, learned.code, append(body, '}'), true
}
