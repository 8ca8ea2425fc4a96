package route

import (
	"fmt"
	"net/netip"
	"strconv"

	"github.com/outrigger-mesh/outrigger/pkg/mesh"
	"github.com/outrigger-mesh/outrigger/pkg/store"
)

// A handover is a gateway or waypoint that was found: the workload, the port it
// takes tunnels on, and the service it was named by, if it was.
type handover struct {
	workload *mesh.Workload
	port     uint16
	service  *mesh.Service
}

// serviceWaypoint is the waypoint that a service wants, or nil.
func (q *question) serviceWaypoint(svc *mesh.Service) *mesh.GatewayAddress {
	var total uint64
	for _, w := range svc.WeightedWaypoints {
		total += uint64(w.Weight)
	}
	if total == 0 {
		return svc.Waypoint
	}
	at := q.config.Random(total)
	for i := range svc.WeightedWaypoints {
		w := &svc.WeightedWaypoints[i]
		if at < uint64(w.Weight) {
			return &w.Gateway
		}
		at -= uint64(w.Weight)
	}
	return svc.Waypoint
}

// Passes tells which waypoint a connection to d that goes through none passes by,
// by a snapshot newer than the one it was resolved by; "" is none. Like Resolve it
// lets pass who is that waypoint.
func (r *Resolver) Passes(snap *store.Snapshot, d Destination) (waypoint string) {
	q := &question{Resolver: r, snap: snap, self: snap.Self()}
	direct, err := q.identify(d)
	var gw *mesh.GatewayAddress
	switch {
	case err != nil:
	case q.service != nil:
		gw = q.serviceWaypoint(q.service)
	case direct != nil:
		gw = direct.Waypoint
	}
	if gw == nil || q.isOurs(gw) {
		return ""
	}
	return describe(gw)
}

// isOurs tells whether we are a waypoint, or one of those that are it.
func (q *question) isOurs(gw *mesh.GatewayAddress) bool {
	svc := q.snap.Service(gw.Hostname)
	if gw.Hostname == (mesh.Name{}) {
		if w := q.snap.Workload(gw.Address); w != nil {
			return q.isSelf(w)
		}
		svc = q.snap.ServiceByAddress(gw.Address, q.config.Self.Namespace)
	}
	if svc == nil {
		return false
	}
	for w := range q.snap.Members(svc.Key()) {
		if q.isSelf(w) {
			return true
		}
	}
	return false
}

// throughWaypoint is the way over a waypoint. Neither route nor error means
// that we are that waypoint, and traffic goes on.
func (q *question) throughWaypoint(gw *mesh.GatewayAddress) (*Route, error) {
	h, err := q.find(gw)
	if err != nil {
		return nil, fmt.Errorf("%w: %v: %w", ErrWaypoint, describe(gw), err)
	}
	if q.isSelf(h.workload) {
		return nil, nil
	}
	if h.workload.Network != q.config.Self.Network {
		return q.throughGateway(mesh.Endpoint{Service: q.service}, h.workload, q.principals(nil, q.service, h.service))
	}
	ip, ok := q.address(h.workload, h.service)
	if !ok {
		return nil, fmt.Errorf("%w: %s has no address", ErrWaypoint, h.workload.UID)
	}
	rt := &Route{Kind: Waypoint, Service: q.service, Via: h.workload, Target: h.workload.UID, Address: netip.AddrPortFrom(ip, h.port)}
	rt.Hops = []mesh.Hop{{
		Address: rt.Address, Authority: q.original(), Expected: q.principals(h.workload, h.service), Network: h.workload.Network,
	}}
	return rt, nil
}

// throughGateway is the way to a workload in another network: one tunnel to the
// gateway of that network and, inside it, one to whatever the gateway chooses
// for the service. far is the workload that must be reached, at inner identities.
func (q *question) throughGateway(e mesh.Endpoint, far *mesh.Workload, inner []mesh.Principal) (*Route, error) {
	if far.NetworkGateway == nil {
		return nil, fmt.Errorf("%w %q of workload %s", ErrGateway, far.Network, far.UID)
	}
	if q.service == nil {
		return nil, fmt.Errorf("%w %q: a gateway is asked for services, and none was dialled", ErrGateway, far.Network)
	}
	h, err := q.find(far.NetworkGateway)
	if err != nil {
		return nil, fmt.Errorf("%w %q: %v: %w", ErrGateway, far.Network, describe(far.NetworkGateway), err)
	}
	ip, ok := q.address(h.workload, h.service)
	if !ok {
		return nil, fmt.Errorf("%w %q: %s has no address", ErrGateway, far.Network, h.workload.UID)
	}
	authority := q.service.Hostname + ":" + strconv.Itoa(int(q.port))
	rt := &Route{
		Kind: Gateway, Service: q.service, Endpoint: e, Via: h.workload,
		Target: h.workload.UID, Address: netip.AddrPortFrom(ip, h.port),
	}
	rt.Hops = []mesh.Hop{
		{Address: rt.Address, Authority: authority, Expected: q.principals(h.workload, h.service), Network: h.workload.Network},
		{Authority: authority, Expected: inner, Network: far.Network},
	}
	return rt, nil
}

// find resolves a gateway address. A service's endpoint is chosen as any other.
func (q *question) find(gw *mesh.GatewayAddress) (handover, error) {
	port := gw.HBONEPort
	if port == 0 {
		port = q.config.HBONEPort
	}
	var svc *mesh.Service
	if gw.Hostname != (mesh.Name{}) {
		if svc = q.snap.Service(gw.Hostname); svc == nil {
			return handover{}, fmt.Errorf("%w: no such service", ErrNoRoute)
		}
	} else if w := q.snap.Workload(gw.Address); w != nil {
		if q.avoided(w) {
			return handover{}, fmt.Errorf("%w: %s was tried and failed", ErrNoEndpoint, w.UID)
		}
		return handover{w, port, nil}, nil
	} else if svc = q.snap.ServiceByAddress(gw.Address, q.config.Self.Namespace); svc == nil {
		return handover{}, fmt.Errorf("%w: no workload or service has this address", ErrNoRoute)
	}
	e, err := q.choose(svc, port)
	return handover{e.Workload, e.Port, svc}, err
}

// isSelf tells whether we are w: by identity and by address, for an identity
// may be shared.
func (q *question) isSelf(w *mesh.Workload) bool {
	if w.Principal() != q.config.Self.Principal {
		return false
	}
	for _, a := range w.Addresses {
		if q.config.Self.HasAddress(a) {
			return true
		}
	}
	return false
}

// original is what a waypoint is asked for: the address that was dialled; for a
// name, the service's address in our network, else the name.
func (q *question) original() string {
	if q.dialled.IsValid() {
		return q.dialled.String()
	}
	for _, v := range q.service.VIPs {
		if v.Network == q.config.Self.Network && v.Prefix.IsSingleIP() {
			return netip.AddrPortFrom(v.Prefix.Addr().Unmap(), q.port).String()
		}
	}
	return q.service.Hostname + ":" + strconv.Itoa(int(q.port))
}

func describe(gw *mesh.GatewayAddress) string {
	if gw.Hostname != (mesh.Name{}) {
		return gw.Hostname.String()
	}
	return gw.Address.Address.String()
}
