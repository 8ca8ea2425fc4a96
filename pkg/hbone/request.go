package hbone

import (
	"errors"
	"fmt"
	"strconv"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"
)

// A request is a decoded header block, of a request or of a response.
type request struct {
	method, scheme, path, authority, protocol string
	status                                    string
	header                                    Header
	length                                    int64 // content-length, or -1
	end                                       bool  // END_STREAM

	malformed string // RFC 9113 §8.1.1: why the stream must be reset
	bad       error  // well formed, but not for us: 400
	regular   bool   // a field that is no pseudo-header was seen
	seen      uint8  // pseudo-headers
	size      int    // as RFC 9113 §10.5.1 counts
	fields    int
}

// onHeaders reads a whole header block.
func (c *conn) onHeaders(h http2.FrameHeader) error {
	r, self, err := c.headerBlock(h)
	if err != nil {
		return err
	}
	switch {
	case self:
		return &streamError{h.StreamID, http2.ErrCodeProtocol, "stream depends on itself"}
	case c.client:
		return c.onResponse(h.StreamID, r)
	}
	return c.onRequest(h.StreamID, r)
}

// headerBlock collects HEADERS and CONTINUATION and decodes them, within the
// bounds of size, frames and time that keep a flood of them cheap.
func (c *conn) headerBlock(h http2.FrameHeader) (r *request, self bool, err error) {
	if h.Length > maxHeaderBlock+256+6 {
		return nil, false, &connError{http2.ErrCodeEnhanceYourCalm, "header block too large"}
	}
	if !h.Flags.Has(http2.FlagHeadersEndHeaders) || len(c.in.data) < int(h.Length) {
		c.in.limit(c.t.header)
		defer c.in.limit(0)
	}
	f, err := c.fr.ReadFrameForHeader(h)
	if err != nil {
		return nil, false, err
	}
	first, ok := f.(*http2.HeadersFrame)
	if !ok {
		return nil, false, &connError{http2.ErrCodeInternal, "not HEADERS"}
	}
	self = first.HasPriority() && first.Priority.StreamDep == h.StreamID
	c.block = append(c.block[:0], first.HeaderBlockFragment()...)
	if !first.HeadersEnded() {
		if err := c.continuations(); err != nil {
			return nil, false, err
		}
	}
	r = &request{length: -1, end: h.Flags.Has(http2.FlagHeadersEndStream)}
	err = r.decode(c.dec, c.block)
	if cap(c.block) > 1024 {
		c.block = nil
	}
	return r, self, err
}

func (c *conn) continuations() error {
	for frames := 2; ; frames++ {
		h, err := c.fr.ReadFrameHeader()
		if err != nil {
			return err
		}
		if frames > maxHeaderFrames || len(c.block)+int(h.Length) > maxHeaderBlock {
			return &connError{http2.ErrCodeEnhanceYourCalm, "header block too large"}
		}
		f, err := c.fr.ReadFrameForHeader(h)
		if err != nil {
			return err
		}
		more, ok := f.(*http2.ContinuationFrame)
		if !ok {
			return &connError{http2.ErrCodeInternal, "not CONTINUATION"}
		}
		c.block = append(c.block, more.HeaderBlockFragment()...)
		if more.HeadersEnded() {
			return nil
		}
	}
}

// decode reads an HPACK block. It must read all of it, whatever is in it,
// since the table is shared by all streams.
func (r *request) decode(d *hpack.Decoder, block []byte) error {
	d.SetEmitEnabled(true)
	d.SetEmitFunc(func(f hpack.HeaderField) {
		r.fields++
		r.size += len(f.Name) + len(f.Value) + 32
		switch {
		case r.size > 4*maxHeaderBlock || r.fields > 4*maxHeaderFields:
			d.SetEmitEnabled(false)
		case r.size > maxHeaderBlock || r.fields > maxHeaderFields:
			r.bad = errTooLarge
		default:
			r.field(f)
		}
	})
	if _, err := d.Write(block); err != nil {
		return compressionError(err)
	}
	if err := d.Close(); err != nil {
		return compressionError(err)
	}
	if r.size > 4*maxHeaderBlock || r.fields > 4*maxHeaderFields {
		return &connError{http2.ErrCodeEnhanceYourCalm, "header list too large"}
	}
	return nil
}

func compressionError(err error) error {
	if errors.Is(err, hpack.ErrStringLength) {
		return &connError{http2.ErrCodeEnhanceYourCalm, "header field too large"}
	}
	return &connError{http2.ErrCodeCompression, err.Error()}
}

func (r *request) field(f hpack.HeaderField) {
	switch {
	case r.malformed != "":
	case len(f.Name) > 0 && f.Name[0] == ':':
		r.pseudo(f)
	case !validFieldName(f.Name) || !validFieldValue(f.Value):
		r.malformed = "field name or value"
	default:
		r.regular = true
		r.plain(f)
	}
}

func (r *request) pseudo(f hpack.HeaderField) {
	var dst *string
	var bit uint8
	switch f.Name {
	case ":method":
		dst, bit = &r.method, 1
	case ":scheme":
		dst, bit = &r.scheme, 2
	case ":path":
		dst, bit = &r.path, 4
	case ":authority":
		dst, bit = &r.authority, 8
	case ":protocol":
		dst, bit = &r.protocol, 16
	case ":status":
		dst, bit = &r.status, 32
	default:
		r.malformed = "unknown pseudo-header"
		return
	}
	if r.regular || r.seen&bit != 0 || !validFieldValue(f.Value) {
		r.malformed = "pseudo-header " + f.Name
		return
	}
	*dst = f.Value
	r.seen |= bit
}

func (r *request) has(bit uint8) bool { return r.seen&bit != 0 }

func (r *request) plain(f hpack.HeaderField) {
	switch f.Name {
	case "connection", "proxy-connection", "keep-alive", "transfer-encoding", "upgrade":
		r.malformed = "connection-specific field"
	case "te":
		if f.Value != "trailers" {
			r.malformed = "te"
		}
	case "content-length":
		n, err := strconv.ParseUint(f.Value, 10, 62)
		if err != nil || r.length >= 0 && r.length != int64(n) {
			r.malformed = "content-length"
		}
		r.length = int64(n)
	default:
		if err := r.header.add(f); err != nil && r.bad == nil {
			r.bad = err
		}
	}
}

var errTooLarge = errors.New("header list too large")

// check tells what is wrong with a request: malformed, or bad.
func (r *request) check() {
	switch {
	case r.malformed != "":
	case r.has(32), !r.has(1), r.method == "":
		r.malformed = "no method"
	case r.method != "CONNECT":
		if !r.has(2) || r.path == "" || r.scheme == "" {
			r.malformed = "no scheme or path"
		}
		r.bad = fmt.Errorf("method %q", clip(r.method))
	case r.seen != 1|8:
		// RFC 9113 §8.5 calls it malformed, and lets us answer before the stream ends.
		r.bad = errors.New("CONNECT with other pseudo-headers than :method and :authority")
	case r.length >= 0:
		r.bad = errors.New("CONNECT with content-length")
	case r.bad == nil:
		_, _, _, r.bad = ParseAuthority(r.authority)
	}
	if r.malformed == "" && r.length > 0 && r.end {
		r.malformed = "content-length without content"
	}
}
