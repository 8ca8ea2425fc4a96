package jsonrpc

import (
	"encoding/binary"
	"unicode/utf8"
)

const (
	ones  = 0x0101010101010101
	highs = 0x8080808080808080
)

// special tells, for eight bytes at once, whether one of them is a quote, a
// backslash, a control character or not ASCII.
func special(w uint64) bool {
	quote := w ^ ones*'"'
	slash := w ^ ones*'\\'
	return ((w-ones*0x20)|(quote-ones)|(slash-ones)|w)&highs != 0
}

// str reads a string that starts at its quote and ends behind the closing one.
// escaped tells whether it contains a backslash.
func (s *scanner) str() (escaped bool, err error) {
	data, i := s.data, s.pos+1
	for {
		for i+8 <= len(data) && !special(binary.LittleEndian.Uint64(data[i:])) {
			i += 8
		}
		if i >= len(data) {
			return false, syntax(i, ReasonSyntax, "a string does not end")
		}
		switch c := data[i]; {
		case c == '"':
			s.pos = i + 1
			return escaped, nil
		case c == '\\':
			escaped = true
			n, err := escape(data, i)
			if err != nil {
				return false, err
			}
			i += n
		case c < 0x20:
			return false, syntax(i, ReasonSyntax, "a string contains a control character")
		case c < utf8.RuneSelf:
			i++
		default:
			r, n := utf8.DecodeRune(data[i:])
			if r == utf8.RuneError && n == 1 {
				return false, syntax(i, ReasonUTF8, "a string is not valid UTF-8")
			}
			i += n
		}
	}
}

// escape checks the escape that starts at data[i] and tells its length; the
// two halves of a surrogate pair are one escape.
func escape(data []byte, i int) (int, error) {
	if i+1 >= len(data) {
		return 0, syntax(i, ReasonSyntax, "a string ends in an escape")
	}
	switch data[i+1] {
	case '"', '\\', '/', 'b', 'f', 'n', 'r', 't':
		return 2, nil
	case 'u':
	default:
		return 0, syntax(i, ReasonSyntax, "a string contains an unknown escape")
	}
	r, ok := hex4(data, i)
	switch {
	case !ok:
		return 0, syntax(i, ReasonSyntax, "a string contains a bad \\u escape")
	case r < 0xd800 || r > 0xdfff:
		return 6, nil
	}
	low, ok := hex4(data, i+6)
	if r > 0xdbff || !ok || low < 0xdc00 || low > 0xdfff {
		return 0, syntax(i, ReasonUTF8, "a string contains half a surrogate pair")
	}
	return 12, nil
}

// hex4 reads \uXXXX at data[i].
func hex4(data []byte, i int) (r rune, ok bool) {
	if i+6 > len(data) || data[i] != '\\' || data[i+1] != 'u' {
		return 0, false
	}
	for _, c := range data[i+2 : i+6] {
		switch {
		case c >= '0' && c <= '9':
			c -= '0'
		case c >= 'a' && c <= 'f':
			c -= 'a' - 10
		case c >= 'A' && c <= 'F':
			c -= 'A' - 10
		default:
			return 0, false
		}
		r = r<<4 | rune(c)
	}
	return r, true
}

// name reads a string and returns its unescaped text, which lives as long as
// the document.
func (s *scanner) name() ([]byte, error) {
	start := s.pos
	escaped, err := s.str()
	if err != nil {
		return nil, err
	}
	inner := s.data[start+1 : s.pos-1]
	if !escaped {
		return inner, nil
	}
	from := len(s.scratch)
	s.scratch = appendUnescaped(s.scratch, inner)
	return s.scratch[from:len(s.scratch):len(s.scratch)], nil
}

// appendUnescaped appends the text of a string that was accepted, without its quotes.
func appendUnescaped(dst, inner []byte) []byte {
	for i := 0; i < len(inner); {
		c := inner[i]
		if c != '\\' {
			dst = append(dst, c)
			i++
			continue
		}
		if inner[i+1] != 'u' {
			dst = append(dst, unescapeByte(inner[i+1]))
			i += 2
			continue
		}
		r, _ := hex4(inner, i)
		i += 6
		if r >= 0xd800 && r <= 0xdfff {
			low, _ := hex4(inner, i)
			i += 6
			r = (r-0xd800)<<10 + (low - 0xdc00) + 0x10000
		}
		dst = utf8.AppendRune(dst, r)
	}
	return dst
}

func unescapeByte(c byte) byte {
	switch c {
	case 'b':
		return '\b'
	case 'f':
		return '\f'
	case 'n':
		return '\n'
	case 'r':
		return '\r'
	case 't':
		return '\t'
	}
	return c
}
