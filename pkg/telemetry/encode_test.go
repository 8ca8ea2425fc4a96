package telemetry

import (
	"bytes"
	"encoding/json"
	"errors"
	"net/netip"
	"strings"
	"testing"
	"unicode"
	"unicode/utf8"

	"github.com/outrigger-mesh/outrigger/pkg/mesh"
	"github.com/outrigger-mesh/outrigger/pkg/policy"
)

func TestQuotedEscapesWhatWouldForgeOrHide(t *testing.T) {
	for _, tt := range []struct{ in, want string }{
		{"plain", `"plain"`},
		{"a\nb\r\t\x00\x1b[31m\x7f", `"a\nb\r\t\u0000\u001b[31m\u007f"`},
		{`say "hi" \o/`, `"say \"hi\" \\o/"`},
		{"bad \xff utf", "\"bad \ufffd utf\""},
		{"ü 漢 🛶", `"ü 漢 🛶"`},
		{"\u202etxt\u2028\u200b\u0085\U000e0041", `"\u202etxt\u2028\u200b\u0085\udb40\udc41"`},
		{strings.Repeat("x", 256), `"` + strings.Repeat("x", 256) + `"`},
		{strings.Repeat("x", 257), `"` + strings.Repeat("x", 256) + `…"`},
		{strings.Repeat("x", 255) + "é", `"` + strings.Repeat("x", 255) + `…"`},
	} {
		if got := string(appendQuoted(nil, tt.in, maxValue)); got != tt.want {
			t.Errorf("%q: %s, want %s", tt.in, got, tt.want)
		}
		if got := string(appendQuoted(nil, []byte(tt.in), maxValue)); got != tt.want {
			t.Errorf("%q as bytes: %s, want %s", tt.in, got, tt.want)
		}
	}
}

func TestCallIDKeepsItsType(t *testing.T) {
	for _, tt := range []struct{ raw, want string }{
		{"7", `7`}, {"-7", `-7`}, {"0", `0`}, {`"7"`, `"7"`}, {`"\u0041"`, `"A"`}, {`""`, `""`}, {`"`, `"\""`},
		{"007", `"007"`}, {"1e3", `"1e3"`}, {"9007199254740993", `"9007199254740993"`}, {"null", `"null"`}, {`"torn`, `"\"torn"`}, {"-", `"-"`},
	} {
		o := object{first: true}
		o.id("id", tt.raw)
		if got := string(o.b); got != `"id":`+tt.want {
			t.Errorf("%s: %s, want %s", tt.raw, got, tt.want)
		}
	}
}

func TestTwoLongIdentitiesAreNeverWrittenAlike(t *testing.T) {
	long := "spiffe://cluster.local/" + strings.Repeat("x", 2000)
	written := func(id string) string {
		p, err := mesh.ParsePrincipal(id)
		if err != nil {
			t.Fatal(err)
		}
		o := object{first: true}
		o.identity("identity", p)
		return string(o.b)
	}
	if written(long+"a") == written(long+"b") {
		t.Error("the end of a long identity was cut off")
	}
}

// FuzzLines feeds every text that a peer can choose and expects one valid line
// from every encoder: no field forged, nothing unprintable, bounded.
func FuzzLines(f *testing.F) {
	f.Add("tools/call", "create_issue", "s", `"1"`, "127.0.0.1:80", "boom", "{}")
	f.Add("a\nb", "\x00\x1b", "\xff\xfe", `"\ud800"`, "a b=\"c\"", "\u2028", `{"a":1}`)
	f.Add(`","allowed":true,"x":"`, strings.Repeat("é", 200), "", "-0", "[::1]:1", `x" decision="allow`, "\\")
	f.Fuzz(func(t *testing.T, method, name, session, id, authority, fault, arguments string) {
		for _, format := range []Format{FormatText, FormatJSON} {
			b := newBench(t, Config{Format: format})
			c := b.inbound()
			c.HBONEAddr = authority
			k := c.Call()
			k.Method, k.Protocol, k.Session, k.ID = method, method, session, id
			k.Object = policy.Object{Kind: policy.KindResource, Name: name}
			k.Arguments = []byte(arguments)
			k.Decision = policy.Decision{Reason: fault}
			k.Finish(errors.New(fault))
			c.Close(errors.New(fault))
			early := b.Connection(policy.Inbound, netip.AddrPort{})
			early.Close(errors.New(fault))
			access, audit := b.access.String, b.audit.String
			if err := b.Close(); err != nil {
				t.Fatal(err)
			}
			checkLines(t, access(), 3, format == FormatJSON)
			checkLines(t, audit(), 3, true)
		}
	})
}

func checkLines(t *testing.T, log string, want int, isJSON bool) {
	t.Helper()
	if !strings.HasSuffix(log, "\n") || strings.Count(log, "\n") != want {
		t.Fatalf("want %d lines: %q", want, log)
	}
	for line := range strings.SplitSeq(strings.TrimSuffix(log, "\n"), "\n") {
		if len(line) > 32<<10 {
			t.Fatalf("line of %d bytes", len(line))
		}
		if !utf8.ValidString(line) || strings.ContainsFunc(line, func(r rune) bool { return r != '\t' && (unicode.IsControl(r) || r == 0x2028 || r == 0x202e) }) {
			t.Fatalf("unprintable: %q", line)
		}
		if isJSON {
			var v map[string]any
			d := json.NewDecoder(bytes.NewReader([]byte(line)))
			if err := d.Decode(&v); err != nil || d.More() {
				t.Fatalf("%v: %s", err, line)
			}
			if x, ok := v["decision"].(map[string]any); ok && x["allowed"] == true && v["event"] == "call" {
				t.Fatalf("forged: %s", line)
			}
			continue
		}
		checkText(t, line)
	}
}

// checkText reads a text line as a log reader would: four tab-separated fields,
// then key=value, where a value is quoted or has no spaces.
func checkText(t *testing.T, line string) {
	t.Helper()
	parts := strings.Split(line, "\t")
	if len(parts) != 5 || parts[2] != "access" {
		t.Fatalf("not five fields: %q", line)
	}
	seen := map[string]bool{}
	for rest := parts[4]; rest != ""; rest = strings.TrimPrefix(rest, " ") {
		k, v, ok := strings.Cut(rest, "=")
		if !ok || strings.ContainsAny(k, ` "`) || seen[k] {
			t.Fatalf("bad or repeated key %q: %q", k, line)
		}
		seen[k] = true
		if !strings.HasPrefix(v, `"`) {
			_, rest, _ = strings.Cut(v, " ")
			continue
		}
		end := 1
		for end < len(v) && v[end] != '"' {
			if v[end] == '\\' {
				end++
			}
			end++
		}
		if end >= len(v) {
			t.Fatalf("open quote: %q", line)
		}
		rest = v[end+1:]
	}
}
