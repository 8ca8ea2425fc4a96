// Package route decides where an outgoing connection goes: to an endpoint of
// the service that was dialled, through its waypoint, across a network gateway,
// or nowhere. It dials nothing; it is told how dialling went and avoids, for a
// while, what keeps failing.
package route

import (
	"errors"
	"net/netip"

	"github.com/outrigger-mesh/outrigger/pkg/mesh"
)

// These say why there is no route. What Resolve returns wraps one of them.
var (
	// ErrNoRoute means nothing in the snapshot answers on the destination.
	ErrNoRoute = errors.New("no route")
	// ErrNoEndpoint means the service is known and none of its endpoints will do:
	// unhealthy, without the port, in the wrong place, or none at all.
	ErrNoEndpoint = errors.New("no usable endpoint")
	// ErrWaypoint means traffic must pass a waypoint that cannot be found. It is never bypassed.
	ErrWaypoint = errors.New("waypoint not found")
	// ErrGateway means the destination is in another network and no gateway leads there.
	ErrGateway = errors.New("no gateway to the network")
	// ErrPlaintext means that only plain TCP leads there and Config refuses it.
	ErrPlaintext = errors.New("plain TCP is refused")
)

// A Destination is what the app dialled: an address, or a service's name where
// the sidecar was told to forward to one.
type Destination struct {
	Address  netip.AddrPort
	Hostname string // if set, Address is not looked at; "github" and "github.tools" are completed as Kubernetes' DNS does
	Port     uint16 // of the service; with Hostname only

	// Avoid lists the Targets that a connection was tried with and that failed
	// before anything was sent, so that another is chosen.
	Avoid []string
}

// Kind is the form of a route.
type Kind uint8

const (
	Passthrough Kind = iota + 1 // plain TCP to what was dialled: the mesh does not know it, or says so
	Plain                       // plain TCP to a workload outside the mesh
	Tunnel                      // one tunnel to the workload
	Waypoint                    // one tunnel to a waypoint, which chooses the workload
	Gateway                     // a tunnel to a gateway, and one inside it
)

func (k Kind) String() string {
	return [...]string{"none", "passthrough", "plain", "tunnel", "waypoint", "gateway"}[k]
}

// A Route is where a connection goes.
type Route struct {
	Kind Kind
	// Hops are the tunnels, outermost first; none means plain TCP to Address. A
	// nested hop has no Address: it is dialled through the one before.
	Hops []mesh.Hop
	// Address is where to connect by TCP. It is not valid if only Hostname is known.
	Address netip.AddrPort
	// Hostname is to be resolved, for an endpoint outside the mesh that has no
	// address; Port goes with it.
	Hostname string
	Port     uint16

	// Service is what was dialled, by name or address; nil if it was no service.
	Service *mesh.Service
	// Endpoint is the workload that will answer and its port. Its Workload is
	// nil where a waypoint chooses, or where the mesh does not know it.
	Endpoint mesh.Endpoint
	// Via is the waypoint or gateway that is dialled, or nil.
	Via *mesh.Workload

	// Target is a stable name of what is dialled, for Report and Avoid; "" if it
	// is not a workload.
	Target string
}

// Config says how a Resolver decides.
type Config struct {
	Self *mesh.Self // required

	HBONEPort       uint16 // the port that peers' tunnels are dialled on; 0 means 15008
	AllowUnknown    bool   // plain TCP to destinations that the mesh does not know; refused by default
	RefusePlaintext bool   // no plain TCP to workloads of the mesh that have no tunnel
	Balancer        *Balancer
	Random          func(n uint64) uint64 // uniform in [0,n), for any goroutine; nil means math/rand/v2
}
