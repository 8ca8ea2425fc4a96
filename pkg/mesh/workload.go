package mesh

import "net/netip"

// Tunnel says how a workload is reached.
type Tunnel uint8

const (
	TunnelNone  Tunnel = iota // plain TCP
	TunnelHBONE               // HTTP/2 CONNECT over mTLS, port 15008
)

// Locality is where a workload runs.
type Locality struct{ Region, Zone, Subzone string }

// A NetworkAddress is an IP address inside one network. The empty network is the default one.
type NetworkAddress struct {
	Network string
	Address netip.Addr
}

// A Name is a service's name: its namespace and hostname.
type Name struct{ Namespace, Hostname string }

func (n Name) String() string { return n.Namespace + "/" + n.Hostname }

// A GatewayAddress says where traffic is handed over: by hostname or by address.
type GatewayAddress struct {
	Hostname  Name           // set, or
	Address   NetworkAddress // set
	HBONEPort uint16         // 0 means 15008
}

// A PortMapping leads from a service's port to the port a workload listens on.
type PortMapping struct {
	Service, Target uint16
	AppProtocol     string // "", HTTP11, HTTP2, GRPC, TCP, TLS
}

// ApplicationTunnel is how a workload wants bytes handed to it.
type ApplicationTunnel struct {
	Proxy bool   // PROXY protocol v2 header first
	Port  uint16 // 0 means the destination's own
}

// A Workload is a running instance: a pod, a VM. It is never changed once it
// is in a snapshot.
type Workload struct {
	UID            string
	Name           string // the pod's
	Namespace      string
	ServiceAccount string
	TrustDomain    string
	Network        string
	ClusterID      string
	Node           string

	CanonicalName     string
	CanonicalRevision string
	WorkloadName      string // the owner's: Deployment, Job, ...
	WorkloadType      string // deployment, cronjob, pod, job

	Addresses []netip.Addr
	Hostname  string // resolved on demand when there is no address

	Tunnel            Tunnel
	NativeTunnel      bool // the workload terminates HBONE itself
	HostNetwork       bool
	ApplicationTunnel *ApplicationTunnel

	Waypoint       *GatewayAddress
	NetworkGateway *GatewayAddress

	Services map[Name][]PortMapping
	// AuthorizationPolicies are the "namespace/name" of selector-scoped L4 policies.
	AuthorizationPolicies []string

	Unhealthy bool
	Capacity  uint32 // load-balancing weight; 1 by default
	Locality  Locality
}

// Principal is the identity the workload proves by its certificate.
func (w *Workload) Principal() Principal {
	return NewPrincipal(w.TrustDomain, w.Namespace, w.ServiceAccount)
}

// HasAddress tells whether a is one of the workload's addresses.
func (w *Workload) HasAddress(a netip.Addr) bool {
	a = a.Unmap()
	for _, own := range w.Addresses {
		if own.Unmap() == a {
			return true
		}
	}
	return false
}
