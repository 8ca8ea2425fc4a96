package mcp

import (
	"slices"

	"github.com/outrigger-mesh/outrigger/pkg/jsonrpc"
	"github.com/outrigger-mesh/outrigger/pkg/policy"
)

// A client that is asked for its roots shows things of which the server may see
// some. Its answer loses the others and goes on with the rest. It is the only request
// whose bytes change.

// A span is a list in the body, of which only some elements go on.
type span struct {
	list value
	keep func(element value) bool
}

// checkRoots bounds how many roots a message shows: each is asked about, as an address,
// and recorded if it is denied.
func (c *call) checkRoots() *refusal {
	n := 0
	for _, roots := range c.roots {
		for range roots.Elements() {
			if n++; n > maxObjects {
				return invalid("the message shows too many roots")
			}
		}
	}
	return nil
}

// withdraw takes from the body what was denied in it.
func (e *exchange) withdraw() *refusal {
	if len(e.narrow) == 0 {
		return nil
	}
	if e.batch {
		return &refusal{status: 403, code: codeRefused, problem: "an element of the batch names what is not allowed"}
	}
	slices.SortFunc(e.narrow, func(a, b span) int { return a.list.At - b.list.At })
	out, from := make([]byte, 0, len(e.body)), 0
	for _, s := range e.narrow {
		text := e.body[from:s.list.End()]
		out, _ = jsonrpc.AppendFiltered(out, text, from, s.list, s.keep)
		from = s.list.End()
	}
	e.body = append(out, e.body[from:]...)
	return nil
}

// recordPart records the decision about one of the things that a call names, which
// are not all decided alike.
func (e *exchange) recordPart(c *call, object policy.Object, d policy.Decision) {
	r := e.newRecord()
	r.Method, r.ID, r.Object, r.Decision, r.Protocol = c.name, c.record.ID, object, d, e.version
	r.Finish(nil)
	e.records = e.records[:len(e.records)-1]
}

// narrowRoots takes from what a client shows of its roots those that the server may
// not see.
func (e *exchange) narrowRoots(c *call) {
	if len(c.roots) == 0 {
		return
	}
	asked := &call{name: "roots/list", method: lookup("roots/list"), record: c.record}
	for _, roots := range c.roots {
		hidden := c.record.Hidden
		for element := range roots.Elements() {
			if d := e.askRoot(asked, element); !d.Allowed {
				name, _ := element.Member("uri").Text()
				e.recordPart(asked, policy.Object{Kind: policy.KindResource, Name: name}, d)
				c.record.Hidden++
			}
		}
		if c.record.Hidden > hidden {
			e.narrow = append(e.narrow, span{roots, func(element value) bool { return e.askRoot(asked, element).Allowed }})
		}
	}
}

func (e *exchange) askRoot(c *call, root value) policy.Decision {
	uri, ok := root.Member("uri").Text()
	if !ok {
		return policy.Decision{Reason: "the root has no uri"}
	}
	return e.ask(c, policy.Object{Kind: policy.KindResource, Name: uri})
}
