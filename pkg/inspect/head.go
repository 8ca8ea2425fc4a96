package inspect

import "strings"

// How the body of a message is delimited.
type framing uint8

const (
	framingNone framing = iota
	framingLength
	framingChunked
	framingClose // a response only: by the end of the connection
)

// A message is what a request and a response have in common: the header and what
// it says of the message's end and of the connection.
type message struct {
	header  Header
	framing framing
	length  int64 // -1 if chunked
	close   bool  // the sender closes after it
	hosts   int
	host    string
	expect  string
	upgrade bool     // to anything but h2c
	options []string // what Connection names besides close and keep-alive
}

// parseFields reads the lines of a header, each ended by CR LF and the last one
// empty, and appends them to into, which may come to hold limit lines.
func parseFields(s string, limit int, into Header) (Header, error) {
	for s != "\r\n" {
		i := strings.IndexByte(s, '\n')
		if i < 1 || s[i-1] != '\r' {
			return into, errBareLF
		}
		line := s[:i-1]
		s = s[i+1:]
		colon := strings.IndexByte(line, ':')
		switch {
		case line == "":
			return into, bad("empty line inside a header")
		case line[0] == ' ' || line[0] == '\t':
			return into, bad("header line is folded")
		case colon < 0 || !isName(line[:colon]):
			return into, bad("header line without a valid name")
		case !all(line[colon+1:], isValue):
			return into, bad("control character in a header value")
		case len(into) >= limit:
			return into, &Error{Status: 431, Problem: "too many header lines"}
		}
		into = append(into, Field{line[:colon], trimSpace(line[colon+1:])})
	}
	return into, nil
}

// settle reads the framing, takes the hop-by-hop fields out of the header and
// rejects what two readers could understand differently.
func (m *message) settle() error {
	var lengths, codings int
	keep := m.header[:0]
	for _, f := range m.header {
		kind, err := kindOf(f.Name)
		if err != nil {
			return err
		}
		switch kind {
		case fieldLength:
			lengths++
			if m.length, err = parseLength(f.Value); err != nil {
				return err
			}
		case fieldCoding:
			codings++
			if !equalFold(f.Value, "chunked") {
				return bad("transfer coding other than chunked")
			}
		case fieldHost:
			m.hosts++
			m.host = f.Value
		}
		if kind.hop() {
			if err := m.hop(kind, f.Value); err != nil {
				return err
			}
			continue
		}
		keep = append(keep, f)
	}
	clear(m.header[len(keep):])
	m.header = keep
	return m.frame(lengths, codings)
}

// hop keeps what a hop-by-hop field tells us.
func (m *message) hop(kind fieldKind, value string) error {
	switch kind {
	case fieldExpect:
		m.expect += value
	case fieldUpgrade:
		// RFC 9110 §7.8: an upgrade may be ignored. Clients that prefer HTTP/2 offer
		// h2c with every request and are content with HTTP/1.1.
		m.upgrade = m.upgrade || !equalFold(value, "h2c")
	case fieldConnection:
		return m.connection(value)
	}
	return nil
}

// connection reads a Connection field.
func (m *message) connection(value string) error {
	for option := range strings.SplitSeq(value, ",") {
		switch option = trimSpace(option); {
		case option == "" || equalFold(option, "keep-alive"):
		case equalFold(option, "close"):
			m.close = true
		case !isName(option):
			return bad("connection option that is not a token")
		default:
			m.options = append(m.options, option)
		}
	}
	return nil
}

func (m *message) frame(lengths, codings int) error {
	switch {
	case lengths > 0 && codings > 0:
		return bad("both Content-Length and Transfer-Encoding")
	case lengths > 1:
		return bad("more than one Content-Length")
	case codings > 1:
		return bad("more than one Transfer-Encoding")
	case codings == 1:
		m.framing, m.length = framingChunked, -1
	case lengths == 1:
		m.framing = framingLength
	}
	// RFC 9110 §7.6.1 lets Connection name any field as hop-by-hop. That would take
	// from the next reader what we decided on, so it may only name what is
	// hop-by-hop anyway.
	for _, option := range m.options {
		if m.header.Has(option) {
			return bad("Connection names a field that is not hop-by-hop")
		}
	}
	return nil
}

// parseLength reads Content-Length: one number, no list, no sign, no leading zero.
func parseLength(s string) (int64, error) {
	if s == "" || len(s) > 15 || len(s) > 1 && s[0] == '0' {
		return 0, bad("Content-Length is not a number")
	}
	var n int64
	for i := range len(s) {
		if s[i] < '0' || s[i] > '9' {
			return 0, bad("Content-Length is not a number")
		}
		n = n*10 + int64(s[i]-'0')
	}
	return n, nil
}

// A fieldKind is what a field means to this engine.
type fieldKind uint8

const (
	fieldOther fieldKind = iota
	fieldHost
	fieldLength
	fieldCoding
	fieldConnection // this one and those below are hop-by-hop
	fieldUpgrade
	fieldExpect
	fieldHop
)

func (k fieldKind) hop() bool { return k >= fieldConnection }

// kindOf recognises a field's name. A name that is one of framing or routing but
// for an underscore is an error: some servers read it as the other.
func kindOf(name string) (fieldKind, error) {
	kind := fieldOther
	switch len(name) {
	case 2:
		kind = is(name, "te", fieldHop)
	case 4:
		kind = is(name, "host", fieldHost)
	case 6:
		kind = is(name, "expect", fieldExpect)
	case 7:
		kind = max(is(name, "upgrade", fieldUpgrade), is(name, "trailer", fieldHop))
	case 10:
		kind = max(is(name, "connection", fieldConnection), is(name, "keep-alive", fieldHop))
	case 14:
		kind = max(is(name, "content-length", fieldLength), is(name, "http2-settings", fieldHop))
	case 16:
		kind = is(name, "proxy-connection", fieldHop)
	case 17:
		kind = is(name, "transfer-encoding", fieldCoding)
	case 18:
		kind = is(name, "proxy-authenticate", fieldHop)
	case 19:
		kind = is(name, "proxy-authorization", fieldHop)
	case 25:
		kind = is(name, "proxy-authentication-info", fieldHop)
	}
	if kind != fieldOther && strings.IndexByte(name, '_') >= 0 {
		return kind, bad("underscore in the name of a framing field")
	}
	return kind, nil
}

// is returns kind if name is lowered, where "_" counts as "-".
func is(name, lowered string, kind fieldKind) fieldKind {
	for i := range len(lowered) {
		c := lower(name[i])
		if c == '_' {
			c = '-'
		}
		if c != lowered[i] {
			return fieldOther
		}
	}
	return kind
}
