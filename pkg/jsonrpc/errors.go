package jsonrpc

import "fmt"

// The codes JSON-RPC 2.0 §5.1 gives to what cannot be executed.
const (
	CodeParseError     = -32700 // not the JSON we accept
	CodeInvalidRequest = -32600 // JSON, but not one message
	CodeMethodNotFound = -32601
	CodeInvalidParams  = -32602
	CodeInternalError  = -32603
)

// Reason sorts what was wrong, for callers that branch and for records.
type Reason uint8

const (
	ReasonSyntax    Reason = iota + 1 // RFC 8259 grammar
	ReasonUTF8                        // bytes or escapes that are no Unicode text
	ReasonDuplicate                   // two members of one object have the same name
	ReasonTwin                        // a name that differs from a protocol member only in case
	ReasonTooLarge                    // more bytes, depth, members or elements than allowed
	ReasonTrailing                    // something after the value
	ReasonEnvelope                    // not exactly one request, notification or response
	ReasonID                          // an id that peers read differently
	ReasonBatch                       // an array where one message was expected, or the reverse
)

// An Error says why bytes were not accepted, where, and which JSON-RPC code
// tells a peer. ID is the id of the message as written, if it could be read
// without doubt before the error; otherwise nil.
type Error struct {
	Code    int
	Reason  Reason
	Offset  int // bytes from the start of the document
	Problem string
	ID      []byte
}

func (e *Error) Error() string {
	return fmt.Sprintf("read message at byte %d: %s", e.Offset, e.Problem)
}

func syntax(offset int, reason Reason, problem string) *Error {
	return &Error{Code: CodeParseError, Reason: reason, Offset: offset, Problem: problem}
}

func envelope(offset int, reason Reason, problem string) *Error {
	return &Error{Code: CodeInvalidRequest, Reason: reason, Offset: offset, Problem: problem}
}
