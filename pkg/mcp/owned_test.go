package mcp

import (
	"context"
	"fmt"
	"io"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/outrigger-mesh/outrigger/pkg/inspect"
	"github.com/outrigger-mesh/outrigger/pkg/policy"
)

func TestProgressGoesToWhoGaveTheToken(t *testing.T) {
	progress := func(token string) string {
		return event(`{"jsonrpc":"2.0","method":"notifications/progress","params":{"progressToken":` + token + `,"progress":1}}`)
	}
	for _, c := range []struct {
		given, told string
		passes      bool
	}{
		{`1`, `1`, true}, {`"a\u0062"`, `"ab"`, true}, {`1`, `2`, false}, {`1`, `"1"`, false}, {`"1"`, `1`, false}, {`1`, `1.0`, false}, {`1`, `{}`, false}, {`1`, `null`, false},
	} {
		h := newHarness(t, denying(), Config{})
		h.server = func(*seen) *inspect.Response { return eventReply(progress(c.told) + event(result1)) }
		a := h.send("POST", rpc("1", "tools/call", `{"name":"a","_meta":{"progressToken":`+c.given+`}}`))
		if strings.Contains(a.body, "progressToken") != c.passes || !strings.HasSuffix(a.body, event(result1)) {
			t.Errorf("given %s, told %s: %q", c.given, c.told, a.body)
		}
	}
	for _, token := range []string{`1.5`, `{}`, `[1]`, `true`, `"` + strings.Repeat("x", maxToken) + `"`} {
		h := newHarness(t, denying(), Config{})
		isError(t, h.send("POST", rpc("1", "tools/call", `{"name":"a","_meta":{"progressToken":`+token+`}}`)), 400, codeInvalidParams, "1")
	}
}

func TestClientsTellOnlyOfWhatIsTheirs(t *testing.T) {
	h := newHarness(t, denying(), Config{})
	h.openSession(rev2511)
	h.server = func(*seen) *inspect.Response {
		return eventReply(event(`{"jsonrpc":"2.0","id":"s1","method":"sampling/createMessage","params":{"_meta":{"progressToken":"mine"}}}`) + event(`{"jsonrpc":"2.0","id":7,"result":{}}`))
	}
	h.send("POST", rpc("7", "tools/call", `{"name":"a"}`), sessionHeader+": s")
	h.server = func(*seen) *inspect.Response { return &inspect.Response{Status: 202} }
	for _, c := range []struct {
		body   string
		passes bool
	}{
		{notify("notifications/cancelled", `{"requestId":7}`), true},
		{notify("notifications/cancelled", `{"requestId":"7"}`), false},
		{notify("notifications/cancelled", `{"requestId":8}`), false},
		{notify("notifications/cancelled", `{}`), false},
		{notify("notifications/progress", `{"progressToken":"mine","progress":1}`), true},
		{notify("notifications/progress", `{"progressToken":"other","progress":1}`), false},
	} {
		h.got = nil
		if a := h.send("POST", c.body, sessionHeader+": s"); a.status != 202 || a.body != "" || (len(h.got) == 1) != c.passes {
			t.Errorf("%s: got %+v, the server %d", c.body, a, len(h.got))
		}
	}
}

func TestALongCallMayBeCancelledAfterManyShortOnes(t *testing.T) {
	h := newHarness(t, denying(), Config{})
	h.openSession(rev2511)
	h.server = func(*seen) *inspect.Response { return &inspect.Response{Status: 202} } // no answer yet
	h.send("POST", rpc("1", "tools/call", `{"name":"long"}`), sessionHeader+": s")
	for i := range 2 * maxRecent {
		id := fmt.Sprint(i + 10)
		h.server = func(*seen) *inspect.Response { return jsonReply(200, `{"jsonrpc":"2.0","id":`+id+`,"result":{}}`) }
		h.send("POST", rpc(id, "tools/call", `{"name":"short"}`), sessionHeader+": s")
	}
	h.got = nil
	h.server = func(*seen) *inspect.Response { return &inspect.Response{Status: 202} }
	h.send("POST", notify("notifications/cancelled", `{"requestId":1}`), sessionHeader+": s")
	if len(h.got) != 1 {
		t.Error("the cancel did not reach the server")
	}
}

func TestServersNotificationsAreDecided(t *testing.T) {
	for _, c := range []struct {
		name, params string
		deny         string
		passes       bool
	}{
		{"notifications/message", `{"level":"info","data":1}`, "x", true},
		{"notifications/message", `{"level":"info","data":1}`, "notifications/message", false},
		{"notifications/tools/list_changed", `{}`, "x", true},
		{"notifications/resources/updated", `{"uri":"hidden"}`, "* hidden", false},
		{"notifications/resources/updated", `{"uri":"seen"}`, "* hidden", true},
		{"notifications/custom", `{}`, "x", false},
		{"notifications/initialized", `{}`, "x", false},
		{"notifications/cancelled", `{"requestId":1}`, "x", false},
		{"notifications/elicitation/complete", `{"elicitationId":"e"}`, "x", true},
	} {
		h := newHarness(t, denying(c.deny), Config{})
		h.server = func(*seen) *inspect.Response { return eventReply(event(notify(c.name, c.params)) + event(result1)) }
		a := h.send("POST", rpc("1", "tools/call", `{"name":"a"}`))
		if strings.Contains(a.body, c.name) != c.passes || !strings.HasSuffix(a.body, event(result1)) {
			t.Errorf("%s %s without %s: %q", c.name, c.params, c.deny, a.body)
		}
		if rs := h.records(); len(rs) != map[bool]int{true: 1, false: 2}[c.passes] {
			t.Errorf("%s: %d records", c.name, len(rs))
		}
	}
}

func TestAServerAcknowledgesOnlyWhatWasAsked(t *testing.T) {
	for uris, passes := range map[string]bool{`["file:///a"]`: true, `[]`: true, `["file:///a","file:///b"]`: false, `[1]`: false} {
		h := newHarness(t, denying(), Config{})
		ack := event(notify("notifications/subscriptions/acknowledged", `{"notifications":{"toolsListChanged":true,"resourceSubscriptions":`+uris+`}}`))
		h.server = func(*seen) *inspect.Response {
			return eventReply(ack + event(notify("notifications/cancelled", `{"requestId":1}`)))
		}
		a := h.send("POST", rpc("1", "subscriptions/listen", `{"notifications":{"toolsListChanged":true,"resourceSubscriptions":["file:///a"]},`+meta2607+`}`),
			versionHeader+": "+rev2607, "Mcp-Method: subscriptions/listen")
		if strings.Contains(a.body, "acknowledged") != passes || !strings.Contains(a.body, "cancelled") {
			t.Errorf("%s: %d %q", uris, a.status, a.body)
		}
	}
	h := newHarness(t, denying("subscriptions/listen "), Config{}) // the resource may be, the method by itself not
	isError(t, h.send("POST", rpc("1", "subscriptions/listen", `{"notifications":{"toolsListChanged":true,"resourceSubscriptions":["file:///a"]},`+meta2607+`}`),
		versionHeader+": "+rev2607, "Mcp-Method: subscriptions/listen"), 404, codeMethodNotFound, "1")
}

func TestServersSeeOnlyTheRootsTheyMay(t *testing.T) {
	roots := `{"roots":[{"uri":"file:///work"},{"uri":"file:///secret", "name":"x"} ,{"uri":"file:///home"},{"name":"none"}],"x":1}`
	left := `{"roots":[{"uri":"file:///work"},{"uri":"file:///home"}],"x":1}`
	h := newHarness(t, denying("roots/list file:///secret"), Config{})
	h.openSession(rev2511)
	h.server = func(*seen) *inspect.Response {
		return eventReply(event(`{"jsonrpc":"2.0","id":"r","method":"roots/list"}`) + event(result1))
	}
	h.send("POST", rpc("1", "tools/call", `{"name":"a"}`), sessionHeader+": s")
	h.server = func(*seen) *inspect.Response { return &inspect.Response{Status: 202} }
	h.got = nil
	if a := h.send("POST", `{"jsonrpc":"2.0","id":"r","result":{"Roots":[{"uri":"file:///secret"}]}}`, sessionHeader+": s"); a.status != 400 {
		t.Errorf("a twin got %+v", a)
	}
	h.send("POST", `{"jsonrpc":"2.0","id":"r","result":`+roots+`}`, sessionHeader+": s")
	if want := `{"jsonrpc":"2.0","id":"r","result":` + left + `}`; len(h.got) != 1 || h.got[0].body != want || h.got[0].length != int64(len(want)) {
		t.Errorf("the server got %+v", h.got)
	}
	h.got = nil
	h.server = func(*seen) *inspect.Response { return jsonReply(200, result1) }
	retry := `{"name":"a","inputResponses":{"k":` + roots + `,"l":{"action":"accept"}},` + meta2607 + `}`
	h.send("POST", rpc("1", "tools/call", retry), versionHeader+": "+rev2607, "Mcp-Method: tools/call", "Mcp-Name: a")
	if want := rpc("1", "tools/call", strings.Replace(retry, roots, left, 1)); len(h.got) != 1 || h.got[0].body != want {
		t.Errorf("the server got %+v", h.got)
	}
}

func TestBatchesOfServersAreInspected(t *testing.T) {
	in := `[` + notify("notifications/message", `{"data":1}`) + `,{"jsonrpc":"2.0","id":"s","method":"elicitation/create"},` +
		`{"jsonrpc":"2.0","id":1,"result":{"tools":[{"name":"hidden"},{"name":"a"}]}},{"jsonrpc":"2.0","id":9,"result":{}},` + notify("notifications/custom", `{}`) + `]`
	want := `[` + notify("notifications/message", `{"data":1}`) + `,{"jsonrpc":"2.0","id":1,"result":{"tools":[{"name":"a"}]}}]`
	h := newHarness(t, denying("* hidden", "elicitation/create"), Config{})
	h.openSession(rev2503)
	h.server = func(*seen) *inspect.Response {
		return eventReply(event(in) + event(`[`+notify("notifications/custom", `{}`)+`]`))
	}
	if a := h.send("POST", rpc("1", "tools/list", ""), sessionHeader+": s"); a.body != event(want) {
		t.Errorf("got %q", a.body)
	}
	later := newHarness(t, denying(), Config{})
	later.openSession(rev2506)
	later.server = h.server
	if a := later.send("POST", rpc("1", "tools/list", ""), sessionHeader+": s"); !strings.Contains(a.body, "-32603") {
		t.Errorf("a batch of a later revision: %q", a.body)
	}
}

func TestResultsLoseLinksThatTheCallerMayNotFollow(t *testing.T) {
	content := `{"content":[{"type":"text","text":"x"},{"type":"resource_link","uri":"hidden","name":"n"},{"type":"resource","resource":{"uri":"hidden","text":"s"}},{"type":"resource_link","uri":"seen"},{"type":"resource"}]}`
	left := `{"content":[{"type":"text","text":"x"},{"type":"resource_link","uri":"seen"}]}`
	messages := `{"messages":[{"role":"user","content":{"type":"resource","resource":{"uri":"hidden"}}},{"role":"user","content":{"type":"text","text":"x"}}]}`
	for _, c := range []struct{ method, params, in, want string }{
		{"tools/call", `{"name":"a"}`, content, left},
		{"prompts/get", `{"name":"p"}`, messages, `{"messages":[{"role":"user","content":{"type":"text","text":"x"}}]}`},
		{"tasks/result", `{"taskId":"t"}`, content, left},
		{"tasks/get", `{"taskId":"t"}`, `{"taskId":"t","result":` + content + `}`, `{"taskId":"t","result":` + left + `}`},
		{"tools/list", `{}`, `{"tools":[],"content":[{"type":"resource_link","uri":"hidden"}]}`, ``},
	} {
		for _, filter := range []bool{true, false} {
			b := denying("* hidden")
			b.terms.FilterLinked = filter
			h := newHarness(t, b, Config{})
			h.server = func(*seen) *inspect.Response { return jsonReply(200, `{"jsonrpc":"2.0","id":1,"result":`+c.in+`}`) }
			want := c.want
			if !filter || want == "" {
				want = c.in
			}
			if a := h.send("POST", rpc("1", c.method, c.params)); a.body != `{"jsonrpc":"2.0","id":1,"result":`+want+`}` {
				t.Errorf("%s, filter %v: %s", c.method, filter, a.body)
			}
		}
	}
}

func TestInputRequestsAreDecidedAndRecorded(t *testing.T) {
	ask := func(methods ...string) string {
		var all []string
		for i, m := range methods {
			all = append(all, fmt.Sprintf(`"k%d":{"method":%q,"params":{"mode":"url","url":"https://evil.example/x"}}`, i, m))
		}
		return `{"resultType":"input_required","requestState":"x","inputRequests":{` + strings.Join(all, ",") + `}}`
	}
	for _, c := range []struct {
		result  string
		passes  bool
		records int
	}{
		{ask("elicitation/create", "roots/list"), true, 3},
		{ask("elicitation/create", "sampling/createMessage"), false, 3},
		{ask("custom"), false, 2},
		{`{"resultType":"input_required","inputRequests":[]}`, false, 1},
		{`{"resultType":"input_required","inputRequests":{"k":{}}}`, false, 1},
		{`{"resultType":"task","task":` + ask("sampling/createMessage") + `}`, false, 2},
	} {
		b := denying("sampling/createMessage")
		h := newHarness(t, b, Config{})
		h.server = func(*seen) *inspect.Response { return jsonReply(200, `{"jsonrpc":"2.0","id":1,"result":`+c.result+`}`) }
		a := h.send("POST", rpc("1", "tools/call", `{"name":"a",`+meta2607+`}`), versionHeader+": "+rev2607, "Mcp-Method: tools/call", "Mcp-Name: a")
		if strings.Contains(a.body, `"error"`) == c.passes {
			t.Errorf("%s: %s", c.result, a.body)
		}
		for _, q := range b.asked {
			if q.Method == "elicitation/create" && (q.Elicitation != policy.Elicitation{Mode: "url", URL: "https://evil.example/x"}) {
				t.Errorf("policy was asked %+v", q)
			}
		}
		if rs := h.records(); len(rs) != c.records {
			t.Errorf("%s: %d records", c.result, len(rs))
		}
	}
}

func TestErrorsWithAnIDOfTheServersKeepTheirStatus(t *testing.T) {
	h := newHarness(t, denying(), Config{})
	own := `{"jsonrpc":"2.0","id":"server-error","error":{"code":-32600,"message":"Bad Request: Unsupported protocol version"}}`
	h.server = func(*seen) *inspect.Response { return jsonReply(400, own) }
	if a := h.send("POST", rpc("1", "server/discover", "{"+meta2607+"}"), versionHeader+": "+rev2607, "Mcp-Method: server/discover"); a.status != 400 || a.body != own {
		t.Errorf("got %d %s", a.status, a.body)
	}
}

func TestACallerMayAlwaysEndItsOwnSession(t *testing.T) {
	b := denying()
	h := newHarness(t, b, Config{})
	h.openSession(rev2511)
	b.deny["DELETE"], b.deny["GET"], b.deny["ping"] = true, true, true
	h.server = func(*seen) *inspect.Response { return &inspect.Response{Status: 204} }
	h.source = stealer
	isError(t, h.send("DELETE", "", sessionHeader+": s"), 403, codeRefused, "null")
	h.source = planner
	h.got = nil
	if a := h.send("DELETE", "", sessionHeader+": s"); a.status != 204 || len(h.got) != 1 {
		t.Errorf("got %+v; the server %+v", a, h.got)
	}
	isError(t, h.send("POST", rpc("1", "ping", ""), sessionHeader+": s"), 404, codeSessionNotFound, "1")
	if rs := h.records(); !rs[2].Decision.Allowed || !strings.Contains(rs[2].Decision.Reason, "in the book") {
		t.Errorf("recorded %+v", rs[2])
	}
}

func TestManyEventsAreReadSlowly(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHarness(t, denying(), Config{EventsPerSecond: 100})
		h.server = func(*seen) *inspect.Response { return eventReply(strings.Repeat(": x\n", 1100) + event(result1)) }
		from := time.Now()
		a := h.send("POST", rpc("1", "tools/call", `{"name":"a"}`))
		if took := time.Since(from); !strings.HasSuffix(a.body, event(result1)) || strings.Count(a.body, ": x") != 1100 || took < 9*time.Second || took > 12*time.Second {
			t.Errorf("%d bytes in %v", len(a.body), took)
		}
		// Who goes away does not have to wait.
		ctx, cancel := context.WithCancel(t.Context())
		handler := h.layer(inspect.HandlerFunc(func(ctx context.Context, x *inspect.Exchange) (*inspect.Response, error) { return h.server(nil), nil }))
		r, err := handler.Do(ctx, h.exchange("POST", rpc("1", "tools/call", `{"name":"a"}`)))
		if err != nil {
			t.Fatal(err)
		}
		cancel()
		if _, err := io.ReadAll(r.Body); err != context.Canceled {
			t.Errorf("got %v", err)
		}
		r.Body.Close()
		h.recorder.Close()
	})
}

func TestArgumentsAreRecordedOnlyAsPoliciesSay(t *testing.T) {
	const args = `{"q":"s3cret","n":5,"deep":{"shown":{"a":[1]},"t":true,"z":null},"list":[{"shown":"x"},"y"]}`
	for _, c := range []struct {
		how  *policy.Recording
		want string
	}{
		{nil, ""},
		{&policy.Recording{Digest: true}, ""},
		{&policy.Recording{}, `{"q":"<string 6>","n":"<number>","deep":{"shown":{"a":["<number>"]},"t":"<boolean>","z":null},"list":[{"shown":"<string 1>"},"<string 1>"]}`},
		{&policy.Recording{Reveal: [][]string{{"deep", "shown"}, {"n"}}}, `{"q":"<string 6>","n":5,"deep":{"shown":{"a":[1]},"t":"<boolean>","z":null},"list":[{"shown":"<string 1>"},"<string 1>"]}`},
	} {
		got := string(recorded([]byte(args), c.how))
		if c.how != nil && c.how.Digest {
			if !strings.HasPrefix(got, "sha256:") || len(got) != 7+64 || got == string(recorded([]byte(args+" "), c.how)) {
				t.Errorf("digest %q", got)
			}
		} else if got != c.want {
			t.Errorf("got %s, want %s", got, c.want)
		}
	}
	if big := recorded([]byte(`{"a":[`+strings.Repeat("1,", 1<<20)+`1]}`), &policy.Recording{}); len(big) > maxRecorded+100 {
		t.Errorf("%d bytes", len(big))
	}
	b := denying("tools/call no")
	b.terms.Arguments = &policy.Recording{}
	h := newHarness(t, b, Config{})
	for _, name := range []string{"yes", "no"} {
		h.send("POST", rpc("1", "tools/call", `{"name":"`+name+`","arguments":{"q":"s3cret"}}`))
	}
	h.recorder.Close()
	if text := h.audit.String(); strings.Contains(text, "s3cret") || strings.Count(text, `<string 6>`) != 2 {
		t.Errorf("recorded %s", text)
	}
}

func TestMirroredArgumentsMustAgree(t *testing.T) {
	const tools = `{"jsonrpc":"2.0","id":1,"result":{"tools":[{"name":"deploy","inputSchema":{"type":"object","properties":{` +
		`"region":{"type":"string","x-mcp-header":"Region"},"n":{"type":"integer","x-mcp-header":"N"},"b":{"type":"boolean","x-mcp-header":"B"},` +
		`"o":{"type":"object","x-mcp-header":"O","properties":{"deep":{"type":"string","x-mcp-header":"Deep"}}},` +
		`"twice":{"type":"string","x-mcp-header":"region"},"bad":{"type":"string","x-mcp-header":"a b"},"f":{"type":"number","x-mcp-header":"F"}},` +
		`"allOf":[{"properties":{"y":{"type":"string","x-mcp-header":"Y"}}}]}},{"name":"plain"}]}}`
	h := newHarness(t, denying(), Config{})
	modern := func(method, params string, headers ...string) answer {
		return h.send("POST", rpc("1", method, `{`+params+meta2607+`}`), append(headers, versionHeader+": "+rev2607, "Mcp-Method: "+method)...)
	}
	h.server = func(*seen) *inspect.Response { return jsonReply(200, tools) }
	modern("tools/list", "")
	h.server = func(*seen) *inspect.Response { return jsonReply(200, result1) }
	for _, c := range []struct {
		args    string
		headers []string
		passes  bool
	}{
		{`{}`, nil, true},
		{`{"region":"eu"}`, []string{"Mcp-Param-Region: eu"}, true},
		{`{"region":"eu"}`, []string{"mcp-param-region: eu"}, true},
		{`{"region":"eu"}`, nil, false},
		{`{"region":"eu"}`, []string{"Mcp-Param-Region: us"}, false},
		{`{"region":"eu"}`, []string{"Mcp-Param-Region: EU"}, false},
		{`{}`, []string{"Mcp-Param-Region: eu"}, false},
		{`{"region":null}`, nil, true},
		{`{"region":null}`, []string{"Mcp-Param-Region: null"}, false},
		{`{"region":"\u00fc"}`, []string{"Mcp-Param-Region: =?base64?w7w=?="}, true},
		{`{"region":"\u00fc"}`, []string{"Mcp-Param-Region: =?base64?w7x=?="}, false},
		{`{"n":42}`, []string{"Mcp-Param-N: 42"}, true},
		{`{"n":42.0}`, []string{"Mcp-Param-N: 42"}, true},
		{`{"n":42}`, []string{"Mcp-Param-N: 42.5"}, false},
		{`{"n":9007199254740993}`, []string{"Mcp-Param-N: 9007199254740992"}, false},
		{`{"b":true}`, []string{"Mcp-Param-B: true"}, true},
		{`{"b":true}`, []string{"Mcp-Param-B: True"}, false},
		{`{"o":{"deep":"x"}}`, []string{"Mcp-Param-Deep: x"}, true},
		{`{"o":{"deep":"x"}}`, []string{"Mcp-Param-Deep: y"}, false},
		{`{"y":"1","f":1.5,"bad":"x"}`, []string{"Mcp-Param-Other: z", "Mcp-Param-Y: 2"}, true},
	} {
		h.got = nil
		a := modern("tools/call", `"name":"deploy","arguments":`+c.args+`,`, append(c.headers, "Mcp-Name: deploy")...)
		if (len(h.got) == 1) != c.passes {
			t.Errorf("%s with %v: %d %s", c.args, c.headers, a.status, a.body)
		}
		if !c.passes {
			isError(t, a, 400, codeHeaderMismatch, "1")
		}
	}
	h.got = nil
	h.send("POST", rpc("1", "tools/call", `{"name":"deploy","arguments":{"region":"eu"}}`), "Mcp-Param-Region: us") // means nothing in earlier eras
	h.source = stealer                                                                                              // who saw another list, or none
	modern("tools/call", `"name":"deploy","arguments":{"region":"eu"},`, "Mcp-Name: deploy")
	if len(h.got) != 2 {
		t.Errorf("the server got %d", len(h.got))
	}
}

// Before a list of tools passed by nobody knows which header mirrors what. Such headers go
// on, as the specification has intermediaries do, for the server to compare; but no policy
// gets to see what nobody compared.
func TestWhatMirrorsArgumentsIsNothingForPoliciesToSee(t *testing.T) {
	b := denying()
	h := newHarness(t, b, Config{})
	h.server = func(*seen) *inspect.Response { return jsonReply(200, result1) }
	a := h.send("POST", rpc("1", "tools/call", `{"name":"deploy","arguments":{"region":"us"},`+meta2607+`}`),
		versionHeader+": "+rev2607, "Mcp-Method: tools/call", "Mcp-Name: deploy", "Mcp-Param-Region: eu", "mcp-param-other: x", "X-Team: a")
	if a.status != 200 || len(h.got) != 1 || h.got[0].header.Get("Mcp-Param-Region") != "eu" || h.got[0].header.Get("Mcp-Param-Other") != "x" {
		t.Errorf("got %+v; the server %+v", a, h.got)
	}
	for name := range b.asked[0].HTTP.Header {
		if strings.HasPrefix(strings.ToLower(name), "mcp-param-") {
			t.Errorf("policy saw %s", name)
		}
	}
	if got := b.asked[0].HTTP.Header.Get("X-Team"); got != "a" {
		t.Errorf("X-Team is %q", got)
	}
}

func TestMirrorsAreBoundedAndForgotten(t *testing.T) {
	m := newMirrors()
	for i := range maxMirrored + 10 {
		m.put(mirrorKey{tool: fmt.Sprint(i)}, []mirror{{"h", nil}})
	}
	if len(m.of) != maxMirrored {
		t.Errorf("%d", len(m.of))
	}
	m.put(mirrorKey{tool: fmt.Sprint(maxMirrored + 9)}, nil)
	if len(m.of) != maxMirrored-1 {
		t.Errorf("%d", len(m.of))
	}
}

func TestATaskOfADeniedToolIsGone(t *testing.T) {
	b := denying()
	h := newHarness(t, b, Config{})
	h.server = func(*seen) *inspect.Response {
		return jsonReply(200, `{"jsonrpc":"2.0","id":1,"result":{"task":{"taskId":"t"}}}`)
	}
	h.send("POST", rpc("1", "tools/call", `{"name":"slow","task":{}}`))
	h.server = func(*seen) *inspect.Response { return jsonReply(200, result1) }
	if a := h.send("POST", rpc("1", "tasks/result", `{"taskId":"t"}`)); a.body != result1 {
		t.Errorf("got %s", a.body)
	}
	b.deny["* slow"] = true
	isError(t, h.send("POST", rpc("1", "tasks/result", `{"taskId":"t"}`)), 200, codeInvalidParams, "1")
}

func TestAResumedStreamShowsNothingThatWasDeniedSince(t *testing.T) {
	b := denying()
	h := newHarness(t, b, Config{})
	h.openSession(rev2511)
	h.server = func(*seen) *inspect.Response { return eventReply("id: 1\ndata:\n\n") } // and breaks off
	h.send("POST", rpc("1", "tools/call", `{"name":"a"}`), sessionHeader+": s")
	h.server = func(*seen) *inspect.Response {
		return eventReply(event(`{"jsonrpc":"2.0","id":1,"result":{"content":[]}}`))
	}
	if a := h.send("GET", "", sessionHeader+": s", "Last-Event-Id: 1"); !strings.Contains(a.body, `"content"`) {
		t.Errorf("got %q", a.body)
	}
	b.deny["* a"] = true
	if a := h.send("GET", "", sessionHeader+": s", "Last-Event-Id: 1"); strings.Contains(a.body, `"content"`) || !strings.Contains(a.body, `unknown tool`) {
		t.Errorf("got %q", a.body)
	}
}

func TestAMessageShowsOnlySoManyRoots(t *testing.T) {
	for n, want := range map[int]int{maxObjects: 200, maxObjects + 1: 400} {
		h := newHarness(t, denying(), Config{})
		roots := `{"roots":[{"uri":"file:///a"}` + strings.Repeat(`,{"uri":"file:///a"}`, n-1) + `]}`
		params := `{"name":"a","inputResponses":{"k":` + roots + `},` + meta2607 + `}`
		if a := h.send("POST", rpc("1", "tools/call", params), "MCP-Protocol-Version: 2026-07-28", "Mcp-Method: tools/call", "Mcp-Name: a"); a.status != want || len(h.got) != (400-want)/200 {
			t.Errorf("%d roots: %d, the server got %d messages", n, a.status, len(h.got))
		}
		h.server = func(*seen) *inspect.Response {
			return eventReply(event(`{"jsonrpc":"2.0","id":"r","method":"roots/list"}`))
		}
		h.send("POST", rpc("1", "tools/call", `{"name":"a"}`))
		if a := h.send("POST", `{"jsonrpc":"2.0","id":"r","result":`+roots+`}`); a.status != want {
			t.Errorf("an answer with %d roots: %d", n, a.status)
		}
	}
}
