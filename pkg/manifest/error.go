package manifest

import (
	"cmp"
	"errors"
	"fmt"
	"strings"

	"go.yaml.in/yaml/v4"
)

// An Error says where a file is wrong, what is wrong and how to mend it.
type Error struct {
	File         string
	Line, Column int // from 1
	Problem      string
	Remedy       string // may be empty
}

func (e *Error) Error() string {
	s := fmt.Sprintf("%s:%d:%d: %s", e.File, e.Line, e.Column, e.Problem)
	if e.Remedy != "" {
		s += "; " + e.Remedy
	}
	return s
}

// Errors are the Errors inside err, in order, however they were joined or wrapped.
func Errors(err error) []*Error {
	switch e := err.(type) {
	case nil:
		return nil
	case *Error:
		return []*Error{e}
	case interface{ Unwrap() []error }:
		var all []*Error
		for _, one := range e.Unwrap() {
			all = append(all, Errors(one)...)
		}
		return all
	default:
		return Errors(errors.Unwrap(err))
	}
}

func syntaxError(file string, err error) *Error {
	e := &Error{File: file, Line: 1, Column: 1, Problem: "not YAML: " + err.Error(), Remedy: "check the indentation and the quotes there"}
	var load *yaml.LoadError
	if errors.As(err, &load) {
		e.Line, e.Column = max(load.Mark.Line, 1), max(load.Mark.Column, 1)
		e.Problem = "not YAML: " + cmp.Or(load.Message, load.ContextMsg)
	}
	if strings.Contains(e.Problem, "tab") || strings.Contains(e.Problem, "cannot start any token") {
		e.Remedy = "indent with spaces, and put text that starts with a special character in quotes"
	}
	return e
}
