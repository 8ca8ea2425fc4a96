package policy

import (
	"errors"
	"fmt"
)

// maxProblems is how many problems of one policy are reported.
const maxProblems = 20

// A FieldError is one thing that is wrong with a policy. What CompileAgent and
// CompileAuthorization return is a join of these; Problems takes it apart.
type FieldError struct {
	Field   string // as people write it: spec.rules[2].mcp.arguments[0].path
	Problem string // what is wrong with it
	Remedy  string // what to do about it
}

func (e *FieldError) Error() string {
	if e.Remedy == "" {
		return e.Field + ": " + e.Problem
	}
	return e.Field + ": " + e.Problem + "; " + e.Remedy
}

// Problems lists the field errors that err consists of, in the order of the policy.
func Problems(err error) []*FieldError {
	if one, ok := err.(*FieldError); ok {
		return []*FieldError{one}
	}
	if many, ok := err.(interface{ Unwrap() []error }); ok {
		var all []*FieldError
		for _, e := range many.Unwrap() {
			all = append(all, Problems(e)...)
		}
		return all
	}
	if inner := errors.Unwrap(err); inner != nil {
		return Problems(inner)
	}
	return nil
}

// problems collects what is wrong with one policy.
type problems struct {
	list []error
	more int // not listed
}

func (p *problems) add(field, remedy, format string, args ...any) {
	if len(p.list) == maxProblems {
		p.more++
		return
	}
	p.list = append(p.list, &FieldError{Field: field, Problem: fmt.Sprintf(format, args...), Remedy: remedy})
}

func (p *problems) err() error {
	if p.more > 0 {
		return errors.Join(append(p.list, fmt.Errorf("and %d more problems", p.more))...)
	}
	return errors.Join(p.list...)
}
