// Package inbound is the way from the mesh to the app, as one recipe: is it for
// us, may it pass, is the app there, and then relay or inspect.
package inbound

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/netip"

	"github.com/outrigger-mesh/outrigger/pkg/admission"
	"github.com/outrigger-mesh/outrigger/pkg/hbone"
	"github.com/outrigger-mesh/outrigger/pkg/identity"
	"github.com/outrigger-mesh/outrigger/pkg/inspect"
	"github.com/outrigger-mesh/outrigger/pkg/mesh"
	"github.com/outrigger-mesh/outrigger/pkg/policy"
	"github.com/outrigger-mesh/outrigger/pkg/relay"
	"github.com/outrigger-mesh/outrigger/pkg/store"
	"github.com/outrigger-mesh/outrigger/pkg/telemetry"
)

// ErrDenied means that policy refused a connection, or cut it later.
var ErrDenied = errors.New("denied by policy")

// Config lists what the recipe uses.
type Config struct {
	Self     mesh.Self
	Store    *store.Store
	Register *admission.Register
	Recorder *telemetry.Recorder
	Layers   []inspect.Layer // for ports whose protocol is inspected
	Limits   inspect.Limits  // likewise

	// ClientCert has inspected requests carry X-Forwarded-Client-Cert; see
	// inspect.ClientCert. What callers write there never reaches the app.
	ClientCert bool

	// App is where the app listens; the zero Addr means on the address that was
	// asked for. A user's own server on 127.0.0.1 needs it.
	App           netip.Addr
	Dial          func(ctx context.Context, app netip.AddrPort) (net.Conn, error) // required
	MCPPorts      []uint16                                                        // where the app speaks MCP: without a policy they are closed, not open
	ReservedPorts []uint16                                                        // the sidecar's own, never dialled
	Logger        *slog.Logger
	// Find makes sure that the store holds what there is of the references, and
	// Want asks for it without waiting. Nil if all of the mesh is in the store.
	Find func(ctx context.Context, refs ...mesh.Reference) error
	Want func(refs ...mesh.Reference)
}

// A Proxy carries connections from the mesh to the app.
type Proxy struct{ Config }

// New returns a proxy, or says what is missing.
func New(c Config) (*Proxy, error) {
	switch {
	case c.Store == nil, c.Register == nil, c.Recorder == nil, c.Dial == nil:
		return nil, errors.New("inbound proxy needs a store, a register, a recorder and a dial function")
	case c.Logger == nil:
		c.Logger = slog.New(slog.DiscardHandler)
	}
	return &Proxy{c}, nil
}

// Tunnel answers one CONNECT; it is the hbone.Handler.
func (p *Proxy) Tunnel(ctx context.Context, in *hbone.Incoming) {
	rec := p.Recorder.Connection(policy.Inbound, in.Remote)
	rec.Source, rec.HBONEAddr, rec.TraceID = in.Peer.Principal, in.Authority, in.Header.TraceParent
	var err error
	defer func() { rec.Close(err) }()
	defer p.recoverInto(&err)

	a := &arrival{source: in.Peer.Principal, from: in.Remote, record: rec, clientCert: p.clientCert(&in.Peer),
		authority: in.Authority, forwarded: in.Header.Forwarded, elsewhere: in.Header.Network != "" && in.Header.Network != p.Self.Network}
	a.find = func(s *store.Snapshot) (policy.Destination, error) { return p.destination(s, in.Authority, in.Local) }
	if err = p.learn(ctx, in.Authority); err != nil {
		err = errors.Join(err, in.Reject(http.StatusServiceUnavailable))
		return
	}
	entry := p.admit(a)
	defer entry.Release()
	if a.err != nil {
		err = errors.Join(a.err, in.Reject(statusOf(a.err)))
		return
	}
	if !entry.Decision.Allowed {
		err = errors.Join(fmt.Errorf("%w: %s", ErrDenied, entry.Decision.Reason), in.Reject(http.StatusUnauthorized))
		return
	}
	app, err := p.dialApp(ctx, a)
	if err != nil {
		err = errors.Join(err, in.Reject(http.StatusServiceUnavailable))
		return
	}
	tunnel, acceptErr := in.Accept(hbone.Header{Baggage: a.target.Workload.Baggage()})
	if acceptErr != nil {
		app.Close()
		err = fmt.Errorf("accept tunnel: %w", acceptErr)
		return
	}
	a.serving = in.Serving
	err = p.carry(ctx, a, entry, tunnel, app)
}

// Refused records a connection that was not admitted to a tunnel at all: its
// peer did not prove who it is.
func (p *Proxy) Refused(from netip.AddrPort, why error) {
	rec := p.Recorder.Connection(policy.Inbound, from)
	rec.Flags = identity.Flag(why)
	if peer, ok := errors.AsType[*identity.PeerError](why); ok {
		rec.Decision.Reason = fmt.Sprintf("peer not admitted (%s), claimed to be %q", peer.Reason, peer.Principal)
	}
	rec.Close(why)
}

// RefusedPlain records a connection without a tunnel that was not looked at.
func (p *Proxy) RefusedPlain(from netip.AddrPort, why error) {
	rec := p.Recorder.Connection(policy.Inbound, from)
	rec.Flags = "DENY"
	rec.Close(why)
}

// Plain serves a connection that came without a tunnel, whose dialled address
// was to. Nobody is authenticated; policy decides all the same. It takes over c.
func (p *Proxy) Plain(ctx context.Context, c relay.Conn, to netip.AddrPort) {
	from := addrPort(c.RemoteAddr())
	rec := p.Recorder.Connection(policy.Inbound, from)
	var err error
	defer func() { rec.Close(err) }()
	defer p.recoverInto(&err)

	a := &arrival{from: from, record: rec, authority: to.String()}
	a.find = func(s *store.Snapshot) (policy.Destination, error) { return p.destination(s, to.String(), to) }
	entry := p.admit(a)
	defer entry.Release()
	if a.err != nil || !entry.Decision.Allowed {
		_ = relay.Reset(c) // it is closed whatever this says
		if err = a.err; err == nil {
			err = fmt.Errorf("%w: %s", ErrDenied, entry.Decision.Reason)
		}
		return
	}
	app, err := p.dialApp(ctx, a)
	if err != nil {
		_ = relay.Reset(c) // it is closed whatever this says
		return
	}
	err = p.carry(ctx, a, entry, c, app)
}

func (p *Proxy) recoverInto(err *error) {
	if r := recover(); r != nil {
		p.Logger.Error("inbound connection broke off by a bug in the sidecar", "panic", r)
		*err = fmt.Errorf("internal error: %v", r)
	}
}
