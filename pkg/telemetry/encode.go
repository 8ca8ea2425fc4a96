package telemetry

import (
	"net/netip"
	"strconv"
	"time"
	"unicode/utf8"
)

const (
	maxValue     = 256  // bytes of a string value
	maxIdentity  = 2048 // bytes of an identity: all that a SPIFFE ID may have, for a cut one is another one
	maxArguments = 4096 // bytes of a call's arguments
	cut          = "…"  // ends a value that was longer
)

// appendTime appends t in RFC 3339, in UTC with exactly six digits of a second, as ztunnel writes it.
func appendTime(b []byte, t time.Time) []byte {
	b = t.UTC().AppendFormat(b, time.RFC3339)
	b[len(b)-1] = '.' // instead of the Z
	micros := t.Nanosecond() / 1000
	for unit := 100_000; unit > 0; unit /= 10 {
		b = append(b, byte('0'+micros/unit%10))
	}
	return append(b, 'Z')
}

// appendQuoted appends s as a JSON string that is safe on a terminal and in a
// line: control characters, line separators and what reorders or hides text are
// escaped, bad UTF-8 becomes U+FFFD, and at most limit bytes of s are taken.
func appendQuoted[S string | []byte](b []byte, s S, limit int) []byte {
	return append(appendEscaped(append(b, '"'), s, limit), '"')
}

// appendEscaped is appendQuoted without the quotes.
func appendEscaped[S string | []byte](b []byte, s S, limit int) []byte {
	shortened := len(s) > limit
	if shortened {
		s = s[:runeBoundary(s, limit)]
	}
	start := 0
	for i := 0; i < len(s); {
		c := s[i]
		if asIs[c] {
			i++
			continue
		}
		if c < utf8.RuneSelf {
			b = append(b, s[start:i]...)
			b = appendEscapedASCII(b, c)
			i++
			start = i
			continue
		}
		r, size := decodeRune(s, i)
		if (r != utf8.RuneError || size > 1) && !unsafeRune(r) {
			i += size
			continue
		}
		b = append(b, s[start:i]...)
		b = appendEscapedRune(b, r)
		i += size
		start = i
	}
	b = append(b, s[start:]...)
	if shortened {
		b = append(b, cut...)
	}
	return b
}

// asIs are the bytes that need no escape and begin no longer character.
var asIs = func() (t [256]bool) {
	for c := byte(0x20); c < 0x7f; c++ {
		t[c] = c != '"' && c != '\\'
	}
	return t
}()

func decodeRune[S string | []byte](s S, i int) (rune, int) {
	var window [utf8.UTFMax]byte
	n := copy(window[:], s[i:])
	return utf8.DecodeRune(window[:n])
}

// runeBoundary is the last place at or before limit that splits no rune.
func runeBoundary[S string | []byte](s S, limit int) int {
	for i := limit; i > limit-utf8.UTFMax && i > 0; i-- {
		if utf8.RuneStart(s[i]) {
			return i
		}
	}
	return limit // not UTF-8 anyway
}

// unsafeRune tells whether a rune would make a line read differently from what
// it is: C1 controls, separators, zero-width and bidirectional controls, tags.
func unsafeRune(r rune) bool {
	switch {
	case r < 0xa0, // C1; ASCII never gets here
		r == 0xad, r == 0x61c, r == 0xfeff,
		r >= 0x200b && r <= 0x200f,
		r >= 0x2028 && r <= 0x202e,
		r >= 0x2060 && r <= 0x206f,
		r >= 0xfff9 && r <= 0xfffb,
		r >= 0xe0000 && r <= 0xe007f:
		return true
	}
	return false
}

const hexDigits = "0123456789abcdef"

func appendEscapedASCII(b []byte, c byte) []byte {
	switch c {
	case '"', '\\':
		return append(b, '\\', c)
	case '\n':
		return append(b, '\\', 'n')
	case '\r':
		return append(b, '\\', 'r')
	case '\t':
		return append(b, '\\', 't')
	}
	return append(b, '\\', 'u', '0', '0', hexDigits[c>>4], hexDigits[c&15])
}

func appendEscapedRune(b []byte, r rune) []byte {
	if r == utf8.RuneError {
		return append(b, "\ufffd"...)
	}
	if r > 0xffff { // a surrogate pair
		r -= 0x10000
		b = appendEscapedRune(b, 0xd800+r>>10)
		r = 0xdc00 + r&0x3ff
	}
	return append(b, '\\', 'u', hexDigits[r>>12&15], hexDigits[r>>8&15], hexDigits[r>>4&15], hexDigits[r&15])
}

// An object appends the members of one JSON object, or the fields of a text
// line. Members whose value is absent are left out.
type object struct {
	b     []byte
	text  bool // key=value instead of "key":value
	first bool
}

func (o *object) key(k string) {
	if !o.first {
		o.b = append(o.b, o.separator())
	}
	o.first = false
	if o.text {
		o.b = append(append(o.b, k...), '=')
		return
	}
	o.b = append(append(append(o.b, '"'), k...), '"', ':')
}

func (o *object) string(k, v string) { o.limited(k, v, maxValue) }

func (o *object) limited(k, v string, limit int) {
	if v != "" {
		o.key(k)
		o.b = appendQuoted(o.b, v, limit)
	}
}

// bare is for values that ztunnel does not quote in text: addresses.
func (o *object) bare(k, v string) {
	if v == "" {
		return
	}
	o.key(k)
	if !o.text || !plain(v) {
		o.b = appendQuoted(o.b, v, maxValue)
		return
	}
	o.b = append(o.b, v...)
}

// plain tells whether v is short and made of what addresses and hostnames are made of.
func plain(v string) bool {
	for i := range len(v) {
		c := v[i]
		if !(c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9' || c == '.' || c == ':' || c == '-' || c == '_' || c == '[' || c == ']') {
			return false
		}
	}
	return len(v) <= maxValue
}

func (o *object) address(k string, a netip.AddrPort) {
	if !a.IsValid() {
		return
	}
	if a.Addr().Zone() != "" { // a zone is free text
		o.bare(k, a.String())
		return
	}
	a = netip.AddrPortFrom(a.Addr().Unmap(), a.Port())
	o.key(k)
	if o.text {
		o.b = a.AppendTo(o.b)
		return
	}
	o.b = append(a.AppendTo(append(o.b, '"')), '"')
}

func (o *object) int(k string, v int64) {
	o.key(k)
	o.b = strconv.AppendInt(o.b, v, 10)
}

func (o *object) uint(k string, v uint64) {
	o.key(k)
	o.b = strconv.AppendUint(o.b, v, 10)
}

func (o *object) bool(k string, v bool) {
	o.key(k)
	o.b = strconv.AppendBool(o.b, v)
}

// open starts a member that is an object itself; end ends it.
func (o *object) open(k string) {
	o.key(k)
	o.b = append(o.b, '{')
	o.first = true
}

func (o *object) end() {
	o.b = append(o.b, '}')
	o.first = false
}

// fragment appends members that were encoded before.
func (o *object) fragment(members []byte) {
	if !o.first {
		o.b = append(o.b, o.separator())
	}
	o.first = false
	o.b = append(o.b, members...)
}

func (o *object) separator() byte {
	if o.text {
		return ' '
	}
	return ','
}
