package mcp

import (
	"cmp"
	"io"
	"net/http"
	"strings"
	"sync"
	"time"

	"github.com/outrigger-mesh/outrigger/pkg/inspect"
	"github.com/outrigger-mesh/outrigger/pkg/jsonrpc"
	"github.com/outrigger-mesh/outrigger/pkg/policy"
	"github.com/outrigger-mesh/outrigger/pkg/telemetry"
	"github.com/outrigger-mesh/outrigger/pkg/token"
)

// An exchange is one HTTP request and its response, and the memory that they
// need. It is used by one goroutine at a time and again after end.
type exchange struct {
	*governor
	x      *inspect.Exchange
	judge  Judge
	terms  policy.Terms
	token  *token.Token // the caller's, validated; nil if there is none
	client policy.Client
	time   time.Time
	header http.Header // for policy; made when first needed
	values []string    // behind header

	version string // the revision in effect
	modern  bool
	batch   bool
	session *session // of the legacy eras; nil if there is none

	*workspace        // nil while a stream is silent
	kept       []byte // the body, while it is lent and the workspace is another's
	lent       *lentBody
	stream     stream
	failed     error    // why the exchange did not end well
	unheard    *unheard // what may come back for its stream; nil if nothing can
	teller     *teller  // of what the server was denied; nil if that was nothing

	narrow  []span // what the body loses before it goes on
	asking  policy.Call
	one     call    // the first of calls
	calls   []*call // what the request asks, in order
	records []*telemetry.Call

	restatus int // of HTTP, if our own answer takes the place of a response; else 0
}

// A call is one message of the client, or one bare request of a session.
type call struct {
	method  *method
	name    string // as the message has it: it may be one we do not know
	kind    jsonrpc.Kind
	id      jsonrpc.ID
	object  policy.Object // the first one, for the record
	asked   []policy.Object
	args    []byte
	token   string  // progressToken, as a key; "": none
	subject string  // of a notification: the request or progress that it is about, as a key
	general bool    // it asks for more than the objects it names
	roots   []value // what a client shows to the server when it is asked
	verdict policy.Decision
	record  *telemetry.Call
	denial  []byte // goes on in the place of its answer
	done    bool   // it was answered
}

func newExchange(g *governor) *exchange {
	return &exchange{governor: g}
}

// A workspace is the memory that an exchange needs while it has a message at hand.
type workspace struct {
	requests *jsonrpc.Parser
	answers  *jsonrpc.Parser
	body     []byte
	in       []byte // what came back
	out      []byte // what goes back
	framed   []byte // an event that goes back
}

// work takes a workspace.
func (e *exchange) work() {
	if e.workspace != nil {
		return
	}
	if w, ok := e.workspaces.Get().(*workspace); ok {
		e.workspace = w
		return
	}
	e.workspace = &workspace{requests: e.newRequestParser(), answers: e.newAnswerParser()}
}

// rest gives the workspace back, because nothing is at hand for a while.
func (e *exchange) rest() {
	w := e.workspace
	if w == nil {
		return
	}
	if e.workspace = nil; e.lent != nil && e.kept == nil {
		e.kept, w.body = w.body, nil
	}
	w.requests.Forget()
	w.answers.Forget()
	w.body, w.in, w.out, w.framed = e.small(w.body), e.small(w.in), e.small(w.out), e.small(w.framed)
	e.workspaces.Put(w)
}

func (e *exchange) begin(x *inspect.Exchange) {
	e.x = x
	e.work()
	e.judge = e.config.Judge(x)
	e.terms = e.judge.Terms(x.Direction, x.Target)
	e.time = time.Now()
}

// end finishes all records and gives the memory back.
func (e *exchange) end(err error) {
	if err == nil {
		err = cmp.Or(e.failed, e.left())
	}
	e.teller.end()
	for _, record := range e.records {
		record.Finish(err)
	}
	if e.session != nil {
		e.sessions.leave(e.session, time.Now())
	}
	e.resumable.remove(e.unheard)
	if e.lent != nil {
		e.lent.revoke()
		e.lent = nil
	}
	e.rest()
	if e.stream.events != nil {
		e.stream.events.Reset(nil)
	}
	clear(e.calls)
	clear(e.records)
	clear(e.values)
	clear(e.narrow)
	clear(e.header)
	g := e.governor
	events, header, asked := e.stream.events, e.header, smallAsked(e.one.asked)
	calls, records, values, narrow := e.calls[:0], e.records[:0], e.values[:0], e.narrow[:0]
	*e = exchange{}
	e.governor, e.stream.events, e.header, e.one.asked = g, events, header, asked
	e.calls, e.records, e.values, e.narrow = calls, records, values, narrow
	g.exchanges.Put(e)
}

// maxKept is the largest buffer that is kept for the next exchange.
const maxKept = 64 << 10

// maxPooled is the largest that waits for an exchange that needs it.
const maxPooled = 4 << 20

func smallAsked(objects []policy.Object) []policy.Object {
	clear(objects)
	if cap(objects) > 16 {
		return nil
	}
	return objects[:0]
}

// small is b, emptied, unless it is large: then another exchange may have it.
func (g *governor) small(b []byte) []byte {
	if cap(b) <= maxKept {
		return b[:0]
	}
	if cap(b) <= maxPooled {
		large := b[:0]
		g.large.Put(&large)
	}
	return nil
}

// room is b with room for n bytes, or another buffer that has it.
func (g *governor) room(b []byte, n int) []byte {
	if cap(b) >= n {
		return b[:0]
	}
	if n > maxKept {
		if large, ok := g.large.Get().(*[]byte); ok && cap(*large) >= n {
			return *large
		}
	}
	return make([]byte, 0, n)
}

// newRecord starts a record of this exchange.
func (e *exchange) newRecord() *telemetry.Call {
	r := e.x.Record.Call()
	r.Snapshot = e.x.Snapshot
	r.Protocol = e.version
	r.Session = e.x.Request.Header.Get(sessionHeader)
	e.describe(r)
	e.records = append(e.records, r)
	return r
}

// question is what policy is asked about one object of a method, until the
// next question.
func (e *exchange) question(method string, object policy.Object, args []byte) *policy.Call {
	r := e.x.Request
	session := ""
	if !e.modern {
		session = r.Header.Get(sessionHeader)
	}
	e.asking = policy.Call{
		Direction:   e.x.Direction,
		Source:      e.x.Source,
		SourceAddr:  e.x.Connection.SourceAddr,
		Destination: e.x.Target,
		Protocol:    e.version,
		Session:     session,
		Method:      method,
		Object:      object,
		Arguments:   args,
		Callee:      e.x.Destination,
		Client:      e.client,
		HTTP:        policy.HTTPRequest{Method: r.Method, Path: r.Path, Host: r.Host, Source: e},
		Time:        e.time,
	}
	if e.token != nil {
		e.asking.Claims = e.token.Claims
	}
	return &e.asking
}

// HTTPHeader is the request's header as policies see it. Most do not look. It is without
// what mirrors arguments: nobody has compared that with them as long as no list of tools
// said which header is of which.
func (e *exchange) HTTPHeader() http.Header {
	if len(e.header) > 0 || len(e.x.Request.Header) == 0 {
		return e.header
	}
	h := e.x.Request.Header
	if e.header == nil {
		e.header = make(http.Header, len(h))
	}
	if cap(e.values) < len(h) {
		e.values = make([]string, 0, 2*len(h))
	}
	for i := range h {
		name := http.CanonicalHeaderKey(h[i].Name)
		if strings.HasPrefix(name, paramHeader) {
			continue
		}
		if earlier, ok := e.header[name]; ok {
			e.header[name] = append(earlier, h[i].Value)
			continue
		}
		at := len(e.values)
		e.values = append(e.values, h[i].Value)
		e.header[name] = e.values[at : at+1 : at+1]
	}
	return e.header
}

// A lentBody is a request body that belongs to an exchange. After revoke
// nothing of it can be read: an app that answered early may still be sent to.
type lentBody struct {
	mu      sync.Mutex // guards what follows
	content []byte
	revoked bool
}

func (b *lentBody) Read(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	switch {
	case b.revoked:
		return 0, io.ErrClosedPipe
	case len(b.content) == 0:
		return 0, io.EOF
	}
	n := copy(p, b.content)
	b.content = b.content[n:]
	return n, nil
}

func (b *lentBody) revoke() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.content, b.revoked = nil, true
}

// A lastCloser ends the exchange when its body is closed.
type lastCloser struct {
	io.ReadCloser
	e *exchange
}

func (c *lastCloser) Close() error {
	if c.e == nil {
		return nil
	}
	err := c.ReadCloser.Close()
	c.e.end(nil)
	c.e = nil
	return err
}

// Read reads from the body; nothing is left after Close.
func (c *lastCloser) Read(p []byte) (int, error) {
	if c.e == nil {
		return 0, io.ErrClosedPipe
	}
	return c.ReadCloser.Read(p)
}

// A lastWriter is the lastCloser of a body in memory, which is written at once.
type lastWriter struct {
	lastCloser
	content *inMemory
}

// WriteTo writes what is left of the body.
func (w *lastWriter) WriteTo(to io.Writer) (int64, error) {
	if w.e == nil {
		return 0, io.ErrClosedPipe
	}
	return w.content.WriteTo(to)
}
