package mcp

import (
	"errors"
	"sync"
	"time"
)

// errExpired is why a stream ends that lasts longer than the token of its client.
var errExpired = errors.New("the bearer token has expired")

// An expiry ends a stream when the token ends that it was opened with.
type expiry struct {
	timer *time.Timer

	mu            sync.Mutex // guards what follows; held while the stream is closed
	over, stopped bool
}

// endWithToken lets a stream that stands for the time to come last no longer than the
// token of its client: the GET stream of a session, and a subscription. The stream of
// any other call ends with its answer, which was asked for with a token that was valid.
func (s *stream) endWithToken() {
	e := s.e
	if e.token == nil || e.x.Request.Method != "GET" && !e.calls[0].method.is(eachNotified) {
		return
	}
	x, upstream := new(expiry), s.upstream
	x.timer = time.AfterFunc(time.Until(e.config.Tokens.Ends(e.token)), func() {
		x.mu.Lock()
		defer x.mu.Unlock()
		if !x.stopped {
			x.over = true
			upstream.Close() // ends the Read that waits
		}
	})
	s.expiry = x
}

func (x *expiry) isOver() bool {
	if x == nil {
		return false
	}
	x.mu.Lock()
	defer x.mu.Unlock()
	return x.over
}

// stop is for when the stream is over by itself.
func (x *expiry) stop() {
	if x == nil {
		return
	}
	x.timer.Stop()
	x.mu.Lock()
	defer x.mu.Unlock()
	x.stopped = true
}
