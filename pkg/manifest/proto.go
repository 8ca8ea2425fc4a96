package manifest

import (
	"encoding/base64"
	"errors"
	"fmt"
	"strconv"
	"strings"

	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
)

// ProtoOptions say how people write what protobuf's JSON writes for machines.
type ProtoOptions struct {
	// Bytes reads a bytes field. Nil: base64.
	Bytes func(field protoreflect.FullName, text string) ([]byte, error)
	// Shorthand reads a message that was written as text. Nil, or a nil message
	// without error: the message must be a mapping.
	Shorthand func(message protoreflect.FullName, text string) (proto.Message, error)
	// Filled tells of a repeated field whether a list without entries is a mistake.
	// Protobuf keeps no difference between that and no list. Nil: never.
	Filled func(field protoreflect.FullName) bool
}

// DecodeProto fills m as protobuf's JSON mapping reads it, strictly. Several
// errors come joined; after an error m is not to be used.
func (d *Document) DecodeProto(m proto.Message) error { return d.DecodeProtoWith(m, ProtoOptions{}) }

// DecodeProtoWith is DecodeProto with other spellings.
func (d *Document) DecodeProtoWith(m proto.Message, o ProtoOptions) error {
	p := &protoDecoder{file: d.File, options: o}
	p.message(m.ProtoReflect(), d.root)
	return errors.Join(p.faults...)
}

type protoDecoder struct {
	file    string
	options ProtoOptions
	faults  []error
}

func (p *protoDecoder) fault(line, column int, problem, remedy string) {
	if len(p.faults) < maxFaults {
		p.faults = append(p.faults, &Error{File: p.file, Line: line, Column: column, Problem: problem, Remedy: remedy})
	}
}

func (p *protoDecoder) mismatch(name string, want kind, v *value) {
	problem, remedy := mismatch(name, want, v.kind)
	p.fault(v.line, v.column, problem, remedy)
}

func (p *protoDecoder) message(m protoreflect.Message, v *value) {
	descriptor := m.Descriptor()
	set := map[protoreflect.FieldNumber]string{}
	for _, entry := range v.members {
		field := findField(descriptor, entry.name)
		if field == nil {
			p.fault(entry.line, entry.column, fmt.Sprintf("unknown field %q", entry.name),
				choose(entry.name, jsonNames(descriptor), "known fields"))
			continue
		}
		if before, ok := set[field.Number()]; ok {
			p.fault(entry.line, entry.column, fmt.Sprintf("%q sets the same as %q", entry.name, before), "keep one of them")
			continue
		}
		set[field.Number()] = entry.name
		if one := field.ContainingOneof(); one != nil && !one.IsSynthetic() {
			if other := m.WhichOneof(one); other != nil {
				p.fault(entry.line, entry.column, fmt.Sprintf("%s and %s exclude each other", field.JSONName(), other.JSONName()), "keep one of them")
				continue
			}
		}
		p.field(m, field, entry)
	}
}

func findField(m protoreflect.MessageDescriptor, name string) protoreflect.FieldDescriptor {
	if f := m.Fields().ByJSONName(name); f != nil {
		return f
	}
	return m.Fields().ByName(protoreflect.Name(name))
}

func jsonNames(m protoreflect.MessageDescriptor) []string {
	names := make([]string, m.Fields().Len())
	for i := range names {
		names[i] = m.Fields().Get(i).JSONName()
	}
	return names
}

func (p *protoDecoder) field(m protoreflect.Message, f protoreflect.FieldDescriptor, entry member) {
	v := entry.value
	switch {
	case v.kind == null && !takesNull(f):
		p.fault(entry.line, entry.column, entry.name+" has no value", "give it one, or remove the line")
	case f.IsList():
		p.list(m, f, entry)
	case f.IsMap():
		p.mapping(m, f, entry)
	default:
		if x, ok := p.value(m.NewField(f), f, entry.name, v); ok {
			m.Set(f, x)
		}
	}
}

func takesNull(f protoreflect.FieldDescriptor) bool {
	return f.Message() != nil && f.Message().FullName() == "google.protobuf.Value"
}

func (p *protoDecoder) list(m protoreflect.Message, f protoreflect.FieldDescriptor, entry member) {
	if entry.value.kind != list {
		p.mismatch(entry.name, list, entry.value)
		return
	}
	if len(entry.value.items) == 0 && p.options.Filled != nil && p.options.Filled(f.FullName()) {
		p.fault(entry.line, entry.column, entry.name+" is a list without entries", "write what it is to list, or remove it: without it there is no limit")
		return
	}
	l := m.Mutable(f).List()
	for _, item := range entry.value.items {
		if x, ok := p.value(l.NewElement(), f, "an entry of "+entry.name, item); ok {
			l.Append(x)
		}
	}
}

func (p *protoDecoder) mapping(m protoreflect.Message, f protoreflect.FieldDescriptor, entry member) {
	if entry.value.kind != mapping {
		p.mismatch(entry.name, mapping, entry.value)
		return
	}
	entries := m.Mutable(f).Map()
	for _, e := range entry.value.members {
		key, ok := p.value(protoreflect.Value{}, f.MapKey(), "a name in "+entry.name, keyValue(f.MapKey(), e))
		if !ok {
			continue
		}
		if x, ok := p.value(entries.NewValue(), f.MapValue(), e.name, e.value); ok {
			entries.Set(key.MapKey(), x)
		}
	}
}

// keyValue is a mapping's name as a value of the kind that key wants.
func keyValue(key protoreflect.FieldDescriptor, e member) *value {
	v := &value{kind: text, text: e.name, line: e.line, column: e.column}
	if key.Kind() == protoreflect.BoolKind {
		v.kind = boolean
	} else if key.Kind() != protoreflect.StringKind {
		v.kind = number
	}
	return v
}

// value reads one value of f's type. fresh is where a message goes.
func (p *protoDecoder) value(fresh protoreflect.Value, f protoreflect.FieldDescriptor, name string, v *value) (protoreflect.Value, bool) {
	switch f.Kind() {
	case protoreflect.MessageKind, protoreflect.GroupKind:
		return fresh, p.messageValue(fresh.Message(), name, v)
	case protoreflect.EnumKind:
		return p.enum(f.Enum(), name, v)
	case protoreflect.BoolKind:
		if v.kind != boolean || v.text != "true" && v.text != "false" {
			p.mismatch(name, boolean, v)
			return protoreflect.Value{}, false
		}
		return protoreflect.ValueOfBool(v.text == "true"), true
	case protoreflect.StringKind, protoreflect.BytesKind:
		return p.text(f, name, v)
	default:
		return p.number(f.Kind(), name, v)
	}
}

func (p *protoDecoder) text(f protoreflect.FieldDescriptor, name string, v *value) (protoreflect.Value, bool) {
	if v.kind != text {
		p.mismatch(name, text, v)
		return protoreflect.Value{}, false
	}
	if f.Kind() == protoreflect.StringKind {
		return protoreflect.ValueOfString(v.text), true
	}
	read := p.options.Bytes
	if read == nil {
		read = func(_ protoreflect.FullName, s string) ([]byte, error) { return base64.StdEncoding.DecodeString(s) }
	}
	b, err := read(f.FullName(), v.text)
	if err != nil {
		p.fault(v.line, v.column, fmt.Sprintf("%s: %v", name, err), "")
	}
	return protoreflect.ValueOfBytes(b), err == nil
}

func (p *protoDecoder) messageValue(m protoreflect.Message, name string, v *value) bool {
	full := m.Descriptor().FullName()
	if strings.HasPrefix(string(full), "google.protobuf.") {
		if err := protojson.Unmarshal(v.appendJSON(nil, nil), m.Interface()); err != nil {
			p.fault(v.line, v.column, fmt.Sprintf("%s is not a %s: %s", name, full, protoProblem(err)), "")
			return false
		}
		return true
	}
	if v.kind == text && p.options.Shorthand != nil {
		short, err := p.options.Shorthand(full, v.text)
		if err != nil {
			p.fault(v.line, v.column, fmt.Sprintf("%s: %v", name, err), "")
			return false
		}
		if short != nil {
			proto.Merge(m.Interface(), short)
			return true
		}
	}
	if v.kind != mapping {
		p.mismatch(name, mapping, v)
		return false
	}
	p.message(m, v)
	return true
}

// protoProblem is protojson's complaint without its position, which is in text nobody wrote.
func protoProblem(err error) string {
	s := err.Error()
	if _, rest, ok := strings.Cut(s, "): "); ok {
		return rest
	}
	return strings.TrimPrefix(strings.ReplaceAll(s, "\u00a0", " "), "proto: ")
}

func (p *protoDecoder) enum(e protoreflect.EnumDescriptor, name string, v *value) (protoreflect.Value, bool) {
	names := make([]string, 0, e.Values().Len())
	for i := range e.Values().Len() {
		if name := string(e.Values().Get(i).Name()); !unset(name) {
			names = append(names, name)
		}
	}
	if v.kind != text {
		p.fault(v.line, v.column, fmt.Sprintf("%s must be a name, not %v", name, v.kind), "known values are "+strings.Join(names, ", "))
		return protoreflect.Value{}, false
	}
	known := e.Values().ByName(protoreflect.Name(v.text))
	if known == nil {
		remedy := choose(v.text, names, "known values")
		if nearest(v.text, names) != "" && len(names) <= 12 {
			remedy += " known values are " + strings.Join(names, ", ")
		}
		p.fault(v.line, v.column, fmt.Sprintf("%s: %q is not known", name, v.text), remedy)
		return protoreflect.Value{}, false
	}
	return protoreflect.ValueOfEnum(known.Number()), true
}

// unset tells whether an enum's value only says that none was given; it is
// accepted, and recommended to nobody.
func unset(name string) bool {
	return strings.HasSuffix(strings.ToLower(name), "unspecified") || strings.HasPrefix(name, "UNSPECIFIED")
}

func (p *protoDecoder) number(k protoreflect.Kind, name string, v *value) (protoreflect.Value, bool) {
	if v.kind != number {
		p.mismatch(name, number, v)
		return protoreflect.Value{}, false
	}
	var x protoreflect.Value
	var err error
	var limits string
	switch k {
	case protoreflect.Int32Kind, protoreflect.Sint32Kind, protoreflect.Sfixed32Kind:
		var i int64
		i, err = strconv.ParseInt(v.text, 10, 32)
		x, limits = protoreflect.ValueOfInt32(int32(i)), "a whole number of 32 bits"
	case protoreflect.Int64Kind, protoreflect.Sint64Kind, protoreflect.Sfixed64Kind:
		var i int64
		i, err = strconv.ParseInt(v.text, 10, 64)
		x, limits = protoreflect.ValueOfInt64(i), "a whole number of 64 bits"
	case protoreflect.Uint32Kind, protoreflect.Fixed32Kind:
		var i uint64
		i, err = strconv.ParseUint(v.text, 10, 32)
		x, limits = protoreflect.ValueOfUint32(uint32(i)), "a whole number from 0 to 4294967295"
	case protoreflect.Uint64Kind, protoreflect.Fixed64Kind:
		var i uint64
		i, err = strconv.ParseUint(v.text, 10, 64)
		x, limits = protoreflect.ValueOfUint64(i), "a whole number from 0 to 18446744073709551615"
	case protoreflect.FloatKind:
		var f float64
		f, err = strconv.ParseFloat(v.text, 32)
		x, limits = protoreflect.ValueOfFloat32(float32(f)), "a number"
	default:
		var f float64
		f, err = strconv.ParseFloat(v.text, 64)
		x, limits = protoreflect.ValueOfFloat64(f), "a number"
	}
	if err != nil {
		p.fault(v.line, v.column, fmt.Sprintf("%s: %s is out of range", name, v.text), "it must be "+limits)
	}
	return x, err == nil
}
