package mesh

import "net/netip"

// A VIP is a service's address or, with fewer bits than the address has, a range of them.
type VIP struct {
	Network string
	Prefix  netip.Prefix
}

// Scope is one step of locality preference.
type Scope uint8

const (
	ScopeUnspecified Scope = iota
	ScopeRegion
	ScopeZone
	ScopeSubzone
	ScopeNode
	ScopeCluster
	ScopeNetwork
)

// BalanceMode is what locality preference means.
type BalanceMode uint8

const (
	BalanceUnspecified BalanceMode = iota // weighted random
	BalanceStrict                         // all scopes match or nothing
	BalanceFailover                       // the best match in order
	BalancePassthrough                    // to the address that was dialled
)

// LoadBalancing is how one of a service's endpoints is chosen.
type LoadBalancing struct {
	Mode           BalanceMode
	Preference     []Scope
	AllowUnhealthy bool
}

// WeightedWaypoint is one of several waypoints with its share of the traffic.
type WeightedWaypoint struct {
	Gateway GatewayAddress
	Weight  uint32
}

// A Service is a stable name before workloads. It is never changed once it is
// in a snapshot.
type Service struct {
	Name              string
	Namespace         string
	Hostname          string
	VIPs              []VIP
	Ports             []PortMapping
	SubjectAltNames   []Principal
	Waypoint          *GatewayAddress
	WeightedWaypoints []WeightedWaypoint
	LoadBalancing     LoadBalancing
	IPFamilies        string // "", IPV4_ONLY, IPV6_ONLY, DUAL
	Canonical         bool
	NamespaceOnly     bool // visible only to clients of its namespace
}

// Key is the service's name in the mesh.
func (s *Service) Key() Name { return Name{s.Namespace, s.Hostname} }

// An Endpoint is a workload's place in a service.
type Endpoint struct {
	Workload *Workload
	Service  *Service
	Port     uint16 // the port the workload listens on
}

// A Hop is a tunnel end to reach.
type Hop struct {
	Address   netip.AddrPort // where to connect, e.g. 10.1.2.3:15008; not valid for a hop inside another
	Authority string         // :authority of the CONNECT: IP:port or hostname:port
	Expected  []Principal    // identities the end may have; none means nobody will do
	Network   string
}
