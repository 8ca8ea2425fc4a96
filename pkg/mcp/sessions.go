package mcp

import (
	"container/list"
	"sync"
	"time"

	"github.com/outrigger-mesh/outrigger/pkg/inspect"
)

// sessions are all that are remembered.
type sessions struct {
	limit, perCaller int
	idle             time.Duration

	mu      sync.Mutex // guards what follows
	all     map[sessionKey]*session
	swept   time.Time                     // when the idle ones were looked for
	callers map[inspect.Caller]*list.List // of *session, the longest unused first
	marks   map[place]map[string]int      // of open endpoints, and how many have each
}

func newSessions(c Config) *sessions {
	return &sessions{
		limit: c.Sessions, perCaller: c.SessionsPerCaller, idle: c.SessionIdle,
		all: map[sessionKey]*session{}, callers: map[inspect.Caller]*list.List{}, marks: map[place]map[string]int{},
	}
}

// enter finds a session and holds it until leave.
func (t *sessions) enter(key sessionKey, now time.Time) *session {
	t.mu.Lock()
	defer t.mu.Unlock()
	s := t.all[key]
	if s == nil {
		return nil
	}
	if s.active == 0 && now.Sub(s.used) > t.idle {
		t.remove(s)
		return nil
	}
	t.hold(s, now)
	return s
}

func (t *sessions) hold(s *session, now time.Time) {
	s.used = now
	s.active++
	t.callers[s.holder].MoveToBack(s.entry)
}

func (t *sessions) leave(s *session, now time.Time) {
	t.mu.Lock()
	defer t.mu.Unlock()
	s.active--
	s.used = now
}

// open finds or makes the session of that caller and holds it. It returns nil
// if the session is another caller's or no more can be remembered.
func (t *sessions) open(key sessionKey, who caller, now time.Time) *session {
	t.mu.Lock()
	defer t.mu.Unlock()
	if s := t.all[key]; s != nil {
		if !s.admits(who) {
			return nil
		}
		t.hold(s, now)
		return s
	}
	own := t.callers[who.holder]
	if own == nil {
		own = list.New()
		t.callers[who.holder] = own
	}
	if own.Len() >= t.perCaller {
		t.remove(own.Front().Value.(*session))
	}
	if len(t.all) >= t.limit && !t.expire(now) {
		t.drop(who.holder, own)
		return nil
	}
	if t.callers[who.holder] == nil { // its last session made room
		t.callers[who.holder] = own
	}
	s := &session{key: key, holder: who.holder, caller: who}
	s.entry = own.PushBack(s)
	t.all[key] = s
	t.hold(s, now)
	return s
}

// expire removes what is idle for too long. It looks at most once a second.
func (t *sessions) expire(now time.Time) bool {
	if now.Sub(t.swept) < time.Second {
		return false
	}
	t.swept = now
	for _, s := range t.all {
		if s.active == 0 && now.Sub(s.used) > t.idle {
			t.remove(s)
		}
	}
	return len(t.all) < t.limit
}

// forget removes a session that the client or the server ended.
func (t *sessions) forget(s *session) {
	if s == nil {
		return
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.all[s.key] == s {
		t.remove(s)
	}
}

func (t *sessions) remove(s *session) {
	delete(t.all, s.key)
	t.unguard(s)
	own := t.callers[s.holder]
	own.Remove(s.entry)
	t.drop(s.holder, own)
}

func (t *sessions) drop(who inspect.Caller, own *list.List) {
	if own.Len() == 0 {
		delete(t.callers, who)
	}
}
