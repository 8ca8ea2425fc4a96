package h2

import (
	"errors"
	"strconv"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"
)

// A Field is one field of a header list.
type Field struct{ Name, Value string }

// A Header is a header list that was received and is well-formed (RFC 9113 §8.2, §8.3):
// names are lower-case, pseudo-header fields complete, first and not repeated, and no
// field is specific to a connection.
type Header struct {
	Method, Scheme, Authority, Path string // of a request; a CONNECT has neither Scheme nor Path
	Status                          int    // of a response, from 200
	HasAuthority                    bool
	Fields                          []Field // the others, in order
	Length                          int64   // content-length; -1 if there is none
	End                             bool    // nothing follows
	TooLarge                        bool    // for our limits: Fields are not all of them
	Secret                          bool    // a field must not be indexed where it goes on

	malformed string // RFC 9113 §8.1.1: why the stream must be reset
	regular   bool   // a field that is no pseudo-header was seen
	seen      uint8  // pseudo-headers
	lengths   int
	size      int
	count     int
}

// Pseudo-headers, as bits of seen.
const (
	seenMethod = 1 << iota
	seenScheme
	seenPath
	seenAuthority
	seenStatus
)

// block collects HEADERS and CONTINUATION and decodes them, within the bounds of
// size, frames and time that keep a flood of them cheap.
func (c *Conn) block(h http2.FrameHeader) (*Header, error) {
	if int(h.Length) > c.Header+256+6 {
		return nil, calm("header block too large")
	}
	if len(c.in.data) < int(h.Length) || !h.Flags.Has(http2.FlagHeadersEndHeaders) {
		c.in.within(c.Begin)
		defer c.in.within(0)
	}
	f, err := c.fr.ReadFrameForHeader(h)
	if err != nil {
		return nil, err
	}
	first, ok := f.(*http2.HeadersFrame)
	if !ok {
		return nil, protocol("not HEADERS")
	}
	selfish := first.HasPriority() && first.Priority.StreamDep == h.StreamID
	block := first.HeaderBlockFragment()
	if !first.HeadersEnded() {
		if block, err = c.continuations(append([]byte(nil), block...)); err != nil {
			return nil, err
		}
	}
	r, err := c.decode(block)
	if err == nil && selfish {
		r.malformed = "stream depends on itself"
	}
	if err == nil {
		r.End = h.Flags.Has(http2.FlagHeadersEndStream)
	}
	return r, err
}

func (c *Conn) continuations(block []byte) ([]byte, error) {
	for frames := 2; ; frames++ {
		h, err := c.fr.ReadFrameHeader()
		if err != nil {
			return nil, err
		}
		if frames > maxFrames || len(block)+int(h.Length) > c.Header {
			return nil, calm("header block too large")
		}
		f, err := c.fr.ReadFrameForHeader(h)
		if err != nil {
			return nil, err
		}
		more, ok := f.(*http2.ContinuationFrame)
		if !ok {
			return nil, protocol("not CONTINUATION")
		}
		block = append(block, more.HeaderBlockFragment()...)
		if more.HeadersEnded() {
			return block, nil
		}
	}
}

// decode reads an HPACK block. It must read all of it, whatever is in it, since the
// table is shared by all streams.
func (c *Conn) decode(block []byte) (*Header, error) {
	a := &struct {
		Header
		fields [16]Field
	}{}
	r := &a.Header
	r.Length, r.Fields = -1, a.fields[:0]
	c.reading = r
	c.dec.SetEmitEnabled(true)
	_, err := c.dec.Write(block)
	if e := c.dec.Close(); err == nil {
		err = e
	}
	c.reading = nil
	switch {
	case errors.Is(err, hpack.ErrStringLength):
		return nil, calm("header field too large")
	case err != nil:
		return nil, &ConnError{http2.ErrCodeCompression, err.Error()}
	case r.size > 4*c.Header || r.count > 4*c.Fields:
		return nil, calm("header list too large")
	}
	return r, nil
}

// emit takes one field from the decoder.
func (c *Conn) emit(f hpack.HeaderField) {
	r := c.reading
	r.count++
	r.size += len(f.Name) + len(f.Value) + 32
	r.Secret = r.Secret || f.Sensitive
	switch {
	case r.size > 4*c.Header || r.count > 4*c.Fields:
		c.dec.SetEmitEnabled(false)
	case r.size > c.Header || r.count > c.Fields:
		r.TooLarge = true
	case r.malformed != "":
	case f.Name == "" || !validValue(f.Value):
		r.malformed = "name or value of a field"
	case f.Name[0] == ':':
		r.pseudo(f)
	case !validName(f.Name):
		r.malformed = "name of a field"
	default:
		r.regular = true
		r.plain(f)
	}
}

func (r *Header) pseudo(f hpack.HeaderField) {
	var bit uint8
	switch f.Name {
	case ":method":
		bit, r.Method = seenMethod, f.Value
	case ":scheme":
		bit, r.Scheme = seenScheme, f.Value
	case ":path":
		bit, r.Path = seenPath, f.Value
	case ":authority":
		bit, r.Authority = seenAuthority, f.Value
		r.HasAuthority = true
	case ":status":
		bit = seenStatus
		if n, err := strconv.Atoi(f.Value); err == nil && len(f.Value) == 3 && n >= 100 && n <= 599 {
			r.Status = n
		}
	default:
		r.malformed = "unknown pseudo-header"
		return
	}
	if r.regular || r.seen&bit != 0 {
		r.malformed = "repeated or late pseudo-header"
	}
	r.seen |= bit
}

func (r *Header) plain(f hpack.HeaderField) {
	switch f.Name {
	case "connection", "proxy-connection", "keep-alive", "transfer-encoding", "upgrade":
		r.malformed = "field that is specific to a connection"
	case "te":
		if f.Value != "trailers" {
			r.malformed = "te other than trailers"
		}
	case "content-length":
		n, err := strconv.ParseUint(f.Value, 10, 53)
		if err != nil || len(f.Value) > 1 && f.Value[0] == '0' {
			r.malformed = "content-length is not a number"
		}
		if r.lengths++; r.lengths > 1 {
			r.malformed = "more than one content-length"
		}
		r.Length = int64(n)
	}
	r.Fields = append(r.Fields, Field{f.Name, f.Value})
}

// checkRequest says why a request is malformed, "" if it is not (RFC 9113 §8.3.1).
func (r *Header) checkRequest() string {
	switch {
	case r.malformed != "":
		return r.malformed
	case r.TooLarge: // what is not there may be among what was left out
		return ""
	case r.seen&seenStatus != 0 || r.Method == "":
		return "no method"
	case r.Method == "CONNECT":
		if r.seen != seenMethod|seenAuthority {
			return "CONNECT with other pseudo-headers than :method and :authority"
		}
	case r.Scheme == "" || r.Path == "":
		return "no scheme or path"
	}
	if r.End && r.Length > 0 {
		return "content-length without content"
	}
	return ""
}

// checkTrailer says why a trailer section is malformed, "" if it is not.
func (r *Header) checkTrailer(may func(string) bool) string {
	switch {
	case r.malformed != "":
		return r.malformed
	case r.seen != 0 || !r.End || r.TooLarge:
		return "trailers with a pseudo-header, too long, or not at the end"
	case may != nil:
		for _, f := range r.Fields {
			if !may(f.Name) {
				return "field that is not allowed in a trailer"
			}
		}
	}
	return ""
}

// validName: RFC 9113 §8.2.1 and RFC 9110 §5.1, a lower-case token.
func validName(s string) bool {
	for i := range len(s) {
		switch c := s[i]; {
		case 'a' <= c && c <= 'z', '0' <= c && c <= '9', c == '-', c == '_':
		case c == '!', c == '#', c == '$', c == '%', c == '&', c == '\'', c == '*', c == '+', c == '.', c == '^', c == '`', c == '|', c == '~':
		default:
			return false
		}
	}
	return s != ""
}

// validValue: RFC 9113 §8.2.1, and no other control character than the tab.
func validValue(s string) bool {
	for i := range len(s) {
		if c := s[i]; c < ' ' && c != '\t' || c == 0x7f {
			return false
		}
	}
	return s == "" || s[0] != ' ' && s[0] != '\t' && s[len(s)-1] != ' ' && s[len(s)-1] != '\t'
}
