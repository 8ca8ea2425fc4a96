package hbone

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/netip"
	"runtime/debug"

	"golang.org/x/net/http2"

	"github.com/outrigger-mesh/outrigger/pkg/identity"
)

// An Incoming is a CONNECT that has not been answered yet. Exactly one of Accept
// and Reject must be called. Its authority has been read by ParseAuthority
// and its hops are at most MaxHops; anything else was answered 400.
type Incoming struct {
	Authority string // as the peer wrote it
	Header    Header
	Peer      identity.Peer
	Local     netip.AddrPort // where the peer connected to
	Remote    netip.AddrPort // where the peer connected from

	// Serving ends with the server, when it has drained, and not with the tunnel: for
	// what is to be finished although the peer has left.
	Serving context.Context

	t        *Tunnel
	cut      context.CancelCauseFunc // of the handler's context
	answered bool
}

// errAnswered: a CONNECT has one answer.
var errAnswered = errors.New("CONNECT was answered before")

// Accept answers 200 with response.
func (i *Incoming) Accept(response Header) (*Tunnel, error) {
	if err := response.check(); err != nil {
		return nil, fmt.Errorf("accept tunnel to %s: %w", i.Authority, err)
	}
	if i.answered {
		return nil, errAnswered
	}
	i.answered = true
	if err := i.t.c.w.response(i.t, http.StatusOK, &response, false); err != nil {
		return nil, fmt.Errorf("accept tunnel to %s: %w", i.Authority, i.t.sendFailed(err))
	}
	return i.t, nil
}

// Reject answers with status, from 400 to 599, and ends the stream.
func (i *Incoming) Reject(status int) error {
	if status < 400 || status > 599 {
		return fmt.Errorf("reject tunnel to %s: status %d", i.Authority, status)
	}
	if i.answered {
		return errAnswered
	}
	i.answered = true
	t := i.t
	if err := t.c.w.response(t, status, &Header{}, true); err != nil {
		return fmt.Errorf("reject tunnel to %s: %w", i.Authority, t.sendFailed(err))
	}
	t.c.endSend(t)
	t.c.reset(t, http2.ErrCodeNo, errStopped) // RFC 9113 §8.1: no more is wanted
	t.closeRead()
	return nil
}

// Cut ends the handler's context, and with it a relay of the tunnel, for a reason.
func (i *Incoming) Cut(why error) { i.cut(why) }

// A Handler decides about one CONNECT. ctx ends when the stream is reset, or
// the connection or the server ends; it does not end because the tunnel has
// ended well. It runs in a goroutine of its own. A tunnel that is still open
// when it returns is reset; a CONNECT without an answer is rejected with 503.
type Handler func(ctx context.Context, in *Incoming)

// handle runs h for t.
func (s *Server) handle(ctx context.Context, c *conn, t *Tunnel, r *request, h Handler) {
	serving := ctx
	ctx, cancel := context.WithCancelCause(ctx)
	c.mu.Lock()
	if t.sendErr != nil { // the connection ended meanwhile
		c.mu.Unlock()
		cancel(nil)
		return
	}
	t.onEnd = cancel
	c.mu.Unlock()
	if !c.welcomed {
		c.welcomed = true
		s.gate.Welcome(c.remote.Addr())
	}
	c.running.Add(1)
	in := &Incoming{Authority: r.authority, Header: r.header, Peer: c.peer,
		Local: c.local, Remote: c.remote, Serving: serving, t: t, cut: cancel}
	c.handlers.Go(func() {
		defer s.close(in)
		if s.stillAdmits(in) {
			h(ctx, in)
		}
	})
}

// stillAdmits tells whether the peer of a CONNECT would be admitted now.
func (s *Server) stillAdmits(in *Incoming) bool {
	err := in.t.c.stillAdmitted()
	if err != nil {
		s.refused(in.t.c.nc, err)
	}
	return err == nil
}

// close leaves nothing of a handler behind, even if it panicked.
func (s *Server) close(in *Incoming) {
	defer in.t.c.running.Add(-1)
	defer in.cut(nil)
	if p := recover(); p != nil {
		s.logger.Error("handler panicked", "panic", p, "authority", in.Authority, "stack", string(debug.Stack()))
		in.t.reset(http2.ErrCodeInternal)
		in.t.closeRead()
		return
	}
	if !in.answered {
		_ = in.Reject(http.StatusServiceUnavailable) // the peer is gone, or knows now
		return
	}
	in.t.reset(codeBroken) // nothing if it has ended
	in.t.closeRead()
}
