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
//
// What is done before and after bytes are carried has returned by then: the stack
// of an idle tunnel is what its memory goes to.
func (p *Proxy) Tunnel(ctx context.Context, in *hbone.Incoming) {
	v := &visit{proxy: p}
	defer v.end()
	if v.answer(ctx, in); v.down != nil {
		v.carry(ctx)
	}
}

// A visit is one connection from the mesh that is being served.
type visit struct {
	proxy *Proxy
	arrival
	entry *admission.Entry
	down  relay.Conn // nil if it was refused
	app   net.Conn
	err   error
	cut   func(why error) // ends the context that carry is given; nil if nobody can
	done  func()          // ends what ready has made; nil if nothing
}

// answer accepts the tunnel, or rejects it.
func (v *visit) answer(ctx context.Context, in *hbone.Incoming) {
	p := v.proxy
	rec := p.Recorder.Connection(policy.Inbound, in.Remote)
	rec.Source, rec.HBONEAddr, rec.TraceID = in.Peer.Principal, in.Authority, in.Header.TraceParent
	v.arrival = arrival{source: in.Peer.Principal, from: in.Remote, record: rec, clientCert: p.clientCert(&in.Peer),
		authority: in.Authority, forwarded: in.Header.Forwarded, elsewhere: in.Header.Network != "" && in.Header.Network != p.Self.Network}
	authority, local := in.Authority, in.Local
	v.find = func(s *store.Snapshot) (policy.Destination, error) { return p.destination(s, authority, local) }
	status, err := v.open(ctx)
	if err != nil {
		v.err = errors.Join(err, in.Reject(status))
		return
	}
	tunnel, err := in.Accept(hbone.Header{Baggage: v.target.Workload.Baggage()})
	if err != nil {
		v.app.Close()
		v.err = fmt.Errorf("accept tunnel: %w", err)
		return
	}
	v.serving, v.cut = in.Serving, in.Cut
	v.down = tunnel
}

// open connects to the app if the tunnel may pass; else it returns the status that says why not.
func (v *visit) open(ctx context.Context) (status int, err error) {
	p, a := v.proxy, &v.arrival
	if err := p.learn(ctx, a.authority); err != nil {
		return http.StatusServiceUnavailable, err
	}
	v.entry = p.admit(a)
	switch {
	case a.err != nil:
		return statusOf(a.err), a.err
	case !v.entry.Decision.Allowed:
		return http.StatusUnauthorized, fmt.Errorf("%w: %s", ErrDenied, v.entry.Decision.Reason)
	}
	if v.app, err = p.dialApp(ctx, a); err != nil {
		return http.StatusServiceUnavailable, err
	}
	return 0, nil
}

// end writes the record, whatever has happened.
func (v *visit) end() {
	if r := recover(); r != nil {
		v.proxy.Logger.Error("inbound connection broke off by a bug in the sidecar", "panic", r)
		v.err = fmt.Errorf("internal error: %v", r)
		for _, c := range [...]net.Conn{v.down, v.app} {
			if c != nil {
				_ = relay.Reset(c) // it is closed whatever this says
			}
		}
	}
	if v.done != nil {
		v.done()
		v.proxy.peer(&v.arrival, v.proxy.Store.Snapshot())
	}
	if v.entry != nil {
		v.entry.Release()
	}
	if v.record != nil {
		v.record.Close(v.err)
	}
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
	v := &visit{proxy: p}
	defer v.end()
	if v.receive(ctx, c, to); v.down != nil {
		v.carry(ctx)
	}
}

// receive takes c, or resets it.
func (v *visit) receive(ctx context.Context, c relay.Conn, to netip.AddrPort) {
	defer func() {
		if v.down == nil { // refused, or a panic
			_ = relay.Reset(c) // it is closed whatever this says
		}
	}()
	p, from := v.proxy, addrPort(c.RemoteAddr())
	v.arrival = arrival{from: from, record: p.Recorder.Connection(policy.Inbound, from), authority: to.String()}
	v.find = func(s *store.Snapshot) (policy.Destination, error) { return p.destination(s, to.String(), to) }
	v.entry = p.admit(&v.arrival)
	if v.err = v.arrival.err; v.err == nil && !v.entry.Decision.Allowed {
		v.err = fmt.Errorf("%w: %s", ErrDenied, v.entry.Decision.Reason)
	}
	if v.err != nil {
		return
	}
	if v.app, v.err = p.dialApp(ctx, &v.arrival); v.err == nil {
		v.down = c
	}
}
