package manifest

import (
	"errors"
	"fmt"
	"reflect"
	"strings"
	"time"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"
)

// A Chooser is a type that takes one of a few texts. Its UnmarshalText rejects
// the others; Choices names the good ones in the error.
type Chooser interface{ Choices() []string }

// Decode fills the struct that into points to, by its json tags. What the
// document does not mention keeps its value, so that defaults can be set
// before. A time.Duration is written as "1m30s". Several errors come joined;
// after an error the struct is not to be used.
func (d *Document) Decode(into any) error {
	target := into
	skip := map[*value]bool{}
	faults := d.empty(d.root, skip, nil)
	for len(faults) < maxFaults {
		err := json.Unmarshal(d.root.appendJSON(nil, skip), target, json.RejectUnknownMembers(true), json.WithUnmarshalers(json.UnmarshalFromFunc(duration)))
		if err == nil {
			break
		}
		m := d.culprit(err, skip)
		faults = append(faults, d.explain(err, m))
		if m.value == d.root || skip[m.value] {
			break
		}
		// Look for the next error as if this value were not there.
		skip[m.value] = true
		target = reflect.New(reflect.TypeOf(into).Elem()).Interface()
	}
	return errors.Join(faults...)
}

// empty reports the members that were left without a value, which JSON would
// take for "back to zero".
func (d *Document) empty(v *value, skip map[*value]bool, faults []error) []error {
	for _, item := range v.items {
		faults = d.empty(item, skip, faults)
	}
	for _, m := range v.members {
		if m.value.kind == null && len(faults) < maxFaults {
			skip[m.value] = true
			faults = append(faults, &Error{File: d.File, Line: m.line, Column: m.column,
				Problem: m.name + " has no value", Remedy: "give it one, or remove the line"})
		}
		faults = d.empty(m.value, skip, faults)
	}
	return faults
}

func duration(dec *jsontext.Decoder, into *time.Duration) error {
	var s string
	if err := json.UnmarshalDecode(dec, &s); err != nil {
		return err
	}
	parsed, err := time.ParseDuration(s)
	*into = parsed
	return err
}

// culprit finds the value that err is about. Entries that were left out do not
// count in the indices of the error's path.
func (d *Document) culprit(err error, skip map[*value]bool) member {
	at := member{line: d.root.line, column: d.root.column, value: d.root}
	var semantic *json.SemanticError
	if !errors.As(err, &semantic) {
		return at
	}
	for token := range semantic.JSONPointer.Tokens() {
		next := at.value.kept(token, skip)
		if next == nil {
			break
		}
		at = *next
	}
	return at
}

func (v *value) kept(token string, skip map[*value]bool) *member {
	if v.kind == mapping {
		return v.member(token)
	}
	i := 0
	for _, item := range v.items {
		if skip[item] {
			continue
		}
		if token == fmt.Sprint(i) {
			return &member{line: item.line, column: item.column, value: item}
		}
		i++
	}
	return nil
}

func (d *Document) explain(err error, m member) *Error {
	e := &Error{File: d.File, Line: m.line, Column: m.column, Problem: err.Error()}
	var semantic *json.SemanticError
	if !errors.As(err, &semantic) {
		return e
	}
	if errors.Is(err, json.ErrUnknownName) {
		e.Problem = fmt.Sprintf("unknown field %q", m.name)
		e.Remedy = choose(m.name, fieldNames(semantic.GoType), "known fields")
		return e
	}
	e.Line, e.Column = m.value.line, m.value.column
	e.Problem, e.Remedy = misfit(m, semantic)
	return e
}

// misfit says why a value does not fit its Go type.
func misfit(m member, semantic *json.SemanticError) (problem, remedy string) {
	what := "the value"
	if m.name != "" {
		what = m.name
	}
	t := semantic.GoType
	if t == nil {
		return fmt.Sprintf("%s: %v", what, semantic), ""
	}
	for t.Kind() == reflect.Pointer {
		t = t.Elem()
	}
	choices, isChooser := reflect.New(t).Interface().(Chooser)
	_, isText := reflect.New(t).Interface().(interface{ UnmarshalText([]byte) error })
	if isChooser && m.value.kind == text {
		return fmt.Sprintf("%s: %q is not known", what, m.value.text), choose(m.value.text, choices.Choices(), "known values")
	}
	if t == reflect.TypeFor[time.Duration]() {
		return what + " must be a duration", "write it like 1m30s"
	}
	want := wanted(t, isText || isChooser)
	if want == m.value.kind && semantic.Err != nil {
		return fmt.Sprintf("%s: %v", what, semantic.Err), ""
	}
	return mismatch(what, want, m.value.kind)
}

// mismatch says that a value of one kind stands where another belongs.
func mismatch(what string, want, got kind) (problem, remedy string) {
	problem = fmt.Sprintf("%s must be %v, not %v", what, want, got)
	switch {
	case got == null:
		remedy = "give it a value, or remove the line"
	case want == text && (got == number || got == boolean):
		remedy = "put it in quotes"
	case want == list:
		remedy = `start each entry with "- "`
	case want == boolean:
		remedy = "write true or false, without quotes"
	case want == number && got == text:
		remedy = "write it without quotes"
	}
	return problem, remedy
}

func wanted(t reflect.Type, isText bool) kind {
	switch {
	case isText:
		return text
	case t.Kind() == reflect.Bool:
		return boolean
	case t.Kind() == reflect.String:
		return text
	case t.Kind() == reflect.Slice, t.Kind() == reflect.Array:
		return list
	case t.Kind() == reflect.Struct, t.Kind() == reflect.Map:
		return mapping
	default:
		return number
	}
}

// fieldNames are the JSON names of a struct's fields.
func fieldNames(t reflect.Type) []string {
	if t == nil || t.Kind() != reflect.Struct {
		return nil
	}
	var names []string
	for f := range t.Fields() {
		name, options, _ := strings.Cut(f.Tag.Get("json"), ",")
		inner := f.Type
		if inner.Kind() == reflect.Pointer {
			inner = inner.Elem()
		}
		switch {
		case f.Anonymous && name == "" || strings.Contains(options, "embed"):
			names = append(names, fieldNames(inner)...)
		case !f.IsExported() || name == "-":
		case name != "":
			names = append(names, name)
		default:
			names = append(names, f.Name)
		}
	}
	return names
}
