package mcp

import (
	"container/list"
	"net/netip"
	"slices"
	"sync"
	"time"

	"github.com/outrigger-mesh/outrigger/pkg/mesh"
	"github.com/outrigger-mesh/outrigger/pkg/policy"
)

const (
	maxSessionID = 1024 // bytes
	maxPending   = 256  // server requests of one session that wait for an answer
	maxRecent    = 128  // calls of one session whose answer another stream may bring
)

// A place is where a conversation goes to.
type place struct {
	address netip.AddrPort
	host    mesh.Name
}

func (e *exchange) place() place { return place{e.x.Target.Address, e.x.Target.Service} }

// A sessionKey names a session. Ids are the server's to choose, so they mean
// something only with the place. Callers of a server that gives no ids have one
// session each, without id.
type sessionKey struct {
	place    place
	id       string
	caller   mesh.Principal // of a session without id
	endpoint string         // of a session of 2024-11-05: where its messages are posted
}

// A session is a legacy MCP session: it belongs to who opened it.
type session struct {
	key    sessionKey
	caller mesh.Principal

	mu      sync.Mutex // guards what follows
	version string     // "" until the server said it
	pending []pending
	recent  []recent // the newest last

	// guarded by sessions.mu
	used   time.Time
	active int // exchanges inside
	entry  *list.Element
}

// A pending request of the server waits for the client's answer.
type pending struct{ id, method string }

// A recent call may be answered on a stream that the client resumes.
type recent struct {
	id     string
	method *method
	name   string
	object policy.Object
	denial []byte
}

func (s *session) negotiated() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.version
}

func (s *session) negotiate(version string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.version = version
}

// ask remembers a server's request, so that its answer may come back. It
// reports false if too many wait.
func (s *session) ask(id, method string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.pending) >= maxPending {
		return false
	}
	s.pending = append(s.pending, pending{id, method})
	return true
}

// asked tells the method of the server request with that id.
func (s *session) asked(id string) (method string, ok bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, p := range s.pending {
		if p.id == id {
			return p.method, true
		}
	}
	return "", false
}

// answered forgets a server request: it is answered once.
func (s *session) answered(id string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for i, p := range s.pending {
		if p.id == id {
			s.pending = append(s.pending[:i], s.pending[i+1:]...)
			return
		}
	}
}

// remember keeps what is needed to inspect the answer of c on another stream.
func (s *session) remember(c *call) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.recent) == maxRecent {
		s.recent = slices.Delete(s.recent, 0, 1)
	}
	s.recent = append(s.recent, recent{c.id.Key, c.method, c.name, c.object, c.denial})
}

// recall returns the newest call with that id, nil if none is remembered. A
// stream that is resumed may bring an answer again, an endpoint's may not.
func (s *session) recall(id string) *call {
	s.mu.Lock()
	defer s.mu.Unlock()
	for i := len(s.recent) - 1; i >= 0; i-- {
		r := s.recent[i]
		if r.id != id {
			continue
		}
		if s.key.endpoint != "" {
			s.recent = slices.Delete(s.recent, i, i+1)
		}
		return &call{method: r.method, name: r.name, kind: request, object: r.object, denial: r.denial}
	}
	return nil
}

// sessions are all that are remembered.
type sessions struct {
	limit, perCaller int
	idle             time.Duration

	mu      sync.Mutex // guards what follows
	all     map[sessionKey]*session
	swept   time.Time                     // when the idle ones were looked for
	callers map[mesh.Principal]*list.List // of *session, the longest unused first
}

func newSessions(c Config) *sessions {
	return &sessions{
		limit: c.Sessions, perCaller: c.SessionsPerCaller, idle: c.SessionIdle,
		all: map[sessionKey]*session{}, callers: map[mesh.Principal]*list.List{},
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
	t.callers[s.caller].MoveToBack(s.entry)
}

func (t *sessions) leave(s *session, now time.Time) {
	t.mu.Lock()
	defer t.mu.Unlock()
	s.active--
	s.used = now
}

// open finds or makes the session of that caller and holds it. It returns nil
// if the session is another caller's or no more can be remembered.
func (t *sessions) open(key sessionKey, caller mesh.Principal, now time.Time) *session {
	t.mu.Lock()
	defer t.mu.Unlock()
	if s := t.all[key]; s != nil {
		if s.caller != caller {
			return nil
		}
		t.hold(s, now)
		return s
	}
	own := t.callers[caller]
	if own == nil {
		own = list.New()
		t.callers[caller] = own
	}
	if own.Len() >= t.perCaller {
		t.remove(own.Front().Value.(*session))
	}
	if len(t.all) >= t.limit && !t.expire(now) {
		t.drop(caller, own)
		return nil
	}
	if t.callers[caller] == nil { // its last session made room
		t.callers[caller] = own
	}
	s := &session{key: key, caller: caller}
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
	own := t.callers[s.caller]
	own.Remove(s.entry)
	t.drop(s.caller, own)
}

func (t *sessions) drop(caller mesh.Principal, own *list.List) {
	if own.Len() == 0 {
		delete(t.callers, caller)
	}
}
