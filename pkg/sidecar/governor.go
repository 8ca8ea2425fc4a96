package sidecar

import (
	"context"
	"os"
	"runtime"
	"runtime/debug"
	"syscall"
	"time"
)

const (
	governInterval = 100 * time.Millisecond
	// growAt and shrinkAt are shares of the processors in use. Between them nothing changes.
	growAt, shrinkAt = 0.6, 0.4
	// calmIntervals is how long half of them must have sufficed before the others are given up.
	calmIntervals = 10
	// gcPercent lets garbage be twice what is alive: what is alive is small, and
	// the default would collect every few megabytes.
	gcPercent = 200
)

// A governor has no more processors run Go code (GOMAXPROCS) than the load
// needs. The scheduler wakes an idle one whenever there may be work, only to
// find that it was done meanwhile: for a relay on a quiet node that is a
// seventh of all it costs.
type governor struct {
	most int // what the machine, the cgroup or GOMAXPROCS allows
	now  int
	calm int // intervals in which half had sufficed

	version uint64 // of the configuration at the last look
	changed int    // intervals in a row in which it changed
}

// run governs until ctx ends, and tidies when little is to be done. version is the configuration's.
func (g *governor) run(ctx context.Context, version func() uint64) {
	g.most = runtime.GOMAXPROCS(0)
	g.now = g.most
	defer runtime.GOMAXPROCS(g.most)
	tick := time.NewTicker(governInterval)
	defer tick.Stop()
	var tidier tidier
	used, at := cpuTime(), time.Now()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		u, t := cpuTime(), time.Now()
		before, busy := g.now, float64(u-used)/float64(t.Sub(at))
		g.decide(busy)
		if g.accompany(version()); g.now != before {
			runtime.GOMAXPROCS(g.now)
		}
		if tidier.due(busy, u) {
			tidy()
			u, t = cpuTime(), time.Now() // what it took is no load
			tidier.done(u)
		}
		used, at = u, t
	}
}

// decide chooses how many processors run, by how many were busy in the last interval.
func (g *governor) decide(busy float64) {
	switch {
	case busy > growAt*float64(g.now):
		g.calm = 0
		g.now = min(2*g.now, g.most)
	case g.now > 1 && busy < shrinkAt*float64(g.now/2):
		if g.calm++; g.calm >= calmIntervals {
			g.calm = 0
			g.now /= 2
		}
	default:
		g.calm = 0
	}
}

// accompany gives a stream of updates a processor beside that of the data path,
// which would wait for every update else, however little they cost.
func (g *governor) accompany(version uint64) {
	if version == g.version {
		g.changed = 0
		return
	}
	g.version = version
	if g.changed++; g.changed > 1 {
		g.now, g.calm = max(g.now, min(2, g.most)), 0
	}
}

// cpuTime is what the process has used, user and system.
func cpuTime() time.Duration {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		return 0 // it cannot fail with these arguments; nothing would be governed
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// collectLess makes the garbage collector run less often, unless the operator has chosen.
func collectLess() {
	if os.Getenv("GOGC") == "" {
		debug.SetGCPercent(gcPercent)
	}
}
