package jsonrpc

import (
	"bytes"
	"encoding/binary"
	"iter"
	"math/bits"
	"strconv"
)

// A Value is one value of an accepted document: its bytes as written and where
// they are. The zero Value means that there is none.
type Value struct {
	Raw  []byte
	At   int   // offset of Raw in the document
	node int32 // number of the object, if it has a shape
}

// Kind is the first byte of the value, with all numbers as '0': one of
// { [ " 0 t f n; or 0 if there is no value.
func (v Value) Kind() byte {
	if len(v.Raw) == 0 {
		return 0
	}
	if c := v.Raw[0]; c != '-' && (c < '0' || c > '9') {
		return c
	}
	return '0'
}

// End is the offset behind the value.
func (v Value) End() int { return v.At + len(v.Raw) }

// Text is the unescaped text of a string.
func (v Value) Text() (string, bool) {
	if v.Kind() != '"' {
		return "", false
	}
	inner := v.Raw[1 : len(v.Raw)-1]
	if bytes.IndexByte(inner, '\\') < 0 {
		return string(inner), true
	}
	return string(appendUnescaped(make([]byte, 0, len(inner)), inner)), true
}

// Is tells whether the value is the string text, without allocating.
func (v Value) Is(text string) bool {
	if v.Kind() != '"' {
		return false
	}
	inner := v.Raw[1 : len(v.Raw)-1]
	if bytes.IndexByte(inner, '\\') < 0 {
		return string(inner) == text
	}
	return string(appendUnescaped(nil, inner)) == text
}

// Int is an integer written without decimal point and exponent.
func (v Value) Int() (int64, bool) {
	if v.Kind() != '0' {
		return 0, false
	}
	n, err := strconv.ParseInt(string(v.Raw), 10, 64)
	return n, err == nil
}

// Elements are the values of an array, in order.
func (v Value) Elements() iter.Seq[Value] {
	return func(yield func(Value) bool) {
		if v.Kind() != '[' {
			return
		}
		for i := skipSpace(v.Raw, 1); v.Raw[i] != ']'; {
			end := skipValue(v.Raw, i)
			if !yield(Value{Raw: v.Raw[i:end:end], At: v.At + i}) {
				return
			}
			i = skipSpace(v.Raw, end)
			if v.Raw[i] == ',' {
				i = skipSpace(v.Raw, i+1)
			}
		}
	}
}

// Members are the members of an object, in order; the first value is the name.
func (v Value) Members() iter.Seq2[Value, Value] {
	return func(yield func(Value, Value) bool) {
		if v.Kind() != '{' {
			return
		}
		for i := skipSpace(v.Raw, 1); v.Raw[i] != '}'; {
			nameEnd := skipValue(v.Raw, i)
			start := skipSpace(v.Raw, skipSpace(v.Raw, nameEnd)+1)
			end := skipValue(v.Raw, start)
			name := Value{Raw: v.Raw[i:nameEnd:nameEnd], At: v.At + i}
			if !yield(name, Value{Raw: v.Raw[start:end:end], At: v.At + start}) {
				return
			}
			i = skipSpace(v.Raw, end)
			if v.Raw[i] == ',' {
				i = skipSpace(v.Raw, i+1)
			}
		}
	}
}

// Member is the member of an object with that name.
func (v Value) Member(name string) Value {
	for n, member := range v.Members() {
		if n.Is(name) {
			return member
		}
	}
	return Value{}
}

// What follows walks bytes that a scanner accepted.

func skipSpace(b []byte, i int) int {
	for b[i] == ' ' || b[i] == '\n' || b[i] == '\t' || b[i] == '\r' {
		i++
	}
	return i
}

func skipValue(b []byte, i int) int {
	switch b[i] {
	case '"':
		return skipString(b, i)
	case '{', '[':
		return skipContainer(b, i)
	}
	for i < len(b) {
		switch b[i] {
		case ',', '}', ']', ' ', '\n', '\t', '\r':
			return i
		}
		i++
	}
	return i
}

func skipString(b []byte, i int) int {
	for i++; ; {
		for i+8 <= len(b) {
			w := binary.LittleEndian.Uint64(b[i:])
			quote, slash := w^ones*'"', w^ones*'\\'
			if found := ((quote-ones) & ^quote | (slash-ones) & ^slash) & highs; found != 0 {
				i += bits.TrailingZeros64(found) / 8 // the first is exact, whatever is behind it
				break
			}
			i += 8
		}
		switch b[i] {
		case '"':
			return i + 1
		case '\\':
			i++
		}
		i++
	}
}

func skipContainer(b []byte, i int) int {
	for depth := 0; ; {
		switch b[i] {
		case '"':
			i = skipString(b, i)
			continue
		case '{', '[':
			depth++
		case '}', ']':
			depth--
			if depth == 0 {
				return i + 1
			}
		}
		i++
	}
}
