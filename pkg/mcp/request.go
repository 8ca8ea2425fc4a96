package mcp

import (
	"context"
	"errors"
	"io"
	"slices"

	"github.com/outrigger-mesh/outrigger/pkg/inspect"
	"github.com/outrigger-mesh/outrigger/pkg/jsonrpc"
	"github.com/outrigger-mesh/outrigger/pkg/policy"
)

const (
	sessionHeader = "Mcp-Session-Id"
	versionHeader = "MCP-Protocol-Version"
)

// post governs the request that carries messages: read, understand, authorize,
// forward, and inspect what comes back.
func (e *exchange) post(ctx context.Context, next inspect.Handler) (*inspect.Response, error) {
	if r := e.readBody(); r != nil {
		return e.refuse(*r), nil
	}
	if r := e.understand(); r != nil {
		if len(e.calls) > 0 {
			return e.refuseCalls(*r), nil
		}
		return e.refuse(*r), nil
	}
	if r := e.enterSession(); r != nil {
		return e.refuseCalls(*r), nil
	}
	e.legacyVersion()
	if r := e.checkBatch(); r != nil {
		return e.refuseCalls(*r), nil
	}
	if r := e.recognizeAnswers(); r != nil {
		return e.refuseCalls(*r), nil
	}
	if r := e.checkOwn(); r != nil {
		return r, nil
	}
	if !e.authorize() {
		if len(e.calls[0].verdict.Scopes) == 0 && e.session != nil && e.session.key.endpoint != "" && len(e.calls) == 1 && e.calls[0].kind == request {
			return e.denyOnStream(ctx, next)
		}
		return e.denyAll(), nil
	}
	if r := e.checkMirroredArguments(e.calls[0]); r != nil { // not before: of hidden tools it would tell
		return e.refuseCalls(*r), nil
	}
	if r := e.withdraw(); r != nil {
		return e.refuseCalls(*r), nil
	}
	e.expect()
	e.lend()
	if !e.modern {
		e.x.GoOn(e.config.Unheard)
	}
	upstream, err := next.Do(ctx, e.x)
	if err != nil {
		return nil, err
	}
	return e.respond(ctx, upstream)
}

// readBody reads the body if it is one that everybody reads alike.
func (e *exchange) readBody() *refusal {
	r := e.x.Request
	tooLarge := &refusal{status: 413, code: codeInvalidRequest, problem: "the request body is too large"}
	switch {
	case !isJSON(r.Header.Get("Content-Type")):
		return &refusal{status: 415, code: codeInvalidRequest, problem: "Content-Type must be application/json in UTF-8"}
	case !isIdentity(r.Header.Get("Content-Encoding")):
		return &refusal{status: 415, code: codeInvalidRequest, problem: "an encoded request body is not accepted"}
	case r.ContentLength > int64(e.config.RequestBytes):
		return tooLarge
	}
	var err error
	e.body, err = e.readAll(e.body[:0], r.Body, r.ContentLength, e.config.RequestBytes)
	switch {
	case errors.Is(err, errTooLarge):
		return tooLarge
	case err != nil:
		if known, ok := errors.AsType[*inspect.Error](err); ok {
			return &refusal{status: known.Status, code: codeInvalidRequest, problem: known.Problem}
		}
		return &refusal{status: 400, code: codeInvalidRequest, problem: "the request body ended early"}
	}
	return nil
}

var errTooLarge = errors.New("body too large")

// readAll appends all of r to dst, at most limit bytes. length is what is
// announced, or -1.
func (g *governor) readAll(dst []byte, r io.Reader, length int64, limit int) ([]byte, error) {
	if length > int64(limit) {
		return dst, errTooLarge
	}
	dst = g.room(dst, int(min(max(length, 1024), 1<<20+1<<18))+1)
	for idle := 0; ; {
		if len(dst) == cap(dst) {
			dst = slices.Grow(dst, len(dst))
		}
		n, err := r.Read(dst[len(dst):cap(dst)])
		dst = dst[:len(dst)+n]
		switch {
		case len(dst) > limit:
			return dst, errTooLarge
		case err == io.EOF:
			return dst, nil
		case err != nil:
			return dst, err
		case n > 0:
			idle = 0
		default:
			if idle++; idle > 100 {
				return dst, io.ErrNoProgress
			}
		}
	}
}

// understand reads the messages and settles which revision they speak.
func (e *exchange) understand() *refusal {
	m, err := e.requests.Message(e.body)
	if err == nil {
		return e.addCall(m)
	}
	refused, _ := errors.AsType[*jsonrpc.Error](err)
	if refused.Reason == jsonrpc.ReasonBatch && !e.config.NoBatches {
		return e.understandBatch()
	}
	status := 400
	if refused.Reason == jsonrpc.ReasonTooLarge && len(e.body) > e.config.RequestBytes {
		status = 413
	}
	return &refusal{status: status, code: refused.Code, problem: refused.Problem, id: refused.ID}
}

func (e *exchange) understandBatch() *refusal {
	e.batch = true
	ms, err := e.requests.Batch(e.body)
	if err != nil {
		refused, _ := errors.AsType[*jsonrpc.Error](err)
		return &refusal{status: 400, code: refused.Code, problem: refused.Problem}
	}
	for i := range ms {
		if r := e.addCall(&ms[i]); r != nil {
			return r
		}
		if e.modern || ms[i].Method == "initialize" {
			return &refusal{status: 400, code: codeInvalidRequest, problem: "this message must not be in a batch"}
		}
	}
	return nil
}

// checkBatch accepts batches only in sessions that negotiated the revision that
// has them.
func (e *exchange) checkBatch() *refusal {
	if !e.batch || e.version == rev2503 && e.session != nil && e.session.negotiated() == rev2503 {
		return nil
	}
	return &refusal{status: 400, code: codeInvalidRequest, problem: "batches exist only in sessions of revision " + rev2503}
}

// addCall turns a message into a call and checks what does not need a session.
func (e *exchange) addCall(m *message) *refusal {
	c := &e.one
	if len(e.calls) > 0 {
		c = new(call)
	}
	*c = call{name: m.Method, kind: m.Kind, id: m.ID, asked: c.asked[:0]}
	c.record = e.newRecord()
	c.record.Method, c.record.ID, c.record.RequestBytes = m.Method, string(m.ID.Raw), int64(len(m.Raw))
	e.calls = append(e.calls, c)
	h := e.x.Request.Header
	header := h.Get(versionHeader)
	if header == "" && h.Has(versionHeader) {
		return &refusal{status: 400, code: codeInvalidRequest, problem: "the MCP-Protocol-Version header is empty"}
	}
	if r := e.settle(header, m); r != nil {
		return r
	}
	c.record.Protocol = e.version
	if m.Kind == response {
		c.roots = []value{m.Member(m.Result, "roots")}
		return e.addResponse(c)
	}
	if !isPlain(m.Method) || len(m.Method) > maxEcho {
		return &refusal{status: 400, code: codeInvalidRequest, problem: "the method is not a plain name"}
	}
	c.method = lookup(m.Method)
	if r := e.readMeta(c, m); r != nil {
		return r
	}
	if e.modern && c.method.is(legacyOnly) {
		return nil // decide denies it, whatever it names
	}
	if r := e.identify(c, m); r != nil {
		return r
	}
	c.record.Object = c.object
	return e.checkMirror(m, c.method, c.object.Name)
}

// addResponse accepts an answer to a server's request; whose it is is for the
// session to say.
func (e *exchange) addResponse(c *call) *refusal {
	switch {
	case e.modern:
		return &refusal{status: 400, code: codeInvalidRequest, problem: "revision 2026-07-28 has no responses from clients"}
	case c.id.IsZero():
		return &refusal{status: 400, code: codeInvalidRequest, problem: "the response has no id"}
	}
	return c.checkRoots()
}

// lend makes the bytes that were read the body that is forwarded.
func (e *exchange) lend() {
	e.lent = &lentBody{content: e.body}
	e.x.Request.Body = e.lent
	e.x.Request.ContentLength = int64(len(e.body))
	if e.modern {
		e.x.Request.Header.Del(sessionHeader) // it means nothing in this era; to another server it might
	}
}

// bare governs GET and DELETE, the requests of a session without a message.
func (e *exchange) bare(ctx context.Context, next inspect.Handler) (*inspect.Response, error) {
	r := e.x.Request
	version := r.Header.Get(versionHeader)
	switch {
	case version == rev2607:
		return e.notAllowed("revision 2026-07-28 has only POST"), nil
	case r.Header.Has(versionHeader) && !isRevision(version):
		return e.refuse(refusal{status: 400, code: codeUnsupportedVersion, problem: "unsupported protocol version"}), nil
	case r.ContentLength != 0:
		return e.refuse(refusal{status: 400, code: codeInvalidRequest, problem: "this HTTP method has no body"}), nil
	case r.Method == "DELETE" && !r.Header.Has(sessionHeader):
		return e.notAllowed("DELETE without a session"), nil
	}
	if last := r.Header.Get("Last-Event-Id"); last != "" && !e.events.may(e.eventHandle(last), e.resumer()) {
		return e.refuse(refusal{status: 403, code: codeRefused, problem: "the event belongs to another caller"}), nil
	}
	e.version = version
	c := &call{name: r.Method, method: &method{name: r.Method}, record: e.newRecord()}
	c.record.Method = r.Method
	e.calls = append(e.calls, c)
	if refused := e.enterSession(); refused != nil {
		return e.refuseCalls(*refused), nil
	}
	e.legacyVersion()
	if c.verdict = e.ask(c, policy.Object{}); !c.verdict.Allowed && r.Method == "DELETE" {
		// It only ends what the caller itself opened, and must end also, and rather, if
		// the caller may do nothing else any more: the server would keep it for ever.
		c.verdict = policy.Decision{Allowed: true, Audits: c.verdict.Audits, Reason: "a caller may end its own session; otherwise " + c.verdict.Reason}
	}
	if !c.verdict.Allowed {
		c.record.Decision, c.record.Status = c.verdict, 405
		response := reply(405, "text/plain; charset=utf-8", []byte("Method Not Allowed\n"))
		response.Header.Add("Allow", "POST")
		return response, nil
	}
	c.record.Decision = c.verdict
	upstream, err := e.resume(ctx, next)
	if err != nil {
		return nil, err
	}
	if r.Method == "DELETE" && (upstream.Status < 300 || upstream.Status == 404) {
		e.sessions.forget(e.session)
	}
	return e.respond(ctx, upstream)
}
