package mcp

import (
	"bytes"
	"context"
	"encoding/json"
	"io"
	"net/netip"
	"strings"
	"sync"
	"testing"

	"go.uber.org/goleak"

	"github.com/outrigger-mesh/outrigger/pkg/inspect"
	"github.com/outrigger-mesh/outrigger/pkg/mesh"
	"github.com/outrigger-mesh/outrigger/pkg/policy"
	"github.com/outrigger-mesh/outrigger/pkg/telemetry"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

var (
	planner = mesh.NewPrincipal("cluster.local", "agents", "planner")
	stealer = mesh.NewPrincipal("cluster.local", "agents", "stealer")
)

// A book is a judge that denies what is written in it: "method" or "method object",
// or "* object".
type book struct {
	mu    sync.Mutex
	deny  map[string]bool
	terms policy.Terms
	asked []policy.Call
	seen  []string
}

func denying(entries ...string) *book {
	b := &book{deny: map[string]bool{}}
	for _, e := range entries {
		b.deny[e] = true
	}
	return b
}

func (b *book) Call(c *policy.Call) policy.Decision {
	b.mu.Lock()
	defer b.mu.Unlock()
	kept := *c
	kept.Arguments = bytes.Clone(c.Arguments)
	kept.HTTP.Header, kept.HTTP.Source = c.HTTP.Fields().Clone(), nil
	b.asked = append(b.asked, kept)
	return b.decide(c.Method, c.Object)
}

func (b *book) Visible(c *policy.Call, o policy.Object) policy.Decision {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.seen = append(b.seen, o.Name)
	return b.decide("", o)
}

func (b *book) Terms(policy.Direction, policy.Destination) policy.Terms { return b.terms }

func (b *book) decide(method string, o policy.Object) policy.Decision {
	d := policy.Decision{Allowed: true, Policy: "tools/book", Rule: "r", Version: "v1", Reason: "not in the book"}
	if o.Kind == policy.KindUnknown || b.deny[method] || b.deny[method+" "+o.Name] || o.Name != "" && b.deny["* "+o.Name] {
		d.Allowed, d.Reason = false, "in the book"
	}
	return d
}

// A bench is a layer with a fake server behind it and a recorder beside it.
type harness struct {
	t      testing.TB
	judge  Judge
	source mesh.Principal
	port   policy.Port
	from   string // the client's address
	layer  inspect.Layer
	server func(r *seen) *inspect.Response
	got    []seen // what reached the server

	snapshot uint64 // the current one's version

	audit    lockedBuffer
	recorder *telemetry.Recorder
}

// What the server saw.
type seen struct {
	method, body string
	header       inspect.Header
	length       int64
}

type lockedBuffer struct {
	mu sync.Mutex
	bytes.Buffer
}

func (b *lockedBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.Buffer.Write(p)
}

func newHarness(t testing.TB, judge Judge, c Config) *harness {
	h := newQuietHarness(t, judge, c)
	var err error
	if h.recorder, err = telemetry.New(telemetry.Config{Audit: &h.audit, AuditBlock: true}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { h.recorder.Close() })
	return h
}

// newQuietHarness records nothing.
func newQuietHarness(t testing.TB, judge Judge, c Config) *harness {
	h := &harness{t: t, judge: judge, snapshot: 7, source: planner, from: "127.0.15.21:40000", port: policy.Port{Protocol: policy.ProtocolMCP, Paths: []string{"/mcp"}}}
	c.Judge = func(*inspect.Exchange) Judge { return h.judge }
	h.layer = New(c)
	h.server = func(*seen) *inspect.Response { return jsonReply(200, `{"jsonrpc":"2.0","id":1,"result":{}}`) }
	return h
}

func jsonReply(status int, body string, header ...inspect.Field) *inspect.Response {
	r := inspect.Reply(status, "application/json", []byte(body))
	r.Header = append(r.Header, header...)
	return r
}

func eventReply(body string, header ...inspect.Field) *inspect.Response {
	return &inspect.Response{Status: 200, Header: append(inspect.Header{{Name: "Content-Type", Value: "text/event-stream"}}, header...),
		Body: io.NopCloser(strings.NewReader(body)), ContentLength: -1}
}

// An answer is what the client sees.
type answer struct {
	status int
	header inspect.Header
	body   string
	err    error
}

func (h *harness) exchange(method, body string, header ...string) *inspect.Exchange {
	r := &inspect.Request{Method: method, Target: "/mcp", Path: "/mcp", Host: "server.test", Body: strings.NewReader(body), ContentLength: int64(len(body))}
	for _, line := range header {
		name, value, _ := strings.Cut(line, ":")
		r.Header.Add(name, strings.TrimSpace(value))
	}
	if method == "POST" && !r.Header.Has("Content-Type") {
		r.Header.Add("Content-Type", "application/json")
	}
	record := h.recorder.Connection(policy.Inbound, netip.MustParseAddrPort("127.0.15.21:40000"))
	record.Source = h.source
	return &inspect.Exchange{
		Conversation: &inspect.Conversation{Direction: policy.Inbound, Source: h.source, Port: h.port, Record: record,
			Connection: policy.Connection{SourceAddr: netip.MustParseAddrPort(h.from)},
			Target:     policy.Destination{Address: netip.MustParseAddrPort("127.0.15.31:9000")}},
		Request: r, Snapshot: 7, Current: h.current,
	}
}

func (h *harness) send(method, body string, header ...string) answer {
	return h.do(h.exchange(method, body, header...))
}

func (h *harness) do(x *inspect.Exchange) answer {
	h.t.Helper()
	handler := h.layer(inspect.HandlerFunc(func(ctx context.Context, x *inspect.Exchange) (*inspect.Response, error) {
		body, err := io.ReadAll(x.Request.Body)
		if err != nil {
			return nil, err
		}
		h.got = append(h.got, seen{x.Request.Method, string(body), x.Request.Header.Clone(), x.Request.ContentLength})
		return h.server(&h.got[len(h.got)-1]), nil
	}))
	r, err := handler.Do(h.t.Context(), x)
	if err != nil {
		return answer{err: err}
	}
	a := answer{status: r.Status, header: r.Header}
	if r.Body != nil {
		body, err := io.ReadAll(r.Body)
		a.body, a.err = string(body), err
		r.Body.Close()
		if r.ContentLength >= 0 && r.ContentLength != int64(len(body)) {
			h.t.Errorf("announced %d bytes, sent %d", r.ContentLength, len(body))
		}
	}
	return a
}

// A record is a line of the audit.
type record struct {
	MCP struct {
		Protocol, Session, Method, Kind, Name string
		ID                                    any
	}
	Decision struct {
		Allowed              bool
		Policy, Rule, Reason string
	}
	Snapshot uint64
	Result   struct {
		Status, Code, Hidden int
		IsError              bool
	}
}

// records returns what was recorded; nothing can be recorded afterwards.
func (h *harness) records() (all []record) {
	h.t.Helper()
	if err := h.recorder.Close(); err != nil {
		h.t.Fatal(err)
	}
	d := json.NewDecoder(&h.audit.Buffer)
	for {
		var r record
		if err := d.Decode(&r); err == io.EOF {
			return all
		} else if err != nil {
			h.t.Fatal(err)
		}
		all = append(all, r)
	}
}

func rpc(id, method, params string) string {
	if params == "" {
		return `{"jsonrpc":"2.0","id":` + id + `,"method":"` + method + `"}`
	}
	return `{"jsonrpc":"2.0","id":` + id + `,"method":"` + method + `","params":` + params + `}`
}

func notify(method, params string) string {
	return `{"jsonrpc":"2.0","method":"` + method + `","params":` + params + `}`
}

func isError(t testing.TB, a answer, status, code int, id string) {
	t.Helper()
	var m struct {
		JSONRPC string
		ID      json.RawMessage
		Error   *struct {
			Code    int
			Message string
		}
	}
	if err := json.Unmarshal([]byte(a.body), &m); err != nil || m.Error == nil {
		t.Errorf("got %d %q, %v: want an error", a.status, a.body, err)
		return
	}
	if a.status != status || m.Error.Code != code || string(m.ID) != id || m.JSONRPC != "2.0" {
		t.Errorf("got %d, code %d, id %s (%s), want %d, %d, %s", a.status, m.Error.Code, m.ID, m.Error.Message, status, code, id)
	}
}
