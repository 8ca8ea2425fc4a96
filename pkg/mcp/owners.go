package mcp

import (
	"crypto/sha256"
	"sync"

	"github.com/outrigger-mesh/outrigger/pkg/mesh"
	"github.com/outrigger-mesh/outrigger/pkg/policy"
)

// maxHandles is how many handles of one caller are remembered; the oldest go first.
const maxHandles = 4096

// owners know whose the handles are that servers gave: tasks, and the states
// of requests that wait for input. A handle that nobody was seen to get, before
// a restart perhaps, is policy's alone to decide.
type owners struct {
	mu      sync.Mutex // guards what follows
	of      map[handle]owner
	handles map[mesh.Principal][]handle // of their owners, in order
}

// A handle is what a server calls something, or a digest of that.
type handle struct {
	place place
	id    string
}

// An owner is who may use a handle, and for what: for anything if use is zero.
// The zero owner is everybody.
type owner struct {
	caller caller
	use    policy.Object
}

func newOwners() *owners {
	return &owners{of: map[handle]owner{}, handles: map[mesh.Principal][]handle{}}
}

// taskHandle is a task's handle.
func (e *exchange) taskHandle(id string) handle { return handle{e.place(), "t" + id} }

// stateHandle is the handle of a requestState, which may be long.
func (e *exchange) stateHandle(state string) handle {
	sum := sha256.Sum256([]byte(state))
	return handle{e.place(), "s" + string(sum[:])}
}

// give records whose the handle is. A task keeps its first owner. A state that
// is given to two, because the server makes equal ones, binds nobody.
func (o *owners) give(h handle, to owner) {
	if len(h.id) > maxSessionID {
		return
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	if known, ok := o.of[h]; ok {
		if known != to && to.use.Kind != policy.KindNone {
			o.of[h] = owner{}
		}
		return
	}
	o.of[h] = to
	own := append(o.handles[to.caller.principal], h)
	if len(own) > maxHandles {
		delete(o.of, own[0])
		own = own[1:]
	}
	o.handles[to.caller.principal] = own
}

// may tells whether who may use the handle: it is theirs, or nobody's that we know.
func (o *owners) may(h handle, who owner) bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	known, ok := o.of[h]
	return !ok || known == who || known == owner{}
}

// mayUseTask tells whether the task is this caller's.
func (e *exchange) mayUseTask(id string) bool {
	return e.handles.may(e.taskHandle(id), owner{caller: e.caller()})
}

// own notes the handles that a result gives as the caller's.
func (e *exchange) own(c *call, m *message) {
	if id, ok := m.Member(m.Member(m.Result, "task"), "taskId").Text(); ok { // 2025-11-25
		e.handles.give(e.taskHandle(id), owner{caller: e.caller()})
	}
	if m.Member(m.Result, "resultType").Is("task") { // the tasks extension
		if id, ok := m.Member(m.Result, "taskId").Text(); ok {
			e.handles.give(e.taskHandle(id), owner{caller: e.caller()})
		}
	}
	if state, ok := m.Member(m.Result, "requestState").Text(); ok {
		e.handles.give(e.stateHandle(state), owner{e.caller(), c.object})
	}
}

// checkState refuses a requestState that the server gave to another caller, or
// for another object: a retry is for what was asked first (SEP-2322).
func (e *exchange) checkState(c *call, m *message) *refusal {
	state := m.Member(m.Params, "requestState")
	if state.Kind() == 0 {
		return nil
	}
	text, ok := state.Text()
	if !ok || !e.handles.may(e.stateHandle(text), owner{e.caller(), c.object}) {
		return invalid("the requestState belongs to another request")
	}
	return nil
}
