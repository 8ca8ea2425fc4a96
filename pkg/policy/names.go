package policy

import (
	"maps"
	"slices"
	"strconv"
	"strings"
)

// IsDNSLabel accepts RFC 1123 labels as Kubernetes does: lower case, at most 63. A
// namespace is one.
func IsDNSLabel(s string) bool {
	if s == "" || len(s) > 63 || s[0] == '-' || s[len(s)-1] == '-' {
		return false
	}
	for i := range len(s) {
		if c := s[i]; !(c >= 'a' && c <= 'z' || isDigit(c) || c == '-') {
			return false
		}
	}
	return true
}

// IsDNSSubdomain accepts RFC 1123 labels joined by dots, at most 253 bytes: most
// names of Kubernetes.
func IsDNSSubdomain(s string) bool {
	if len(s) > 253 {
		return false
	}
	for label := range strings.SplitSeq(s, ".") {
		if !IsDNSLabel(label) {
			return false
		}
	}
	return true
}

// isLabelName accepts the names of Kubernetes labels: a name, or prefix/name.
func isLabelName(s string) bool {
	if prefix, name, ok := strings.Cut(s, "/"); ok {
		return IsDNSSubdomain(prefix) && isLabelValue(name)
	}
	return isLabelValue(s)
}

func isLabelValue(s string) bool {
	if s == "" || len(s) > 63 || !isAlphanumeric(s[0]) || !isAlphanumeric(s[len(s)-1]) {
		return false
	}
	for i := range len(s) {
		if c := s[i]; !isAlphanumeric(c) && c != '-' && c != '_' && c != '.' {
			return false
		}
	}
	return true
}

func isAlphanumeric(c byte) bool {
	return c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || isDigit(c)
}

func isPrintable(s string) bool {
	for i := range len(s) {
		if s[i] <= ' ' || s[i] > '~' {
			return false
		}
	}
	return true
}

// shorten is as much of s, which a stranger may have chosen, as a record should hold.
func shorten(s string) string {
	if len(s) > 80 {
		return s[:77] + "..."
	}
	return s
}

func quote(s string) string { return strconv.QuoteToASCII(shorten(s)) }

func sortedKeys[V any](m map[string]V) []string { return slices.Sorted(maps.Keys(m)) }
