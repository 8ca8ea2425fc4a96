package route

import (
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

// BalancerConfig says when a target is left alone. Zero values mean the defaults.
type BalancerConfig struct {
	Failures int              // consecutive connect failures until a target is ejected; 0 means 5
	Ejection time.Duration    // how long the first time, then doubling up to ten times that; 0 means 30s
	MaxKnown int              // targets that are remembered because they failed; 0 means 4096
	Now      func() time.Time // nil means time.Now
}

// longestEjection is how many times the first ejection the longest one takes.
const longestEjection = 10

// A Balancer remembers which targets keep failing. It lives as long as the
// process, whatever becomes of snapshots. Its methods may be called from any goroutine.
type Balancer struct {
	config  BalancerConfig
	current atomic.Pointer[ejections] // what is ejected, for readers

	mu    sync.Mutex // guards what follows
	known map[string]*failures
}

// failures is the history of one target since it last worked.
type failures struct {
	count int
	last  time.Time
	why   error     // the last failure
	times int       // how often it was ejected
	until time.Time // when it is tried again; zero if it is not ejected
}

// ejections are the targets that are ejected, and until when. It never changes.
type ejections struct {
	until map[string]time.Time
	now   func() time.Time
}

func (e *ejections) has(target string) bool {
	if e == nil {
		return false
	}
	until, ok := e.until[target]
	return ok && e.now().Before(until)
}

// NewBalancer returns a balancer that has nothing against any target.
func NewBalancer(c BalancerConfig) *Balancer {
	if c.Failures == 0 {
		c.Failures = 5
	}
	if c.Ejection == 0 {
		c.Ejection = 30 * time.Second
	}
	if c.MaxKnown == 0 {
		c.MaxKnown = 4096
	}
	if c.Now == nil {
		c.Now = time.Now
	}
	return &Balancer{config: c, known: map[string]*failures{}}
}

// Report tells how dialling a route's Target went: nil when a tunnel or
// connection was made, else the error. A cancelled dial should not be reported.
func (b *Balancer) Report(target string, err error) {
	if target == "" || err == nil && b.current.Load() == nil && !b.remembers(target) {
		return
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	if err == nil {
		if f, ok := b.known[target]; ok {
			delete(b.known, target)
			if !f.until.IsZero() {
				b.publish()
			}
		}
		return
	}
	f := b.history(target)
	now := b.config.Now()
	f.count, f.last, f.why = f.count+1, now, err
	if f.count < b.config.Failures || now.Before(f.until) {
		return
	}
	f.until = now.Add(b.config.Ejection * time.Duration(min(1<<min(f.times, 10), longestEjection)))
	f.times++
	b.publish()
}

func (b *Balancer) remembers(target string) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	_, ok := b.known[target]
	return ok
}

// An Ejection is a target that is left alone.
type Ejection struct {
	Target   string
	Until    time.Time // when it is tried again
	Failures int       // since it last worked
	Why      error     // the last failure
}

// Ejections are the targets that are left alone now, by name.
func (b *Balancer) Ejections() []Ejection {
	b.mu.Lock()
	defer b.mu.Unlock()
	var all []Ejection
	now := b.config.Now()
	for target, f := range b.known {
		if now.Before(f.until) {
			all = append(all, Ejection{target, f.until, f.count, f.why})
		}
	}
	slices.SortFunc(all, func(x, y Ejection) int { return strings.Compare(x.Target, y.Target) })
	return all
}

func (b *Balancer) ejected() *ejections { return b.current.Load() }

// history is what is known of a target. The one whose last failure is the
// longest ago gives way when there are too many.
func (b *Balancer) history(target string) *failures {
	if f, ok := b.known[target]; ok {
		return f
	}
	if len(b.known) >= b.config.MaxKnown {
		var oldest string
		for name, f := range b.known {
			if oldest == "" || f.last.Before(b.known[oldest].last) {
				oldest = name
			}
		}
		delete(b.known, oldest)
	}
	f := new(failures)
	b.known[target] = f
	return f
}

// publish gives readers what is ejected now.
func (b *Balancer) publish() {
	e := &ejections{until: map[string]time.Time{}, now: b.config.Now}
	for name, f := range b.known {
		if b.config.Now().Before(f.until) {
			e.until[name] = f.until
		}
	}
	if len(e.until) == 0 {
		e = nil
	}
	b.current.Store(e)
}
