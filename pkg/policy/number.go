package policy

// maxExponent is far beyond what any peer computes with, and far from overflow.
const maxExponent = 1 << 30

// parseNumber reads a JSON number (RFC 8259 §6) and appends to dst its
// significant digits, without leading and trailing zeros and with its sign; its
// value is 0.digits × 10^exponent. Two numbers are equal if both are.
func parseNumber(dst, text []byte) (digits []byte, exponent int, ok bool) {
	start, i := len(dst), 0
	if i < len(text) && text[i] == '-' {
		dst = append(dst, '-')
		i++
	}
	sign := len(dst)
	whole := i
	for i < len(text) && isDigit(text[i]) {
		i++
	}
	if i == whole || text[whole] == '0' && i > whole+1 {
		return dst, 0, false
	}
	dst = append(dst, text[whole:i]...)
	exponent = i - whole
	if i < len(text) && text[i] == '.' {
		fraction := i + 1
		for i++; i < len(text) && isDigit(text[i]); i++ {
		}
		if i == fraction {
			return dst, 0, false
		}
		dst = append(dst, text[fraction:i]...)
	}
	if i < len(text) && (text[i] == 'e' || text[i] == 'E') {
		power, ok := parseExponent(text[i+1:])
		if !ok {
			return dst, 0, false
		}
		exponent += power
		i = len(text)
	}
	if i != len(text) {
		return dst, 0, false
	}
	leading := sign
	for leading < len(dst) && dst[leading] == '0' {
		leading++
	}
	exponent -= leading - sign
	dst = append(dst[:sign], dst[leading:]...)
	for len(dst) > sign && dst[len(dst)-1] == '0' {
		dst = dst[:len(dst)-1]
	}
	if len(dst) == sign { // zero, whatever its sign
		return dst[:start], 0, true
	}
	return dst, exponent, true
}

func parseExponent(text []byte) (int, bool) {
	negative := false
	if len(text) > 0 && (text[0] == '+' || text[0] == '-') {
		negative = text[0] == '-'
		text = text[1:]
	}
	if len(text) == 0 {
		return 0, false
	}
	n := 0
	for _, c := range text {
		if !isDigit(c) {
			return 0, false
		}
		if n < maxExponent { // beyond, every number is as good as infinite or zero
			n = n*10 + int(c-'0')
		}
	}
	if negative {
		n = -n
	}
	return n, true
}

func isDigit(c byte) bool { return c >= '0' && c <= '9' }
