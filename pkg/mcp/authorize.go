package mcp

import (
	"github.com/outrigger-mesh/outrigger/pkg/inspect"
	"github.com/outrigger-mesh/outrigger/pkg/jsonrpc"
	"github.com/outrigger-mesh/outrigger/pkg/policy"
)

// maxObjects is how many objects one message may name.
const maxObjects = 1024

// identify finds the objects that a request or notification names.
func (e *exchange) identify(c *call, m *message) *refusal {
	known := c.method
	switch {
	case known.name == cancelled:
		c.subject = idKey(m.Member(m.Params, "requestId"))
	case known.name == "notifications/progress":
		c.subject, _ = tokenKey(m.Member(m.Params, "progressToken"))
	case known.is(eachNotified):
		return e.identifyEach(c, m)
	case known.name == "completion/complete":
		return e.identifyReference(c, m)
	case known.param != "":
		if r := c.addObject(known.kind, m.Member(m.Params, known.param)); r != nil {
			return r
		}
	default:
		c.object = policy.Object{Kind: known.kind}
	}
	if r := e.checkState(c, m); r != nil {
		return r
	}
	for _, answer := range m.Member(m.Params, "inputResponses").Members() {
		if roots := answer.Member("roots"); roots.Kind() != 0 {
			c.roots = append(c.roots, roots)
		}
	}
	if r := c.checkRoots(); r != nil {
		return r
	}
	if !known.is(arguments) {
		return nil
	}
	switch args := m.Member(m.Params, "arguments"); args.Kind() {
	case '{':
		c.args = args.Raw
	case 0:
	default:
		return invalid("arguments is not an object")
	}
	return nil
}

func invalid(problem string) *refusal {
	return &refusal{status: 400, code: codeInvalidParams, problem: problem}
}

// addObject adds an object of that kind that v names.
func (c *call) addObject(kind policy.Kind, v value) *refusal {
	text, ok := v.Text()
	switch {
	case !ok || text == "":
		return invalid("the " + noun(kind) + " is not named by a string")
	case !isPlain(text):
		return invalid("the name of the " + noun(kind) + " has control characters")
	case len(c.asked) == maxObjects:
		return invalid("the message names too many objects")
	}
	object := policy.Object{Kind: kind, Name: text}
	if len(c.asked) == 0 {
		c.object = object
	}
	c.asked = append(c.asked, object)
	return nil
}

func noun(kind policy.Kind) string {
	switch kind {
	case policy.KindTool:
		return "tool"
	case policy.KindResource, policy.KindTemplate:
		return "resource"
	case policy.KindPrompt:
		return "prompt"
	case policy.KindTask:
		return "task"
	}
	return "object"
}

// identifyReference reads what a completion is for. It needs the right to the
// thing itself: completions tell values of it.
func (e *exchange) identifyReference(c *call, m *message) *refusal {
	ref := m.Member(m.Params, "ref")
	if ref.Kind() != '{' {
		return invalid("ref is not an object")
	}
	switch kind := m.Member(ref, "type"); {
	case kind.Is("ref/prompt") && m.Member(ref, "uri").Kind() == 0:
		return c.addObject(policy.KindPrompt, m.Member(ref, "name"))
	case kind.Is("ref/resource") && m.Member(ref, "name").Kind() == 0:
		if r := c.addObject(policy.KindResource, m.Member(ref, "uri")); r != nil {
			return r
		}
		for i := range len(c.object.Name) {
			if b := c.object.Name[i]; b == '{' || b == '}' {
				c.object.Kind, c.asked[0].Kind = policy.KindTemplate, policy.KindTemplate
			}
		}
		return nil
	}
	return invalid("ref is neither a ref/prompt with a name nor a ref/resource with a uri")
}

// identifyEach reads what a subscription listens to, element by element.
func (e *exchange) identifyEach(c *call, m *message) *refusal {
	c.object = policy.Object{}
	wanted := m.Member(m.Params, "notifications")
	if k := wanted.Kind(); k != '{' && k != 0 {
		return invalid("notifications is not an object")
	}
	for _, list := range [...]struct {
		name string
		kind policy.Kind
	}{{"resourceSubscriptions", policy.KindResource}, {"taskIds", policy.KindTask}} {
		elements := m.Member(wanted, list.name)
		if k := elements.Kind(); k != '[' && k != 0 {
			return invalid(list.name + " is not an array")
		}
		for element := range elements.Elements() {
			if r := c.addObject(list.kind, element); r != nil {
				return r
			}
		}
	}
	for name := range wanted.Members() {
		c.general = c.general || !name.Is("resourceSubscriptions") && !name.Is("taskIds")
	}
	return nil
}

// authorize asks policy about every call. One that is not allowed denies all:
// a batch goes as a whole or not at all.
func (e *exchange) authorize() bool {
	allowed := true
	for _, c := range e.calls {
		c.verdict = e.decide(c)
		c.record.Decision, c.record.Protocol = c.verdict, e.version
		c.record.ClientName, c.record.ClientVersion = e.client.Name, e.client.Version
		c.record.Arguments = recorded(c.args, e.terms.Arguments)
		allowed = allowed && c.verdict.Allowed
	}
	return allowed
}

// decide asks about each object of a call; the first denial decides.
func (e *exchange) decide(c *call) policy.Decision {
	if c.kind == response {
		d := e.ask(c, policy.Object{})
		if d.Allowed && c.name == "roots/list" {
			e.narrowRoots(c)
		}
		return d
	}
	if e.modern && c.method.is(legacyOnly) {
		return c.unknown("revision 2026-07-28 removed the method")
	}
	if c.method.is(serverOnly) {
		return c.unknown("only servers send this method")
	}
	if len(c.asked) == 0 {
		return e.ask(c, c.object)
	}
	if c.general {
		if d := e.ask(c, policy.Object{}); !d.Allowed {
			c.object, c.record.Object = policy.Object{}, policy.Object{}
			return d
		}
	}
	var verdict policy.Decision
	for _, object := range c.asked {
		c.record.Object = object // or what it stands for, if that is what is denied
		if verdict = e.askOwner(c, object); !verdict.Allowed {
			c.object = object
			return verdict
		}
	}
	c.record.Object = c.object
	e.narrowRoots(c)
	return verdict
}

// unknown denies a method that does not exist for a client of this era.
func (c *call) unknown(reason string) policy.Decision {
	c.method = &method{name: c.name, kind: policy.KindUnknown}
	c.object = policy.Object{Kind: policy.KindUnknown}
	return policy.Decision{Reason: reason}
}

// askOwner refuses tasks of other callers before it asks policy.
func (e *exchange) askOwner(c *call, object policy.Object) policy.Decision {
	if object.Kind == policy.KindTask && !e.mayUseTask(object.Name) {
		return policy.Decision{Reason: "the task belongs to another caller, or is of what this one may not use"}
	}
	return e.ask(c, object)
}

func (e *exchange) ask(c *call, object policy.Object) policy.Decision {
	if object.Kind == policy.KindResource || object.Kind == policy.KindTemplate {
		return e.askAddress(c, object)
	}
	return e.judge.Call(e.question(c.method.name, object, c.args))
}

// denyAll answers the calls that were denied. In a batch the others are
// answered too: they were not executed.
func (e *exchange) denyAll() *inspect.Response {
	if len(e.calls) == 1 {
		c := e.calls[0]
		if len(c.verdict.Scopes) > 0 && e.terms.Tokens != nil {
			return e.askForScopes(c)
		}
		status, code, body := e.denied(c)
		c.record.Status, c.record.ErrorCode, c.record.ResponseBytes = status, code, int64(len(body))
		return reply(status, "application/json", body)
	}
	e.out = append(e.out[:0], '[')
	for _, c := range e.calls {
		code, body := codeRefused, appendError(nil, c.id.Raw, codeRefused, "not executed: another element of the batch was refused", "")
		if !c.verdict.Allowed {
			_, code, body = e.denied(c)
		} else {
			c.record.Decision = policy.Decision{Reason: "another element of the batch was denied"}
		}
		c.record.Status, c.record.ErrorCode = 200, code
		if c.kind != request {
			continue
		}
		if len(e.out) > 1 {
			e.out = append(e.out, ',')
		}
		e.out = append(e.out, body...)
	}
	if len(e.out) == 1 {
		return reply(403, "application/json", appendError(nil, nil, codeRefused, "not allowed", ""))
	}
	e.out = append(e.out, ']')
	return reply(200, "application/json", e.out)
}

// idKey is the key of a request's id that something else names.
func idKey(v value) string {
	id, ok := jsonrpc.ReadID(v)
	if !ok {
		return ""
	}
	return id.Key
}
