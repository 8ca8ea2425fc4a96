package xds

import (
	"errors"
	"fmt"
	"strings"
	"unicode"
)

var (
	errRepeated = errors.New("named more than once in one response")
	errNoName   = errors.New("has no name")
	errNoBody   = errors.New("has no body")
)

// ErrTooManyNames means that a type has as many subscribed names as it may have.
var ErrTooManyNames = errors.New("too many subscribed names")

const (
	maxNACK   = 1 << 10 // bytes of a NACK's text
	maxReason = 256     // bytes of one resource's part
)

// nackText names the rejected resources and the reasons, as much as fits.
func nackText(rejected []Rejection) string {
	var b strings.Builder
	for i, r := range rejected {
		part := clean(fmt.Sprintf("%s: %v", clip(r.Name, 128), r.Err), maxReason)
		if b.Len()+len(part)+40 > maxNACK {
			fmt.Fprintf(&b, "; and %d more", len(rejected)-i)
			break
		}
		if i > 0 {
			b.WriteString("; ")
		}
		b.WriteString(part)
	}
	return b.String()
}

// clean makes s printable, valid UTF-8 and at most n bytes long.
func clean(s string, n int) string {
	s = strings.Map(func(r rune) rune {
		if !unicode.IsPrint(r) {
			return ' '
		}
		return r
	}, strings.ToValidUTF8(s, "?"))
	return clip(s, n)
}

func clip(s string, n int) string {
	if len(s) <= n {
		return s
	}
	return strings.ToValidUTF8(s[:n-3], "") + "..."
}
