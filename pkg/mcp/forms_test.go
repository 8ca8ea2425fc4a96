package mcp

import (
	"fmt"
	"strings"
	"testing"

	"github.com/outrigger-mesh/outrigger/pkg/inspect"
	"github.com/outrigger-mesh/outrigger/pkg/policy"
	"github.com/outrigger-mesh/outrigger/pkg/telemetry"
)

// shown is what a caller is answered who asks for a denied thing, after the server
// gave the answer to the question for another one.
func shown(t *testing.T, kind policy.Kind, asked, answer, denied string) string {
	t.Helper()
	g := &governor{config: Config{}.withDefaults(), params: paramsShape(), result: resultShape()}
	m, err := g.newAnswerParser().Message([]byte(`{"jsonrpc":"2.0","id":1,` + answer + `}`))
	if err != nil {
		t.Fatalf("%s: %v", answer, err)
	}
	f, key := newForms(), formKey{kind: kind}
	c := &call{object: policy.Object{Kind: kind, Name: asked}, record: &telemetry.Call{}}
	c.record.Status = 400
	f.learn(key, c, m)
	d := &call{object: policy.Object{Kind: kind, Name: denied}}
	d.id.Raw = []byte("2")
	status, _, body, ok := f.answer(key, d)
	if !ok {
		return ""
	}
	if status != 400 {
		t.Errorf("the status is %d", status)
	}
	return strings.TrimSuffix(strings.TrimPrefix(string(body), `{"jsonrpc":"2.0","id":2,`), "}")
}

func TestHiddenThingsAreAnsweredAsTheServerAnswersUnknownOnes(t *testing.T) {
	for _, c := range []struct {
		kind         policy.Kind
		answer, want string
	}{
		{policy.KindTool, `"error":{"code":-32602,"message":"unknown tool \"ask\""}`, `"error":{"code":-32602,"message":"unknown tool \"hid\""}`},
		{policy.KindTool, `"error":{"code":-32602,"message":"tool 'ask' not found: tool not found"}`, `"error":{"code":-32602,"message":"tool 'hid' not found: tool not found"}`},
		{policy.KindTool, `"result":{"content":[{"type":"text","text":"MCP error -32602: Tool ask not found"}],"isError":true}`,
			`"result":{"content":[{"type":"text","text":"MCP error -32602: Tool hid not found"}],"isError":true}`},
		{policy.KindTool, `"result":{"content":[{"type":"text","text":"Unknown tool: 'ask'"}],"isError":true,"resultType":"complete"}`,
			`"result":{"content":[{"type":"text","text":"Unknown tool: 'hid'"}],"isError":true,"resultType":"complete"}`},
		{policy.KindTool, `"result":{"content":[{"text":"Unknown tool: 'ask'","type":"text"}],"isError":true,"resultType":"complete","_meta":{"io.modelcontextprotocol/serverInfo":{"name":"fastmcp"}}}`,
			`"result":{"content":[{"text":"Unknown tool: 'hid'","type":"text"}],"isError":true,"resultType":"complete","_meta":{"io.modelcontextprotocol/serverInfo":{"name":"fastmcp"}}}`},
		{policy.KindResource, `"error":{"code":-32002,"message":"handler not found for resource URI 'ask': resource not found"}`,
			`"error":{"code":-32002,"message":"handler not found for resource URI 'hid': resource not found"}`},
		{policy.KindResource, `"error":{"code":-32602,"message":"Resource not found","data":{"uri":"ask"}}`,
			`"error":{"code":-32602,"message":"Resource not found","data":{"uri":"hid"}}`},
		{policy.KindResource, `"error":{"code":-32602,"message":"Resource not found"}`, `"error":{"code":-32602,"message":"Resource not found"}`},
		{policy.KindPrompt, `"error":{"code":-32602,"message":"Prompt ask not found"}`, `"error":{"code":-32602,"message":"Prompt hid not found"}`},

		// What says more, or names the thing in a way that is not seen, is not learned.
		{policy.KindTool, `"error":{"code":-32602,"message":"unknown tool ask for alice"}`, ""},
		{policy.KindTool, `"error":{"code":-32602,"message":"tool ask found"}`, ""},
		{policy.KindTool, `"error":{"code":-32602,"message":"unknown tool \u0061sk"}`, ""},
		{policy.KindTool, `"error":{"code":-32602,"message":"unknown tool ask","data":{"caller":"alice"}}`, ""},
		{policy.KindTool, `"error":{"code":-32602,"message":"unknown tool ask","data":"alice"}`, ""},
		{policy.KindTool, `"error":{"code":-32602,"message":"unknown tool ask","other":1}`, ""},
		{policy.KindTool, `"result":{"content":[{"type":"text","text":"Tool ask not found"}],"isError":false}`, ""},
		{policy.KindTool, `"result":{"content":[{"type":"text","text":"Tool ask not found"},{"type":"text","text":"x"}],"isError":true}`, ""},
		{policy.KindResource, `"error":{"code":-32002,"message":"Resource not found","data":{"uri":"file:///other"}}`, ""},
		{policy.KindResource, `"result":{"contents":[]}`, ""},
		{policy.KindTool, `"result":{"content":[{"type":"text","text":"Tool ask not found"}],"isError":true,"_meta":{"trace":1}}`, ""},
	} {
		if got := shown(t, c.kind, "ask", c.answer, "hid"); got != c.want {
			t.Errorf("after %s\ngot  %s\nwant %s", c.answer, got, c.want)
		}
	}
}

func TestANameThatIsAlsoAWordOfTheAnswerTeachesNothing(t *testing.T) {
	for _, name := range []string{"tool", "code", "message", "error", "o"} {
		answer := `"error":{"code":-32602,"message":"unknown tool ` + name + `"}`
		if got := shown(t, policy.KindTool, name, answer, "hid"); strings.Contains(got, "hid") && strings.Count(got, "hid") != 1 || strings.Contains(got, `"hid":`) {
			t.Errorf("a tool named %q taught %s", name, got)
		}
	}
}

func TestHiddenAndUnknownThingsAreAnsweredAlikeWhicheverIsAskedForFirst(t *testing.T) {
	for _, kind := range []struct{ method, params, unknown string }{
		{"tools/call", `{"name":"%s"}`, `"result":{"content":[{"type":"text","text":"Tool %s not found"}],"isError":true}`},
		{"tools/call", `{"name":"%s"}`, `"error":{"code":-32602,"message":"tool '%s' not found: tool not found"}`},
		{"resources/read", `{"uri":"%s"}`, `"error":{"code":-32002,"message":"handler not found for resource URI '%[1]s': resource not found","data":{"uri":"%[1]s"}}`},
		{"prompts/get", `{"name":"%s"}`, `"error":{"code":-32602,"message":"Prompt %s not found"}`},
	} {
		for _, order := range [][]string{{"hidden", "absent", "hidden", "other"}, {"absent", "hidden", "other", "hidden"}} {
			for _, events := range []bool{false, true} {
				h := newHarness(t, denying("* hidden"), Config{})
				asked := ""
				h.server = func(*seen) *inspect.Response {
					body := `{"jsonrpc":"2.0","id":1,` + fmt.Sprintf(kind.unknown, asked) + `}`
					if events {
						return eventReply("data: " + body + "\n\n")
					}
					status := 400
					if strings.Contains(body, `"result"`) {
						status = 200
					}
					return jsonReply(status, body)
				}
				answers := map[string]bool{}
				for _, asked = range order {
					a := h.send("POST", rpc("1", kind.method, fmt.Sprintf(kind.params, asked)))
					text := strings.TrimSuffix(strings.TrimPrefix(a.body, "data: "), "\n\n")
					status := a.status
					if events {
						status = 0 // a denial is JSON, which the HTTP status of streams says nothing of
					}
					answers[fmt.Sprint(status, strings.ReplaceAll(text, asked, "X"))] = true
				}
				if len(answers) != 1 {
					t.Errorf("%s, events %v, asked in the order %v: %v", kind.method, events, order, answers)
				}
			}
		}
	}
}

func TestMethodsThatACallerMakesUpLeaveHiddenThingsHidden(t *testing.T) {
	h := newHarness(t, denying("* hidden"), Config{})
	for i := range maxForms {
		if a := h.send("POST", rpc("1", fmt.Sprintf("made/up%d", i), "{}")); a.status != 200 {
			t.Fatalf("%d: %+v", i, a)
		}
	}
	h.server = func(*seen) *inspect.Response {
		return jsonReply(200, `{"jsonrpc":"2.0","id":1,"error":{"code":-32602,"message":"no such tool: absent"}}`)
	}
	hidden := h.send("POST", rpc("1", "tools/call", `{"name":"hidden"}`))
	absent := h.send("POST", rpc("1", "tools/call", `{"name":"absent"}`))
	if strings.ReplaceAll(hidden.body, "hidden", "X") != strings.ReplaceAll(absent.body, "absent", "X") || hidden.status != absent.status {
		t.Errorf("hidden: %d %s\nabsent: %d %s", hidden.status, hidden.body, absent.status, absent.body)
	}
}
