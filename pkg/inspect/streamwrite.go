package inspect

import (
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"

	"github.com/outrigger-mesh/outrigger/pkg/inspect/h2"
)

// streamFields appends fields as HTTP/2 has them: names in lower case, and only those
// that are not of framing or hop-by-hop.
func streamFields(to []h2.Field, h Header, length int64) ([]h2.Field, error) {
	framed := length < 0
	for i := range h {
		kind, err := kindOf(h[i].Name)
		switch {
		case err != nil:
			return nil, err
		case kind == fieldLength && !framed:
			framed = true
			to = append(to, h2.Field{Name: "content-length", Value: strconv.FormatInt(length, 10)})
		case kind != fieldOther:
		case !isName(h[i].Name) || !all(h[i].Value, isValue):
			return nil, fmt.Errorf("field %q cannot be written", h[i].Name)
		default:
			to = append(to, h2.Field{Name: strings.ToLower(h[i].Name), Value: trimSpace(h[i].Value)})
		}
	}
	if !framed {
		to = append(to, h2.Field{Name: "content-length", Value: strconv.FormatInt(length, 10)})
	}
	return to, nil
}

// streamRequest is the header list of a request. One without content has no length.
func streamRequest(to []h2.Field, r *Request) ([]h2.Field, error) {
	scheme := r.scheme
	if scheme == "" {
		scheme = "http"
	}
	to = append(to, h2.Field{Name: ":method", Value: r.Method}, h2.Field{Name: ":scheme", Value: scheme},
		h2.Field{Name: ":authority", Value: r.Host}, h2.Field{Name: ":path", Value: r.Target})
	length := r.ContentLength
	if length == 0 && !r.Header.Has("Content-Length") {
		length = -1
	}
	return streamFields(to, r.Header, length)
}

// streamResponse is the header list of a response. One to HEAD and a 304 tell the
// length that the content would have had if the app did, a 204 tells none.
func streamResponse(to []h2.Field, r *Response, length int64, head bool) ([]h2.Field, error) {
	to = append(to, h2.Field{Name: ":status", Value: strconv.Itoa(r.Status)})
	if r.Status == 204 || (head || r.Status == 304) && !r.Header.Has("Content-Length") {
		length = -1
	}
	return streamFields(to, r.Header, length)
}

// sendContent sends a body of that length, or up to the end of src if it is negative.
// What was read is sent before src is waited for again.
func sendContent(st *h2.Stream, src io.Reader, length int64, p *pulse) error {
	from := lender{src: src, full: length > tinySize}
	defer from.release()
	for left := length; ; {
		p.wait()
		b, err := from.read()
		p.resume()
		if err != nil && err != io.EOF {
			return &sourceError{err}
		}
		if left -= int64(len(b)); length >= 0 && left < 0 {
			return &sourceError{errors.New("body is longer than its length")}
		}
		end := err == io.EOF || left == 0
		switch {
		case end && left > 0:
			return &sourceError{io.ErrUnexpectedEOF}
		case len(b) > 0 || end:
			if err := st.Write(b, end); err != nil {
				return err
			}
		}
		if end {
			if err == nil {
				_, _ = from.read() // the end of src: whoever is at the other end of it may be about to send it
			}
			return nil
		}
		p.wrote(b)
	}
}
