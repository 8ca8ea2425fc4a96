package inspect

import (
	"sync"
	"time"
)

// A watch listens whether a connection ends while nobody reads from it. It starts
// its goroutine only after a while, so that short silences cost none, and not even
// that its timer is set: one that runs goes on.
type watch struct {
	in   *reader
	gone func(error) // called at most once per arm

	mu    sync.Mutex // guards what follows
	state watchState
	timer *time.Timer
	timed bool          // the timer runs
	again bool          // armed since the timer was set
	done  chan struct{} // of the goroutine, while state is watchRunning
}

type watchState uint8

const (
	watchOff watchState = iota
	watchArmed
	watchRunning
)

// arm starts the watch. Nobody may use the reader until disarm returns.
func (w *watch) arm() {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.state != watchOff {
		return
	}
	w.state = watchArmed
	if w.again = w.timed; !w.timed {
		w.setTimer()
	}
}

func (w *watch) setTimer() {
	w.timed, w.again = true, false
	if w.timer == nil {
		w.timer = time.AfterFunc(watchAfter, w.run)
		return
	}
	w.timer.Reset(watchAfter)
}

// unlessOn calls f, which ends whoever reads instead of the watch.
func (w *watch) unlessOn(f func()) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.state == watchOff {
		f()
	}
}

// disarm ends the watch and waits for it. What it read meanwhile is in the reader.
func (w *watch) disarm() {
	w.mu.Lock()
	state, done := w.state, w.done
	w.state = watchOff
	w.mu.Unlock()
	if state == watchRunning {
		w.in.conn.SetReadDeadline(time.Unix(1, 0))
		<-done
		w.in.until = time.Time{}
	}
}

func (w *watch) run() {
	w.mu.Lock()
	w.timed = false
	if w.state == watchArmed && w.again {
		w.setTimer() // not that long ago
	}
	if w.state != watchArmed || w.timed {
		w.mu.Unlock()
		return
	}
	w.state, w.done = watchRunning, make(chan struct{})
	defer close(w.done)
	w.in.conn.SetReadDeadline(time.Time{})
	w.mu.Unlock()
	for {
		// A pipelined request is kept, as far as the buffer holds; past that the
		// downstream has to wait and we no longer hear it end.
		read := w.in.read
		if w.in.buffered() == 0 {
			read = w.in.listen
		}
		err := read()
		if err == errTooBig {
			return
		}
		if err != nil {
			w.mu.Lock()
			listening := w.state == watchRunning
			w.mu.Unlock()
			if listening {
				w.gone(err)
			}
			return
		}
	}
}
