package manifest

import (
	"errors"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"
	"google.golang.org/protobuf/proto"

	policypb "github.com/outrigger-mesh/outrigger/proto/outrigger/policy/v1alpha1"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

type config struct {
	Name    string        `json:"name"`
	Port    uint16        `json:"port"`
	Idle    time.Duration `json:"idle"`
	Level   level         `json:"level"`
	Enabled bool          `json:"enabled"`
	Nested  struct {
		Paths []string `json:"paths"`
	} `json:"nested"`
}

type level string

func (level) Choices() []string { return []string{"debug", "info", "warn"} }

func (l *level) UnmarshalText(b []byte) error {
	for _, c := range l.Choices() {
		if c == string(b) {
			*l = level(b)
			return nil
		}
	}
	return errors.New("not a level")
}

func one(t *testing.T, s string) *Document {
	t.Helper()
	ds, err := Parse("f.yaml", []byte(s))
	if err != nil || len(ds) != 1 {
		t.Fatalf("Parse: %d documents, %v", len(ds), err)
	}
	return ds[0]
}

func TestDecodeFillsTheStructAndKeepsDefaults(t *testing.T) {
	c := config{Port: 15008, Enabled: true}
	err := one(t, "name: a\nidle: 1m30s\nlevel: warn\nnested:\n  paths: [a, 'b']\n").Decode(&c)
	if err != nil {
		t.Fatal(err)
	}
	if c.Name != "a" || c.Port != 15008 || !c.Enabled || c.Idle != 90*time.Second || c.Level != "warn" || len(c.Nested.Paths) != 2 {
		t.Fatalf("got %+v", c)
	}
}

func TestEveryErrorHasItsLineAndRemedy(t *testing.T) {
	for _, tt := range []struct {
		name, yaml   string
		line, column int
		problem      string
		remedy       string
	}{
		{"unknown field", "name: a\nnmae: b\n", 2, 1, `unknown field "nmae"`, `did you mean "name"?`},
		{"unknown field far off", "zzzzzz: b\n", 1, 1, `unknown field`, "known fields are enabled, idle"},
		{"unknown nested", "nested:\n  path: []\n", 2, 3, `unknown field "path"`, `"paths"`},
		{"number for text", "name: 12\n", 1, 7, "name must be text, not a number", "quotes"},
		{"text for number", "port: abc\n", 1, 7, "port must be a number, not text", "without quotes"},
		{"range", "port: 70000\n", 1, 7, "port: ", ""},
		{"duration", "idle: soon\n", 1, 7, "idle must be a duration", "1m30s"},
		{"choice", "level: wran\n", 1, 8, `"wran" is not known`, `did you mean "warn"?`},
		{"scalar for list", "nested:\n  paths: a\n", 2, 10, "paths must be a list", `"- "`},
		{"no value", "name: a\nport:\n", 2, 1, "port has no value", "remove the line"},
		{"doubled key", "name: a\nname: b\n", 2, 1, `"name" is set twice, first in line 1`, "keep one"},
		{"merge", "x: &x {a: b}\ny:\n  <<: *x\n", 3, 3, "merge keys", "write the fields out"},
		{"ambiguous octal", "port: 0777\n", 1, 7, "not a number that every reader reads alike", "quotes"},
		{"infinity", "port: .inf\n", 1, 7, "not a number", "quotes"},
		{"tag", "name: !!binary aGk=\n", 1, 7, "the tag !!binary", "remove it"},
		{"own tag", "name: !x hi\n", 1, 7, "the tag !x", "remove it"},
		{"list at top", "- a\n", 1, 1, "must be a mapping", "apiVersion"},
		{"tab", "name: a\nnested:\n\tpaths: []\n", 3, 1, "not YAML", "spaces"},
		{"not UTF-8", "name: a\nlevel: \xff\n", 2, 8, "not UTF-8", "save it"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			ds, err := Parse("f.yaml", []byte(tt.yaml))
			if err == nil {
				err = ds[0].Decode(&config{})
			}
			es := Errors(err)
			if len(es) == 0 {
				t.Fatalf("no error")
			}
			e := es[0]
			if e.File != "f.yaml" || e.Line != tt.line || e.Column != tt.column || !strings.Contains(e.Problem, tt.problem) || !strings.Contains(e.Remedy, tt.remedy) {
				t.Fatalf("got %v", e)
			}
		})
	}
}

func TestDecodeReportsAllErrors(t *testing.T) {
	err := one(t, "nmae: a\nport: x\nnested:\n  paths: [1, b, 2]\nidle:\n").Decode(&config{})
	if got := Errors(err); len(got) != 5 {
		t.Fatalf("got %d: %v", len(got), err)
	}
}

func TestDecodeProto(t *testing.T) {
	var spec policypb.AgentPolicySpec
	d := one(t, `
apiVersion: x
spec:
  direction: Inbound
  target:
    selector:
      matchLabels: {app: github}
  ports:
  - number: 8080
    protocol: MCP
    paths: [/mcp]
  rules:
  - name: readers
    action: Allow
    source: {spiffe: ["spiffe://cluster.local/ns/agents/sa/planner"]}
    mcp:
      tools: ["get_*"]
      arguments:
      - {path: owner, exact: "outrigger"}
`)
	body, ok := d.Child("spec")
	if !ok {
		t.Fatal("no spec")
	}
	if err := body.DecodeProto(&spec); err != nil {
		t.Fatal(err)
	}
	want := &policypb.AgentPolicySpec{
		Direction: policypb.AgentPolicySpec_Inbound,
		Target:    &policypb.Target{Selector: &policypb.LabelSelector{MatchLabels: map[string]string{"app": "github"}}},
		Ports:     []*policypb.Port{{Number: 8080, Protocol: policypb.Port_MCP, Paths: []string{"/mcp"}}},
		Rules: []*policypb.Rule{{
			Name: "readers", Action: policypb.Rule_Allow,
			Source: &policypb.Source{Spiffe: []string{"spiffe://cluster.local/ns/agents/sa/planner"}},
			Mcp: &policypb.MCPAttributes{Tools: []string{"get_*"}, Arguments: []*policypb.Argument{
				{Path: "owner", Condition: &policypb.Argument_Exact{Exact: "outrigger"}}}},
		}},
	}
	if !proto.Equal(&spec, want) {
		t.Fatalf("got %v", &spec)
	}
}

func TestDecodeProtoErrors(t *testing.T) {
	for _, tt := range []struct {
		name, yaml string
		line       int
		problem    string
		remedy     string
	}{
		{"unknown field", "rules:\n- name: a\n  acton: Allow\n", 3, `unknown field "acton"`, `did you mean "action"?`},
		{"enum", "rules:\n- action: allow\n", 2, `"allow" is not known`, `did you mean "Allow"?`},
		{"enum lists", "rules:\n- action: Frobnicate\n", 2, `not known`, `Allow, Deny, Require`},
		{"enum number", "direction: 1\n", 1, "must be a name", "Inbound"},
		{"quoted number", "ports:\n- number: \"8080\"\n", 2, "must be a number, not text", "without quotes"},
		{"negative", "ports:\n- number: -1\n", 2, "out of range", "0 to 4294967295"},
		{"fraction", "ports:\n- number: 1.5\n", 2, "out of range", "whole"},
		{"oneof", "rules:\n- mcp:\n    arguments:\n    - exact: a\n      glob: b\n", 5, "exclude each other", "keep one"},
		{"twice", "mcpBaseProtocolMethodsOption: MATCH_BASE_PROTOCOL_METHODS\nmcp_base_protocol_methods_option: MATCH_BASE_PROTOCOL_METHODS\n", 2, "sets the same", "keep one"},
		{"empty list", "rules:\n", 1, "rules has no value", "remove the line"},
		{"scalar for list", "rules: a\n", 1, "rules must be a list", `"- "`},
		{"scalar for message", "target: a\n", 1, "target must be a mapping", ""},
		{"map value", "target:\n  selector:\n    matchLabels:\n      v: 1\n", 4, "v must be text, not a number", "quotes"},
		{"reserved", "limits: {}\n", 1, "unknown field", "known fields are"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			err := one(t, tt.yaml).DecodeProto(&policypb.AgentPolicySpec{})
			es := Errors(err)
			if len(es) == 0 {
				t.Fatal("no error")
			}
			if e := es[0]; e.Line != tt.line || !strings.Contains(e.Problem, tt.problem) || !strings.Contains(e.Remedy, tt.remedy) {
				t.Fatalf("got %v", e)
			}
		})
	}
}

func TestBounds(t *testing.T) {
	bomb := "a: &a [x,x,x,x,x,x,x,x,x,x]\n"
	for c := 'b'; c < 'j'; c++ {
		p := string(c - 1)
		bomb += string(c) + ": &" + string(c) + " [" + strings.TrimSuffix(strings.Repeat("*"+p+",", 10), ",") + "]\n"
	}
	for name, data := range map[string]string{
		"alias bomb":     bomb,
		"self reference": "a: &a [*a]\n",
		"deep flow":      "a: " + strings.Repeat("[", 5000) + strings.Repeat("]", 5000),
		"deep block":     strings.Repeat("- ", 5000),
		"size":           "a: " + strings.Repeat("x", MaxBytes),
		"documents":      strings.Repeat("---\na: b\n", MaxDocuments+1),
		"no anchor":      "a: *b\n",
	} {
		t.Run(name, func(t *testing.T) {
			if _, err := Parse("f", []byte(data)); len(Errors(err)) == 0 {
				t.Fatalf("accepted: %v", err)
			}
		})
	}
}

func TestSeveralDocumentsKeepTheirLines(t *testing.T) {
	ds, err := Parse("f", []byte("# only a comment\n---\nkind: A\n---\n---\nkind: B\nspec: {l: [{n: 1}]}\n"))
	if err != nil || len(ds) != 2 || ds[0].Line != 3 || ds[1].Line != 6 {
		t.Fatalf("%+v %v", ds, err)
	}
	if v, ok := ds[1].Field("spec", "l", "0", "n"); !ok || v != "1" {
		t.Fatalf("got %q", v)
	}
	if e := ds[1].Fault("p", "r", "spec", "l", "7"); e.Line != 7 || e.Column != 11 {
		t.Fatalf("got %v", e)
	}
	if items := ds[1].Items("spec", "l"); len(items) != 1 {
		t.Fatalf("got %d items", len(items))
	}
}

func FuzzParse(f *testing.F) {
	for _, s := range []string{"a: b\n", "a: &x [1]\nb: *x\n", "---\n---\n", "{\"a\": [1, 2.5, null]}", "a: !!binary x", "rules:\n- name: a\n", "? [a]\n: b\n", "a: 0x1F\nb: 0o17\nc: +1\n"} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		ds, err := Parse("f", data)
		for _, e := range Errors(err) {
			if e.Line < 1 || e.Column < 1 || e.Problem == "" {
				t.Fatalf("bad error %+v", e)
			}
		}
		if err != nil {
			return
		}
		for _, d := range ds {
			var c config
			_ = d.Decode(&c)
			_ = d.DecodeProto(&policypb.AgentPolicySpec{})
		}
	})
}
