package inbound

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strings"
	"syscall"
	"time"

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

// An arrival is a connection on its way to the app, and what has been found out about it.
type arrival struct {
	source     mesh.Principal
	from       netip.AddrPort
	record     *telemetry.Connection
	clientCert string // what the app is told of the caller's certificate, if anything
	find       func(*store.Snapshot) (policy.Destination, error)
	authority  string          // what was asked for
	elsewhere  bool            // the peer is in another network: its address is not one of ours
	forwarded  string          // what the peer says of where the connection was going
	serving    context.Context // by a tunnel: ends with the server

	// set by the first question, never changed
	target policy.Destination
	port   policy.Port
	err    error
}

// admit asks whether the arrival may pass. Later questions also fail if the
// destination is gone or the port now speaks another protocol, because the
// connection is being carried by the old answer.
func (p *Proxy) admit(a *arrival) *admission.Entry {
	first := true
	entry := p.Register.Admit(func(snap *store.Snapshot) policy.Decision {
		if !first {
			return p.again(a, snap)
		}
		first = false
		if a.target, a.err = a.find(snap); a.err != nil {
			return policy.Decision{Reason: a.err.Error()}
		}
		if snap.Policies() == nil {
			return policy.Decision{Reason: fmt.Sprintf("denied because the mesh has not told everything yet: pending %s", strings.Join(snap.Pending(), ", "))}
		}
		a.port = p.port(snap, a.target)
		return snap.Policies().Connect(a.connection(a.target))
	})
	a.record.Decision, a.record.Snapshot = entry.Decision, entry.Snapshot.Version()
	a.record.Destination, a.record.DestinationAddr = p.Self.Principal, a.target.Address
	a.record.DestinationWorkload, a.record.Service = a.target.Workload, a.target.Service
	if a.record.Service == (mesh.Name{}) {
		a.record.Service = hinted(entry.Snapshot, a.target.Workload, a.forwarded)
	}
	p.peer(a, entry.Snapshot)
	if p.Want != nil && entry.Decision.Allowed && a.source != (mesh.Principal{}) && !a.elsewhere {
		p.Want(mesh.Reference{Address: a.peerAddress(p.Self.Network)})
	}
	if !entry.Decision.Allowed && a.err == nil {
		a.record.Flags = "DENY"
	}
	return entry
}

// peer names the workload at the other end in the record, if it is known.
func (p *Proxy) peer(a *arrival, snap *store.Snapshot) {
	if a.from.IsValid() && !a.elsewhere && a.record.SourceWorkload == nil {
		a.record.SourceWorkload = snap.Workload(a.peerAddress(p.Self.Network))
	}
}

func (a *arrival) peerAddress(network string) mesh.NetworkAddress {
	return mesh.NetworkAddress{Network: network, Address: a.from.Addr().Unmap()}
}

// port is what is spoken on the destination: what policy says, or what the
// operator does where no policy says anything.
func (p *Proxy) port(snap *store.Snapshot, to policy.Destination) policy.Port {
	port := snap.Policies().Port(policy.Inbound, to)
	if port.Protocol == policy.ProtocolUndeclared && slices.Contains(p.MCPPorts, to.Address.Port()) {
		port.Protocol = policy.ProtocolMCP
	}
	return port
}

func (p *Proxy) again(a *arrival, snap *store.Snapshot) policy.Decision {
	target, err := a.find(snap)
	if err != nil {
		return policy.Decision{Reason: err.Error()}
	}
	if port := p.port(snap, target); !port.Equal(a.port) {
		return policy.Decision{Reason: fmt.Sprintf("policy now declares another protocol or other paths on port %d", target.Address.Port())}
	}
	return snap.Policies().Connect(a.connection(target))
}

func (a *arrival) connection(to policy.Destination) *policy.Connection {
	return &policy.Connection{Source: a.source, SourceAddr: a.from, Destination: to.Address}
}

func (p *Proxy) appAddress(a *arrival) netip.AddrPort {
	port := a.target.Address.Port()
	switch {
	case p.App.IsValid():
		return netip.AddrPortFrom(p.App, port)
	case speaksPROXY(a.target.Workload) && a.target.Address.Addr().Is4(): // as ztunnel: such a proxy listens for us only
		return netip.AddrPortFrom(netip.AddrFrom4([4]byte{127, 0, 0, 1}), port)
	case speaksPROXY(a.target.Workload):
		return netip.AddrPortFrom(netip.IPv6Loopback(), port)
	}
	return a.target.Address
}

func (p *Proxy) dialApp(ctx context.Context, a *arrival) (net.Conn, error) {
	app, err := p.connectApp(ctx, a)
	if err != nil {
		a.record.Flags = "CONNECT"
		if errors.Is(err, syscall.ECONNREFUSED) {
			err = fmt.Errorf("%w: nothing listens there: start the app, or name the address on which it listens with --app-address", err)
		}
		return nil, fmt.Errorf("dial app %s: %w", p.appAddress(a), err)
	}
	return app, nil
}

// lasting is the context of a connection that came by a tunnel with ctx tunnel. That of
// an inspected one does not end because the peer has left, which inspection notices
// itself: a call may have to be read to its end.
func (a *arrival) lasting(tunnel context.Context) (ctx context.Context, done func()) {
	if a.serving == nil || !a.port.Protocol.Inspected() {
		return tunnel, func() {}
	}
	ctx, cut := context.WithCancelCause(a.serving)
	stop := context.AfterFunc(tunnel, func() {
		if why := context.Cause(tunnel); !hbone.PeerLeft(why) {
			cut(why)
		}
	})
	return ctx, func() {
		stop()
		cut(nil)
	}
}

// carry moves the bytes, inspected where policy declares a protocol, until both
// ends are done or the arrival is no longer admitted. It takes over both ends.
func (v *visit) carry(ctx context.Context) {
	ctx = v.ready(ctx)
	up, ok := v.app.(relay.Conn)
	switch {
	case v.port.Protocol.Inspected():
		v.err = v.proxy.inspect(ctx, &v.arrival, v.down, v.app)
	case !ok:
		v.app.Close()
		v.down.Close()
		v.err = fmt.Errorf("connection to the app %T cannot half-close", v.app)
	default:
		settled := v.proxy.open(&v.arrival)
		result := relay.CopyMetered(ctx, v.down, up, relay.Reversed(v.record)) // what the peer sends is what the record calls received
		settled()
		v.record.BytesReceived, v.record.BytesSent, v.err = result.Sent, result.Received, result.Err
	}
	v.err = v.ended(cause(ctx, v.err))
}

// ready returns the context that ends when the arrival is no longer admitted.
func (v *visit) ready(ctx context.Context) context.Context {
	cut, done := v.cut, func() {}
	if cut == nil || v.port.Protocol.Inspected() {
		var lasted func()
		ctx, lasted = v.lasting(ctx)
		ctx, cut = context.WithCancelCause(ctx)
		cancel := cut
		done = func() {
			cancel(nil)
			lasted()
		}
	}
	v.done = done
	v.entry.OnCut(func(d policy.Decision) {
		cut(fmt.Errorf("%w: connection closed due to policy change: %s", ErrDenied, d.Reason))
	})
	return ctx
}

// peerPatience is how long the metrics of a connection wait for who its peer is.
const peerPatience = time.Second

// open counts the connection as opened: at once or, where the peer may still
// become known, a little later. What it returns must be called before anybody
// else uses the record.
func (p *Proxy) open(a *arrival) (settled func()) {
	if p.Want == nil || a.record.SourceWorkload != nil {
		a.record.Open()
		return func() {}
	}
	done := make(chan struct{})
	timer := time.AfterFunc(peerPatience, func() {
		defer close(done)
		p.peer(a, p.Store.Snapshot())
		a.record.Open()
	})
	return func() {
		if !timer.Stop() {
			<-done
		}
	}
}

// ended notes in the record why an open connection was cut, and passes err on.
func (a *arrival) ended(err error) error {
	if flag := identity.CutFlag(err); flag != "" {
		a.record.Flags = flag
	} else if errors.Is(err, ErrDenied) {
		a.record.Flags = "DENY"
	}
	return err
}

func (p *Proxy) inspect(ctx context.Context, a *arrival, down relay.Conn, app net.Conn) error {
	// The connection that proved that the app is there serves the first exchange.
	first := inspect.Ready(app)
	defer first.Close()
	return inspect.Serve(ctx, down, inspect.Config{
		Conversation: &inspect.Conversation{
			Direction: policy.Inbound, Source: a.source, Destination: p.Self.Principal,
			Connection: *a.connection(a.target), Target: a.target, Port: a.port, Record: a.record,
			ClientCert: a.clientCert,
		},
		Layers: p.Layers,
		Limits: p.Limits,
		Policies: func() (*policy.Policies, uint64) {
			snap := p.Store.Snapshot()
			return snap.Policies(), snap.Version()
		},
		Upstream: func(ctx context.Context) (net.Conn, error) {
			if c := first.Take(); c != nil {
				return c, nil
			}
			return p.connectApp(ctx, a)
		},
	})
}

// cause prefers the reason we cut a connection to the error that the cut made.
func cause(ctx context.Context, err error) error {
	if why := context.Cause(ctx); why != nil && ctx.Err() != nil {
		return why
	}
	return err
}
