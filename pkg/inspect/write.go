package inspect

import (
	"fmt"
	"net/http"
	"strconv"
)

// appendRequest writes a request's head.
func appendRequest(b []byte, r *Request) ([]byte, error) {
	b = append(b, r.Method...)
	b = append(b, ' ')
	b = append(b, r.Target...)
	b = append(b, " HTTP/1.1\r\n"...)
	host := false
	length := r.ContentLength
	for i := range r.Header {
		f := &r.Header[i]
		kind, err := kindOf(f.Name)
		if err != nil {
			return b, err
		}
		switch kind {
		case fieldHost:
			if !host {
				b = appendField(b, f.Name, r.Host)
			}
			host = true
		case fieldLength, fieldCoding:
			// A request without a body keeps its "Content-Length: 0" and gets none.
			if length != 0 || kind == fieldLength {
				b = appendFraming(b, length)
			}
			length = 0
		case fieldOther:
			if !isName(f.Name) || !all(f.Value, isValue) {
				return b, fmt.Errorf("request field %q cannot be written", f.Name)
			}
			b = appendField(b, f.Name, f.Value)
		}
	}
	if !host {
		b = appendField(b, "Host", r.Host)
	}
	if length != 0 {
		b = appendFraming(b, length)
	}
	return append(b, "\r\n"...), nil
}

// How a response is written.
type outgoing struct {
	head    bool // it answers a HEAD
	chunked bool // if its length is not known
	close   bool // the connection ends after it
}

// bodiless tells whether a response with that status never has a body.
func bodiless(status int) bool { return status == 204 || status == 304 }

// appendResponse writes a response's head. A response to HEAD and a 304 tell the
// length that the body would have had, a 204 tells none.
func appendResponse(b []byte, r *Response, length int64, o outgoing) ([]byte, error) {
	b = append(b, "HTTP/1.1 "...)
	b = strconv.AppendInt(b, int64(r.Status), 10)
	b = append(b, ' ')
	b = append(b, http.StatusText(r.Status)...)
	b = append(b, "\r\n"...)
	framed := r.Status == 204 || length < 0 && !o.chunked
	silent := o.head || r.Status == 304 // tells a length only if the app did
	for i := range r.Header {
		f := &r.Header[i]
		kind, err := kindOf(f.Name)
		if err != nil {
			return b, err
		}
		switch {
		case kind == fieldLength, kind == fieldCoding:
			if !framed && (!silent || kind == fieldLength && length >= 0) {
				b = appendFraming(b, length)
				framed = true
			}
		case kind.hop():
		case !isName(f.Name) || !all(f.Value, isValue):
			return b, fmt.Errorf("response field %q cannot be written", f.Name)
		default:
			b = appendField(b, f.Name, f.Value)
		}
	}
	if !framed && !silent {
		b = appendFraming(b, length)
	}
	if o.close {
		b = appendField(b, "Connection", "close")
	}
	return append(b, "\r\n"...), nil
}

func appendField(b []byte, name, value string) []byte {
	b = append(b, name...)
	b = append(b, ": "...)
	b = append(b, value...)
	return append(b, "\r\n"...)
}

func appendFraming(b []byte, length int64) []byte {
	if length < 0 {
		return append(b, "Transfer-Encoding: chunked\r\n"...)
	}
	b = append(b, "Content-Length: "...)
	b = strconv.AppendInt(b, length, 10)
	return append(b, "\r\n"...)
}
