package jsonrpc

import (
	"bytes"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/go-json-experiment/json/jsontext"
)

func testParser(l Limits) *Parser {
	ref := NewShape([]string{"type", "name", "uri"}, nil)
	meta := NewShape([]string{"io.modelcontextprotocol/protocolVersion", "progressToken"}, nil)
	return NewParser(l, NewShape([]string{"name", "arguments", "uri", "task", "taskId", "cursor"},
		map[string]*Shape{"ref": ref, "_meta": meta}), nil)
}

func TestMessagesAreSorted(t *testing.T) {
	for _, c := range []struct {
		in           string
		kind         Kind
		method, id   string
		code         int64
		result, errr string
	}{
		{` {"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"x"}} `, Request, "tools/call", "1", 0, "", ""},
		{`{"method":"tools\/call","id":"a\u0062","jsonrpc":"2.0"}`, Request, "tools/call", `"a\u0062"`, 0, "", ""},
		{`{"\u006dethod":"ping","id":-9007199254740991,"jsonrpc":"2.0"}`, Request, "ping", `-9007199254740991`, 0, "", ""},
		{`{"jsonrpc":"2.0","method":"notifications/initialized"}`, Notification, "notifications/initialized", "", 0, "", ""},
		{`{"jsonrpc":"2.0","id":7,"result":{}}`, Response, "", "7", 0, "{}", ""},
		{`{"jsonrpc":"2.0","id":7,"result":null}`, Response, "", "7", 0, "null", ""},
		{`{"jsonrpc":"2.0","id":null,"error":{"code":-32000,"message":"x"}}`, Response, "", "", -32000, "", `{"code":-32000,"message":"x"}`},
		{`{"jsonrpc":"2.0","error":{"code":-32000,"message":"x"}}`, Response, "", "", -32000, "", `{"code":-32000,"message":"x"}`},
	} {
		m, err := testParser(Limits{}).Message([]byte(c.in))
		if err != nil {
			t.Errorf("%s: %v", c.in, err)
			continue
		}
		if m.Kind != c.kind || m.Method != c.method || string(m.ID.Raw) != c.id || m.Code != c.code ||
			string(m.Result.Raw) != c.result || string(m.Error.Raw) != c.errr {
			t.Errorf("%s: got %+v", c.in, m)
		}
	}
}

func TestIDsAreTheSameByValueNotBySpelling(t *testing.T) {
	key := func(id string) string {
		m, err := testParser(Limits{}).Message([]byte(`{"jsonrpc":"2.0","method":"m","id":` + id + `}`))
		if err != nil {
			t.Fatal(err)
		}
		return m.ID.Key
	}
	if key(`"ab"`) != key(`"\u0061b"`) {
		t.Error("an escape changed the id")
	}
	if key(`"1"`) == key(`1`) {
		t.Error("a string is not a number")
	}
}

// refused are texts that two peers could read differently.
var refused = []struct {
	name, in string
	code     int
	reason   Reason
}{
	{"empty", ``, CodeParseError, ReasonSyntax},
	{"byte order mark", "\xef\xbb\xbf{}", CodeParseError, ReasonSyntax},
	{"trailing text", `{"jsonrpc":"2.0","method":"m"} x`, CodeParseError, ReasonTrailing},
	{"second document", `{"jsonrpc":"2.0","method":"m"}{}`, CodeParseError, ReasonTrailing},
	{"duplicate member", `{"jsonrpc":"2.0","method":"a","method":"b"}`, CodeParseError, ReasonDuplicate},
	{"duplicate after unescaping", `{"jsonrpc":"2.0","method":"a","\u006dethod":"b"}`, CodeParseError, ReasonDuplicate},
	{"duplicate deep in arguments", `{"jsonrpc":"2.0","method":"a","params":{"arguments":{"x":[{"k":1,"k":2}]}}}`, CodeParseError, ReasonDuplicate},
	{"duplicate long name", `{"jsonrpc":"2.0","method":"a","params":{"abcdefghijkl":1,"abcdefghijkl":1}}`, CodeParseError, ReasonDuplicate},
	{"trailing comma", `{"jsonrpc":"2.0","method":"m",}`, CodeParseError, ReasonSyntax},
	{"comment", `{"jsonrpc":"2.0",/**/"method":"m"}`, CodeParseError, ReasonSyntax},
	{"single quotes", `{'jsonrpc':"2.0"}`, CodeParseError, ReasonSyntax},
	{"NaN", `{"jsonrpc":"2.0","id":NaN,"method":"m"}`, CodeParseError, ReasonSyntax},
	{"leading zero", `{"jsonrpc":"2.0","id":01,"method":"m"}`, CodeParseError, ReasonSyntax},
	{"plus sign", `{"jsonrpc":"2.0","id":+1,"method":"m"}`, CodeParseError, ReasonSyntax},
	{"bare point", `[1.]`, CodeParseError, ReasonSyntax},
	{"empty exponent", `[1e]`, CodeParseError, ReasonSyntax},
	{"control character", "[\"a\x01\"]", CodeParseError, ReasonSyntax},
	{"newline in string", "[\"a\n\"]", CodeParseError, ReasonSyntax},
	{"bad escape", `["\x41"]`, CodeParseError, ReasonSyntax},
	{"short unicode escape", `["\u12"]`, CodeParseError, ReasonSyntax},
	{"lone high surrogate", `["\ud800"]`, CodeParseError, ReasonUTF8},
	{"lone low surrogate", `["\udc00"]`, CodeParseError, ReasonUTF8},
	{"high surrogate twice", `["\ud800\ud800"]`, CodeParseError, ReasonUTF8},
	{"invalid UTF-8", "[\"\xff\"]", CodeParseError, ReasonUTF8},
	{"overlong UTF-8", "[\"\xc0\xaf\"]", CodeParseError, ReasonUTF8},
	{"encoded surrogate", "[\"\xed\xa0\x80\"]", CodeParseError, ReasonUTF8},
	{"UTF-16", "{\x00}\x00", CodeParseError, ReasonSyntax},
	{"deep", strings.Repeat("[", 129) + strings.Repeat("]", 129), CodeParseError, ReasonTooLarge},
	{"not an object", `"x"`, CodeInvalidRequest, ReasonEnvelope},
	{"batch", `[{"jsonrpc":"2.0","method":"m"}]`, CodeInvalidRequest, ReasonBatch},
	{"no version", `{"method":"m","id":1}`, CodeInvalidRequest, ReasonEnvelope},
	{"numeric version", `{"jsonrpc":2.0,"method":"m","id":1}`, CodeInvalidRequest, ReasonEnvelope},
	{"unknown member", `{"jsonrpc":"2.0","method":"m","id":1,"x":1}`, CodeInvalidRequest, ReasonEnvelope},
	{"params is an array", `{"jsonrpc":"2.0","method":"m","id":1,"params":[]}`, CodeInvalidRequest, ReasonEnvelope},
	{"params is null", `{"jsonrpc":"2.0","method":"m","id":1,"params":null}`, CodeInvalidRequest, ReasonEnvelope},
	{"method is a number", `{"jsonrpc":"2.0","method":1,"id":1}`, CodeInvalidRequest, ReasonEnvelope},
	{"request and response", `{"jsonrpc":"2.0","method":"m","id":1,"result":{}}`, CodeInvalidRequest, ReasonEnvelope},
	{"result and error", `{"jsonrpc":"2.0","id":1,"result":{},"error":{"code":1,"message":""}}`, CodeInvalidRequest, ReasonEnvelope},
	{"neither", `{"jsonrpc":"2.0","id":1}`, CodeInvalidRequest, ReasonEnvelope},
	{"result without id", `{"jsonrpc":"2.0","result":{}}`, CodeInvalidRequest, ReasonEnvelope},
	{"null id", `{"jsonrpc":"2.0","method":"m","id":null}`, CodeInvalidRequest, ReasonID},
	{"boolean id", `{"jsonrpc":"2.0","method":"m","id":true}`, CodeInvalidRequest, ReasonID},
	{"object id", `{"jsonrpc":"2.0","method":"m","id":{}}`, CodeInvalidRequest, ReasonID},
	{"fraction id", `{"jsonrpc":"2.0","method":"m","id":1.5}`, CodeInvalidRequest, ReasonID},
	{"integral fraction id", `{"jsonrpc":"2.0","method":"m","id":1.0}`, CodeInvalidRequest, ReasonID},
	{"exponent id", `{"jsonrpc":"2.0","method":"m","id":1e2}`, CodeInvalidRequest, ReasonID},
	{"negative zero id", `{"jsonrpc":"2.0","method":"m","id":-0}`, CodeInvalidRequest, ReasonID},
	{"id 2^53", `{"jsonrpc":"2.0","method":"m","id":9007199254740992}`, CodeInvalidRequest, ReasonID},
	{"long id", `{"jsonrpc":"2.0","method":"m","id":"` + strings.Repeat("x", 300) + `"}`, CodeInvalidRequest, ReasonID},
	{"case twin in envelope", `{"jsonrpc":"2.0","method":"m","id":1,"Method":"n"}`, CodeInvalidRequest, ReasonTwin},
	{"long s twin in envelope", `{"jsonrpc":"2.0","method":"m","id":1,"paramſ":{}}`, CodeInvalidRequest, ReasonTwin},
	{"case twin in params", `{"jsonrpc":"2.0","method":"m","id":1,"params":{"Name":"n"}}`, CodeInvalidRequest, ReasonTwin},
	{"escaped twin in params", `{"jsonrpc":"2.0","method":"m","id":1,"params":{"\u004eame":"n"}}`, CodeInvalidRequest, ReasonTwin},
	{"kelvin twin in params", `{"jsonrpc":"2.0","method":"m","id":1,"params":{"tasK":"n"}}`, CodeInvalidRequest, ReasonTwin},
	{"dotted I twin in params", `{"jsonrpc":"2.0","method":"m","id":1,"params":{"urİ":"n"}}`, CodeInvalidRequest, ReasonTwin},
	{"case twin in ref", `{"jsonrpc":"2.0","method":"m","id":1,"params":{"ref":{"NAME":"n"}}}`, CodeInvalidRequest, ReasonTwin},
	{"case twin in _meta", `{"jsonrpc":"2.0","method":"m","id":1,"params":{"_meta":{"progresstoken":1}}}`, CodeInvalidRequest, ReasonTwin},
	{"error code is a string", `{"jsonrpc":"2.0","id":1,"error":{"code":"1","message":""}}`, CodeInvalidRequest, ReasonEnvelope},
}

func TestAmbiguousTextsAreRefused(t *testing.T) {
	for _, c := range refused {
		_, err := testParser(Limits{}).Message([]byte(c.in))
		var e *Error
		if !errors.As(err, &e) || e.Code != c.code || e.Reason != c.reason {
			t.Errorf("%s: got %+v, want code %d, reason %d", c.name, err, c.code, c.reason)
		}
	}
}

func TestArgumentsMayHaveAnyMemberNames(t *testing.T) {
	for _, in := range []string{
		`{"jsonrpc":"2.0","method":"m","id":1,"params":{"arguments":{"Name":1,"name":2,"Method":3}}}`,
		`{"jsonrpc":"2.0","method":"m","id":1,"params":{"names":1,"nam":2,"x-name":3,"größe":4}}`,
		`{"jsonrpc":"2.0","method":"m","id":1,"params":{"arguments":{"":1,"\u0000":2,"__proto__":3}}}`,
	} {
		if _, err := testParser(Limits{}).Message([]byte(in)); err != nil {
			t.Errorf("%s: %v", in, err)
		}
	}
}

func TestRefusalEchoesTheIDOnceItIsCertain(t *testing.T) {
	_, err := testParser(Limits{}).Message([]byte(`{"jsonrpc":"2.0","method":"m","params":{"Name":1},"id":"q\u0031"}`))
	var e *Error
	if !errors.As(err, &e) || string(e.ID) != `"q\u0031"` {
		t.Errorf("got %+v", err)
	}
	_, err = testParser(Limits{}).Message([]byte(`{"jsonrpc":"2.0","id":1,"id":2,"method":"m"}`))
	if !errors.As(err, &e) || e.ID != nil {
		t.Errorf("an id of two was chosen: %+v", err)
	}
}

func TestLimitsHold(t *testing.T) {
	many := func(n int) string {
		var b strings.Builder
		b.WriteString(`{"jsonrpc":"2.0","method":"m","params":{"arguments":{`)
		for i := range n {
			if i > 0 {
				b.WriteByte(',')
			}
			b.WriteString(`"` + strings.Repeat("k", 1+i%40) + string(rune('a'+i%26)) + string(rune(0x4e00+i)) + `":1`)
		}
		b.WriteString(`}}}`)
		return b.String()
	}
	if _, err := testParser(Limits{Members: 600}).Message([]byte(many(500))); err != nil {
		t.Errorf("500 members: %v", err)
	}
	for name, l := range map[string]Limits{"members": {Members: 500}, "bytes": {Bytes: 1000}, "depth": {Depth: 2}} {
		var e *Error
		if _, err := testParser(l).Message([]byte(many(500))); !errors.As(err, &e) || e.Reason != ReasonTooLarge {
			t.Errorf("%s: got %v", name, err)
		}
	}
}

func TestCrowdedObjectsStillFindDuplicates(t *testing.T) {
	var b strings.Builder
	b.WriteString(`{"jsonrpc":"2.0","method":"m","params":{"a":[`)
	for object := range 3 {
		if object > 0 {
			b.WriteByte(',')
		}
		b.WriteByte('{')
		for i := range 200 {
			b.WriteString(`"k` + strings.Repeat("x", i) + `":{"k":1},`)
		}
		b.WriteString(`"last":0}`)
	}
	b.WriteString(`]}}`)
	good := b.String()
	p := testParser(Limits{})
	if _, err := p.Message([]byte(good)); err != nil {
		t.Fatal(err)
	}
	bad := good[:strings.LastIndex(good, `"last"`)] + `"k":0}]}}`
	var e *Error
	if _, err := p.Message([]byte(bad)); !errors.As(err, &e) || e.Reason != ReasonDuplicate {
		t.Errorf("got %v", err)
	}
	if _, err := p.Message([]byte(good)); err != nil {
		t.Errorf("a later document: %v", err)
	}
}

func TestLongNamesAreNotTakenForTheirBeginnings(t *testing.T) {
	long := strings.Repeat("a", 256)
	for n := range 10 {
		for _, names := range [][2]string{{long[:n], long + long[:n]}, {long + long[:n], long[:n]}} {
			if err := Check(fmt.Appendf(nil, `{%q:1,%q:2}`, names[0], names[1]), Limits{}); err != nil {
				t.Errorf("names of %d and %d bytes: %v", len(names[0]), len(names[1]), err)
			}
		}
	}
	if err := Check(fmt.Appendf(nil, `{%q:1,%q:2}`, long+long, long+long), Limits{}); err == nil {
		t.Error("a long name may appear twice")
	}
}

func TestBatchElementsAreMessages(t *testing.T) {
	p := testParser(Limits{Batch: 3})
	in := `[ {"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"a"}} , {"jsonrpc":"2.0","method":"n"},{"jsonrpc":"2.0","id":"1","method":"tools/call","params":{"name":"b"}}]`
	ms, err := p.Batch([]byte(in))
	if err != nil || len(ms) != 3 {
		t.Fatal(len(ms), err)
	}
	if got, _ := ms[2].Member(ms[2].Params, "name").Text(); got != "b" {
		t.Errorf("got name %q", got)
	}
	for name, in := range map[string]string{
		"empty":      `[]`,
		"nested":     `[[{"jsonrpc":"2.0","method":"n"}]]`,
		"number":     `[1]`,
		"same id":    `[{"jsonrpc":"2.0","id":"a","method":"n"},{"jsonrpc":"2.0","id":"\u0061","method":"n"}]`,
		"too many":   `[{"jsonrpc":"2.0","method":"n"},{"jsonrpc":"2.0","method":"n"},{"jsonrpc":"2.0","method":"n"},{"jsonrpc":"2.0","method":"n"}]`,
		"not batch":  `{"jsonrpc":"2.0","method":"n"}`,
		"later twin": `[{"jsonrpc":"2.0","method":"n"},{"jsonrpc":"2.0","method":"n","Id":3}]`,
	} {
		if _, err := p.Batch([]byte(in)); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
}

func TestFilterKeepsEveryOtherByte(t *testing.T) {
	text := `{ "tools" : [ {"name":"a"} , {"name":"b]"}, {"name" : "c"}
 ] , "nextCursor":"x\u0041" }`
	for _, c := range []struct{ drop, want string }{
		{"", text},
		{"a", "{ \"tools\" : [ {\"name\":\"b]\"}, {\"name\" : \"c\"}\n ] , \"nextCursor\":\"x\\u0041\" }"},
		{"b]", "{ \"tools\" : [ {\"name\":\"a\"} , {\"name\" : \"c\"}\n ] , \"nextCursor\":\"x\\u0041\" }"},
		{"c", "{ \"tools\" : [ {\"name\":\"a\"} , {\"name\":\"b]\"}] , \"nextCursor\":\"x\\u0041\" }"},
		{"a b] c", "{ \"tools\" : [] , \"nextCursor\":\"x\\u0041\" }"},
	} {
		array := Value{Raw: []byte(text)}.Member("tools")
		got, dropped := AppendFiltered(nil, []byte(text), 0, array, func(v Value) bool {
			name, _ := v.Member("name").Text()
			return !strings.Contains(" "+c.drop+" ", " "+name+" ")
		})
		if string(got) != c.want || dropped != len(strings.Fields(c.drop)) {
			t.Errorf("drop %q: got %s (%d)", c.drop, got, dropped)
		}
	}
}

// FuzzMessage checks against jsontext: what we accept, it accepts, and it finds
// the same members; what we find by walking is what we noted.
func FuzzMessage(f *testing.F) {
	for _, c := range refused {
		f.Add([]byte(c.in))
	}
	f.Add([]byte(` {"jsonrpc":"2.0","id":"a\u0031","method":"tools/call","params":{"name":"x","arguments":{"a":[1,-2.5e3,{"b":null}],"ü":"\ud83d\ude00"}}} `))
	f.Add([]byte(`{"jsonrpc":"2.0","id":1,"result":{"tools":[{"name":"a"},{"name":"b"}],"nextCursor":""}}`))
	p := testParser(Limits{})
	f.Fuzz(func(t *testing.T, data []byte) {
		m, err := p.Message(data)
		if err != nil {
			var e *Error
			if !errors.As(err, &e) || e.Code == 0 || e.Reason == 0 || e.Offset < 0 || e.Offset > len(data) {
				t.Fatalf("bad error %+v", err)
			}
			return
		}
		members := oracle(t, data)
		for name, got := range map[string]Value{"id": {Raw: m.ID.Raw}, "params": m.Params, "result": m.Result, "error": m.Error} {
			if want := members[name]; string(want) != string(got.Raw) && string(want) != "null" {
				t.Errorf("%s is %q, jsontext says %q", name, got.Raw, want)
			}
		}
		if want, _ := jsontext.AppendUnquote(nil, members["method"]); len(members["method"]) > 0 && string(want) != m.Method {
			t.Errorf("method is %q, jsontext says %q", m.Method, want)
		}
		if m.Params.Kind() == '{' {
			for name, want := range oracle(t, m.Params.Raw) {
				noted, walked := m.Member(m.Params, name), m.Params.Member(name)
				if !bytes.Equal(noted.Raw, want) || !bytes.Equal(walked.Raw, want) || noted.At != walked.At {
					t.Errorf("params.%s is %q, by walking %q, jsontext says %q", name, noted.Raw, walked.Raw, want)
				}
			}
		}
	})
}

func oracle(t *testing.T, data []byte) map[string]jsontext.Value {
	d := jsontext.NewDecoder(bytes.NewReader(data))
	members := map[string]jsontext.Value{}
	if _, err := d.ReadToken(); err != nil {
		t.Fatalf("jsontext refuses: %v", err)
	}
	for d.PeekKind() != '}' {
		name, err := d.ReadToken()
		if err != nil {
			t.Fatalf("jsontext refuses: %v", err)
		}
		key := name.String()
		v, err := d.ReadValue()
		if err != nil {
			t.Fatalf("jsontext refuses: %v", err)
		}
		members[key] = v.Clone()
	}
	if _, err := d.ReadToken(); err != nil {
		t.Fatalf("jsontext refuses: %v", err)
	}
	if _, err := d.ReadToken(); err == nil {
		t.Fatal("jsontext finds a second value")
	}
	return members
}

// elements are those of an array, as jsontext finds them.
func elements(t *testing.T, array []byte) (all []string) {
	d := jsontext.NewDecoder(bytes.NewReader(array))
	if _, err := d.ReadToken(); err != nil {
		t.Fatalf("jsontext refuses: %v", err)
	}
	for d.PeekKind() != ']' {
		v, err := d.ReadValue()
		if err != nil {
			t.Fatalf("jsontext refuses: %v", err)
		}
		all = append(all, string(v))
	}
	return all
}

// FuzzBatch checks against jsontext: of a batch that we accept it finds the same
// messages, each with the same members.
func FuzzBatch(f *testing.F) {
	f.Add([]byte(`[{"jsonrpc":"2.0","id":1,"method":"a"}, {"jsonrpc":"2.0","method":"b","params":{"x":[{}]}}]`))
	f.Add([]byte(`[[{"jsonrpc":"2.0","id":1,"method":"a"}]]`))
	p := testParser(Limits{})
	f.Fuzz(func(t *testing.T, data []byte) {
		ms, err := p.Batch(data)
		if err != nil {
			return
		}
		want := elements(t, data)
		if len(want) != len(ms) {
			t.Fatalf("%d messages, jsontext finds %d", len(ms), len(want))
		}
		for i := range ms {
			members := oracle(t, ms[i].Raw)
			method, _ := jsontext.AppendUnquote(nil, members["method"])
			if string(ms[i].Raw) != want[i] || string(members["params"]) != string(ms[i].Params.Raw) || string(method) != ms[i].Method {
				t.Fatalf("message %d is %q, jsontext finds %q", i, ms[i].Raw, want[i])
			}
		}
	})
}

// FuzzFilter checks that a filtered list is the text it was, without what was to
// go: jsontext finds what was kept, byte for byte, and the rest around it.
func FuzzFilter(f *testing.F) {
	f.Add([]byte(`{"jsonrpc":"2.0","id":1,"result":{"tools":[ {"name":"a\"]"} , {"name":"b\\"},3,"x,]",[[1],{}] ],"nextCursor":""}}`), uint16(5))
	f.Add([]byte(`{"jsonrpc":"2.0","id":1,"result":{"tools":[ ]}}`), uint16(0))
	p := testParser(Limits{})
	f.Fuzz(func(t *testing.T, data []byte, drop uint16) {
		m, err := p.Message(data)
		if err != nil {
			return
		}
		list := m.Member(m.Result, "tools")
		if list.Kind() != '[' {
			return
		}
		var want []string
		for i, element := range elements(t, list.Raw) {
			if drop&(1<<(i%16)) == 0 {
				want = append(want, element)
			}
		}
		i := -1
		out, _ := AppendFiltered(nil, data, 0, list, func(Value) bool { i++; return drop&(1<<(i%16)) == 0 })
		again, err := testParser(Limits{}).Message(out)
		if err != nil {
			t.Fatalf("%q became %q: %v", data, out, err)
		}
		kept := again.Member(again.Result, "tools")
		if got := elements(t, kept.Raw); !slices.Equal(got, want) {
			t.Fatalf("%q became %q: kept %q, want %q", data, out, got, want)
		}
		if !bytes.Equal(out[:kept.At], data[:list.At]) || !bytes.Equal(out[kept.End():], data[list.End():]) {
			t.Fatalf("%q became %q", data, out)
		}
	})
}
