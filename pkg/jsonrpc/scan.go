package jsonrpc

// A scanner reads one document once. It accepts RFC 8259 texts in valid UTF-8
// without byte order mark, lone surrogates or duplicate names, within limits,
// and notes the members of objects that have a shape. A twin is remembered,
// not fatal, so that the id of the message is known when it is refused.
type scanner struct {
	limits Limits
	data   []byte
	pos    int

	names   names
	count   int    // members so far
	scratch []byte // unescaped names

	noted  []member
	starts []int  // offsets of the objects with a shape, in order
	twin   *Error // the first name that is a twin of a protocol member
}

// maxKept is how many noted members a scanner keeps room for between documents.
const maxKept = 4096

// A member of an object that has a shape.
type member struct {
	owner int32  // number of the object
	name  []byte // unescaped
	value Value
}

func (s *scanner) reset(data []byte) {
	s.data, s.pos, s.count, s.twin = data, 0, 0, nil
	clear(s.noted)
	s.noted, s.starts = s.noted[:0], s.starts[:0]
	if cap(s.noted) > maxKept {
		s.noted, s.starts = nil, nil
	}
	s.scratch = s.scratch[:0]
	s.names.reset()
}

// document reads the whole data as one value of the given shape.
func (s *scanner) document(data []byte, shape *Shape) (Value, error) {
	s.reset(data)
	if len(data) > s.limits.Bytes {
		return Value{}, syntax(s.limits.Bytes, ReasonTooLarge, "the document is too long")
	}
	s.space()
	v, err := s.value(0, shape)
	if err != nil {
		return Value{}, err
	}
	s.space()
	if s.pos < len(s.data) {
		return Value{}, syntax(s.pos, ReasonTrailing, "something follows the value")
	}
	return v, nil
}

func (s *scanner) space() {
	for s.pos < len(s.data) {
		switch s.data[s.pos] {
		case ' ', '\t', '\n', '\r':
			s.pos++
		default:
			return
		}
	}
}

func (s *scanner) value(depth int, shape *Shape) (Value, error) {
	start := s.pos
	if start >= len(s.data) {
		return Value{}, s.bad("the text ends where a value should be")
	}
	var node int32
	var err error
	switch c := s.data[start]; c {
	case '{':
		node, err = s.object(depth+1, shape)
	case '[':
		err = s.array(depth+1, shape)
	case '"':
		_, err = s.str()
	case 't':
		err = s.literal("true")
	case 'f':
		err = s.literal("false")
	case 'n':
		err = s.literal("null")
	default:
		err = s.number()
	}
	if err != nil {
		return Value{}, err
	}
	return Value{Raw: s.data[start:s.pos:s.pos], At: start, node: node}, nil
}

// object starts at '{'. It returns the object's number if it has a shape.
func (s *scanner) object(depth int, shape *Shape) (int32, error) {
	if depth > s.limits.Depth {
		return 0, syntax(s.pos, ReasonTooLarge, "the nesting is too deep")
	}
	var node int32
	if shape != nil && !shape.unnoted {
		s.starts = append(s.starts, s.pos)
		node = int32(len(s.starts))
	}
	s.pos++
	f := s.names.open()
	defer s.names.close(f)
	s.space()
	if s.at('}') {
		s.pos++
		return node, nil
	}
	for {
		if err := s.member(depth, node, shape, &f); err != nil {
			return 0, err
		}
		switch {
		case s.at(','):
			s.pos++
			s.space()
		case s.at('}'):
			s.pos++
			return node, nil
		default:
			return 0, s.bad("an object goes on with neither comma nor brace")
		}
	}
}

// member reads a name, a colon, a value and the space around them.
func (s *scanner) member(depth int, node int32, shape *Shape, f *frame) error {
	start := s.pos
	if !s.at('"') {
		return s.bad("a member does not start with a quote")
	}
	name, err := s.name()
	if err != nil {
		return err
	}
	s.count++
	if s.count > s.limits.Members {
		return syntax(start, ReasonTooLarge, "there are too many members")
	}
	if !s.names.add(f, name) {
		return syntax(start, ReasonDuplicate, "a member name appears twice in one object")
	}
	var nested *Shape
	if shape != nil {
		var twin bool
		if nested, twin = shape.match(name); twin && s.twin == nil {
			s.twin = envelope(start, ReasonTwin, "a member name differs from a protocol member only in case")
		}
	}
	s.space()
	if !s.at(':') {
		return s.bad("a member name is not followed by a colon")
	}
	s.pos++
	s.space()
	v, err := s.value(depth, nested)
	if err != nil {
		return err
	}
	if node != 0 {
		s.noted = append(s.noted, member{node, name, v})
	}
	s.space()
	return nil
}

// array starts at '['. A shape reaches through to its elements.
func (s *scanner) array(depth int, shape *Shape) error {
	if depth > s.limits.Depth {
		return syntax(s.pos, ReasonTooLarge, "the nesting is too deep")
	}
	s.pos++
	s.space()
	if s.at(']') {
		s.pos++
		return nil
	}
	for {
		if _, err := s.value(depth, shape); err != nil {
			return err
		}
		s.space()
		switch {
		case s.at(','):
			s.pos++
			s.space()
		case s.at(']'):
			s.pos++
			return nil
		default:
			return s.bad("an array goes on with neither comma nor bracket")
		}
	}
}

func (s *scanner) at(c byte) bool { return s.pos < len(s.data) && s.data[s.pos] == c }

func (s *scanner) bad(problem string) error {
	if s.pos >= len(s.data) {
		problem = "the text ends too early"
	}
	return syntax(s.pos, ReasonSyntax, problem)
}

func (s *scanner) literal(word string) error {
	if len(s.data)-s.pos < len(word) || string(s.data[s.pos:s.pos+len(word)]) != word {
		return s.bad("a value is neither object, array, string, number, true, false nor null")
	}
	s.pos += len(word)
	return nil
}

// number reads RFC 8259 §6.
func (s *scanner) number() error {
	if s.at('-') {
		s.pos++
	}
	switch {
	case s.at('0'):
		s.pos++
	case s.digits():
	default:
		return s.bad("a value is neither object, array, string, number, true, false nor null")
	}
	if s.at('.') {
		s.pos++
		if !s.digits() {
			return s.bad("a number ends with its decimal point")
		}
	}
	if s.at('e') || s.at('E') {
		s.pos++
		if s.at('+') || s.at('-') {
			s.pos++
		}
		if !s.digits() {
			return s.bad("a number has an empty exponent")
		}
	}
	return nil
}

func (s *scanner) digits() bool {
	start := s.pos
	for s.pos < len(s.data) && s.data[s.pos]-'0' <= 9 {
		s.pos++
	}
	return s.pos > start
}
