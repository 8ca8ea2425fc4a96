package policy

import (
	"strconv"

	"github.com/go-json-experiment/json/jsontext"
)

// truth is what came of a condition. In a list, in which what cannot be said
// yet is left open, it may also be unknown.
type truth uint8

const (
	no truth = iota
	yes
	unknown // it depends on arguments that are not known
	failed  // it could not be evaluated
)

// and combines two truths: no beats failed, failed beats unknown.
func (t truth) and(u truth) truth {
	if t == no || u == no {
		return no
	}
	return max(t, u)
}

// An argument is a condition on one argument.
type argument struct {
	path    []string
	equal   []literal // one of these, or
	glob    *glob     // this, or
	present *bool     // this
}

// A literal is what a value is compared with.
type literal struct {
	text     string
	number   bool // text is a JSON number
	digits   string
	exponent int
	float    float64
}

func newLiteral(text string) literal {
	l := literal{text: text}
	digits, exponent, ok := parseNumber(nil, []byte(text))
	if ok {
		l.number, l.digits, l.exponent = true, string(digits), exponent
		l.float, _ = strconv.ParseFloat(text, 64) // too large is infinite, as elsewhere
	}
	return l
}

// holds tells whether the condition holds. deny says that it belongs to a Deny
// rule, for which whatever peers may read differently counts as holding.
func (a *argument) holds(arguments []byte, deny bool) truth {
	var value []byte
	if arguments != nil {
		var err error
		if value, err = find(arguments, a.path); err != nil {
			return failed
		}
	}
	null := string(value) == "null"
	switch {
	case a.present != nil && null:
		return truthOf(deny)
	case a.present != nil:
		return truthOf(*a.present == (value != nil))
	case value == nil || null:
		return no
	case value[0] == '"':
		return a.holdsString(value)
	case a.glob != nil:
		return no
	case value[0] == '-' || isDigit(value[0]):
		return a.holdsNumber(value, deny)
	case value[0] == 't' || value[0] == 'f':
		return a.holdsText(value)
	}
	return no // an object or array equals nothing
}

func (a *argument) holdsString(quoted []byte) truth {
	inner := quoted[1 : len(quoted)-1]
	for _, c := range inner {
		if c == '\\' {
			plain, err := jsontext.AppendUnquote(nil, quoted)
			if err != nil {
				return failed
			}
			return a.holdsText(plain)
		}
	}
	return a.holdsText(inner)
}

func (a *argument) holdsText(text []byte) truth {
	if a.glob != nil {
		return truthOf(a.glob.matches(string(text)))
	}
	for i := range a.equal {
		if string(text) == a.equal[i].text {
			return yes
		}
	}
	return no
}

func (a *argument) holdsNumber(text []byte, deny bool) truth {
	var buffer [64]byte
	digits, exponent, ok := parseNumber(buffer[:0], text)
	if !ok {
		return failed
	}
	for i := range a.equal {
		l := &a.equal[i]
		if !l.number {
			continue
		}
		if exponent == l.exponent && string(digits) == l.digits {
			return yes
		}
		if deny {
			if f, _ := strconv.ParseFloat(string(text), 64); f == l.float {
				return yes
			}
		}
	}
	return no
}

func truthOf(b bool) truth {
	if b {
		return yes
	}
	return no
}
