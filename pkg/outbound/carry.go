package outbound

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"strconv"
	"strings"

	"github.com/outrigger-mesh/outrigger/pkg/admission"
	"github.com/outrigger-mesh/outrigger/pkg/capture"
	"github.com/outrigger-mesh/outrigger/pkg/hbone"
	"github.com/outrigger-mesh/outrigger/pkg/identity"
	"github.com/outrigger-mesh/outrigger/pkg/inspect"
	"github.com/outrigger-mesh/outrigger/pkg/mesh"
	"github.com/outrigger-mesh/outrigger/pkg/policy"
	"github.com/outrigger-mesh/outrigger/pkg/relay"
	"github.com/outrigger-mesh/outrigger/pkg/route"
	"github.com/outrigger-mesh/outrigger/pkg/store"
	"github.com/outrigger-mesh/outrigger/pkg/telemetry"
)

// attempts is how many endpoints are tried before any byte was sent.
const attempts = 3

// A departure is a connection on its way into the mesh, and what has been found out about it.
type departure struct {
	from   netip.AddrPort
	to     route.Destination
	record *telemetry.Connection

	// set by the first question, never changed
	snap   *store.Snapshot
	target policy.Destination
	port   policy.Port
	alone  bool // whether no waypoint or gateway stands between us and the destination

	route *route.Route   // that is being tried
	peer  mesh.Principal // at the end of its last tunnel
}

// admit asks whether the departure may leave. L4 authorization is the
// receiver's; here only agent policy speaks, and nothing leaves before the mesh
// has told everything once.
func (p *Proxy) admit(d *departure) *admission.Entry {
	first := true
	entry := p.Register.Admit(func(snap *store.Snapshot) policy.Decision {
		if snap.Policies() == nil {
			return policy.Decision{Reason: fmt.Sprintf("denied because the mesh has not told everything yet: pending %s", strings.Join(snap.Pending(), ", "))}
		}
		if first {
			first, d.snap = false, snap
			if decision := p.first(d); !decision.Allowed {
				return decision
			}
			return snap.Policies().Connect(p.connection(d))
		}
		if port := snap.Policies().Port(policy.Outbound, d.target); !port.Equal(d.port) {
			return policy.Decision{Reason: fmt.Sprintf("policy now declares another protocol or other paths for %s", d.to)}
		}
		if d.alone {
			if waypoint := p.Routes.Passes(snap, d.to); waypoint != "" {
				return policy.Decision{Reason: fmt.Sprintf("the way to %s now leads through waypoint %s, and this connection passes it by", d.to, waypoint)}
			}
		}
		return snap.Policies().Connect(p.connection(d))
	})
	d.record.Snapshot, d.record.Decision = entry.Snapshot.Version(), entry.Decision
	if !entry.Decision.Allowed {
		d.record.Flags = "DENY"
	}
	return entry
}

// connection is what policy may look at: where it will be dialled, and by which name.
func (p *Proxy) connection(d *departure) *policy.Connection {
	return &policy.Connection{
		Direction: policy.Outbound, Source: p.Self.Principal, SourceAddr: d.from, Destination: d.target.Address,
		Service: d.target.Service, Workload: d.target.Workload,
	}
}

// first finds the way and what policy calls the place it leads to.
func (p *Proxy) first(d *departure) policy.Decision {
	rt, err := p.Routes.Resolve(d.snap, d.to)
	if err != nil {
		return policy.Decision{Reason: err.Error()}
	}
	p.describe(d, rt)
	d.alone = rt.Kind != route.Waypoint && rt.Kind != route.Gateway
	d.target = policy.Destination{Workload: rt.Endpoint.Workload, Address: d.to.Address}
	if d.to.Hostname != "" {
		d.target.Address = netip.AddrPortFrom(netip.Addr{}, d.to.Port)
	}
	if rt.Service != nil {
		d.target.Service = rt.Service.Key()
	}
	d.port = d.snap.Policies().Port(policy.Outbound, d.target)
	return policy.Decision{Allowed: true}
}

// open connects to where the departure goes. While nothing was sent, another
// endpoint is tried if one cannot be reached.
func (p *Proxy) open(ctx context.Context, d *departure) (relay.Conn, error) {
	var failed []error
	to := d.to
	for range attempts {
		up, err := p.connect(ctx, d, d.route)
		if ctx.Err() == nil {
			p.Balancer.Report(d.route.Target, err)
		}
		if err == nil {
			if tunnel, ok := up.(*hbone.Tunnel); ok {
				d.peer = tunnel.Peer().Principal
				d.record.Destination = d.peer
			}
			return up, nil
		}
		failed = append(failed, err)
		d.record.Flags = flag(err)
		if d.route.Target == "" || ctx.Err() != nil || refusedByPeer(err) {
			break
		}
		to.Avoid = append(to.Avoid, d.route.Target)
		next, err := p.Routes.Resolve(d.snap, to)
		if err != nil {
			break // the failures before say more than that there is no other endpoint
		}
		p.describe(d, next)
	}
	return nil, errors.Join(failed...)
}

// refusedByPeer tells whether the other end was reached and said no: another
// endpoint of the same service would be asked the same.
func refusedByPeer(err error) bool {
	status, ok := errors.AsType[*hbone.StatusError](err)
	return ok && status.Status != 503
}

func flag(err error) string {
	if f := identity.Flag(err); f != "TLS_FAILURE" {
		return f
	}
	if _, ok := errors.AsType[*identity.PeerError](err); ok {
		return "TLS_FAILURE"
	}
	return "CONNECT"
}

func (p *Proxy) describe(d *departure, rt *route.Route) {
	d.route = rt
	d.record.DestinationAddr, d.record.DestinationWorkload = rt.Address, rt.Endpoint.Workload
	if rt.Service != nil {
		d.record.Service = rt.Service.Key()
	}
	if len(rt.Hops) > 0 {
		d.record.DestinationAddr = rt.Hops[0].Address
		d.record.HBONEAddr = rt.Hops[len(rt.Hops)-1].Authority
	}
}

func (p *Proxy) connect(ctx context.Context, d *departure, rt *route.Route) (relay.Conn, error) {
	if len(rt.Hops) == 0 {
		return p.connectPlain(ctx, d, rt)
	}
	if d.record.TraceID == "" { // one for the app's connection, whatever it takes to carry it
		d.record.TraceID = traceParent()
	}
	// No x-istio-source: a gateway is to treat us as it treats ztunnel, and put
	// the destination's waypoint in the way.
	header := hbone.Header{Baggage: d.snap.Self().Baggage(), Forwarded: forwarded(d, rt), TraceParent: d.record.TraceID, Hops: 1}
	tunnel, err := p.Tunnels.Dial(ctx, rt.Hops[0], header)
	if err != nil {
		return nil, fmt.Errorf("open tunnel to %s for %s: %w", rt.Hops[0].Address, rt.Hops[0].Authority, err)
	}
	for _, inner := range rt.Hops[1:] {
		header.Network = p.Self.Network
		if tunnel, err = p.Tunnels.DialThrough(ctx, tunnel, inner, header); err != nil {
			return nil, fmt.Errorf("open inner tunnel for %s: %w", inner.Authority, err)
		}
	}
	return tunnel, nil
}

func (p *Proxy) connectPlain(ctx context.Context, d *departure, rt *route.Route) (relay.Conn, error) {
	if rt.Address.IsValid() {
		return p.dialPlain(ctx, rt.Address)
	}
	found, err := p.names.addresses(ctx, rt.Hostname, d.to.Address.Addr().Is6())
	if err != nil {
		return nil, err
	}
	var failed []error
	for _, a := range found {
		up, err := p.dialPlain(ctx, netip.AddrPortFrom(a, rt.Port))
		if err == nil {
			return up, nil
		}
		failed = append(failed, err)
	}
	return nil, fmt.Errorf("connect to %s: %w", net.JoinHostPort(rt.Hostname, strconv.Itoa(int(rt.Port))), errors.Join(failed...))
}

func (p *Proxy) dialPlain(ctx context.Context, to netip.AddrPort) (relay.Conn, error) {
	c, err := p.Dial(ctx, to)
	if err != nil {
		return nil, fmt.Errorf("dial %s: %w", to, err)
	}
	up, ok := c.(relay.Conn)
	if !ok {
		c.Close()
		return nil, fmt.Errorf("connection %T to %s cannot half-close", c, to)
	}
	return up, nil
}

// forwarded tells the receiver who called and by which service's name (RFC 7239).
func forwarded(d *departure, rt *route.Route) string {
	if !d.from.IsValid() {
		return ""
	}
	value := `for="` + d.from.String() + `"`
	if rt.Service != nil {
		value += ";host=" + rt.Service.Hostname
	}
	return value
}

// carry moves the bytes, inspected where an outbound policy declares a protocol.
// It takes over both ends.
func (v *visit) carry(ctx context.Context) {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	v.entry.OnCut(func(decision policy.Decision) {
		cancel(fmt.Errorf("%w: connection closed due to policy change: %s", ErrDenied, decision.Reason))
	})
	if v.port.Protocol.Inspected() {
		v.err = v.proxy.inspect(ctx, &v.departure, v.app, v.up)
	} else {
		v.record.Open()
		result := relay.CopyMetered(ctx, v.app.TCPConn, v.up, v.record)
		v.record.BytesSent, v.record.BytesReceived = result.Sent, result.Received
		v.err = result.Err
	}
	if why := context.Cause(ctx); why != nil && ctx.Err() != nil {
		v.err = why
	}
	v.err = v.ended(v.err)
}

// ended notes in the record why an open connection was cut, and passes err on.
func (d *departure) ended(err error) error {
	if flag := identity.CutFlag(err); flag != "" {
		d.record.Flags = flag
	} else if errors.Is(err, ErrDenied) {
		d.record.Flags = "DENY"
	}
	return err
}

func (p *Proxy) inspect(ctx context.Context, d *departure, down *capture.Conn, up relay.Conn) error {
	// The tunnel that proved that the way is open serves the first exchange.
	first := inspect.Ready(up)
	defer first.Close()
	return inspect.Serve(ctx, down, inspect.Config{
		Conversation: &inspect.Conversation{
			Direction: policy.Outbound, Source: p.Self.Principal, Destination: d.peer,
			Connection: *p.connection(d),
			Target:     d.target, Port: d.port, Record: d.record,
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
			return p.connect(ctx, d, d.route)
		},
	})
}
