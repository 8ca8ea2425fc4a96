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

// A Pace is that of one kind of work, also of many pieces of it. The zero value
// is ready. Its methods must not be called at the same time.
type Pace struct {
	last   time.Time     // when work went on
	worked time.Duration // since the last turn of others
	waited time.Duration // for the last turn of others: ours is no shorter, or work would starve on a busy machine
}

// Begin is called before each piece of the work. Without, the time since the last
// one counts as work.
func (p *Pace) Begin() { p.last = time.Now() }

// Step is called between short parts of the work, of some microseconds each. When
// the turn is over it lets the other goroutines run, has an idle processor look
// for those whose connections have become ready, and gives this processor to the
// threads, also of other processes, that wait for it. Without any it is cheap.
func (p *Pace) Step() {
	now := time.Now()
	p.worked += now.Sub(p.last)
	p.last = now
	if p.worked < max(turn, p.waited) {
		return
	}
	runtime.Gosched()
	yield()
	p.last = time.Now()
	p.waited = p.last.Sub(now)
	p.worked = 0
}
