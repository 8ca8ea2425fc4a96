package jsonrpc

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"strings"
	"testing"
)

func callBody(size int) []byte {
	b := []byte(`{"jsonrpc":"2.0","id":17,"method":"tools/call","params":{"name":"search_issues","arguments":{"owner":"outrigger","labels":["bug","p1"],"limit":50,"items":[`)
	for i := 0; len(b) < size-40; i++ {
		b = fmt.Appendf(b, `{"k":%d,"title":"item number %d","ok":true},`, i, i)
	}
	return append(b, `{}]},"_meta":{"progressToken":9}}}`...)
}

func listBody(size int) []byte {
	b := []byte(`{"jsonrpc":"2.0","id":17,"result":{"tools":[`)
	for i := 0; len(b) < size; i++ {
		b = fmt.Appendf(b, `{"name":"tool_%d","title":"Tool %d","description":"It does what number %d does, \"well\".","inputSchema":{"type":"object","properties":{"path":{"type":"string","description":"where"},"depth":{"type":"integer","minimum":0}},"required":["path"],"additionalProperties":false},"annotations":{"readOnlyHint":true}},`, i, i, i)
	}
	return append(b, `{"name":"last"}],"nextCursor":"abc"}}`...)
}

var sizes = []struct {
	name string
	n    int
}{{"1KiB", 1 << 10}, {"4KiB", 4 << 10}, {"64KiB", 64 << 10}, {"1MiB", 1 << 20}}

func BenchmarkReadCall(b *testing.B) {
	for _, size := range sizes {
		body := callBody(size.n)
		b.Run(size.name+"/scanner", func(b *testing.B) {
			p := testParser(Limits{})
			b.SetBytes(int64(len(body)))
			b.ReportAllocs()
			for b.Loop() {
				m, err := p.Message(body)
				if err != nil || !m.Member(m.Params, "name").Is("search_issues") {
					b.Fatal(err)
				}
			}
		})
		b.Run(size.name+"/encodingjson", func(b *testing.B) {
			b.SetBytes(int64(len(body)))
			b.ReportAllocs()
			for b.Loop() {
				var m struct {
					JSONRPC string
					ID      json.RawMessage
					Method  string
					Params  struct {
						Name      string
						Arguments json.RawMessage
					}
				}
				if err := json.Unmarshal(body, &m); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

func BenchmarkFilterList(b *testing.B) {
	body := listBody(1 << 20)
	b.Run("splice", func(b *testing.B) {
		p := testParser(Limits{})
		var out []byte
		b.SetBytes(int64(len(body)))
		b.ReportAllocs()
		for b.Loop() {
			m, err := p.Message(body)
			if err != nil {
				b.Fatal(err)
			}
			n := 0
			out, _ = AppendFiltered(out[:0], body, 0, m.Result.Member("tools"), func(v Value) bool {
				n++
				return !v.Member("name").Is("never") && n%10 != 0
			})
		}
	})
	b.Run("encodingjson", func(b *testing.B) {
		b.SetBytes(int64(len(body)))
		b.ReportAllocs()
		for b.Loop() {
			var m struct {
				JSONRPC string          `json:"jsonrpc"`
				ID      json.RawMessage `json:"id"`
				Result  struct {
					Tools      []json.RawMessage `json:"tools"`
					NextCursor string            `json:"nextCursor"`
				} `json:"result"`
			}
			if err := json.Unmarshal(body, &m); err != nil {
				b.Fatal(err)
			}
			kept := m.Result.Tools[:0]
			for i, tool := range m.Result.Tools {
				var named struct{ Name string }
				if err := json.Unmarshal(tool, &named); err != nil {
					b.Fatal(err)
				}
				if i%10 != 9 {
					kept = append(kept, tool)
				}
			}
			m.Result.Tools = kept
			if _, err := json.Marshal(m); err != nil {
				b.Fatal(err)
			}
		}
	})
}

func BenchmarkEvents(b *testing.B) {
	stream := []byte(strings.Repeat("event: message\ndata: "+string(callBody(500))+"\n\n", 100))
	b.SetBytes(int64(len(stream)))
	b.ReportAllocs()
	var out []byte
	for b.Loop() {
		r := NewEventReader(bytes.NewReader(stream), 0)
		for {
			e, err := r.Next()
			if err == io.EOF {
				break
			}
			out = AppendEvent(out[:0], &e)
		}
	}
}

func BenchmarkReadBatch(b *testing.B) {
	element := `,{"jsonrpc":"2.0","id":%d,"method":"tools/call","params":{"name":"x","ref":[{}` + strings.Repeat(`,{"type":1,"name":1}`, 100) + `]}}`
	body := []byte("[")
	for i := range 100 {
		body = fmt.Appendf(body, element[min(i, 1)^1:], i)
	}
	body = append(body, ']')
	p := testParser(Limits{})
	b.SetBytes(int64(len(body)))
	b.ReportAllocs()
	for b.Loop() {
		ms, err := p.Batch(body)
		if err != nil || len(ms) != 100 {
			b.Fatal(err)
		}
		for i := range ms {
			for _, name := range [...]string{"name", "arguments", "task", "cursor"} {
				ms[i].Member(ms[i].Params, name)
			}
		}
	}
}
