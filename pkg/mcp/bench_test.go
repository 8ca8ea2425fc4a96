package mcp

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net/netip"
	"strings"
	"testing"

	"github.com/outrigger-mesh/outrigger/pkg/inspect"
	"github.com/outrigger-mesh/outrigger/pkg/policy"
)

// An open judge allows everything at no cost, so that the layer's is seen.
type openJudge struct{}

func (openJudge) Call(*policy.Call) policy.Decision                       { return policy.Decision{Allowed: true} }
func (openJudge) Terms(policy.Direction, policy.Destination) policy.Terms { return policy.Terms{} }
func (openJudge) Visible(_ *policy.Call, o policy.Object) policy.Decision {
	return policy.Decision{Allowed: !strings.HasSuffix(o.Name, "7")}
}

var benchHeader = inspect.Header{
	{Name: "Host", Value: "server.test"}, {Name: "User-Agent", Value: "Go-http-client/1.1"}, {Name: "Content-Length", Value: "1024"},
	{Name: "Accept", Value: "application/json, text/event-stream"}, {Name: "Content-Type", Value: "application/json"},
	{Name: versionHeader, Value: rev2511}, {Name: "Accept-Encoding", Value: "gzip"},
}

// A rewound body is read again by every iteration.
type rewound struct{ *bytes.Reader }

func (rewound) Close() error { return nil }

func runLayer(b *testing.B, request, response []byte, contentType string) {
	layer := New(Config{Judge: func(*inspect.Exchange) Judge { return openJudge{} }})
	in, out := bytes.NewReader(request), rewound{bytes.NewReader(response)}
	discard := make([]byte, 32<<10)
	handler := layer(inspect.HandlerFunc(func(ctx context.Context, x *inspect.Exchange) (*inspect.Response, error) {
		for {
			if _, err := x.Request.Body.Read(discard); err == io.EOF {
				break
			}
		}
		out.Seek(0, io.SeekStart)
		return &inspect.Response{Status: 200, Header: inspect.Header{{Name: "Content-Type", Value: contentType}}, Body: out, ContentLength: int64(len(response))}, nil
	}))
	conversation := &inspect.Conversation{Direction: policy.Inbound, Source: planner, Port: policy.Port{Protocol: policy.ProtocolMCP},
		Target: policy.Destination{Address: netip.MustParseAddrPort("127.0.15.31:9000")}}
	header := make(inspect.Header, 0, 16)
	ctx := b.Context()
	b.SetBytes(int64(len(request) + len(response)))
	b.ReportAllocs()
	for b.Loop() {
		in.Seek(0, io.SeekStart)
		header = append(header[:0], benchHeader...)
		r, err := handler.Do(ctx, &inspect.Exchange{Conversation: conversation, Request: &inspect.Request{
			Method: "POST", Target: "/mcp", Path: "/mcp", Host: "server.test", Header: header, Body: in, ContentLength: int64(len(request))}})
		if err != nil || r.Status != 200 {
			b.Fatal(r, err)
		}
		for {
			if _, err := r.Body.Read(discard); err != nil {
				break
			}
		}
		r.Body.Close()
	}
}

func padded(size int, format string) []byte {
	return fmt.Appendf(nil, format, strings.Repeat("the quick brown fox ", size/20))
}

func BenchmarkLayerCall(b *testing.B) {
	answer := []byte(`{"jsonrpc":"2.0","id":17,"result":{"content":[{"type":"text","text":"done"}]}}`)
	for _, size := range []int{1 << 10, 4 << 10} {
		body := padded(size-120, `{"jsonrpc":"2.0","id":17,"method":"tools/call","params":{"name":"search_issues","arguments":{"q":"%s","n":5}}}`)
		b.Run(fmt.Sprintf("%dKiB/json", size>>10), func(b *testing.B) { runLayer(b, body, answer, "application/json") })
		b.Run(fmt.Sprintf("%dKiB/events", size>>10), func(b *testing.B) {
			runLayer(b, body, []byte("event: message\ndata: "+string(answer)+"\n\n"), "text/event-stream")
		})
	}
}

func BenchmarkLayerList1MiB(b *testing.B) {
	request := []byte(`{"jsonrpc":"2.0","id":17,"method":"tools/list"}`)
	list := []byte(`{"jsonrpc":"2.0","id":17,"result":{"tools":[`)
	for i := 0; len(list) < 1<<20; i++ {
		list = fmt.Appendf(list, `{"name":"tool_%d","title":"Tool %d","description":"It does what number %d does, \"well\".","inputSchema":{"type":"object","properties":{"path":{"type":"string","description":"where"},"depth":{"type":"integer","minimum":0}},"required":["path"],"additionalProperties":false},"annotations":{"readOnlyHint":true}},`, i, i, i)
	}
	list = append(list, `{"name":"last"}],"nextCursor":"abc"}}`...)
	b.Run("json", func(b *testing.B) { runLayer(b, request, list, "application/json") })
	b.Run("events", func(b *testing.B) { runLayer(b, request, []byte("data: "+string(list)+"\n\n"), "text/event-stream") })
}
