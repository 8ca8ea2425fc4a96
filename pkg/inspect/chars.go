package inspect

// Character classes, as bits of class.
const (
	isToken  = 1 << iota // RFC 9110 §5.6.2 tchar
	isValue              // of a field value: VCHAR, SP, HTAB, obs-text
	isPath               // RFC 3986 pchar and "/", without "%"
	isQuery              // RFC 3986 query, and "[" "]", without "%"
	isHost               // of a host name as we accept it
	isHex                // HEXDIG
	isQuoted             // of a quoted string, without the backslash and the quote
)

const (
	alnum = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
	pchar = alnum + "-._~!$&'()*+,;=:@/"
)

var class = func() (t [256]uint8) {
	mark := func(chars string, bit uint8) {
		for i := range len(chars) {
			t[chars[i]] |= bit
		}
	}
	mark(alnum+"!#$%&'*+-.^_`|~", isToken)
	mark(pchar, isPath)
	mark(pchar+"?[]", isQuery)
	mark(alnum+"-._", isHost)
	mark("0123456789abcdefABCDEF", isHex)
	for c := range 256 {
		if c == '\t' || c >= 0x20 && c != 0x7f {
			t[c] |= isValue
			if c != '"' && c != '\\' {
				t[c] |= isQuoted
			}
		}
	}
	return t
}()

// all tells whether every byte of s is of the class.
func all(s string, bit uint8) bool {
	for i := range len(s) {
		if class[s[i]]&bit == 0 {
			return false
		}
	}
	return true
}

// isName tells whether s can be the name of a field, or any other token.
func isName(s string) bool { return s != "" && all(s, isToken) }

func unhex(c byte) byte {
	switch {
	case c <= '9':
		return c - '0'
	case c <= 'F':
		return c - 'A' + 10
	}
	return c - 'a' + 10
}

func trimSpace(s string) string {
	for s != "" && (s[0] == ' ' || s[0] == '\t') {
		s = s[1:]
	}
	for s != "" && (s[len(s)-1] == ' ' || s[len(s)-1] == '\t') {
		s = s[:len(s)-1]
	}
	return s
}
