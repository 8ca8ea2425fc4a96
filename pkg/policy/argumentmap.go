package policy

import (
	"bytes"
	"reflect"
	"strconv"
	"unicode/utf8"
	"unsafe"

	"cel.dev/cel-go/common/types"
	"cel.dev/cel-go/common/types/ref"
	"cel.dev/cel-go/common/types/traits"
	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"
)

// maxIndexed is how many members are looked through one by one.
const maxIndexed = 16

// An argumentMap is a call's arguments as expressions see them: a map whose values
// are decoded when an expression looks at them. Most look at one or two, and the
// longest is rarely among them.
type argumentMap struct {
	raw     []byte
	members []argumentMember // all of them, unless whole is set
	whole   traits.Mapper    // all of it decoded; nil: not yet
	room    [4]argumentMember
}

var _ traits.Mapper = (*argumentMap)(nil)

type argumentMember struct {
	name, raw []byte
	value     ref.Val // decoded; nil: not yet
}

// newArgumentMap is the map that raw is, or the error that makes every expression
// fail which looks at it.
func newArgumentMap(raw []byte) any {
	s := scanner{text: raw}
	if s.space(); s.at() != '{' {
		return types.WrapErr(errArguments)
	}
	m := &argumentMap{raw: raw}
	m.members = m.room[:0]
	if err := s.members(m.add); err != nil {
		return types.WrapErr(err)
	}
	if len(m.members) > maxIndexed {
		if failed := m.decode(); failed != nil {
			return failed
		}
	}
	return m
}

// add adds a member. One name twice is an error; where there are more than
// maxIndexed it is left to decode to find them.
func (m *argumentMap) add(quoted, value []byte) error {
	if len(m.members) > maxIndexed {
		return nil
	}
	name := quoted[1 : len(quoted)-1]
	if bytes.IndexByte(name, '\\') >= 0 {
		var err error
		if name, err = jsontext.AppendUnquote(nil, quoted); err != nil {
			return errArguments
		}
	}
	if m.member(string(name)) != nil || !utf8.Valid(name) {
		return errArguments
	}
	m.members = append(m.members, argumentMember{name: name, raw: value})
	return nil
}

func (m *argumentMap) member(name string) *argumentMember {
	for i := range m.members {
		if string(m.members[i].name) == name {
			return &m.members[i]
		}
	}
	return nil
}

// decode decodes all of it, or returns why that fails.
func (m *argumentMap) decode() (failed ref.Val) {
	if m.whole != nil {
		return nil
	}
	value := types.DefaultTypeAdapter.NativeToValue(decodeArguments(m.raw))
	whole, ok := value.(traits.Mapper)
	if !ok {
		return value
	}
	m.whole = whole
	return nil
}

// Find implements traits.Mapper.
func (m *argumentMap) Find(key ref.Val) (ref.Val, bool) {
	name, ok := key.(types.String)
	if !ok || m.whole != nil {
		if failed := m.decode(); failed != nil {
			return failed, false
		}
		return m.whole.Find(key)
	}
	member := m.member(string(name))
	if member == nil {
		return nil, false
	}
	if member.value == nil {
		member.value = decodeArgument(member.raw)
	}
	return member.value, !types.IsError(member.value)
}

// decodeArgument decodes one value that a scanner has stepped over.
func decodeArgument(raw []byte) ref.Val {
	switch c := raw[0]; {
	case c == '{':
		return types.DefaultTypeAdapter.NativeToValue(newArgumentMap(raw))
	case c == '-' || isDigit(c):
		if f, err := strconv.ParseFloat(string(raw), 64); err == nil {
			return types.Double(f)
		}
	case c == '"' && bytes.IndexByte(raw, '\\') < 0 && utf8.Valid(raw):
		// Nothing of an evaluation outlives the question, and so the call's bytes.
		return types.String(unsafe.String(unsafe.SliceData(raw[1:]), len(raw)-2))
	}
	var decoded any
	if err := json.Unmarshal(raw, &decoded); err != nil {
		return types.WrapErr(errArguments)
	}
	return types.DefaultTypeAdapter.NativeToValue(decoded)
}

// Get implements traits.Indexer.
func (m *argumentMap) Get(key ref.Val) ref.Val {
	value, found := m.Find(key)
	if found || value != nil {
		return value
	}
	return types.ValOrErr(key, "no such key: %v", key)
}

// Contains implements traits.Container.
func (m *argumentMap) Contains(key ref.Val) ref.Val {
	value, found := m.Find(key)
	if !found && value != nil && types.IsUnknownOrError(value) {
		return value
	}
	return types.Bool(found)
}

// Size implements traits.Sizer.
func (m *argumentMap) Size() ref.Val {
	if m.whole != nil {
		return m.whole.Size()
	}
	return types.Int(len(m.members))
}

// Iterator implements traits.Iterable. It is asked for by who looks at everything.
func (m *argumentMap) Iterator() traits.Iterator {
	if failed := m.decode(); failed != nil {
		panic(failed) // becomes the error of the evaluation
	}
	return m.whole.Iterator()
}

// Equal implements ref.Val.
func (m *argumentMap) Equal(other ref.Val) ref.Val {
	if failed := m.decode(); failed != nil {
		return failed
	}
	return m.whole.Equal(other)
}

// ConvertToNative implements ref.Val.
func (m *argumentMap) ConvertToNative(to reflect.Type) (any, error) {
	if failed := m.decode(); failed != nil {
		return nil, errArguments
	}
	return m.whole.ConvertToNative(to)
}

// ConvertToType implements ref.Val.
func (m *argumentMap) ConvertToType(to ref.Type) ref.Val {
	if failed := m.decode(); failed != nil {
		return failed
	}
	return m.whole.ConvertToType(to)
}

// Type implements ref.Val.
func (m *argumentMap) Type() ref.Type { return types.MapType }

// Value implements ref.Val.
func (m *argumentMap) Value() any {
	if failed := m.decode(); failed != nil {
		return failed
	}
	return m.whole.Value()
}
