package route

import (
	"slices"
	"strings"

	"github.com/outrigger-mesh/outrigger/pkg/mesh"
	"github.com/outrigger-mesh/outrigger/pkg/store"
)

// Needs lists what a snapshot must know, if there is such a thing, for Resolve
// to decide rightly about d: what was dialled and, as far as that is known, the
// waypoints, gateways and names that stand before it. Whoever learns of
// workloads only on demand asks until no more is needed.
func (r *Resolver) Needs(snap *store.Snapshot, d Destination) []mesh.Reference {
	n := needs{question: &question{Resolver: r, snap: snap, self: snap.Self()}}
	if d.Hostname != "" {
		n.hostname(d.Hostname)
	} else {
		n.add(mesh.Reference{Address: mesh.NetworkAddress{Network: r.config.Self.Network, Address: d.Address.Addr().Unmap().WithZone("")}})
	}
	direct, err := n.identify(d)
	switch {
	case err != nil:
	case n.service != nil:
		n.ofService(n.service)
	case direct != nil:
		n.gateway(direct.Waypoint)
		n.ofWorkload(direct)
	}
	return n.refs
}

type needs struct {
	*question
	refs []mesh.Reference
}

func (n *needs) add(ref mesh.Reference) {
	if !slices.Contains(n.refs, ref) {
		n.refs = append(n.refs, ref)
	}
}

// hostname is what a name may mean. Where a service lives its name tells only if
// it is Kubernetes'; else it is looked for in our own namespace and the root's.
func (n *needs) hostname(name string) {
	if svc := n.named(name); svc != nil {
		n.add(mesh.Reference{Service: svc.Key()})
		return
	}
	for _, hostname := range n.complete(name) {
		if inner, ok := strings.CutSuffix(hostname, ".svc."+n.clusterDomain()); ok {
			if _, namespace, ok := strings.Cut(inner, "."); ok {
				n.add(mesh.Reference{Service: mesh.Name{Namespace: namespace[strings.LastIndexByte(namespace, '.')+1:], Hostname: hostname}})
			}
			continue
		}
		for _, namespace := range []string{n.config.Self.Namespace, n.config.Self.RootNamespace} {
			if namespace != "" {
				n.add(mesh.Reference{Service: mesh.Name{Namespace: namespace, Hostname: hostname}})
			}
		}
	}
}

func (n *needs) ofService(svc *mesh.Service) {
	n.gateway(svc.Waypoint)
	for i := range svc.WeightedWaypoints {
		n.gateway(&svc.WeightedWaypoints[i].Gateway)
	}
	for _, e := range n.snap.Endpoints(svc.Key(), n.port) {
		n.ofWorkload(e.Workload)
	}
}

func (n *needs) ofWorkload(w *mesh.Workload) {
	switch {
	case w.Network != n.config.Self.Network:
		n.gateway(w.NetworkGateway)
	case len(w.Addresses) == 0 && w.Hostname != "" && w.Tunnel == mesh.TunnelNone && (n.service == nil || w.Hostname != n.service.Hostname):
		n.hostname(w.Hostname)
	}
}

// gateway is a gateway or waypoint and, if that is in another network, the
// gateway that leads there.
func (n *needs) gateway(gw *mesh.GatewayAddress) {
	if gw == nil {
		return
	}
	ref := mesh.Reference{Address: gw.Address}
	if gw.Hostname != (mesh.Name{}) {
		ref = mesh.Reference{Service: gw.Hostname}
	}
	if slices.Contains(n.refs, ref) {
		return
	}
	n.add(ref)
	if w := n.snap.Workload(gw.Address); ref.Service == (mesh.Name{}) && w != nil {
		n.ofWorkload(w)
		return
	}
	svc := n.snap.Service(ref.Service)
	if ref.Service == (mesh.Name{}) {
		svc = n.snap.ServiceByAddress(gw.Address, n.config.Self.Namespace)
	}
	if svc == nil {
		return
	}
	for w := range n.snap.Members(svc.Key()) {
		n.ofWorkload(w)
	}
}
