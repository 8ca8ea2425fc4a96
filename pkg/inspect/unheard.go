package inspect

import (
	"cmp"
	"errors"
	"io"
	"sync"
	"time"
)

// Unheard bounds exchanges that go on after their downstream has gone, because to
// leave does not mean to cancel: the app's response is read, and discarded. One Unheard
// serves many connections; an exchange for which it has no place ends with its
// downstream. The zero value works.
type Unheard struct {
	Time      time.Duration // from the downstream's end to that of the exchange; 0 means 10m
	Bytes     int64         // of a response, that are read and discarded; 0 means 16 MiB
	PerCaller int           // exchanges of one caller at a time; 0 means 64
	Total     int           // of all callers; 0 means 1024

	mu      sync.Mutex // guards what follows
	callers map[Caller]int
	total   int
}

func (u *Unheard) enter(who Caller) bool {
	u.mu.Lock()
	defer u.mu.Unlock()
	if u.total >= cmp.Or(u.Total, 1024) || u.callers[who] >= cmp.Or(u.PerCaller, 64) {
		return false
	}
	if u.callers == nil {
		u.callers = map[Caller]int{}
	}
	u.callers[who]++
	u.total++
	return true
}

// Count is how many exchanges go on now without their downstream.
func (u *Unheard) Count() int {
	u.mu.Lock()
	defer u.mu.Unlock()
	return u.total
}

func (u *Unheard) leave(who Caller) {
	u.mu.Lock()
	defer u.mu.Unlock()
	u.total--
	if u.callers[who]--; u.callers[who] == 0 {
		delete(u.callers, who)
	}
}

// errUnheard is why an exchange that nobody listens to any more is cut.
var errUnheard = errors.New("the response took too long, or too much, after the downstream had gone")

// An afterlife is what becomes of an exchange when its downstream is gone. The
// watch of the downstream and the exchange's own goroutine both ask.
type afterlife struct {
	mu    sync.Mutex // guards what follows
	limit *Unheard   // nil: the exchange ends with its downstream
	state afterState
	cut   func(error)
	timer *time.Timer
}

type afterState uint8

const (
	listenedTo afterState = iota // the downstream is there, as far as we know
	goesOn                       // it is gone, and the exchange has a place
	hasNoPlace                   // it is gone, and the exchange ends
)

// GoOn says that the exchange is to go on, within limit, when its downstream is gone.
func (x *Exchange) GoOn(limit *Unheard) {
	x.after.mu.Lock()
	defer x.after.mu.Unlock()
	x.after.limit = limit
}

// IsUnheard tells whether the downstream is known to be gone while the exchange goes on.
func (x *Exchange) IsUnheard() bool {
	x.after.mu.Lock()
	defer x.after.mu.Unlock()
	return x.after.state == goesOn
}

// Abandon ends the exchange if it goes on without its downstream.
func (x *Exchange) Abandon() {
	x.after.mu.Lock()
	cut := x.after.cut
	x.after.mu.Unlock()
	if cut != nil {
		cut(ErrDisconnected)
	}
}

// outlives tells whether the exchange goes on though its downstream is gone; cut ends
// it if that takes too long.
func (x *Exchange) outlives(cut func(error)) bool {
	a := &x.after
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.state != listenedTo {
		return a.state == goesOn
	}
	if a.limit == nil || !a.limit.enter(x.Caller()) {
		a.state = hasNoPlace
		return false
	}
	a.state, a.cut = goesOn, cut
	a.timer = time.AfterFunc(cmp.Or(a.limit.Time, 10*time.Minute), func() { cut(disconnected(errUnheard)) })
	return true
}

// settle ends the exchange for those who ask about its afterlife.
func (x *Exchange) settle() {
	a := &x.after
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.state == goesOn {
		a.timer.Stop()
		a.limit.leave(x.Caller())
	}
	a.state, a.limit, a.cut = hasNoPlace, nil, nil
}

// readOn reads the rest of the response of an exchange that outlives its downstream.
func (x *Exchange) readOn(body io.Reader, cut func(error)) {
	if n, err := io.CopyN(io.Discard, body, cmp.Or(x.after.limit.Bytes, int64(16<<20))); err == nil && n > 0 {
		cut(disconnected(errUnheard))
	}
}
