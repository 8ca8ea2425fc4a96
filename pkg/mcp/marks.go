package mcp

import (
	"iter"
	"net/url"
	"strings"
)

// Servers of 2024-11-05 find a session by an id in the target of its endpoint, and
// read targets in many ways: a parameter more, another path before it or another
// spelling leads to the same session. So nobody may post to what has the marks of open
// endpoints and is none of them.

const (
	minMark = 16 // bytes of the shortest end of a path that is taken for an id
	maxMark = 64 // bytes of a parameter's name that count
)

// marksOf are what tells the endpoint of a stream from other targets: the parameters
// that the server added to those of the stream's own query or, if there are none, the
// end of the path.
func marksOf(target, asked string) (marks []string) {
	path, query, _ := strings.Cut(target, "?")
	known := map[string]bool{"": true}
	for _, name := range parameters(asked) {
		known[name] = true
	}
	for _, name := range parameters(query) {
		if !known[name] {
			known[name] = true
			marks = append(marks, name)
		}
	}
	if last := path[strings.LastIndexByte(path, '/')+1:]; len(marks) == 0 && len(last) >= minMark {
		if plain, err := url.PathUnescape(last); err == nil {
			marks = append(marks, "/"+strings.ToLower(plain))
		}
	}
	return marks
}

// parameters are the names in a query without what servers fold, drop or take for a
// subscript: letters and digits, in lower case.
func parameters(query string) (names []string) {
	for name := range parameterNames(query) {
		if plain, err := url.QueryUnescape(name); err == nil {
			plain = strings.Map(foldName, plain)
			names = append(names, plain[:min(len(plain), maxMark)])
		}
	}
	return names
}

// parameterNames are the names in a query, as written. Servers differ in what separates
// parameters.
func parameterNames(query string) iter.Seq[string] {
	return func(yield func(string) bool) {
		for parameter := range strings.FieldsFuncSeq(query, func(r rune) bool { return r == '&' || r == ';' }) {
			if name, _, _ := strings.Cut(parameter, "="); !yield(name) {
				return
			}
		}
	}
}

func foldName(r rune) rune {
	switch {
	case 'A' <= r && r <= 'Z':
		return r + ('a' - 'A')
	case 'a' <= r && r <= 'z', '0' <= r && r <= '9':
		return r
	}
	return -1
}

// guard notes the marks of an endpoint that was opened, for as long as it is open.
func (t *sessions) guard(s *session, marks []string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if s.marks != nil || t.all[s.key] != s {
		return
	}
	s.marks = marks
	of := t.marks[s.key.place]
	if of == nil && len(marks) > 0 {
		of = map[string]int{}
		t.marks[s.key.place] = of
	}
	for _, mark := range marks {
		of[mark]++
	}
}

// unguard forgets the marks of an endpoint. The lock is held.
func (t *sessions) unguard(s *session) {
	of := t.marks[s.key.place]
	for _, mark := range s.marks {
		if of[mark]--; of[mark] == 0 {
			delete(of, mark)
		}
	}
	if of != nil && len(of) == 0 {
		delete(t.marks, s.key.place)
	}
}

// guards tells whether a target has a mark of the open endpoints of a place: in its path,
// or as the beginning of a parameter's name.
func (t *sessions) guards(p place, path, query string) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	if len(t.marks) == 0 || len(t.marks[p]) == 0 {
		return false
	}
	of := t.marks[p]
	for segment := range strings.SplitSeq(strings.ToLower(path), "/") {
		segment, _, _ = strings.Cut(segment, ";")
		if len(segment) >= minMark && of["/"+segment] > 0 {
			return true
		}
	}
	for _, name := range parameters(query) {
		for n := range len(name) {
			if of[name[:n+1]] > 0 {
				return true
			}
		}
	}
	return false
}
