package mcp

import (
	"slices"

	"github.com/outrigger-mesh/outrigger/pkg/jsonrpc"
	"github.com/outrigger-mesh/outrigger/pkg/policy"
	"github.com/outrigger-mesh/outrigger/pkg/telemetry"
)

// rewrite inspects m, the answer to c, and returns the document to pass on:
// doc itself unless something in it must not be seen. It may return a denial in
// the answer's place.
func (e *exchange) rewrite(c *call, m *message, doc []byte) (out []byte, problem string) {
	rephrase := false
	if key := e.formKey(c); key.learnable() {
		rephrase = e.forms.learn(key, c, m)
	}
	if e.session != nil && c.kind == request {
		e.session.settled(c.id.Key)
	}
	if rephrase {
		e.restatus, c.record.ErrorCode, out = e.denied(c)
		return out, ""
	}
	if m.Error.Kind() != 0 {
		c.record.ErrorCode = int(m.Code)
		return doc, ""
	}
	c.record.ToolError = c.object.Kind == policy.KindTool && m.Member(m.Result, "isError").Kind() == 't'
	if c.method.name == "initialize" && e.session != nil {
		if version, ok := m.Member(m.Result, "protocolVersion").Text(); ok {
			e.session.negotiate(version)
			c.record.Protocol = version
		}
	}
	e.own(c, m)
	if e.exceeds(c, m) {
		return e.withhold(c, codeRefused, "the server asked for input that is not allowed"), ""
	}
	switch {
	case e.terms.FilterLinked && c.method.is(linksResources):
		return e.splice(doc, e.unlink(c, m)), ""
	case c.method.list == "contents":
		return e.rewriteRead(c, m, doc)
	case c.method.list != "" || c.method.is(cacheable):
		return e.rewriteList(c, m, doc)
	}
	return doc, ""
}

// rewriteElement is rewrite for a message inside a larger document.
func (e *exchange) rewriteElement(c *call, m *message) (out []byte, problem string) {
	again, err := e.newAnswerParser().Message(m.Raw)
	if err != nil {
		return nil, err.Error()
	}
	return e.rewrite(c, again, again.Raw)
}

// withhold is a JSON-RPC error in place of an answer that must not be seen.
func (e *exchange) withhold(c *call, code int, text string) []byte {
	c.record.ErrorCode, c.record.ToolError = code, false
	return appendError(nil, c.id.Raw, code, text, "")
}

// exceeds tells whether the result asks the client for something that policy does
// not let this server ask for: in the modern era, requests of the server come inside
// of results. Each of them is recorded as the request it is.
func (e *exchange) exceeds(c *call, m *message) bool {
	for _, asked := range [...]value{m.Member(m.Result, "inputRequests"), m.Member(m.Result, "task").Member("inputRequests")} {
		if denied, why := e.asksTooMuch(asked); denied {
			c.record.Decision = why
			return true
		}
	}
	return false
}

func (e *exchange) asksTooMuch(asked value) (denied bool, why policy.Decision) {
	if k := asked.Kind(); k != 0 && k != '{' {
		return true, policy.Decision{Reason: "inputRequests is not an object"}
	}
	for _, wanted := range asked.Members() {
		name, ok := wanted.Member("method").Text()
		if !ok || !isPlain(name) || len(name) > maxEcho {
			return true, policy.Decision{Reason: "an input request has no plain method"}
		}
		why = e.askServer(name, wanted.Member("params"))
		part := &call{name: name, record: &telemetry.Call{}}
		e.recordPart(part, policy.Object{}, why)
		if !why.Allowed {
			return true, why
		}
	}
	return false, why
}

// rewriteRead checks that each resource in the answer to a read may be read: a
// server may answer with others than the one that was asked for.
func (e *exchange) rewriteRead(c *call, m *message, doc []byte) (out []byte, problem string) {
	for element := range m.Member(m.Result, "contents").Elements() {
		uri, ok := element.Member("uri").Text()
		if ok && uri == c.object.Name {
			continue
		}
		verdict := policy.Decision{Reason: "the server answered with contents without a uri"}
		if ok {
			verdict = e.ask(c, policy.Object{Kind: policy.KindResource, Name: uri})
		}
		if !verdict.Allowed {
			c.verdict, c.record.Decision = verdict, verdict
			_, code, body := e.denied(c)
			c.record.ErrorCode = code
			return body, ""
		}
	}
	return e.splice(doc, e.privately(m)), ""
}

// rewriteList takes from a list what the caller may not see. Cursor, order and
// every other byte stay; a shared cache may not keep what one caller sees.
func (e *exchange) rewriteList(c *call, m *message, doc []byte) (out []byte, problem string) {
	list := m.Member(m.Result, c.method.list)
	if c.method.list == "" || list.Kind() == 0 {
		return e.splice(doc, e.privately(m)), ""
	}
	if list.Kind() != '[' {
		return nil, "its list is not an array"
	}
	if c.method == &toolsList && e.modern {
		e.learnMirrors(list)
	}
	q := new(policy.Call)
	*q = *e.question(c.name, policy.Object{}, nil) // tasks are asked about in between
	var before, behind []edit
	for _, ed := range e.privately(m) {
		if ed.at < list.At {
			before = append(before, ed)
		} else {
			behind = append(behind, ed)
		}
	}
	out = appendEdited(e.room(e.out, len(doc)+16), doc[:list.At], 0, before)
	out, dropped := jsonrpc.AppendFiltered(out, list.Raw, list.At, list, func(element value) bool {
		return e.shows(q, c.method, element)
	})
	e.out = appendEdited(out, doc[list.End():], list.End(), behind)
	c.record.Hidden += dropped
	if dropped == 0 && len(before)+len(behind) == 0 {
		return doc, ""
	}
	return e.out, ""
}

// shows tells whether a list may show an element.
func (e *exchange) shows(q *policy.Call, m *method, element value) bool {
	name, ok := element.Member(m.key).Text()
	if !ok {
		return false // what has no name cannot be judged
	}
	if m.item == policy.KindTask {
		return e.mayUseTask(name) && e.judge.Visible(q, policy.Object{Kind: m.item, Name: name}).Allowed
	}
	return e.judge.Visible(q, policy.Object{Kind: m.item, Name: name}).Allowed
}

// privately makes the edit that forbids shared caches (SEP-2549): what a
// caller may see depends on who it is.
func (e *exchange) privately(m *message) []edit {
	if scope := m.Member(m.Result, "cacheScope"); scope.Is("public") {
		return []edit{{scope.At, scope.End(), []byte(`"private"`)}}
	}
	return nil
}

// An edit replaces the bytes from at to end.
type edit struct {
	at, end int
	with    []byte
}

// splice is doc with the edits; without any it is doc itself.
func (e *exchange) splice(doc []byte, edits []edit) []byte {
	if len(edits) == 0 {
		return doc
	}
	e.out = appendEdited(e.out[:0], doc, 0, edits)
	return e.out
}

// appendEdited appends text, which starts at base in the document, with the
// edits, which are in order.
func appendEdited(dst, text []byte, base int, edits []edit) []byte {
	from := 0
	for _, ed := range edits {
		dst = append(append(dst, text[from:ed.at-base]...), ed.with...)
		from = ed.end - base
	}
	return append(dst, text[from:]...)
}

func sortEdits(edits []edit) {
	slices.SortFunc(edits, func(a, b edit) int { return a.at - b.at })
}
