package mcp

import (
	"bytes"
	"strings"

	"github.com/outrigger-mesh/outrigger/pkg/inspect"
	"github.com/outrigger-mesh/outrigger/pkg/policy"
	"github.com/outrigger-mesh/outrigger/pkg/telemetry"
)

const (
	maxToken        = 256  // bytes of a progress token
	maxClientName   = 256  // bytes of what a client calls itself that are kept
	maxCapabilities = 4096 // bytes of a client's capabilities that are kept

	metaClientInfo   = "io.modelcontextprotocol/clientInfo"
	metaCapabilities = "io.modelcontextprotocol/clientCapabilities"
)

// readMeta reads what a message says of itself: its progress token and, where a
// client introduces itself, who that is.
func (e *exchange) readMeta(c *call, m *message) *refusal {
	meta := m.Member(m.Params, "_meta")
	if token := m.Member(meta, "progressToken"); token.Kind() != 0 {
		var ok bool
		if c.token, ok = tokenKey(token); !ok {
			return invalid("the progressToken is neither a short string nor an integer")
		}
	}
	switch {
	case c.name == "initialize":
		e.client = clientOf(m.Member(m.Params, "clientInfo"), m.Member(m.Params, "capabilities"))
		e.client.Capabilities = bytes.Clone(e.client.Capabilities) // the session outlives the message
	case e.modern:
		e.client = clientOf(m.Member(meta, metaClientInfo), m.Member(meta, metaCapabilities))
	}
	return nil
}

// tokenKey is a progress token by its kind and value.
func tokenKey(v value) (key string, ok bool) {
	if len(v.Raw) > maxToken {
		return "", false
	}
	switch v.Kind() {
	case '"':
		text, _ := v.Text()
		return `"` + text, true
	case '0':
		_, ok := v.Int()
		return string(v.Raw), ok
	}
	return "", false
}

// clientOf is what a client says of itself, as far as it is short enough to keep.
func clientOf(info, capabilities value) policy.Client {
	var c policy.Client
	if v := info.Member("name"); len(v.Raw) <= maxClientName {
		c.Name, _ = v.Text()
	}
	if v := info.Member("version"); len(v.Raw) <= maxClientName {
		c.Version, _ = v.Text()
	}
	if capabilities.Kind() == '{' && len(capabilities.Raw) <= maxCapabilities {
		c.Capabilities = capabilities.Raw
	}
	return c
}

// checkOwn looks whether a notification is about what is the client's own: a
// request it sent, a progress token it was given. If not, it goes nowhere, and the
// client is none the wiser: that is what such a notification would do by itself.
// Servers without sessions would take the ids of all callers for those of one. A
// batch that has one goes nowhere as a whole.
func (e *exchange) checkOwn() *inspect.Response {
	for _, c := range e.calls {
		problem := e.notOwn(c)
		switch {
		case problem == "":
		case e.batch:
			return e.refuseCalls(refusal{status: 403, code: codeRefused, problem: "an element of the batch is not the client's own: " + problem})
		default:
			c.record.Decision = policy.Decision{Reason: "not passed on: " + problem}
			c.record.Status = 202
			return &inspect.Response{Status: 202}
		}
	}
	return nil
}

// notOwn tells why a notification is about nothing of the client's own.
func (e *exchange) notOwn(c *call) (problem string) {
	if c.kind != notification {
		return ""
	}
	switch c.name {
	case cancelled:
		if e.modern {
			// Servers that know no sessions could take the id for anybody's (cancellation,
			// "Transport-Specific Cancellation": no notification is required or expected).
			return "in revision 2026-07-28 a client cancels by closing the response"
		}
		if c.subject == "" || e.session == nil || !e.session.owns(c.subject) {
			return "it cancels a request that this session did not send"
		}
	case "notifications/progress":
		if e.modern {
			return "in revision 2026-07-28 only servers tell of progress"
		}
		if c.subject == "" || e.session == nil || !e.session.follows(c.subject) {
			return "it is progress of a request that this session's server did not send"
		}
	}
	return ""
}

// describe notes what a decision was made from, so that it can be made again from
// the record.
func (e *exchange) describe(r *telemetry.Call) {
	r.Port = e.x.Target.Address.Port()
	r.HTTPMethod, r.Path, r.Host = e.x.Request.Method, e.x.Request.Path, e.x.Request.Host
	if e.token != nil {
		r.TokenIssuer, r.TokenSubject = e.token.Issuer, e.token.Subject
		r.TokenScope = strings.Join(policy.Scopes(e.token.Claims), " ")
	}
}
