package mcp

import (
	"crypto/sha256"
	"sync"

	"github.com/outrigger-mesh/outrigger/pkg/inspect"
	"github.com/outrigger-mesh/outrigger/pkg/policy"
)

// maxHandles is how many handles of one caller are remembered; the oldest go first.
const maxHandles = 4096

// owners know whose the handles are that servers gave: tasks, and the states
// of requests that wait for input. A handle that nobody was seen to get, before
// a restart perhaps, is policy's alone to decide.
type owners struct {
	mu      sync.Mutex // guards what follows
	of      map[handle]grant
	handles map[inspect.Caller][]handle // of their owners, in order
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

// A grant is whose a handle is and, of a task, what was called: its result is the
// task's to tell.
type grant struct {
	owner
	called policy.Object
}

func newOwners() *owners {
	return &owners{of: map[handle]grant{}, handles: map[inspect.Caller][]handle{}}
}

// taskHandle is a task's handle.
func (e *exchange) taskHandle(id string) handle { return handle{e.place(), "t" + id} }

// stateHandle is the handle of a requestState, which may be long.
func (e *exchange) stateHandle(state string) handle {
	sum := sha256.Sum256([]byte(state))
	return handle{e.place(), "s" + string(sum[:])}
}

// eventHandle is what a stream's event can be resumed from.
func (e *exchange) eventHandle(id string) handle { return handle{e.place(), "e" + id} }

// resumer is who may resume a stream. Servers that count the events of each session
// give equal ids to many, which then bind nobody but by the session.
func (e *exchange) resumer() owner { return owner{e.caller(), policy.Object{Kind: policy.KindUnknown}} }

// give records whose the handle is. A task keeps its first owner. A state that
// is given to two, because the server makes equal ones, binds nobody.
func (o *owners) give(h handle, to grant) {
	if len(h.id) > maxSessionID {
		return
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	if known, ok := o.of[h]; ok {
		if known.owner != to.owner && to.use.Kind != policy.KindNone {
			o.of[h] = grant{}
		}
		return
	}
	o.of[h] = to
	own := append(o.handles[to.caller.holder], h)
	if len(own) > maxHandles {
		delete(o.of, own[0])
		own = own[1:]
	}
	o.handles[to.caller.holder] = own
}

// may tells whether who may use the handle: it is theirs, or nobody's that we know.
func (o *owners) may(h handle, who owner) bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	known, ok := o.of[h]
	return !ok || known.owner == who || known.owner == owner{}
}

// called is what the task with that handle is the result of; zero if nobody saw.
func (o *owners) called(h handle) policy.Object {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.of[h].called
}

// mayUseTask tells whether the task is this caller's, and of something that the
// caller may still use: it tells the result of that.
func (e *exchange) mayUseTask(id string) bool {
	h := e.taskHandle(id)
	if !e.handles.may(h, owner{caller: e.caller()}) {
		return false
	}
	called := e.handles.called(h)
	return called.Kind == policy.KindNone || e.judge.Visible(e.question("tools/list", policy.Object{}, nil), called).Allowed
}

// own notes the handles that a result gives as the caller's.
func (e *exchange) own(c *call, m *message) {
	if id, ok := m.Member(m.Member(m.Result, "task"), "taskId").Text(); ok { // 2025-11-25
		e.handles.give(e.taskHandle(id), grant{owner{caller: e.caller()}, c.object})
	}
	if m.Member(m.Result, "resultType").Is("task") { // the tasks extension
		if id, ok := m.Member(m.Result, "taskId").Text(); ok {
			e.handles.give(e.taskHandle(id), grant{owner{caller: e.caller()}, c.object})
		}
	}
	if state, ok := m.Member(m.Result, "requestState").Text(); ok {
		e.handles.give(e.stateHandle(state), grant{owner: owner{e.caller(), c.object}})
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
