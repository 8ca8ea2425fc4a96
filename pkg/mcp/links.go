package mcp

import (
	"github.com/outrigger-mesh/outrigger/pkg/jsonrpc"
)

// unlink makes the edits that take from a result the links to resources that the
// caller may not read, and those that are embedded: in the content of tools' results,
// also where a task holds one, and in prompts' messages.
func (e *exchange) unlink(c *call, m *message) []edit {
	edits := e.privately(m)
	for _, result := range [...]value{m.Result, m.Member(m.Result, "result")} {
		for _, name := range [...]string{"content", "messages"} {
			list := result.Member(name)
			if list.Kind() != '[' {
				continue
			}
			kept, dropped := jsonrpc.AppendFiltered(nil, list.Raw, list.At, list, e.showsLinked)
			if dropped > 0 {
				c.record.Hidden += dropped
				edits = append(edits, edit{list.At, list.End(), kept})
			}
		}
	}
	sortEdits(edits)
	return edits
}

// showsLinked tells whether a block of content, or a message of a prompt, may be
// seen. What says that it is a resource and does not say which may not.
func (e *exchange) showsLinked(block value) bool {
	if inner := block.Member("content"); inner.Kind() == '{' {
		block = inner // of a prompt's message
	}
	holder := block
	switch kind := block.Member("type"); {
	case kind.Is("resource"):
		holder = block.Member("resource")
	case !kind.Is("resource_link"):
		return true
	}
	uri, ok := holder.Member("uri").Text()
	return ok && e.mayRead(uri)
}
