package route

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"slices"
	"strconv"
	"strings"

	"github.com/outrigger-mesh/outrigger/pkg/mesh"
	"github.com/outrigger-mesh/outrigger/pkg/store"
)

const defaultHBONEPort = 15008

// A Resolver finds routes for one workload. Its methods may be called from any goroutine.
type Resolver struct{ config Config }

// New returns a resolver, or says what is missing in c.
func New(c Config) (*Resolver, error) {
	if c.Self == nil {
		return nil, errors.New("route: Config.Self is missing")
	}
	if c.HBONEPort == 0 {
		c.HBONEPort = defaultHBONEPort
	}
	if c.Random == nil {
		c.Random = rand.Uint64N
	}
	if c.Balancer == nil {
		c.Balancer = NewBalancer(BalancerConfig{})
	}
	return &Resolver{c}, nil
}

// Resolve decides where a connection to d goes by one snapshot. What it returns
// refers to the snapshot and must not be changed. It may differ each time:
// endpoints are chosen at random by their capacity.
func (r *Resolver) Resolve(snap *store.Snapshot, d Destination) (*Route, error) {
	q := &question{Resolver: r, snap: snap, self: snap.Self(), avoid: d.Avoid}
	rt, err := q.resolve(d)
	if err != nil {
		return nil, fmt.Errorf("resolve %v: %w", d, err)
	}
	return rt, nil
}

// String is the destination as people write it.
func (d Destination) String() string {
	if d.Hostname != "" {
		return d.Hostname + ":" + strconv.Itoa(int(d.Port))
	}
	return d.Address.String()
}

// A question is one Resolve.
type question struct {
	*Resolver
	snap  *store.Snapshot
	self  *mesh.Workload // nil if the mesh has not told of it
	avoid []string

	renamed bool // an endpoint was known only by the name of another service

	dialled netip.AddrPort // not valid if a name was dialled
	port    uint16         // that was dialled
	service *mesh.Service  // nil if no service was dialled
}

func (q *question) resolve(d Destination) (*Route, error) {
	direct, err := q.identify(d)
	if err != nil {
		return nil, err
	}
	if q.service == nil {
		if direct == nil {
			return q.unknown()
		}
		return q.toWorkload(direct)
	}
	return q.toService()
}

// identify finds what was dialled: a service, or a workload by its address. A
// service whose VIP is just that address goes first, then a workload, then a
// service with a range that holds it.
func (q *question) identify(d Destination) (direct *mesh.Workload, err error) {
	if d.Hostname != "" {
		q.port = d.Port
		q.service = q.named(d.Hostname)
		if q.service == nil {
			return nil, fmt.Errorf("%w: no service that workload %s/%s can see has this name",
				ErrNoRoute, q.config.Self.Namespace, q.config.Self.Name)
		}
		return nil, nil
	}
	q.dialled = netip.AddrPortFrom(d.Address.Addr().Unmap().WithZone(""), d.Address.Port())
	q.port = d.Address.Port()
	if !q.dialled.Addr().IsValid() {
		return nil, fmt.Errorf("%w: neither an address nor a name was dialled", ErrNoRoute)
	}
	at := mesh.NetworkAddress{Network: q.config.Self.Network, Address: q.dialled.Addr()}
	svc, w := q.snap.ServiceByAddress(at, q.config.Self.Namespace), q.snap.Workload(at)
	if w != nil && (svc == nil || !hasVIP(svc, at)) {
		return w, nil
	}
	q.service = svc
	return nil, nil
}

// named finds a service by its hostname, or by a part of it that Kubernetes' DNS completes.
func (q *question) named(hostname string) *mesh.Service {
	for _, name := range q.complete(hostname) {
		if svc := q.snap.ServiceByHostname(name, q.config.Self.Namespace); svc != nil {
			return svc
		}
	}
	return nil
}

// complete lists what may be meant by a hostname, as Kubernetes' DNS does.
func (q *question) complete(hostname string) []string {
	hostname = strings.ToLower(strings.TrimSuffix(hostname, "."))
	suffix := ".svc." + q.clusterDomain()
	switch labels := strings.Count(hostname, ".") + 1; {
	case labels == 1:
		return []string{hostname, hostname + "." + q.config.Self.Namespace + suffix}
	case labels == 2:
		return []string{hostname, hostname + suffix}
	case labels == 3 && strings.HasSuffix(hostname, ".svc"):
		return []string{hostname, hostname + "." + q.clusterDomain()}
	}
	return []string{hostname}
}

func (q *question) clusterDomain() string {
	if q.config.Self.ClusterDomain == "" {
		return "cluster.local"
	}
	return q.config.Self.ClusterDomain
}

func hasVIP(svc *mesh.Service, a mesh.NetworkAddress) bool {
	return slices.ContainsFunc(svc.VIPs, func(v mesh.VIP) bool {
		return v.Network == a.Network && v.Prefix.IsSingleIP() && v.Prefix.Addr().Unmap() == a.Address
	})
}

// unknown is for an address that nothing in the mesh has.
func (q *question) unknown() (*Route, error) {
	if !q.config.AllowUnknown {
		return nil, fmt.Errorf("%w: the mesh does not know the address, and unknown destinations are refused (passthrough-unknown is off)", ErrNoRoute)
	}
	return q.passthrough()
}

func (q *question) passthrough() (*Route, error) {
	return &Route{Kind: Passthrough, Address: q.dialled, Service: q.service}, nil
}

func (q *question) toService() (*Route, error) {
	svc := q.service
	if gw := q.serviceWaypoint(svc); gw != nil {
		rt, err := q.throughWaypoint(gw)
		if rt != nil || err != nil {
			return rt, err
		}
	}
	if svc.LoadBalancing.Mode == mesh.BalancePassthrough {
		if !q.dialled.IsValid() {
			return nil, fmt.Errorf("%w: service %v passes connections through to the address that was dialled, and a name was dialled", ErrNoRoute, svc.Key())
		}
		if q.config.RefusePlaintext {
			return nil, fmt.Errorf("%w: service %v passes connections through", ErrPlaintext, svc.Key())
		}
		return q.passthrough()
	}
	e, err := q.choose(svc, q.port)
	if err != nil {
		return nil, err
	}
	return q.toEndpoint(e)
}

func (q *question) toWorkload(w *mesh.Workload) (*Route, error) {
	if w.Waypoint != nil {
		rt, err := q.throughWaypoint(w.Waypoint)
		if rt != nil || err != nil {
			return rt, err
		}
	}
	if q.avoided(w) {
		return nil, fmt.Errorf("%w: workload %s was tried and failed", ErrNoEndpoint, w.UID)
	}
	return q.toEndpoint(mesh.Endpoint{Workload: w, Port: q.port})
}

// toEndpoint is the way to a workload that was chosen or dialled, when no
// waypoint stands before it.
func (q *question) toEndpoint(e mesh.Endpoint) (*Route, error) {
	if e.Workload.Network != q.config.Self.Network {
		return q.throughGateway(e, e.Workload, q.principals(nil, q.service))
	}
	rt := &Route{Service: q.service, Endpoint: e, Target: e.Workload.UID}
	ip, ok := q.address(e.Workload, q.service)
	if e.Workload.Tunnel == mesh.TunnelHBONE {
		if !ok {
			return nil, fmt.Errorf("%w: workload %s has no address to open a tunnel to", ErrNoEndpoint, e.Workload.UID)
		}
		rt.Kind = Tunnel
		rt.Address = netip.AddrPortFrom(ip, q.config.HBONEPort)
		rt.Hops = []mesh.Hop{{
			Address:   rt.Address,
			Authority: netip.AddrPortFrom(ip, e.Port).String(),
			Expected:  q.principals(e.Workload, q.service),
			Network:   e.Workload.Network,
		}}
		return rt, nil
	}
	if !ok && q.isService(e) {
		return q.toService()
	}
	if q.config.RefusePlaintext {
		return nil, fmt.Errorf("%w: workload %s has no tunnel", ErrPlaintext, e.Workload.UID)
	}
	rt.Kind = Plain
	switch {
	case ok:
		rt.Address = netip.AddrPortFrom(ip, e.Port)
	case e.Workload.Hostname != "":
		rt.Hostname, rt.Port = e.Workload.Hostname, e.Port
	default:
		return nil, fmt.Errorf("%w: workload %s has neither an address nor a hostname", ErrNoEndpoint, e.Workload.UID)
	}
	return rt, nil
}

// isService tells whether the hostname of an endpoint without address is that of
// another service, which is then the one in question. It is asked once: services
// that name each other lead nowhere.
func (q *question) isService(e mesh.Endpoint) bool {
	if e.Workload.Hostname == "" || q.renamed {
		return false
	}
	svc := q.named(e.Workload.Hostname)
	if svc == nil || svc == q.service {
		return false
	}
	q.service, q.port, q.dialled, q.renamed = svc, e.Port, netip.AddrPort{}, true
	return true
}

// principals are the identities that the end of a tunnel may have: the
// workload's own and those that the service vouches for.
func (q *question) principals(w *mesh.Workload, services ...*mesh.Service) []mesh.Principal {
	var all []mesh.Principal
	add := func(p mesh.Principal) {
		if !slices.Contains(all, p) {
			all = append(all, p)
		}
	}
	if w != nil {
		add(w.Principal())
	}
	for _, svc := range services {
		if svc != nil {
			for _, p := range svc.SubjectAltNames {
				add(p)
			}
		}
	}
	return all
}

// address chooses one of a workload's addresses: the one that was dialled, else
// one of a family that the service has, that of the address that was dialled first.
func (q *question) address(w *mesh.Workload, svc *mesh.Service) (netip.Addr, bool) {
	if q.dialled.IsValid() && w.HasAddress(q.dialled.Addr()) {
		return q.dialled.Addr(), true
	}
	var other netip.Addr
	for _, a := range w.Addresses {
		a = a.Unmap()
		if svc != nil && (svc.IPFamilies == "IPV4_ONLY" && !a.Is4() || svc.IPFamilies == "IPV6_ONLY" && a.Is4()) {
			continue
		}
		if !q.dialled.IsValid() || a.Is4() == q.dialled.Addr().Is4() {
			return a, true
		}
		if !other.IsValid() {
			other = a
		}
	}
	return other, other.IsValid()
}
