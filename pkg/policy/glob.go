package policy

import (
	"errors"
	"strings"
)

const maxGlob = 2048 // bytes of a pattern

var (
	errGlobEscape = errors.New(`has a '\' that escapes neither '*' nor '\'`)
	errGlobLong   = errors.New("is longer than 2048 bytes")
)

// A glob is a pattern in which '*' stands for any run of bytes; `\*` is a star
// and `\\` a backslash. '?' stands for itself, because URIs contain it.
type glob struct {
	text  string   // as written
	parts []string // the literals between the stars; one part: no star
}

func parseGlob(text string) (glob, error) {
	if len(text) > maxGlob {
		return glob{}, errGlobLong
	}
	g := glob{text: text}
	var part []byte
	for i := 0; i < len(text); i++ {
		switch c := text[i]; {
		case c == '*':
			g.parts = append(g.parts, string(part))
			part = part[:0]
		case c == '\\':
			i++
			if i == len(text) || text[i] != '*' && text[i] != '\\' {
				return glob{}, errGlobEscape
			}
			part = append(part, text[i])
		default:
			part = append(part, c)
		}
	}
	g.parts = append(g.parts, string(part))
	return g, nil
}

// exact is the one string that the glob matches; ok is false if there are more.
func (g *glob) exact() (s string, ok bool) { return g.parts[0], len(g.parts) == 1 }

// matches takes time linear in s: each literal is taken where it is first
// found, which is right because a star may always swallow more.
func (g *glob) matches(s string) bool {
	first, last := g.parts[0], g.parts[len(g.parts)-1]
	if len(g.parts) == 1 {
		return s == first
	}
	if len(s) < len(first)+len(last) || !strings.HasPrefix(s, first) || !strings.HasSuffix(s, last) {
		return false
	}
	s = s[len(first) : len(s)-len(last)]
	for _, part := range g.parts[1 : len(g.parts)-1] {
		i := strings.Index(s, part)
		if i < 0 {
			return false
		}
		s = s[i+len(part):]
	}
	return true
}

// couldMatch tells whether the URI template could stand for a URI that the glob
// matches, if each of its expressions stood for any string.
func (g *glob) couldMatch(template string) bool {
	return overlap(g.parts, templateParts(template))
}

// templateParts are the literals between the expressions of an RFC 6570
// template. A brace that is not closed begins an expression too.
func templateParts(template string) []string {
	var parts []string
	for {
		before, rest, ok := strings.Cut(template, "{")
		parts = append(parts, before)
		if !ok {
			return parts
		}
		if _, template, ok = strings.Cut(rest, "}"); !ok {
			return append(parts, "")
		}
	}
}

// overlap tells whether some string matches both patterns. Between two patterns
// with stars, only what is before the first star and after the last can clash.
func overlap(a, b []string) bool {
	switch {
	case len(a) == 1:
		return (&glob{parts: b}).matches(a[0])
	case len(b) == 1:
		return (&glob{parts: a}).matches(b[0])
	}
	pa, pb := a[0], b[0]
	sa, sb := a[len(a)-1], b[len(b)-1]
	return (strings.HasPrefix(pa, pb) || strings.HasPrefix(pb, pa)) &&
		(strings.HasSuffix(sa, sb) || strings.HasSuffix(sb, sa))
}
