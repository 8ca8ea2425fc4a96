package inspect

import (
	"iter"
	"slices"
)

// A Field is one header line, name and value as they were written, without the
// white space around the value.
type Field struct{ Name, Value string }

// Header keeps the lines in order. Lookups ignore the case of ASCII letters.
type Header []Field

// Get returns the value of the first line with that name, "" if there is none.
func (h Header) Get(name string) string {
	for i := range h {
		if equalFold(h[i].Name, name) {
			return h[i].Value
		}
	}
	return ""
}

// Has tells whether there is a line with that name.
func (h Header) Has(name string) bool { return h.Count(name) > 0 }

// Count returns how many lines have that name.
func (h Header) Count(name string) (n int) {
	for i := range h {
		if equalFold(h[i].Name, name) {
			n++
		}
	}
	return n
}

// Values ranges over the values of the lines with that name, one per line, in order.
func (h Header) Values(name string) iter.Seq[string] {
	return func(yield func(string) bool) {
		for i := range h {
			if equalFold(h[i].Name, name) && !yield(h[i].Value) {
				return
			}
		}
	}
}

// Add appends a line.
func (h *Header) Add(name, value string) { *h = append(*h, Field{name, value}) }

// Set makes value the only one of that name: in place of the first line that has
// the name, otherwise at the end.
func (h *Header) Set(name, value string) {
	for i := range *h {
		if equalFold((*h)[i].Name, name) {
			(*h)[i].Value = value
			rest := (*h)[i+1:]
			rest.Del(name)
			*h = (*h)[:i+1+len(rest)]
			return
		}
	}
	h.Add(name, value)
}

// Del removes all lines with that name.
func (h *Header) Del(name string) {
	*h = slices.DeleteFunc(*h, func(f Field) bool { return equalFold(f.Name, name) })
}

// Clone returns a copy that shares nothing that can change.
func (h Header) Clone() Header { return slices.Clone(h) }

// equalFold compares ASCII without case and nothing else without it: Unicode's
// simple folding would take "ſ" for "s".
func equalFold(a, b string) bool {
	if len(a) != len(b) {
		return false
	}
	for i := range len(a) {
		if a[i] != b[i] && lower(a[i]) != lower(b[i]) {
			return false
		}
	}
	return true
}

func lower(c byte) byte {
	if 'A' <= c && c <= 'Z' {
		return c + ('a' - 'A')
	}
	return c
}
