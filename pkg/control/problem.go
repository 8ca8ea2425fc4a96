package control

import (
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"strings"

	"github.com/outrigger-mesh/outrigger/pkg/manifest"
)

// report logs what is newly wrong, and what is right again.
func (s *source) report() {
	var now []string
	for _, p := range s.problems() {
		line := p.String()
		now = append(now, line)
		if !slices.Contains(s.logged, line) {
			s.config.Logger.Error("configuration problem", "at", p.at(), "problem", p.Problem, "remedy", p.Remedy, "effect", p.Effect)
		}
	}
	if len(now) == 0 && len(s.logged) > 0 {
		s.config.Logger.Info("configuration is good again")
	}
	s.logged = now
}

// A Problem is something wrong with the configuration.
type Problem struct {
	File    string `json:"file"`
	Line    int    `json:"line,omitzero"`
	Column  int    `json:"column,omitzero"`
	Problem string `json:"problem"`
	Remedy  string `json:"remedy,omitzero"`
	Effect  string `json:"effect"` // what it means for what is served
}

func (p *Problem) at() string {
	if p.Line == 0 {
		return p.File
	}
	return fmt.Sprintf("%s:%d:%d", p.File, p.Line, p.Column)
}

func (p *Problem) String() string {
	parts := slices.DeleteFunc([]string{p.at(), p.Problem, p.Remedy, p.Effect}, func(part string) bool { return part == "" })
	if p.File == "" { // the problem names what it is about
		return strings.Join(parts, "; ")
	}
	return parts[0] + ": " + strings.Join(parts[1:], "; ")
}

const (
	effectHeld = "nothing is served until every file has been good once"
	effectKept = "the file's last good content is served"
	effectNone = "the file contributes nothing"
	effectLost = "this object is not served"
)

func (s *source) problems() []Problem {
	var list []Problem
	for path, err := range s.failed {
		var at *fs.PathError
		if errors.As(err, &at) && at.Path == path {
			err = at.Err
		}
		p := Problem{File: path, Problem: err.Error(), Remedy: "make the path readable", Effect: effectKept}
		if errors.Is(err, fs.ErrNotExist) {
			p.Remedy = "create it, or correct --config-path"
		}
		if !s.synced {
			p.Effect = effectHeld
		}
		list = append(list, p)
	}
	for path, f := range s.files {
		effect := effectKept
		if f.good.IsZero() {
			effect = effectNone
			if !s.synced {
				effect = effectHeld
			}
		}
		list = append(list, describe(path, f.err, effect)...)
	}
	for _, err := range s.build {
		list = append(list, describe("", err, effectLost)...)
	}
	slices.SortFunc(list, func(a, b Problem) int { return strings.Compare(a.String(), b.String()) })
	return list
}

func describe(path string, err error, effect string) []Problem {
	if err == nil {
		return nil
	}
	faults := manifest.Errors(err)
	if len(faults) == 0 {
		return []Problem{{File: path, Problem: err.Error(), Effect: effect}}
	}
	var list []Problem
	for _, f := range faults {
		list = append(list, Problem{f.File, f.Line, f.Column, f.Problem, f.Remedy, effect})
	}
	return list
}
