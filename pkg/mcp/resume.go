package mcp

import (
	"context"
	"errors"
	"sync"
	"time"

	"github.com/outrigger-mesh/outrigger/pkg/inspect"
)

// In the legacy eras to disconnect is not to cancel (2025-03-26 and later, transports,
// "Sending Messages to the Server"). What the server goes on to say is read, within
// bounds, and nobody hears it. If its events have ids the client may come back for
// them; the server keeps them, and we only get out of its way: many servers do not
// resume a stream that somebody still reads.

const (
	maxResumable = 64  // events of one stream that it may be resumed from; the latest
	maxEventID   = 256 // bytes of an id that a stream can be found by

	resumeTime  = time.Second           // for the reading of a stream to end
	resumePause = 50 * time.Millisecond // before a resumption is tried again
	resumeTries = 6
)

// resumable are the streams whose clients may come back.
type resumable struct {
	mu sync.Mutex // guards what follows, and the streams themselves
	of map[eventKey]*unheard
}

// An eventKey is an event as its client knows it.
type eventKey struct {
	session *session
	id      string
}

// An unheard is a stream that may go on without its client.
type unheard struct {
	x     *inspect.Exchange
	keys  []eventKey // the latest last
	ended chan struct{}
}

func newResumable() *resumable { return &resumable{of: map[eventKey]*unheard{}} }

// mayBeResumed notes that the client got an event with an id.
func (e *exchange) mayBeResumed(id string) {
	if e.session == nil || e.x.Request.Method != "POST" || len(id) > maxEventID || e.x.IsUnheard() {
		return
	}
	t := e.resumable
	t.mu.Lock()
	defer t.mu.Unlock()
	if e.unheard == nil {
		e.unheard = &unheard{x: e.x, ended: make(chan struct{})}
	}
	key := eventKey{e.session, id}
	u := e.unheard
	u.keys = append(u.keys, key)
	t.of[key] = u
	if len(u.keys) > maxResumable {
		t.forget(u, u.keys[0])
		u.keys = u.keys[1:]
	}
}

// forget forgets an event, unless another stream had one with the same id since. The
// lock is held.
func (t *resumable) forget(u *unheard, key eventKey) {
	if t.of[key] == u {
		delete(t.of, key)
	}
}

// remove forgets a stream that has ended.
func (t *resumable) remove(u *unheard) {
	if u == nil {
		return
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, key := range u.keys {
		t.forget(u, key)
	}
	close(u.ended)
}

// abandon ends the reading of the stream that brought an event, if nobody hears it. What
// it returns is closed when that has happened; nil if there is nothing to wait for.
func (t *resumable) abandon(key eventKey) <-chan struct{} {
	t.mu.Lock()
	defer t.mu.Unlock()
	u := t.of[key]
	if u == nil || !u.x.IsUnheard() {
		return nil
	}
	u.x.Abandon()
	return u.ended
}

// resume sends a GET or DELETE on its way. One that resumes a stream which we still read
// takes its place: until the server has noticed, it may say that there is a conflict.
func (e *exchange) resume(ctx context.Context, next inspect.Handler) (*inspect.Response, error) {
	var ended <-chan struct{}
	if last := e.x.Request.Header.Get("Last-Event-Id"); last != "" && e.session != nil {
		ended = e.resumable.abandon(eventKey{e.session, last})
	}
	if ended == nil {
		return next.Do(ctx, e.x)
	}
	wait(ctx, resumeTime, ended)
	for tries := 1; ; tries++ {
		up, err := next.Do(ctx, e.x)
		if err != nil || up.Status != 409 || tries == resumeTries {
			return up, err
		}
		if up.Body != nil {
			up.Body.Close()
		}
		wait(ctx, time.Duration(tries)*resumePause, nil)
	}
}

// wait waits for some time, for done or for the end of ctx.
func wait(ctx context.Context, d time.Duration, done <-chan struct{}) {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-done:
	case <-ctx.Done():
	}
}

var (
	errUnheard    = errors.New("the client left before the answer, which in this era does not cancel the call")
	errCancelled  = errors.New("the client left before the answer, which cancels the call")
	errUnanswered = errors.New("the server's stream ended before the answer")
)

// left tells whether the client was not there for the answers any more.
func (e *exchange) left() error {
	if e.x != nil && e.x.IsUnheard() {
		return errUnheard
	}
	return nil
}
