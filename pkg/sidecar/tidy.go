package sidecar

import (
	"runtime"
	"runtime/debug"
	"time"
)

const (
	// restBusy is the share of a processor below which an interval is restful, and
	// restIntervals how many of them in a row make a rest.
	restBusy      = 0.03
	restIntervals = 10
	// worthTidying is how much work since the last time makes it worth to tidy again,
	// and worthCosts how often what it took then.
	worthTidying = 250 * time.Millisecond
	worthCosts   = 10
)

// A tidier gives memory back to the system when a busy time is over: garbage that
// no collection has found yet, buffers that were lent, and the halves of stacks
// that connections needed only to be opened. A sidecar rests most of its life,
// beside an app that may want what it holds.
type tidier struct {
	rest int           // restful intervals in a row
	at   time.Duration // what the process had used when it was last tidied
	cost time.Duration // what that took of it
}

// due is told of an interval: how busy a processor was, and what the process has used until now.
func (t *tidier) due(busy float64, used time.Duration) bool {
	if busy > restBusy {
		t.rest = 0
		return false
	}
	if t.rest++; t.rest < restIntervals || used-t.at < max(worthTidying, worthCosts*t.cost) {
		return false
	}
	t.at = used
	return true
}

// done is told when it is tidied what the process has used until then.
func (t *tidier) done(used time.Duration) { t.cost, t.at = used-t.at, used }

// tidy collects twice: each collection halves a stack at most once, and what pools
// lend survives the first.
func tidy() {
	runtime.GC()
	debug.FreeOSMemory()
}
