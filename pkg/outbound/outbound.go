// Package outbound is the way from the app to the mesh, as one recipe: where is
// it going, may it go there, open the tunnels, and then relay or inspect.
package outbound

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"slices"
	"strconv"

	"github.com/outrigger-mesh/outrigger/pkg/admission"
	"github.com/outrigger-mesh/outrigger/pkg/capture"
	"github.com/outrigger-mesh/outrigger/pkg/hbone"
	"github.com/outrigger-mesh/outrigger/pkg/inspect"
	"github.com/outrigger-mesh/outrigger/pkg/mesh"
	"github.com/outrigger-mesh/outrigger/pkg/policy"
	"github.com/outrigger-mesh/outrigger/pkg/relay"
	"github.com/outrigger-mesh/outrigger/pkg/route"
	"github.com/outrigger-mesh/outrigger/pkg/store"
	"github.com/outrigger-mesh/outrigger/pkg/telemetry"
)

// ErrDenied means that a connection may not go where it wanted to.
var ErrDenied = errors.New("denied")

// Config lists what the recipe uses.
type Config struct {
	Self     mesh.Self
	Store    *store.Store
	Register *admission.Register
	Recorder *telemetry.Recorder
	Routes   *route.Resolver
	Balancer *route.Balancer // the resolver's
	Tunnels  *hbone.Dialer
	Layers   []inspect.Layer // for ports whose protocol is inspected
	Limits   inspect.Limits  // likewise

	Dial          func(ctx context.Context, to netip.AddrPort) (net.Conn, error) // required: for plain TCP
	ReservedPorts []uint16                                                       // the sidecar's own: on loopback they would loop
	Logger        *slog.Logger

	// Find makes sure that the store holds what there is of the references; nil
	// if all of the mesh is in the store. An error means that nobody knows.
	Find   func(ctx context.Context, refs ...mesh.Reference) error
	Lookup Lookup // for endpoints that have only a hostname; nil: SystemLookup
}

// A Proxy carries connections from the app to the mesh.
type Proxy struct {
	Config
	names *names
}

// New returns a proxy, or says what is missing.
func New(c Config) (*Proxy, error) {
	switch {
	case c.Store == nil, c.Register == nil, c.Recorder == nil, c.Routes == nil, c.Balancer == nil, c.Tunnels == nil, c.Dial == nil:
		return nil, errors.New("outbound proxy needs a store, a register, a recorder, routes, a balancer, tunnels and a dial function")
	case c.Logger == nil:
		c.Logger = slog.New(slog.DiscardHandler)
	}
	if c.Lookup == nil {
		c.Lookup = SystemLookup
	}
	return &Proxy{c, &names{lookup: c.Lookup}}, nil
}

// Serve carries one connection of the app. It takes over c.
//
// What is done before and after bytes are carried has returned by then: the stack
// of an idle connection is what its memory goes to.
func (p *Proxy) Serve(ctx context.Context, c *capture.Conn) {
	v := &visit{proxy: p, app: c}
	defer v.end()
	if v.begin(ctx); v.up != nil {
		v.carry(ctx)
	}
}

// A visit is one connection of the app that is being served.
type visit struct {
	proxy *Proxy
	app   *capture.Conn
	departure
	entry *admission.Entry
	up    relay.Conn // nil if it was refused
	err   error
}

// begin opens the way, or refuses.
func (v *visit) begin(ctx context.Context) {
	p, d := v.proxy, &v.departure
	d.from, d.record = v.app.Source, p.Recorder.Connection(policy.Outbound, v.app.Source)
	d.record.Source = p.Self.Principal
	if v.err = v.open(ctx, p, d); v.err != nil {
		refuse(v.app)
	}
}

func (v *visit) open(ctx context.Context, p *Proxy, d *departure) (err error) {
	if d.to, err = p.destination(v.app); err != nil {
		return err
	}
	if err = p.learn(ctx, d); err != nil {
		return err
	}
	v.entry = p.admit(d)
	if !v.entry.Decision.Allowed {
		return fmt.Errorf("%w: %s", ErrDenied, v.entry.Decision.Reason)
	}
	v.up, err = p.open(ctx, d)
	return err
}

// end writes the record, whatever has happened.
func (v *visit) end() {
	if r := recover(); r != nil {
		v.proxy.Logger.Error("outbound connection broke off by a bug in the sidecar", "panic", r)
		v.err = fmt.Errorf("internal error: %v", r)
		refuse(v.app)
		if v.up != nil {
			_ = relay.Reset(v.up) // it is closed whatever this says
		}
	}
	if v.entry != nil {
		v.entry.Release()
	}
	v.record.Close(v.err)
}

// Refused records a connection of the app that was not looked at.
func (p *Proxy) Refused(from netip.AddrPort, why error) {
	rec := p.Recorder.Connection(policy.Outbound, from)
	rec.Source, rec.Flags = p.Self.Principal, "DENY"
	rec.Close(why)
}

// destination is where the app wanted to go: where the listener leads, or where
// the connection was going before it was redirected.
func (p *Proxy) destination(c *capture.Conn) (route.Destination, error) {
	if c.Forward != "" {
		return parseForward(c.Forward)
	}
	if !c.Redirected() {
		return route.Destination{}, fmt.Errorf("%w: %s was dialled itself, and nothing redirected the connection there", ErrDenied, c.Local)
	}
	if c.Original.Addr().IsLoopback() && slices.Contains(p.ReservedPorts, c.Original.Port()) {
		return route.Destination{}, fmt.Errorf("%w: %s is the sidecar itself: the connection would loop", ErrDenied, c.Original)
	}
	return route.Destination{Address: c.Original}, nil
}

// parseForward reads the host:port of a listener's fixed destination.
func parseForward(forward string) (route.Destination, error) {
	if address, err := netip.ParseAddrPort(forward); err == nil {
		return route.Destination{Address: address}, nil
	}
	host, text, err := net.SplitHostPort(forward)
	if err != nil {
		return route.Destination{}, fmt.Errorf("forward to %q: %w", forward, err)
	}
	port, err := strconv.ParseUint(text, 10, 16)
	if err != nil || port == 0 {
		return route.Destination{}, fmt.Errorf("forward to %q: %q is not a port", forward, text)
	}
	return route.Destination{Hostname: host, Port: uint16(port)}, nil
}

// refuse ends c so that the app sees a refusal, not a normal end.
func refuse(c *capture.Conn) {
	_ = relay.Reset(c.TCPConn) // it is closed whatever this says
}
