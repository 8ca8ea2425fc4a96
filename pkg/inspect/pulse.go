package inspect

import (
	"strings"
	"sync"
	"time"
)

// comment is what keeps an event stream alive: a comment line and the empty line that
// ends an event, which dispatches nothing (WHATWG HTML §9.2.6).
const (
	comment      = ":\n\n"
	commentChunk = "3\r\n" + comment + "\r\n"
)

// A pulse writes comments on an event stream that is silent, so that nobody on the way
// takes it for dead. It writes only between events, and needs no goroutine. The nil
// pulse never writes.
type pulse struct {
	every time.Duration
	write func() error // writes one comment

	mu      sync.Mutex // guards what follows; held while a comment is written
	timer   *time.Timer
	waiting bool    // the source is being waited for: nobody else writes
	tail    [4]byte // the last bytes that were written
	begun   bool    // there are any
}

// newPulse makes a pulse. stop ends it.
func newPulse(every time.Duration, write func() error) *pulse {
	return &pulse{every: every, write: write}
}

// pulses tells whether a response is an event stream that is kept alive.
func (s *server) pulses(r *Response) bool {
	if s.Limits.KeepAlive <= 0 || r.Status != 200 {
		return false
	}
	media, _, _ := strings.Cut(r.Header.Get("Content-Type"), ";")
	return equalFold(trimSpace(media), "text/event-stream")
}

// wait says that the source is waited for, until resume.
func (p *pulse) wait() {
	if p == nil {
		return
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.waiting = true
	if p.timer == nil {
		p.timer = time.AfterFunc(p.every, p.beat)
	} else {
		p.timer.Reset(p.every)
	}
}

// resume says that the stream is written to again. A comment under way is waited for.
func (p *pulse) resume() {
	if p == nil {
		return
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.waiting {
		p.waiting = false
		p.timer.Stop()
	}
}

// stop ends the pulse.
func (p *pulse) stop() { p.resume() }

// wrote says what was written.
func (p *pulse) wrote(b []byte) {
	if p == nil || len(b) == 0 {
		return
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.begun = true
	n := min(len(b), len(p.tail))
	copy(p.tail[:], p.tail[n:])
	copy(p.tail[len(p.tail)-n:], b[len(b)-n:])
}

func (p *pulse) beat() {
	p.mu.Lock()
	defer p.mu.Unlock()
	if !p.waiting {
		return
	}
	if p.between() && p.write() != nil {
		return // the stream is broken, and its next write says so
	}
	p.timer.Reset(p.every)
}

// between tells whether what was written ends with an event.
func (p *pulse) between() bool {
	tail := string(p.tail[:])
	return !p.begun || strings.HasSuffix(tail, "\n\n") || strings.HasSuffix(tail, "\r\r") || tail == "\r\n\r\n"
}
