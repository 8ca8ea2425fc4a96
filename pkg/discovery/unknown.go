package discovery

import (
	"fmt"
	"strings"

	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/reflect/protoreflect"
)

// maxProblems is how many problems of one resource are reported.
const maxProblems = 20

// unknowns is what a newer schema may have put into a message. A path is
// written as people write it in YAML: spec.rules[2].mode, spec.rules[2].field 9.
type unknowns struct {
	fields []string // that are not in our schema
	values []string // fields with an enum value that has no name in our schema
}

// unknown looks at m and all its parts.
func unknown(m protoreflect.Message) unknowns {
	w := unknownWalk{}
	w.message(m)
	return w.unknowns
}

// unknownFields looks at m without its parts.
func unknownFields(m protoreflect.Message) []string {
	w := unknownWalk{}
	w.rest(m)
	return w.fields
}

// An unknownWalk knows where it is as a list of steps, for most messages hold
// nothing unknown and need no path.
type unknownWalk struct {
	unknowns
	at []step
}

// A step leads into a field, or into one of a list or a map if i or key says so.
type step struct {
	field protoreflect.FieldDescriptor
	i     int // -1: not of a list
	key   protoreflect.MapKey
}

func (s step) String() string {
	switch {
	case s.key.IsValid():
		return fmt.Sprintf("%s[%s]", s.field.JSONName(), s.key.String())
	case s.i >= 0:
		return fmt.Sprintf("%s[%d]", s.field.JSONName(), s.i)
	}
	return s.field.JSONName()
}

// add notes where the walk is, and the last step if there is one.
func (w *unknownWalk) add(list *[]string, last string) {
	if len(*list) == maxProblems {
		return
	}
	var path []string
	for _, s := range w.at {
		path = append(path, s.String())
	}
	if last != "" {
		path = append(path, last)
	}
	*list = append(*list, strings.Join(path, "."))
}

// rest is what was left over when m was decoded.
func (w *unknownWalk) rest(m protoreflect.Message) {
	for rest := m.GetUnknown(); len(rest) > 0; {
		number, _, n := protowire.ConsumeField(rest)
		if n < 0 {
			break
		}
		w.add(&w.fields, fmt.Sprint("field ", number))
		rest = rest[n:]
	}
}

func (w *unknownWalk) message(m protoreflect.Message) {
	w.rest(m)
	fields := m.Descriptor().Fields()
	for i := range fields.Len() {
		if f := fields.Get(i); interesting(f) && m.Has(f) {
			w.field(f, m.Get(f))
		}
	}
}

// interesting tells whether a field could hold anything unknown, so that most
// fields of a workload are passed over at no cost.
func interesting(f protoreflect.FieldDescriptor) bool {
	if f.IsMap() {
		f = f.MapValue()
	}
	return f.Enum() != nil || f.Message() != nil
}

func (w *unknownWalk) field(f protoreflect.FieldDescriptor, v protoreflect.Value) {
	switch {
	case f.IsMap():
		v.Map().Range(func(k protoreflect.MapKey, v protoreflect.Value) bool {
			w.value(step{f, -1, k}, f.MapValue(), v)
			return true
		})
	case f.IsList():
		list := v.List()
		for i := range list.Len() {
			w.value(step{field: f, i: i}, f, list.Get(i))
		}
	default:
		w.value(step{field: f, i: -1}, f, v)
	}
}

// value looks at what a step leads to, which is of f's kind.
func (w *unknownWalk) value(s step, f protoreflect.FieldDescriptor, v protoreflect.Value) {
	w.at = append(w.at, s)
	switch {
	case f.Message() != nil:
		w.message(v.Message())
	case f.Enum() != nil && f.Enum().Values().ByNumber(v.Enum()) == nil:
		w.add(&w.values, "")
	}
	w.at = w.at[:len(w.at)-1]
}
