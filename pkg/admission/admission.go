// Package admission knows every open connection and the question it was
// admitted by, and asks it again whenever the configuration changes. It does
// not know what the questions are about.
package admission

import (
	"context"
	"sync"
	"time"

	"github.com/outrigger-mesh/outrigger/pkg/pace"
	"github.com/outrigger-mesh/outrigger/pkg/policy"
	"github.com/outrigger-mesh/outrigger/pkg/store"
)

// An Ask decides, from one snapshot, whether a connection may be open. It must
// be quick. It may be called from any goroutine until Release, never twice at once.
type Ask func(*store.Snapshot) policy.Decision

// A Register holds the open connections of one proxy.
type Register struct {
	store *store.Store
	wake  chan struct{} // holds one token when there is a newer snapshot to ask about
	stir  chan struct{} // holds one token when it has other policies

	mu   sync.Mutex // guards what follows
	open map[*Entry]struct{}
}

// NewRegister returns an empty register over the configuration in s.
func NewRegister(s *store.Store) *Register {
	return &Register{store: s, wake: make(chan struct{}, 1), stir: make(chan struct{}, 1), open: make(map[*Entry]struct{})}
}

// An Entry is one admitted or refused connection.
type Entry struct {
	Decision policy.Decision // the first answer
	Snapshot *store.Snapshot // that gave it

	register *Register

	asking sync.Mutex // one question at a time
	ask    Ask        // guarded by asking

	mu     sync.Mutex // guards what follows
	cut    func(policy.Decision)
	denied *policy.Decision // set once an answer after the first was no
}

// Admit registers a connection and only then asks for the first time, so that
// no change falls between the answer and the watch over it. Release must be
// called whatever the answer was.
func (r *Register) Admit(ask Ask) *Entry {
	e := &Entry{register: r, ask: ask}
	e.asking.Lock()
	defer e.asking.Unlock()
	r.mu.Lock()
	r.open[e] = struct{}{}
	r.mu.Unlock()
	e.Snapshot = r.store.Snapshot()
	e.Decision = ask(e.Snapshot)
	return e
}

// OnCut sets what ends the connection when a later answer is no. If that answer
// has already come, cut is called at once. cut is called once at the most, must
// not block, and learns the decision to record.
func (e *Entry) OnCut(cut func(policy.Decision)) {
	e.mu.Lock()
	denied := e.denied
	if denied == nil {
		e.cut = cut
	}
	e.mu.Unlock()
	if denied != nil {
		cut(*denied)
	}
}

// Release forgets the connection. It may be called more than once.
func (e *Entry) Release() {
	e.register.mu.Lock()
	delete(e.register.open, e)
	e.register.mu.Unlock()
}

// again asks by snap, unless the first answer is by one as new: a connection may begin
// between the look at the configuration and the one at who is open.
func (e *Entry) again(snap *store.Snapshot) policy.Decision {
	e.asking.Lock()
	defer e.asking.Unlock()
	if e.Snapshot.Version() >= snap.Version() {
		return e.Decision
	}
	return e.ask(snap)
}

func (e *Entry) deny(d policy.Decision) {
	e.mu.Lock()
	cut := e.cut
	e.cut, e.denied = nil, &d
	e.mu.Unlock()
	if cut != nil {
		cut(d)
	}
}

// Asking about many connections takes long. While changes of other things than
// policies go on, it rests then, so that it takes at most a fifth of a processor.
const (
	longAsking  = time.Millisecond
	restFactor  = 4 // times as long as asking took
	longestRest = 100 * time.Millisecond
)

// Run asks about every open connection after each change until ctx ends: at once
// after one of policies, and after others within longestRest of the answers before.
func (r *Register) Run(ctx context.Context) {
	policies := r.store.Snapshot().PolicyVersion()
	defer r.store.Watch(func(snap *store.Snapshot) { // one call at a time
		if v := snap.PolicyVersion(); v != policies {
			policies = v
			signal(r.stir)
		}
		signal(r.wake)
	})()
	signal(r.wake) // connections may have been admitted before the watch began
	for {
		select {
		case <-ctx.Done():
			return
		case <-r.wake:
		}
		began := time.Now()
		r.recheck()
		if took := time.Since(began); took > longAsking && !r.rest(ctx, min(restFactor*took, longestRest)) {
			return
		}
	}
}

// rest waits, but for other policies no longer. It is false when ctx has ended.
func (r *Register) rest(ctx context.Context, d time.Duration) bool {
	end := time.NewTimer(d)
	defer end.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-r.stir:
	case <-end.C:
	}
	return true
}

// signal leaves one token; one that is there already will do.
func signal(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}

func (r *Register) recheck() {
	select {
	case <-r.stir: // the snapshot has these policies
	default:
	}
	snap := r.store.Snapshot()
	var p pace.Pace
	p.Begin()
	for _, e := range r.entries() {
		p.Step()
		if d := e.again(snap); !d.Allowed {
			e.Release()
			e.deny(d)
		}
	}
}

func (r *Register) entries() []*Entry {
	r.mu.Lock()
	defer r.mu.Unlock()
	all := make([]*Entry, 0, len(r.open))
	for e := range r.open {
		all = append(all, e)
	}
	return all
}

// Open counts the registered connections.
func (r *Register) Open() int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return len(r.open)
}
