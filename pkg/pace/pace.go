// Package pace lets long work take turns with what must not wait. The work's
// result is not needed at once; the connections beside it notice every pause.
package pace

import (
	"runtime"
	"time"
)

// turn is how long work goes on before others have theirs: well below what a
// message takes through a pair of sidecars.
const turn = 30 * time.Microsecond

// A Pace is that of one piece of work. The zero value is ready. Its methods must
// not be called at the same time.
type Pace struct {
	began  time.Time
	waited time.Duration // for the last turn of others: ours is no shorter, or work would starve on a busy machine
}

// Step is called between short parts of the work, of some microseconds each. When
// the turn is over it lets the other goroutines run, has an idle processor look
// for those whose connections have become ready, and gives this processor to the
// threads, also of other processes, that wait for it. Without any it is cheap.
func (p *Pace) Step() {
	now := time.Now()
	if p.began.IsZero() {
		p.began = now
	}
	if now.Sub(p.began) < max(turn, p.waited) {
		return
	}
	runtime.Gosched()
	yield()
	p.began = time.Now()
	p.waited = p.began.Sub(now)
}
