// Package manifest reads the YAML documents that people write. It is strict:
// an unknown field, a doubled key or a bad value is an error that says in which
// line, what is wrong and how to mend it. It does not know what the documents mean.
package manifest

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"strconv"
	"unicode/utf8"

	"go.yaml.in/yaml/v4"
	"go.yaml.in/yaml/v4/plugin/loaderlimits"
)

// What one file may hold. Beyond it the file is rejected whole.
const (
	MaxBytes     = 4 << 20 // of a file
	MaxDepth     = 64      // of nesting
	MaxValues    = 400_000 // of a file, counted after the aliases are expanded
	MaxDocuments = 20_000  // of a file
)

// A Document is one YAML document of a file, or a mapping inside one. It never changes.
type Document struct {
	File   string
	Line   int // where it starts, from 1
	Column int // where it starts, from 1

	root *value
}

// Read parses the file at path.
func Read(path string) ([]*Document, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	data, err := io.ReadAll(io.LimitReader(f, MaxBytes+1))
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", path, err)
	}
	return Parse(path, data)
}

// Parse splits data into its documents; empty ones are left out. Each must be a
// mapping. JSON is accepted, as it is YAML. file only names the data in errors.
// The error is an *Error, or several joined.
func Parse(file string, data []byte) ([]*Document, error) {
	if len(data) > MaxBytes {
		return nil, &Error{File: file, Line: 1, Column: 1,
			Problem: fmt.Sprintf("the file is larger than %d bytes", MaxBytes), Remedy: "split it"}
	}
	if !utf8.Valid(data) {
		line, column := badUTF8(data)
		return nil, &Error{File: file, Line: line, Column: column, Problem: "the file is not UTF-8", Remedy: "save it as UTF-8"}
	}
	loader, err := yaml.NewLoader(bytes.NewReader(data),
		yaml.WithUniqueKeys(false), // the tree checks it, with positions
		yaml.WithPlugin(loaderlimits.New(loaderlimits.DepthValue(MaxDepth))))
	if err != nil {
		return nil, fmt.Errorf("parse %s: %w", file, err)
	}
	b := &builder{file: file}
	var documents []*Document
	for {
		var node yaml.Node
		err := loader.Load(&node)
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return nil, syntaxError(file, err)
		}
		d, err := b.document(&node)
		if err != nil {
			return nil, err
		}
		if d != nil {
			documents = append(documents, d)
		}
		if len(documents) > MaxDocuments {
			return nil, &Error{File: file, Line: d.Line, Column: 1,
				Problem: fmt.Sprintf("the file holds more than %d documents", MaxDocuments), Remedy: "split it"}
		}
	}
	return documents, errors.Join(b.faults...)
}

// Field is the scalar at path, as text. A list's entries are named by number, from "0".
func (d *Document) Field(path ...string) (string, bool) {
	v := d.root.at(path)
	if v == nil || v.kind == list || v.kind == mapping || v.kind == null {
		return "", false
	}
	return v.text, true
}

// Child is the mapping at path.
func (d *Document) Child(path ...string) (*Document, bool) {
	v := d.root.at(path)
	if v == nil || v.kind != mapping {
		return nil, false
	}
	return &Document{File: d.File, Line: v.line, Column: v.column, root: v}, true
}

// Items are the mappings of the list at path; nil if there is no such list.
func (d *Document) Items(path ...string) []*Document {
	v := d.root.at(path)
	if v == nil || v.kind != list {
		return nil
	}
	var items []*Document
	for _, item := range v.items {
		if item.kind == mapping {
			items = append(items, &Document{File: d.File, Line: item.line, Column: item.column, root: item})
		}
	}
	return items
}

// Fault is an error about what stands at path, or about its nearest parent that exists.
func (d *Document) Fault(problem, remedy string, path ...string) *Error {
	v := d.root
	for i := range path {
		if next := d.root.at(path[:i+1]); next != nil {
			v = next
		}
	}
	return &Error{File: d.File, Line: v.line, Column: v.column, Problem: problem, Remedy: remedy}
}

func (v *value) at(path []string) *value {
	for _, name := range path {
		switch v.kind {
		case mapping:
			m := v.member(name)
			if m == nil {
				return nil
			}
			v = m.value
		case list:
			i, err := strconv.Atoi(name)
			if err != nil || i < 0 || i >= len(v.items) {
				return nil
			}
			v = v.items[i]
		default:
			return nil
		}
	}
	return v
}

func badUTF8(data []byte) (line, column int) {
	line, column = 1, 1
	for len(data) > 0 {
		r, n := utf8.DecodeRune(data)
		if r == utf8.RuneError && n == 1 {
			break
		}
		column++
		if r == '\n' {
			line, column = line+1, 1
		}
		data = data[n:]
	}
	return line, column
}
