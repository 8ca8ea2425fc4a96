package policy

import (
	"bytes"
	"encoding/binary"
	"errors"
	"math/bits"

	"github.com/go-json-experiment/json/jsontext"
)

const maxDepth = 128 // of arguments, in nested objects and arrays

var errArguments = errors.New("the arguments are not the JSON object they should be")

// find returns the raw value that path leads to in a JSON object, or nil. It
// reads every object on the way to its end, and fails if one says a member of
// the path twice, if the text is not well formed, or if it nests deeper than maxDepth.
func find(object []byte, path []string) ([]byte, error) {
	value := object
	for depth, name := range path {
		s := scanner{text: value, depth: depth}
		s.space()
		if s.at() != '{' {
			if depth == 0 {
				return nil, errArguments
			}
			return nil, nil
		}
		next, err := s.member(name)
		if err != nil || next == nil {
			return nil, err
		}
		value = next
	}
	return value, nil
}

// A scanner steps over JSON values.
type scanner struct {
	text  []byte
	i     int
	depth int
}

// at is the byte at hand, 0 at the end.
func (s *scanner) at() byte {
	if s.i < len(s.text) {
		return s.text[s.i]
	}
	return 0
}

func (s *scanner) space() {
	for s.i < len(s.text) {
		switch s.text[s.i] {
		case ' ', '\t', '\n', '\r':
			s.i++
		default:
			return
		}
	}
}

// member reads the whole object at hand and returns the value of its member
// name, or nil.
func (s *scanner) member(name string) (found []byte, err error) {
	err = s.members(func(key, value []byte) error {
		same, err := sameString(key, name)
		if err != nil || !same {
			return err
		}
		if found != nil {
			return errArguments
		}
		found = value
		return nil
	})
	if err != nil {
		return nil, err
	}
	return found, nil
}

// members reads the whole object at hand, after which there must be nothing.
// Names are as written, with their quotes.
func (s *scanner) members(each func(name, value []byte) error) error {
	s.i++ // the brace
	s.space()
	if s.at() == '}' {
		return s.end()
	}
	for {
		name, err := s.string()
		if err != nil {
			return err
		}
		value, err := s.afterColon()
		if err != nil {
			return err
		}
		if err := each(name, value); err != nil {
			return err
		}
		switch s.at() {
		case ',':
			s.i++
			s.space()
		case '}':
			return s.end()
		default:
			return errArguments
		}
	}
}

// end steps over the closing brace, after which there must be nothing.
func (s *scanner) end() error {
	s.i++
	s.space()
	if s.i < len(s.text) {
		return errArguments
	}
	return nil
}

func (s *scanner) afterColon() ([]byte, error) {
	s.space()
	if s.at() != ':' {
		return nil, errArguments
	}
	s.i++
	s.space()
	start := s.i
	if err := s.skip(); err != nil {
		return nil, err
	}
	value := s.text[start:s.i]
	s.space()
	return value, nil
}

// skip steps over the value at hand.
func (s *scanner) skip() error {
	switch s.at() {
	case '{':
		return s.skipList('}', true)
	case '[':
		return s.skipList(']', false)
	case '"':
		_, err := s.string()
		return err
	}
	start := s.i
	for s.i < len(s.text) && !isEndOfWord(s.text[s.i]) {
		s.i++
	}
	switch word := s.text[start:s.i]; {
	case string(word) == "true", string(word) == "false", string(word) == "null":
		return nil
	}
	var buffer [64]byte
	if _, _, ok := parseNumber(buffer[:0], s.text[start:s.i]); !ok {
		return errArguments
	}
	return nil
}

func isEndOfWord(c byte) bool {
	return c == ' ' || c == '\t' || c == '\r' || c == '\n' || c == ',' || c == ']' || c == '}' || c == ':'
}

func (s *scanner) skipList(closing byte, members bool) error {
	if s.depth++; s.depth > maxDepth {
		return errArguments
	}
	s.i++
	s.space()
	if s.at() == closing {
		s.i++
		s.depth--
		return nil
	}
	for {
		if members {
			if _, err := s.string(); err != nil {
				return err
			}
			if _, err := s.afterColon(); err != nil {
				return err
			}
		} else {
			if err := s.skip(); err != nil {
				return err
			}
			s.space()
		}
		switch s.at() {
		case ',':
			s.i++
			s.space()
		case closing:
			s.i++
			s.depth--
			return nil
		default:
			return errArguments
		}
	}
}

// string steps over the string at hand and returns it, quotes and all.
func (s *scanner) string() ([]byte, error) {
	start := s.i
	if s.at() != '"' {
		return nil, errArguments
	}
	for s.i++; s.i < len(s.text); s.i++ {
		s.i += plainBytes(s.text[s.i:])
		switch c := s.at(); {
		case c == '"':
			s.i++
			return s.text[start:s.i], nil
		case c == '\\':
			s.i++
		case c < ' ': // or the end
			return nil, errArguments
		}
	}
	return nil, errArguments
}

// plainBytes is how many bytes at the beginning, eight at a time, are neither a
// quote, a backslash nor a control character.
func plainBytes(text []byte) (n int) {
	const ones, highs = 0x0101010101010101, 0x8080808080808080
	for ; n+8 <= len(text); n += 8 {
		w := binary.LittleEndian.Uint64(text[n:])
		quote, slash := w^ones*'"', w^ones*'\\'
		found := ((quote-ones)&^quote | (slash-ones)&^slash | (w-ones*' ')&^w) & highs
		if found != 0 {
			return n + bits.TrailingZeros64(found)/8 // the first is exact, whatever is behind it
		}
	}
	return n
}

// sameString compares a JSON string, as written, with s.
func sameString(quoted []byte, s string) (bool, error) {
	inner := quoted[1 : len(quoted)-1]
	if bytes.IndexByte(inner, '\\') < 0 {
		return string(inner) == s, nil
	}
	plain, err := jsontext.AppendUnquote(nil, quoted)
	if err != nil {
		return false, errArguments
	}
	return string(plain) == s, nil
}
