package mcp

import (
	"container/list"
	"net/netip"
	"slices"
	"sync"
	"time"

	"github.com/outrigger-mesh/outrigger/pkg/inspect"
	"github.com/outrigger-mesh/outrigger/pkg/mesh"
	"github.com/outrigger-mesh/outrigger/pkg/policy"
)

const (
	maxSessionID = 1024 // bytes
	maxPending   = 256  // server requests of one session that wait for an answer
	maxRecent    = 256  // calls of one session whose answer another stream may bring
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
	caller   caller // of a session without id
	endpoint string // of a session of 2024-11-05: where its messages are posted
}

// A session is a legacy MCP session: it belongs to who opened it.
type session struct {
	key    sessionKey
	holder inspect.Caller

	mu       sync.Mutex // guards what follows
	caller   caller     // its token's subject is that of the first token that it was used with
	client   policy.Client
	version  string // "" until the server said it
	pending  []pending
	recent   []recent // the newest last
	progress []string // tokens that the server gave with its requests, the newest last

	// guarded by sessions.mu
	used   time.Time
	active int // exchanges inside
	entry  *list.Element
	marks  []string // of an endpoint
}

// A caller is whom sessions and handles belong to: the workload and, where
// a token was validated, on whose behalf it speaks.
type caller struct {
	holder          inspect.Caller
	issuer, subject string // "" without a token
}

func (e *exchange) caller() caller {
	c := caller{holder: e.x.Caller()}
	if e.token != nil {
		c.issuer, c.subject = e.token.Issuer, e.token.Subject
	}
	return c
}

// admits tells whether the session is who's. One that was opened without a token
// becomes that of the first token it is used with: servers ask for tokens late.
func (s *session) admits(who caller) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.caller == who {
		return true
	}
	if s.caller.holder != who.holder || s.caller.issuer != "" || s.caller.subject != "" {
		return false
	}
	s.caller = who
	return true
}

// A pending request of the server waits for the client's answer.
type pending struct {
	id, method string
	cancelled  bool // the client may still answer, but need not
}

// A recent call may be answered on a stream that the client resumes.
type recent struct {
	id     string
	method *method
	name   string
	object policy.Object
	token  string // for progress
	denial []byte
	done   bool // it was answered
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
// reports false if too many wait, without those that were cancelled.
func (s *session) ask(id, method string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.pending) >= maxPending {
		s.pending = slices.DeleteFunc(s.pending, func(p pending) bool { return p.cancelled })
	}
	if len(s.pending) >= maxPending {
		return false
	}
	s.pending = append(s.pending, pending{id: id, method: method})
	return true
}

// cancel notes that the server waits for that answer no more, and reports false if it
// never did.
func (s *session) cancel(id string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	for i := range s.pending {
		if s.pending[i].id == id {
			s.pending[i].cancelled = true
			return true
		}
	}
	return false
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
		s.recent = forgetOld(s.recent)
	}
	s.recent = append(s.recent, recent{id: c.id.Key, method: c.method, name: c.name, object: c.object, token: c.token, denial: c.denial})
}

// forgetOld makes room: of the older half goes what was answered or, if that is
// nothing, the oldest.
func forgetOld(calls []recent) []recent {
	old := slices.DeleteFunc(calls[:maxRecent/2:maxRecent/2], func(r recent) bool { return r.done })
	if len(old) == maxRecent/2 {
		return slices.Delete(calls, 0, 1)
	}
	return slices.Delete(calls, len(old), maxRecent/2)
}

// settled notes that the call with that id was answered: it may be forgotten first.
func (s *session) settled(id string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for i := len(s.recent) - 1; i >= 0; i-- {
		if s.recent[i].id == id {
			s.recent[i].done = true
			return
		}
	}
}

// owns tells whether the client sent a request with that id in this session.
func (s *session) owns(id string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.ContainsFunc(s.recent, func(r recent) bool { return r.id == id })
}

// awaits tells whether the client gave that progress token with a request.
func (s *session) awaits(token string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.ContainsFunc(s.recent, func(r recent) bool { return r.token == token })
}

// follow remembers a progress token that the server gave with a request.
func (s *session) follow(token string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.progress) == maxPending {
		s.progress = slices.Delete(s.progress, 0, 1)
	}
	s.progress = append(s.progress, token)
}

// follows tells whether the server gave that progress token.
func (s *session) follows(token string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Contains(s.progress, token)
}

// introduce keeps what the client says of itself when it opens the session.
func (s *session) introduce(c policy.Client) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.client = c
}

func (s *session) introduced() policy.Client {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.client
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
