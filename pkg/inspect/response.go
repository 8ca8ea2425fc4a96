package inspect

import (
	"strings"
	"sync"
	"sync/atomic"
)

// Reply returns a small response.
func Reply(status int, contentType string, content []byte) *Response {
	r := &Response{Status: status, ContentLength: int64(len(content))}
	if len(content) > 0 {
		r.Header = Header{{"Content-Type", contentType}}
		r.Body = &replyBody{content: content}
	}
	return r
}

// parseResponse reads the head of a response to a request with that method.
func parseResponse(head, method string, l *Limits) (*received, error) {
	i := strings.IndexByte(head, '\n')
	line := head[:i-1]
	status, http10, ok := parseStatusLine(line)
	if !ok {
		return nil, bad("malformed status line")
	}
	in := &received{}
	var err error
	if in.header, err = parseFields(head[i+1:], 2*l.Fields, in.fields[:0]); err != nil {
		return nil, err
	}
	if err := in.settle(); err != nil {
		return nil, err
	}
	if http10 {
		in.close = true
		if in.framing == framingChunked {
			return nil, bad("Transfer-Encoding in HTTP/1.0")
		}
	}
	r := &in.response
	r.Status, r.Header = status, in.header
	r.ContentLength = in.length
	switch {
	case method == "HEAD" || bodiless(status):
		if in.framing != framingLength {
			r.ContentLength = -1
		}
		in.framing, in.length = framingNone, 0
	case in.framing == framingNone && status >= 200:
		in.framing, in.close = framingClose, true
		r.ContentLength = -1
	}
	return in, nil
}

// parseStatusLine reads "HTTP/1.1 200 OK". The reason is dropped: a canonical one
// is written. It may be absent, with the space before it.
func parseStatusLine(line string) (status int, http10, ok bool) {
	if len(line) < 12 || line[:7] != "HTTP/1." || line[7] != '1' && line[7] != '0' || line[8] != ' ' {
		return 0, false, false
	}
	for _, c := range []byte(line[9:12]) {
		if c < '0' || c > '9' {
			return 0, false, false
		}
		status = status*10 + int(c-'0')
	}
	if len(line) > 12 && line[12] != ' ' || !all(line[12:], isValue) {
		return 0, false, false
	}
	return status, line[7] == '0', status >= 100 && status <= 599
}

// A received is a response as it was read. It is one allocation with all that it
// points to.
type received struct {
	message
	response Response
	body     responseBody
	fields   [16]Field
}

// A responseBody is a body that somebody closes.
type responseBody struct {
	body
	upstream *upstream
	again    bool // the connection may go on after it

	mu   sync.Mutex  // held while body is read
	done atomic.Bool // the exchange has ended
}

// Read reads the body's bytes.
func (b *responseBody) Read(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.body.Read(p)
}

// Close ends the exchange with the app. A connection whose body was not read to its
// end is not used again. Close may be called beside a Read, which it ends.
func (b *responseBody) Close() error {
	if b.done.Swap(true) {
		return nil
	}
	if !b.mu.TryLock() {
		b.upstream.in.interrupt()
		b.mu.Lock()
	}
	defer b.mu.Unlock()
	b.upstream.finish()
	return nil
}

func (b *responseBody) bodyBegins() error { return nil }
func (b *responseBody) bodyEnds()         { b.upstream.clean = b.again }
