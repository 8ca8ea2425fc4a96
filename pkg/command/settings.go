package command

import (
	"encoding"
	"errors"
	"fmt"
	"os"
	"reflect"
	"strconv"
	"strings"

	"github.com/spf13/pflag"

	"github.com/outrigger-mesh/outrigger/pkg/manifest"
	"github.com/outrigger-mesh/outrigger/pkg/sidecar"
)

// A setting is one leaf of a configuration struct, as its tags describe it.
type setting struct {
	path  string   // in the YAML file, e.g. "workload.name"
	flag  string   // without dashes
	env   []string // names of the environment variable, the first one set wins
	doc   string
	index []int // of the field
	kind  reflect.Type
}

// settings lists the leaves of the struct that t describes.
func settings(t reflect.Type) []setting { return appendSettings(nil, t, "", nil) }

func appendSettings(all []setting, t reflect.Type, prefix string, index []int) []setting {
	for i := range t.NumField() {
		f := t.Field(i)
		name, _, _ := strings.Cut(f.Tag.Get("json"), ",")
		at := append(append([]int(nil), index...), i)
		flag, ok := f.Tag.Lookup("flag")
		if !ok {
			all = appendSettings(all, f.Type, prefix+name+".", at)
			continue
		}
		s := setting{path: prefix + name, flag: flag, doc: f.Tag.Get("jsonschema"), index: at, kind: f.Type}
		if env := f.Tag.Get("env"); env != "" {
			s.env = strings.Split(env, ",")
		}
		all = append(all, s)
	}
	return all
}

// set puts text into the leaf. A list replaces what was there and is separated by commas.
func (s *setting) set(config reflect.Value, texts []string) error {
	return setValue(config.FieldByIndex(s.index), texts)
}

func setValue(v reflect.Value, texts []string) error {
	if t, ok := v.Addr().Interface().(encoding.TextUnmarshaler); ok {
		return t.UnmarshalText([]byte(texts[len(texts)-1]))
	}
	last := texts[len(texts)-1]
	switch v.Kind() {
	case reflect.String:
		v.SetString(last)
	case reflect.Bool:
		b, err := strconv.ParseBool(last)
		if err != nil {
			return fmt.Errorf("%q is neither true nor false", last)
		}
		v.SetBool(b)
	case reflect.Int:
		n, err := strconv.Atoi(last)
		if err != nil {
			return fmt.Errorf("%q is not a number", last)
		}
		v.SetInt(int64(n))
	case reflect.Slice:
		return setSlice(v, texts)
	case reflect.Map:
		return setMap(v, texts)
	default:
		return fmt.Errorf("a setting of type %s cannot be set from text", v.Type())
	}
	return nil
}

func setSlice(v reflect.Value, texts []string) error {
	list := reflect.MakeSlice(v.Type(), 0, len(texts))
	for item := range items(texts) {
		element := reflect.New(v.Type().Elem()).Elem()
		if err := setValue(element, []string{item}); err != nil {
			return err
		}
		list = reflect.Append(list, element)
	}
	v.Set(list)
	return nil
}

func setMap(v reflect.Value, texts []string) error {
	pairs := make(map[string]string)
	for item := range items(texts) {
		key, value, ok := strings.Cut(item, "=")
		if !ok || key == "" {
			return fmt.Errorf("%q is not key=value", item)
		}
		pairs[key] = value
	}
	v.Set(reflect.ValueOf(pairs))
	return nil
}

func items(texts []string) func(yield func(string) bool) {
	return func(yield func(string) bool) {
		for _, text := range texts {
			for item := range strings.SplitSeq(text, ",") {
				if item = strings.TrimSpace(item); item != "" && !yield(item) {
					return
				}
			}
		}
	}
}

// given collects what was said for one flag.
type given struct {
	setting *setting
	texts   []string
	initial string
}

func (g *given) String() string { return g.initial }
func (g *given) Set(text string) error {
	g.texts = append(g.texts, text)
	return setValue(reflect.New(g.setting.kind).Elem(), g.texts) // a bad value is the flag's error
}

func (g *given) Type() string {
	switch g.setting.kind.Kind() {
	case reflect.Bool:
		return "bool"
	case reflect.Slice, reflect.Map:
		return "list"
	case reflect.Int64:
		return "duration"
	case reflect.Int:
		return "count"
	}
	return "string"
}

// A loader fills a configuration from defaults, a file, the environment and
// flags; what comes later in that list wins.
type loader struct {
	settings []setting
	given    []*given
	file     string

	document *manifest.Document // what the file says, once it is loaded
	outside  map[string]bool    // paths that the environment or a flag has set
}

// bind declares the flags of a configuration whose defaults are in initial.
func bind(flags *pflag.FlagSet, initial any) *loader {
	v := reflect.ValueOf(initial)
	l := &loader{settings: settings(v.Type())}
	flags.StringVarP(&l.file, "config", "c", "", "YAML `file` with the same settings; config-schema prints its schema")
	for i := range l.settings {
		s := &l.settings[i]
		g := &given{setting: s, initial: display(v.FieldByIndex(s.index))}
		l.given = append(l.given, g)
		usage := s.doc
		if len(s.env) > 0 {
			usage += " [$" + strings.Join(s.env, ", $") + "]"
		}
		f := flags.VarPF(g, s.flag, "", usage)
		if s.kind.Kind() == reflect.Bool {
			f.NoOptDefVal = "true"
		}
	}
	return l
}

func display(v reflect.Value) string {
	if v.IsZero() {
		return ""
	}
	return fmt.Sprint(v.Interface())
}

// load fills config, a pointer to the struct whose defaults were bound.
func (l *loader) load(config any, getenv func(string) (string, bool)) error {
	if l.file != "" {
		if err := l.decodeFile(config); err != nil {
			return err
		}
	}
	l.outside = make(map[string]bool)
	v := reflect.ValueOf(config).Elem()
	for i := range l.settings {
		s := &l.settings[i]
		for _, name := range s.env {
			text, ok := getenv(name)
			if !ok || text == "" {
				continue
			}
			if err := s.set(v, []string{text}); err != nil {
				return fmt.Errorf("environment variable %s: %w", name, err)
			}
			l.outside[s.path] = true
			break
		}
		if g := l.given[i]; g.texts != nil {
			if err := s.set(v, g.texts); err != nil {
				return fmt.Errorf("flag --%s: %w", s.flag, err)
			}
			l.outside[s.path] = true
		}
	}
	return nil
}

func (l *loader) decodeFile(config any) error {
	documents, err := manifest.Read(l.file)
	if err != nil {
		return err
	}
	if len(documents) != 1 {
		return fmt.Errorf("%s has %d YAML documents: keep one", l.file, len(documents))
	}
	l.document = documents[0]
	return l.document.Decode(config)
}

func lookupEnv(name string) (string, bool) { return os.LookupEnv(name) }

// locate says where a setting can be given, for an error that names it by its path.
func (l *loader) locate(err error) error {
	wrong, ok := errors.AsType[*sidecar.ConfigError](err)
	if !ok {
		return err
	}
	if l.document != nil && !l.outside[wrong.Path] && wrong.Problem != sidecar.NotSet { // defaults are valid: the value is the file's
		return l.document.Fault(wrong.Path+": "+wrong.Problem, wrong.Remedy, strings.Split(wrong.Path, ".")...)
	}
	for _, s := range l.settings {
		if s.path != wrong.Path {
			continue
		}
		where := "flag --" + s.flag
		if len(s.env) > 0 {
			where += ", environment variable " + s.env[0]
		}
		return fmt.Errorf("%w (%s, or %s in the file of --config)", err, where, s.path)
	}
	return err
}
