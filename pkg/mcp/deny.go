package mcp

import (
	"bytes"
	"strconv"
	"unicode/utf8"

	"github.com/outrigger-mesh/outrigger/pkg/inspect"
	"github.com/outrigger-mesh/outrigger/pkg/jsonrpc"
	"github.com/outrigger-mesh/outrigger/pkg/policy"
	"github.com/outrigger-mesh/outrigger/pkg/telemetry"
)

// JSON-RPC error codes that we answer with. Those of JSON-RPC itself are in
// package jsonrpc.
const (
	codeInvalidRequest     = jsonrpc.CodeInvalidRequest
	codeInvalidParams      = jsonrpc.CodeInvalidParams
	codeMethodNotFound     = jsonrpc.CodeMethodNotFound
	codeInternalError      = jsonrpc.CodeInternalError
	codeResourceNotFound   = -32002 // legacy
	codeSessionNotFound    = -32001 // what the TypeScript SDK says
	codeHeaderMismatch     = -32020
	codeUnsupportedVersion = -32022
	codeRefused            = -31403 // outside what JSON-RPC and MCP reserve
)

// A refusal is why a message is not a question for policy: it could not be
// read, or it does not fit its session.
type refusal struct {
	status  int
	code    int            // 0: no JSON-RPC body
	problem string         // for the record and for the peer
	data    string         // raw JSON for the error's data
	id      []byte         // raw; nil: null
	header  inspect.Header // besides
	cause   string         // for the record only
}

// refuse answers with the refusal and records it.
func (e *exchange) refuse(r refusal) *inspect.Response {
	record := e.newRecord()
	record.Method = e.x.Request.Method
	e.note(record, r)
	return e.refusalResponse(r)
}

// refuseCalls answers with the refusal and records it for each call.
func (e *exchange) refuseCalls(r refusal) *inspect.Response {
	for _, c := range e.calls {
		c.record.Protocol = e.version
		e.note(c.record, r)
	}
	if len(e.calls) == 1 {
		r.id = e.calls[0].id.Raw
	}
	return e.refusalResponse(r)
}

func (e *exchange) note(record *telemetry.Call, r refusal) {
	reason := "not accepted: " + r.problem
	if r.cause != "" {
		reason += ": " + r.cause
	}
	record.Decision = policy.Decision{Reason: reason}
	record.Status, record.ErrorCode = r.status, r.code
	record.ID = string(r.id)
	record.RequestBytes = int64(len(e.body))
}

func (e *exchange) refusalResponse(r refusal) *inspect.Response {
	if r.code == 0 {
		return reply(r.status, "text/plain; charset=utf-8", []byte(r.problem+"\n"))
	}
	e.out = appendError(e.out[:0], r.id, r.code, r.problem, r.data)
	response := reply(r.status, "application/json", e.out)
	response.Header = append(response.Header, r.header...)
	return response
}

// notAllowed answers that the HTTP method is not for this endpoint. Clients
// take it for "this server has no such stream" and go on.
func (e *exchange) notAllowed(problem string) *inspect.Response {
	response := e.refuse(refusal{status: 405, problem: problem})
	response.Header.Add("Allow", "POST")
	return response
}

// appendError appends a JSON-RPC error response.
func appendError(dst, id []byte, code int, text, data string) []byte {
	dst = appendErrorHead(dst, id)
	dst = append(dst, `{"code":`...)
	dst = strconv.AppendInt(dst, int64(code), 10)
	dst = append(dst, `,"message":`...)
	dst = appendQuoted(dst, text)
	if data != "" {
		dst = append(append(dst, `,"data":`...), data...)
	}
	return append(dst, `}}`...)
}

func appendErrorHead(dst, id []byte) []byte {
	dst = append(dst, `{"jsonrpc":"2.0","id":`...)
	if id == nil {
		id = []byte("null")
	}
	return append(append(dst, id...), `,"error":`...)
}

// denied is the answer to a call that policy does not allow, as the server
// itself would answer if there were no such thing.
func (e *exchange) denied(c *call) (status, code int, body []byte) {
	status, code = 200, codeInvalidParams
	text, data := "", ""
	if c.kind == request {
		if status, code, body, ok := e.forms.answer(e.formKey(c), c); ok {
			return status, code, body
		}
		e.forms.pin(e.formKey(c))
	}
	switch {
	case c.kind != request:
		status, code, text = 403, codeRefused, "not allowed"
	case c.object.Kind == policy.KindTool:
		text = unknown("tool", c)
	case c.object.Kind == policy.KindPrompt:
		text = unknown("prompt", c)
	case c.object.Kind == policy.KindResource, c.object.Kind == policy.KindTemplate:
		text = "Resource not found"
		if len(c.object.Name) <= maxEcho {
			data = `{"uri":` + quote(c.object.Name) + `}`
		}
		if !e.modern {
			code = codeResourceNotFound
		}
	case c.object.Kind == policy.KindTask:
		text = "Task not found"
	case c.method.name == "initialize" && c.method.kind == policy.KindNone:
		code, text = codeRefused, "not allowed"
	default: // a method that is not known, or not to this caller
		code, text = codeMethodNotFound, "Method not found"
		if e.modern {
			status = 404 // streamable HTTP, 2026-07-28, fixes it
		}
	}
	return status, code, appendError(nil, c.id.Raw, code, text, data)
}

// maxEcho is the longest name that an answer of ours repeats.
const maxEcho = 1024

func unknown(what string, c *call) string {
	if len(c.object.Name) > maxEcho {
		return "unknown " + what
	}
	return "unknown " + what + ` "` + c.object.Name + `"`
}

func reply(status int, contentType string, content []byte) *inspect.Response {
	return &inspect.Response{
		Status:        status,
		Header:        inspect.Header{{Name: "Content-Type", Value: contentType}},
		Body:          newInMemory(content),
		ContentLength: int64(len(content)),
	}
}

// inMemory is a body in memory.
type inMemory struct{ bytes.Reader }

func newInMemory(content []byte) *inMemory {
	b := new(inMemory)
	b.Reset(content)
	return b
}

func (*inMemory) Close() error { return nil }

// quote is text as a JSON string.
func quote(text string) string { return string(appendQuoted(nil, text)) }

func appendQuoted(dst []byte, text string) []byte {
	const hex = "0123456789abcdef"
	dst = append(dst, '"')
	for _, r := range text { // what is not UTF-8 comes as U+FFFD
		switch {
		case r == '"' || r == '\\':
			dst = append(dst, '\\', byte(r))
		case r < 0x20:
			dst = append(dst, '\\', 'u', '0', '0', hex[r>>4], hex[r&15])
		default:
			dst = utf8.AppendRune(dst, r)
		}
	}
	return append(dst, '"')
}
