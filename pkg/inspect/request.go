package inspect

import (
	"strings"
	"sync"
)

// An incoming is a request as it was read, with what the engine needs to know of
// it besides. It is one allocation with all that it points to.
type incoming struct {
	message
	exchange Exchange
	request  Request
	body     body
	owner    requestBody
	fields   [16]Field
	http10   bool
	expects  bool // "100-continue" waits for an answer
}

// incomings are requests that were answered, to be used again.
var incomings = sync.Pool{New: func() any { return new(incoming) }}

// putIncoming gives back a request that nobody uses any more.
func putIncoming(in *incoming) {
	*in = incoming{}
	incomings.Put(in)
}

// parseRequest reads the head of a request.
func parseRequest(head string, l *Limits) (*incoming, error) {
	i := strings.IndexByte(head, '\n')
	line := head[:i-1]
	method, rest, ok := strings.Cut(line, " ")
	target, version, ok2 := strings.Cut(rest, " ")
	if !ok || !ok2 || strings.IndexByte(line, '\r') >= 0 {
		return nil, bad("malformed request line")
	}
	in := incomings.Get().(*incoming)
	r := &in.request
	r.Method = method
	if err := in.version(version); err != nil {
		return nil, err
	}
	var err error
	if in.header, err = parseFields(head[i+1:], l.Fields, in.fields[:0]); err != nil {
		return nil, err
	}
	if err := in.settle(); err != nil {
		return nil, err
	}
	if in.hosts != 1 || !validHost(in.host) {
		return nil, bad("not exactly one valid Host")
	}
	r.Host = in.host
	if err := checkMethod(method); err != nil {
		return nil, err
	}
	if err := r.target(target); err != nil {
		return nil, err
	}
	r.Header, r.ContentLength = in.header, in.length
	return in, in.check()
}

func (in *incoming) version(version string) error {
	switch {
	case version == "HTTP/1.1":
	case version == "HTTP/1.0":
		in.http10, in.close = true, true
	case len(version) == 8 && strings.HasPrefix(version, "HTTP/"):
		return &Error{Status: 505, Problem: "HTTP version other than 1.1 and 1.0"}
	default:
		return bad("malformed request line")
	}
	return nil
}

// checkMethod lets the methods pass that every server reads alike. CONNECT would
// open a tunnel that nobody inspects, TRACE would send fields back.
func checkMethod(method string) error {
	switch method {
	case "GET", "HEAD", "POST", "PUT", "DELETE", "OPTIONS", "PATCH":
		return nil
	case "CONNECT", "TRACE":
		return &Error{Status: 405, Problem: "method " + method + " is not served on an inspected port"}
	}
	if !isName(method) {
		return bad("malformed request line")
	}
	return &Error{Status: 501, Problem: "unknown method"}
}

// check rejects what is well-formed but must not pass.
func (in *incoming) check() error {
	if in.upgrade {
		return &Error{Status: 501, Problem: "upgrade to another protocol is not served on an inspected port"}
	}
	if in.http10 && in.framing == framingChunked {
		return bad("Transfer-Encoding in HTTP/1.0")
	}
	// RFC 9110 §9.3.1: the content of a GET has no meaning, and servers that do not
	// read it take it for the next request.
	m := in.request.Method
	if (m == "GET" || m == "HEAD") && in.length != 0 {
		return bad("body in a " + m + " request")
	}
	if in.expect != "" && !in.http10 {
		if !equalFold(in.expect, "100-continue") {
			return &Error{Status: 417, Problem: "expectation other than 100-continue"}
		}
		in.expects = in.length != 0
	}
	return nil
}
