package jsonrpc

import (
	"strings"
	"unicode"
	"unicode/utf8"
)

// A Shape names the members of an object that peers act on. Where a shape
// applies, a name that equals one of them only after Unicode simple folding is
// rejected: a case-insensitive peer would take it for the member itself. The
// members of the object are noted so that they can be looked up at no cost.
// A shape does not change after NewShape.
type Shape struct {
	members []shapeMember
	lengths uint64 // bit n is set if a member has n bytes
	unnoted bool   // members are checked but not noted
}

type shapeMember struct {
	name   string
	nested *Shape
}

// NewShape makes a shape of plain members and of members that are objects with
// a shape of their own. Names are ASCII and shorter than 64 bytes.
func NewShape(plain []string, nested map[string]*Shape) *Shape {
	s := &Shape{}
	for _, name := range plain {
		s.add(name, nil)
	}
	for name, shape := range nested {
		s.add(name, shape)
	}
	return s
}

// Unnoted is the same shape for objects of which there may be many: their
// names are checked but lookups walk the object.
func (s *Shape) Unnoted() *Shape {
	c := *s
	c.unnoted = true
	return &c
}

func (s *Shape) add(name string, nested *Shape) {
	s.members = append(s.members, shapeMember{name, nested})
	s.lengths |= 1 << (len(name) & 63)
}

// match finds name among the members. twin tells that name is not a member but
// folds to one.
func (s *Shape) match(name []byte) (nested *Shape, twin bool) {
	if !isASCII(name) {
		return nil, s.foldsToMember(name)
	}
	if len(name) > 63 || s.lengths&(1<<len(name)) == 0 {
		return nil, false
	}
	for i := range s.members {
		m := &s.members[i]
		if len(m.name) != len(name) || m.name[0]|0x20 != name[0]|0x20 {
			continue
		}
		if m.name == string(name) {
			return m.nested, false
		}
		if equalFoldASCII(m.name, name) {
			twin = true
		}
	}
	return nil, twin
}

// foldsToMember compares a name with non-ASCII letters: U+017F folds to s and
// U+212A to k, and some decoders fold further with unicode.ToLower or ToUpper
// (U+0130 becomes i).
func (s *Shape) foldsToMember(name []byte) bool {
	text := string(name)
	lower := strings.Map(foldRune, text)
	for i := range s.members {
		member := s.members[i].name
		if strings.EqualFold(member, text) || strings.EqualFold(member, lower) {
			return true
		}
	}
	return false
}

func foldRune(r rune) rune {
	if l := unicode.ToLower(r); l < utf8.RuneSelf {
		return l
	}
	return unicode.ToLower(unicode.ToUpper(r))
}

func isASCII(b []byte) bool {
	for _, c := range b {
		if c >= utf8.RuneSelf {
			return false
		}
	}
	return true
}

func equalFoldASCII(a string, b []byte) bool {
	for i := range len(a) {
		x, y := a[i], b[i]
		if x == y {
			continue
		}
		if x|0x20 != y|0x20 || x|0x20 < 'a' || x|0x20 > 'z' {
			return false
		}
	}
	return true
}
