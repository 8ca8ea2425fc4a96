package policy

import (
	"encoding/json"
	"math/big"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/outrigger-mesh/outrigger/pkg/mesh"
)

// modelGlob matches byte by byte, trying everything.
func modelGlob(pattern, s string) bool {
	switch {
	case pattern == "":
		return s == ""
	case pattern[0] == '*':
		return modelGlob(pattern[1:], s) || s != "" && modelGlob(pattern, s[1:])
	case pattern[0] == '\\':
		pattern = pattern[1:]
	}
	return s != "" && s[0] == pattern[0] && modelGlob(pattern[1:], s[1:])
}

func TestGlob(t *testing.T) {
	for _, c := range []struct {
		pattern, s string
		want       bool
	}{
		{"get_*", "get_issue", true}, {"get_*", "get_", true}, {"get_*", "xget_", false},
		{"*", "", true}, {"*", "a/b\n\xff", true}, {"a*b*c", "abbc", true}, {"a*b*c", "acb", false},
		{"a*a", "a", false}, {"a*a", "aa", true}, {"*ab", "aab", true}, {"*a*a*", "a", false},
		{"file:///docs/*", "file:///docs/a/b", true}, {"x?y", "x?y", true}, {"x?y", "xzy", false},
		{`\*`, "*", true}, {`\*`, "a", false}, {`\\*`, `\a`, true}, {"Get", "get", false}, {"get", " get", false},
		{"**", "anything", true},
	} {
		g, err := parseGlob(c.pattern)
		if err != nil {
			t.Fatal(err)
		}
		if g.matches(c.s) != c.want {
			t.Errorf("%q matches %q: %v", c.pattern, c.s, !c.want)
		}
	}
	for _, bad := range []string{`a\`, `\a`, `\?`, strings.Repeat("a", maxGlob+1)} {
		if _, err := parseGlob(bad); err == nil {
			t.Errorf("%q is accepted", shorten(bad))
		}
	}
}

func FuzzGlob(f *testing.F) {
	f.Add("a*b", "aab")
	f.Add(`\**\\`, `*x\`)
	f.Fuzz(func(t *testing.T, pattern, s string) {
		if strings.Count(pattern, "*") > 6 || len(s) > 60 {
			return
		}
		g, err := parseGlob(pattern)
		if err != nil {
			return
		}
		if got := g.matches(s); got != modelGlob(pattern, s) {
			t.Errorf("%q matches %q: %v", pattern, s, got)
		}
		if text, ok := g.exact(); ok && !g.matches(text) {
			t.Errorf("%q does not match %q", pattern, text)
		}
	})
}

func TestGlobCouldMatchTemplate(t *testing.T) {
	for _, c := range []struct {
		pattern, template string
		want              bool
	}{
		{"file:///secret/*", "file:///{path}", true}, {"file:///secret/*", "file:///docs/{path}", false},
		{"file:///secret/a", "file:///{dir}/a", true}, {"file:///secret/a", "file:///{dir}/b", false},
		{"*.key", "file:///{path}.txt", false}, {"*.key", "file:///{path}", true}, {"file:///a", "file:///a", true},
		{"file:///a", "file:///b", false}, {"*", "{x}", true}, {"file:///secret/*", "file:///{unclosed", true},
	} {
		g, err := parseGlob(c.pattern)
		if err != nil {
			t.Fatal(err)
		}
		if g.couldMatch(c.template) != c.want {
			t.Errorf("%q could match %q: %v", c.pattern, c.template, !c.want)
		}
	}
}

// FuzzTemplate fills a template in and expects the glob to have known.
func FuzzTemplate(f *testing.F) {
	f.Add("file:///secret/*", "file:///{a}/{b}", "secret", "x")
	f.Fuzz(func(t *testing.T, pattern, template, a, b string) {
		g, err := parseGlob(pattern)
		if err != nil {
			return
		}
		parts := templateParts(template)
		var filled strings.Builder
		for i, part := range parts {
			if i > 0 {
				filled.WriteString([]string{a, b}[i%2])
			}
			filled.WriteString(part)
		}
		if g.matches(filled.String()) && !g.couldMatch(template) {
			t.Errorf("%q matches %q of %q", pattern, filled.String(), template)
		}
	})
}

func TestSPIFFEPatterns(t *testing.T) {
	for _, c := range []struct {
		pattern string
		who     mesh.Principal
		want    bool
	}{
		{"spiffe://cluster.local/ns/agents/sa/planner", planner, true},
		{"spiffe://cluster.local/ns/agents/sa/plan", planner, false},
		{"spiffe://cluster.local/ns/agents/sa/planner", stranger, false},
		{"spiffe://cluster.local/ns/agents/*", planner, true},
		{"spiffe://cluster.local/ns/agents/sa/planner/*", planner, false},
		{"spiffe://cluster.local/ns/agent/*", planner, false},
		{"spiffe://cluster.local/*", planner, true},
		{"spiffe://cluster.local/*", stranger, false},
		{"spiffe://cluster.local/*", nobody, false},
	} {
		var s source
		if err := s.addSPIFFE(c.pattern); err != nil {
			t.Fatal(err)
		}
		if s.matches(c.who, "cluster.local") != c.want {
			t.Errorf("%s matches %v: %v", c.pattern, c.who, !c.want)
		}
	}
	for _, bad := range []string{"", "*", "cluster.local/ns/a/sa/b", "spiffe://*", "spiffe:///*", "spiffe://*/ns/a/sa/b",
		"spiffe://td/ns/ag*", "spiffe://td/ns/*/sa/x", "spiffe://td/a//*", "spiffe://td/../*", "spiffe://td", "spiffe://td/",
		"spiffe://TD/*", "spiffe://td/a*/*", "spiffe://td/**", "spiffe://td:80/*", "SPIFFE://td/a"} {
		if err := new(source).addSPIFFE(bad); err == nil {
			t.Errorf("%q is accepted", bad)
		}
	}
}

func FuzzSPIFFEPattern(f *testing.F) {
	f.Add("spiffe://td/ns/*", "spiffe://td/ns/a/sa/b")
	f.Fuzz(func(t *testing.T, pattern, id string) {
		var s source
		if s.addSPIFFE(pattern) != nil {
			return
		}
		p, err := mesh.ParsePrincipal(id)
		if err != nil {
			return
		}
		want := pattern == id
		if prefix, ok := strings.CutSuffix(pattern, "*"); ok {
			want = strings.HasPrefix(id, prefix)
		}
		if got := s.matches(p, ""); got != want {
			t.Errorf("%q matches %q: %v", pattern, id, got)
		}
	})
}

func FuzzArgumentPath(f *testing.F) {
	f.Add("a.b", `{"a":{"b":1}}`)
	f.Add(`a\.b`, `{"a.b":"x","\u0061":2}`)
	f.Add("a", `{"a":[1,{"b":null}],"c":-1.5e+3}`)
	f.Fuzz(func(t *testing.T, text, object string) {
		path, err := parsePath(text)
		if err != nil || !utf8.ValidString(object) || !json.Valid([]byte(object)) {
			return
		}
		got, err := find([]byte(object), path)
		if err != nil {
			return
		}
		var value any
		decoder := json.NewDecoder(strings.NewReader(object))
		decoder.UseNumber()
		if decoder.Decode(&value) != nil {
			return
		}
		for _, name := range path {
			m, _ := value.(map[string]any)
			if value = m[name]; value == nil {
				break
			}
		}
		var same any
		if got != nil {
			decoder := json.NewDecoder(strings.NewReader(string(got)))
			decoder.UseNumber()
			if err := decoder.Decode(&same); err != nil {
				t.Fatalf("%q in %q gives %q: %v", text, object, got, err)
			}
		}
		a, _ := json.Marshal(same)
		b, _ := json.Marshal(value)
		if string(a) != string(b) {
			t.Errorf("%q in %q gives %s, want %s", text, object, a, b)
		}
	})
}

func FuzzNumber(f *testing.F) {
	f.Add("10", "1e1")
	f.Add("-0.0", "0")
	f.Add("0.10", "1E-1")
	f.Fuzz(func(t *testing.T, a, b string) {
		da, ea, oka := parseNumber(nil, []byte(a))
		db, eb, okb := parseNumber(nil, []byte(b))
		if !isNumber(a) == oka {
			t.Fatalf("%q is a number: %v", a, oka)
		}
		if !oka || !okb || ea > 1000 || ea < -1000 || eb > 1000 || eb < -1000 {
			return
		}
		ra, ok1 := new(big.Rat).SetString(a)
		rb, ok2 := new(big.Rat).SetString(b)
		if ok1 && ok2 && (ra.Cmp(rb) == 0) != (ea == eb && string(da) == string(db)) {
			t.Errorf("%q and %q: %q×10^%d, %q×10^%d", a, b, da, ea, db, eb)
		}
	})
}

func isNumber(s string) bool {
	return s != "" && (s[0] == '-' || isDigit(s[0])) && isDigit(s[len(s)-1]) && json.Valid([]byte(s))
}
