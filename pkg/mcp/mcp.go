// Package mcp governs the Model Context Protocol: it reads every message of
// every revision strictly, asks policy about each method and object it names,
// and lets pass, or answers in the server's place. What it lets pass keeps the
// bytes it came with.
//
// It knows eras, sessions, calls, lists and what servers ask of clients. It does
// not terminate MCP: there is one conversation, the client's with the server.
package mcp

import (
	"context"
	"slices"
	"sync"
	"time"

	"github.com/outrigger-mesh/outrigger/pkg/inspect"
	"github.com/outrigger-mesh/outrigger/pkg/jsonrpc"
	"github.com/outrigger-mesh/outrigger/pkg/policy"
	"github.com/outrigger-mesh/outrigger/pkg/token"
)

// A Judge answers whether a call may pass and what a list may show, and on what
// terms all of it happens. *policy.Policies is one.
type Judge interface {
	Call(c *policy.Call) policy.Decision
	Visible(c *policy.Call, object policy.Object) policy.Decision
	Terms(d policy.Direction, dst policy.Destination) policy.Terms
}

// Config says what MCP may cost. The zero value works.
type Config struct {
	RequestBytes int // longest request body; 0 means 4 MiB
	MessageBytes int // longest response body or event; 0 means 16 MiB

	// NoBatches refuses batches also in sessions that negotiated 2025-03-26, the
	// only revision that has them. There every element is authorized, and one
	// denied element denies the whole batch.
	NoBatches bool

	// EventsPerSecond is how many events, comments among them, one stream of a
	// server may bring for long; beyond, it is read more slowly. 0 means 1000.
	EventsPerSecond int

	Sessions          int           // sessions of all callers together; 0 means 65536
	SessionsPerCaller int           // the longest unused one makes room; 0 means 1024
	SessionIdle       time.Duration // how long an unused session is remembered; 0 means 24h

	// Unheard bounds the calls of the legacy eras that go on when their client has
	// left: there, leaving does not mean to cancel. nil means one with its defaults.
	Unheard *inspect.Unheard

	// Tokens validates bearer tokens where policies ask for them; without it those
	// requests are refused.
	Tokens *token.Verifier

	// Judge answers for an exchange; nil means the exchange's own Policies.
	Judge func(x *inspect.Exchange) Judge
}

func (c Config) withDefaults() Config {
	c.RequestBytes = or(c.RequestBytes, 4<<20)
	c.MessageBytes = or(c.MessageBytes, 16<<20)
	c.EventsPerSecond = or(c.EventsPerSecond, 1000)
	c.Sessions = or(c.Sessions, 1<<16)
	c.SessionsPerCaller = or(c.SessionsPerCaller, 1024)
	c.SessionIdle = or(c.SessionIdle, 24*time.Hour)
	if c.Unheard == nil {
		c.Unheard = new(inspect.Unheard)
	}
	if c.Judge == nil {
		c.Judge = func(x *inspect.Exchange) Judge { return x.Policies }
	}
	return c
}

func or[T int | time.Duration](v, def T) T {
	if v <= 0 {
		return def
	}
	return v
}

// New returns the layer that governs exchanges on ports where MCP is spoken;
// exchanges on other ports pass it by. One layer serves all connections of a
// sidecar: sessions and handles live in it.
func New(c Config) inspect.Layer {
	g := &governor{config: c.withDefaults(), handles: newOwners(), events: newOwners(), forms: newForms(), locations: newLocations(), mirrors: newMirrors(), resumable: newResumable(), params: paramsShape(), result: resultShape(), reply: replyShape()}
	g.sessions = newSessions(g.config)
	g.exchanges.New = func() any { return newExchange(g) }
	return func(next inspect.Handler) inspect.Handler {
		return inspect.HandlerFunc(func(ctx context.Context, x *inspect.Exchange) (*inspect.Response, error) {
			if x.Port.Protocol != policy.ProtocolMCP {
				return next.Do(ctx, x)
			}
			return g.do(ctx, x, next)
		})
	}
}

// A governor is what all exchanges share.
type governor struct {
	config    Config
	sessions  *sessions
	handles   *owners
	events    *owners // of what streams can be resumed from
	forms     *forms
	locations *locations
	mirrors   *mirrors
	resumable *resumable

	exchanges  sync.Pool // of *exchange
	workspaces sync.Pool // of *workspace
	large      sync.Pool // of *[]byte, for what does not fit an exchange's own buffers

	params, result, reply *jsonrpc.Shape
}

// do governs one exchange. The exchange lives until the body of its response
// is closed.
func (g *governor) do(ctx context.Context, x *inspect.Exchange, next inspect.Handler) (*inspect.Response, error) {
	e := g.exchanges.Get().(*exchange)
	e.begin(x)
	response, err := e.answer(ctx, next)
	if err != nil {
		e.end(err)
		return nil, err
	}
	if response.Body == nil {
		e.end(nil)
		return response, nil
	}
	last := &lastCloser{response.Body, e}
	if whole, ok := response.Body.(*inMemory); ok {
		response.Body = &lastWriter{*last, whole}
	} else {
		response.Body = last
	}
	return response, nil
}

// answer sends the request on its way by its HTTP method.
func (e *exchange) answer(ctx context.Context, next inspect.Handler) (*inspect.Response, error) {
	r := e.x.Request
	if problem := checkHeader(r.Header); problem != "" {
		return e.refuse(refusal{status: 400, code: codeInvalidRequest, problem: problem}), nil
	}
	r.Header.Set("Accept-Encoding", "identity")
	if e.isMetadata() {
		return e.metadata(ctx, next)
	}
	if refused := e.authenticate(ctx); refused != nil {
		return e.refuse(*refused), nil
	}
	if refused := e.enterEndpoint(); refused != nil {
		return e.refuse(*refused), nil
	}
	if paths := e.x.Port.Paths; e.session == nil && len(paths) > 0 && !slices.Contains(paths, r.Path) {
		return e.refuse(refusal{status: 404, problem: "no MCP endpoint at this path: the policy's port lists its paths"}), nil
	}
	switch r.Method {
	case "POST":
		return e.post(ctx, next)
	case "GET", "DELETE":
		return e.bare(ctx, next)
	}
	return e.notAllowed("MCP has no such HTTP method"), nil
}
