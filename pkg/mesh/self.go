package mesh

import "net/netip"

// Self is the workload a sidecar serves, as the sidecar's own configuration
// names it: the injector fills it from the pod. What the mesh says of the same
// workload comes by xDS and is found by Addresses or by name.
type Self struct {
	Principal     Principal    // what its certificate must prove
	Name          string       // the pod's
	Namespace     string       // the pod's
	Addresses     []netip.Addr // the pod's; the first one is the node's address in xDS
	Network       string       // "" is the default network
	ClusterID     string       // "Kubernetes" unless configured
	ClusterDomain string       // "cluster.local" unless configured
	RootNamespace string       // where mesh-wide policies live: "istio-system" unless configured

	// Labels of the pod. Nil means that nobody told us: then a policy that
	// selects by labels cannot be placed and is rejected. Empty means no labels.
	Labels map[string]string
}

// HasAddress tells whether a is one of the pod's addresses.
func (s *Self) HasAddress(a netip.Addr) bool {
	a = a.Unmap()
	for _, own := range s.Addresses {
		if own.Unmap() == a {
			return true
		}
	}
	return false
}
