package jsonrpc

import "strconv"

// Kind is which of the three a message is.
type Kind uint8

const (
	Request      Kind = iota + 1 // has an id and wants a response
	Notification                 // has no id
	Response                     // has a result or an error
)

// A Message is one JSON-RPC message and the bytes it was read from. It lives
// until its parser reads the next one.
type Message struct {
	Kind   Kind
	Raw    []byte // the message as written, without the space around it
	ID     ID     // zero for notifications, and for error responses that name nobody
	Method string // unescaped; "" for responses
	Params Value  // an object, or nothing
	Result Value  // of a response; nothing if it is an error
	Error  Value  // of a response: an object with code and message
	Code   int64  // of the error

	noted []member // in it
}

// Member is a member of an object of the message: quick where the object has a
// shape, by walking the object elsewhere.
func (m *Message) Member(of Value, name string) Value {
	if of.node == 0 {
		return of.Member(name)
	}
	for i := range m.noted {
		if m.noted[i].owner == of.node && string(m.noted[i].name) == name {
			return m.noted[i].value
		}
	}
	return Value{}
}

// An ID is a request's id as written. Two ids are the same if their keys are.
type ID struct {
	Raw []byte
	Key string // the kind and the unescaped value
}

// IsZero tells that there is no id.
func (id ID) IsZero() bool { return len(id.Raw) == 0 }

// method is the text of a method's name. Those that come with nearly every message
// are not allocated each time.
func method(v Value) (string, bool) {
	if v.Kind() == '"' {
		switch string(v.Raw) {
		case `"tools/call"`:
			return "tools/call", true
		case `"tools/list"`:
			return "tools/list", true
		case `"notifications/progress"`:
			return "notifications/progress", true
		}
	}
	return v.Text()
}

// ReadID reads an id that is not an envelope's, such as that of a request which a
// notification cancels.
func ReadID(v Value) (ID, bool) {
	id, problem := readID(v, Limits{}.withDefaults().IDBytes)
	return id, problem == ""
}

// maxInteger is 2^53-1: peers that keep numbers as doubles round beyond it.
const maxInteger = 1<<53 - 1

// readID accepts strings and integers that all peers read alike.
func readID(v Value, maxBytes int) (ID, string) {
	switch v.Kind() {
	case '"':
		if len(v.Raw) > maxBytes {
			return ID{}, "the id is too long"
		}
		text, _ := v.Text()
		return ID{v.Raw, `"` + text}, ""
	case '0':
		n, ok := v.Int()
		if !ok || n > maxInteger || n < -maxInteger || string(v.Raw) == "-0" {
			return ID{}, "the id is not an integer that every peer can represent"
		}
		return ID{v.Raw, strconv.FormatInt(n, 10)}, ""
	}
	return ID{}, "the id is neither a string nor an integer"
}
