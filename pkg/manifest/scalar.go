package manifest

import (
	"fmt"
	"math/big"
	"strings"

	"github.com/go-json-experiment/json/jsontext"
	"go.yaml.in/yaml/v4"
)

// scalar reads a scalar so that it means the same to every reader: the spellings
// that YAML 1.1 and 1.2 read differently are rejected, not guessed.
func (b *builder) scalar(n *yaml.Node) *value {
	v := &value{kind: text, text: n.Value, line: n.Line, column: n.Column}
	switch tag := n.ShortTag(); tag {
	case "!!str", "!!timestamp":
	case "!!null":
		v.kind = null
	case "!!bool":
		v.kind, v.text = boolean, strings.ToLower(n.Value)
		if v.text != "true" && v.text != "false" {
			b.fault(n, fmt.Sprintf("%q may be read as text or as a boolean", n.Value), "write true or false, or put it in quotes")
		}
	case "!!int", "!!float":
		v.kind = number
		s, ok := jsonNumber(n.Value)
		if !ok {
			b.fault(n, fmt.Sprintf("%q is not a number that every reader reads alike", n.Value), "write it as a decimal number, or put it in quotes")
		}
		v.text = s
	default:
		b.fault(n, fmt.Sprintf("the tag %s is not accepted", tag), "remove it, and put text in quotes")
	}
	return v
}

// jsonNumber is s as JSON writes it. Decimals pass unchanged; 0x and 0o are converted.
func jsonNumber(s string) (string, bool) {
	s = strings.TrimPrefix(s, "+")
	if rest := strings.TrimPrefix(s, "-"); strings.HasPrefix(rest, "0x") || strings.HasPrefix(rest, "0o") {
		i, ok := new(big.Int).SetString(s, 0)
		if !ok || len(s) > 64 {
			return "0", false
		}
		return i.String(), true
	}
	v := jsontext.Value(s)
	if len(s) > 64 || !v.IsValid() || v.Kind() != '0' {
		return "0", false
	}
	return s, true
}

// appendJSON writes v as JSON, leaving out those that skip holds.
func (v *value) appendJSON(dst []byte, skip map[*value]bool) []byte {
	switch v.kind {
	case null:
		return append(dst, "null"...)
	case boolean, number:
		return append(dst, v.text...)
	case text:
		return appendText(dst, v.text)
	case list:
		dst = append(dst, '[')
		comma := false
		for _, item := range v.items {
			if skip[item] {
				continue
			}
			if comma {
				dst = append(dst, ',')
			}
			dst, comma = item.appendJSON(dst, skip), true
		}
		return append(dst, ']')
	default:
		dst = append(dst, '{')
		comma := false
		for _, m := range v.members {
			if skip[m.value] {
				continue
			}
			if comma {
				dst = append(dst, ',')
			}
			dst = append(appendText(dst, m.name), ':')
			dst, comma = m.value.appendJSON(dst, skip), true
		}
		return append(dst, '}')
	}
}

func appendText(dst []byte, s string) []byte {
	// The text is valid UTF-8: Parse has checked, and YAML escapes cannot break it.
	dst, err := jsontext.AppendQuote(dst, s)
	if err != nil {
		return append(dst, `""`...)
	}
	return dst
}
