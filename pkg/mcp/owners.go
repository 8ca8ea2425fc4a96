package mcp

import (
	"sync"

	"github.com/outrigger-mesh/outrigger/pkg/mesh"
)

// maxTasks is how many tasks of one caller are remembered; the oldest go first.
const maxTasks = 4096

// owners know whose the tasks are that servers made. A task that nobody was
// seen to make, before a restart perhaps, is policy's alone to decide.
type owners struct {
	mu    sync.Mutex // guards what follows
	of    map[taskKey]mesh.Principal
	tasks map[mesh.Principal][]taskKey // in order
}

type taskKey struct {
	place place
	id    string
}

func newOwners() *owners {
	return &owners{of: map[taskKey]mesh.Principal{}, tasks: map[mesh.Principal][]taskKey{}}
}

// made records that caller's call made the task. A task keeps its first owner.
func (o *owners) made(p place, id string, caller mesh.Principal) {
	if id == "" || len(id) > maxSessionID {
		return
	}
	key := taskKey{p, id}
	o.mu.Lock()
	defer o.mu.Unlock()
	if _, known := o.of[key]; known {
		return
	}
	o.of[key] = caller
	own := append(o.tasks[caller], key)
	if len(own) > maxTasks {
		delete(o.of, own[0])
		own = own[1:]
	}
	o.tasks[caller] = own
}

// mayUse tells whether the task is the caller's or nobody's that we know.
func (o *owners) mayUse(p place, id string, caller mesh.Principal) bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	owner, known := o.of[taskKey{p, id}]
	return !known || owner == caller
}
