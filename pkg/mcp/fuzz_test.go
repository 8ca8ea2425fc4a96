package mcp

import (
	"bytes"
	"encoding/json"
	"strings"
	"testing"

	"github.com/outrigger-mesh/outrigger/pkg/inspect"
	"github.com/outrigger-mesh/outrigger/pkg/jsonrpc"
	"github.com/outrigger-mesh/outrigger/pkg/policy"
)

// FuzzRequest checks what goes on against the most lenient reader: what
// encoding/json makes of it, with its folded names and last duplicates, is what
// policy was asked about; and the bytes are those that came.
func FuzzRequest(f *testing.F) {
	for _, c := range readCorpus(f) {
		_, body, _ := bytes.Cut(c.RequestBase64, []byte("\r\n\r\n"))
		if len(body) < 1000 {
			f.Add(body, rev2511)
		}
	}
	f.Fuzz(func(t *testing.T, body []byte, version string) {
		if strings.ContainsAny(version, "\r\n") {
			return
		}
		b := denying("* danger")
		h := newQuietHarness(t, b, Config{})
		h.server = func(*seen) *inspect.Response { return &inspect.Response{Status: 202} }
		a := h.send("POST", string(body), versionHeader+": "+version)
		if len(h.got) == 0 {
			if a.status < 400 && !strings.Contains(a.body, `"error"`) {
				t.Fatalf("refused with %d %q", a.status, a.body)
			}
			return
		}
		var m struct {
			Method string
			Params struct{ Name, URI, TaskID string }
		}
		if err := json.Unmarshal(body, &m); err != nil && !strings.Contains(err.Error(), "cannot unmarshal") {
			t.Fatalf("encoding/json refuses what went on: %v", err)
		}
		last := b.asked[len(b.asked)-1]
		if h.got[0].body != string(body) || last.Method != m.Method || m.Params.Name == "danger" && last.Object.Kind == policy.KindTool {
			t.Fatalf("%q went on; policy was asked %s %v", body, last.Method, last.Object)
		}
		want := map[policy.Kind]string{policy.KindTool: m.Params.Name, policy.KindTask: m.Params.TaskID}
		if name, ok := want[last.Object.Kind]; ok && name != last.Object.Name {
			t.Fatalf("%q went on as %q; policy was asked about %q", body, name, last.Object.Name)
		}
	})
}

// FuzzAnswer checks that no bytes of a server make the layer panic or show a
// hidden tool, in JSON and in events.
func FuzzAnswer(f *testing.F) {
	f.Add([]byte(`{"jsonrpc":"2.0","id":1,"result":{"tools":[{"name":"hidden"},{"name":"a"}],"nextCursor":"x","cacheScope":"public"}}`), false)
	f.Add([]byte("id: 1\ndata: {\"jsonrpc\":\"2.0\",\ndata: \"id\":1,\"result\":{\"tools\":[{\"name\":\"hidden\"}]}}\n\n: x\n\n"), true)
	f.Add([]byte("data: {\"jsonrpc\":\"2.0\",\"id\":9,\"method\":\"roots/list\"}\n\n"), true)
	f.Fuzz(func(t *testing.T, content []byte, events bool) {
		h := newQuietHarness(t, denying("* hidden"), Config{MessageBytes: 1 << 16})
		h.server = func(*seen) *inspect.Response { return jsonReply(200, string(content)) }
		if events {
			h.server = func(*seen) *inspect.Response { return eventReply(string(content)) }
		}
		a := h.send("POST", rpc("1", "tools/list", ""))
		if a.err != nil {
			t.Fatal(a.err)
		}
		body := a.body
		if events {
			_, body, _ = strings.Cut(body, "data: ")
			body, _, _ = strings.Cut(body, "\n")
		}
		var m struct {
			Result struct{ Tools []struct{ Name string } }
		}
		json.Unmarshal([]byte(body), &m)
		for _, tool := range m.Result.Tools {
			if tool.Name == "hidden" {
				t.Fatalf("shown: %s", a.body)
			}
		}
	})
}

// FuzzRedacted checks that what is recorded of arguments is JSON of the same
// structure, unless it was cut, and that no value is in it that was not revealed.
func FuzzRedacted(f *testing.F) {
	f.Add([]byte(`{"q":"s3cret","deep":{"shown":[1,"s3cret"],"x":"s3cret"},"list":[{"shown":"s3cret"}],"s3cr\u0065t":null}`))
	f.Add([]byte(`{"a":[[],{},-1.5e3,true]}`))
	f.Fuzz(func(t *testing.T, args []byte) {
		if jsonrpc.Check(args, jsonrpc.Limits{}) != nil || args[0] != '{' {
			return
		}
		out := recorded(args, &policy.Recording{})
		if len(out) > 2*maxRecorded {
			if len(out) > 2*maxRecorded+len(args) {
				t.Fatalf("%d bytes of %d", len(out), len(args))
			}
			return
		}
		if bytes.HasSuffix(out, []byte("...")) || bytes.Contains(out, []byte("...")) {
			return
		}
		var got any
		if err := json.Unmarshal(out, &got); err != nil {
			t.Fatalf("%s became %s: %v", args, out, err)
		}
		checkRedacted(t, got)
	})
}

func checkRedacted(t *testing.T, v any) {
	switch v := v.(type) {
	case map[string]any:
		for _, member := range v {
			checkRedacted(t, member)
		}
	case []any:
		for _, element := range v {
			checkRedacted(t, element)
		}
	case string:
		if v != "<number>" && v != "<boolean>" && !strings.HasPrefix(v, "<string ") {
			t.Fatalf("%q is a value", v)
		}
	case nil:
	default:
		t.Fatalf("%v is a value", v)
	}
}
