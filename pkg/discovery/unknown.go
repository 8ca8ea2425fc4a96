package discovery

import (
	"fmt"

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
	w.message(m, "")
	return w.unknowns
}

// unknownFields looks at m without its parts.
func unknownFields(m protoreflect.Message) []string {
	w := unknownWalk{}
	w.rest(m, "")
	return w.fields
}

type unknownWalk struct{ unknowns }

func add(list *[]string, path string) {
	if len(*list) < maxProblems {
		*list = append(*list, path)
	}
}

// rest is what was left over when m was decoded.
func (w *unknownWalk) rest(m protoreflect.Message, path string) {
	for rest := m.GetUnknown(); len(rest) > 0; {
		number, _, n := protowire.ConsumeField(rest)
		if n < 0 {
			break
		}
		add(&w.fields, join(path, fmt.Sprint("field ", number)))
		rest = rest[n:]
	}
}

func (w *unknownWalk) message(m protoreflect.Message, path string) {
	w.rest(m, path)
	m.Range(func(f protoreflect.FieldDescriptor, v protoreflect.Value) bool {
		if interesting(f) {
			w.field(f, v, path)
		}
		return true
	})
}

// interesting tells whether a field could hold anything unknown, so that most
// fields of a workload are passed over at no cost.
func interesting(f protoreflect.FieldDescriptor) bool {
	if f.IsMap() {
		f = f.MapValue()
	}
	return f.Enum() != nil || f.Message() != nil
}

func (w *unknownWalk) field(f protoreflect.FieldDescriptor, v protoreflect.Value, path string) {
	path = join(path, f.JSONName())
	switch {
	case f.IsMap():
		v.Map().Range(func(k protoreflect.MapKey, v protoreflect.Value) bool {
			w.value(f.MapValue(), v, fmt.Sprintf("%s[%s]", path, k.String()))
			return true
		})
	case f.IsList():
		for i := range v.List().Len() {
			w.value(f, v.List().Get(i), fmt.Sprintf("%s[%d]", path, i))
		}
	default:
		w.value(f, v, path)
	}
}

func (w *unknownWalk) value(f protoreflect.FieldDescriptor, v protoreflect.Value, path string) {
	switch {
	case f.Message() != nil:
		w.message(v.Message(), path)
	case f.Enum() != nil && f.Enum().Values().ByNumber(v.Enum()) == nil:
		add(&w.values, path)
	}
}

func join(path, name string) string {
	if path == "" {
		return name
	}
	return path + "." + name
}
