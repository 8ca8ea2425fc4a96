package route

import (
	"fmt"
	"slices"

	"github.com/outrigger-mesh/outrigger/pkg/mesh"
)

const outOfPlace = -1 // rank of an endpoint that locality excludes

// choose picks an endpoint of svc for port: among those in the best place, at
// random by capacity. Endpoints that keep failing are taken only if there are
// no others in any place, those to avoid never.
func (q *question) choose(svc *mesh.Service, port uint16) (mesh.Endpoint, error) {
	all := q.snap.Endpoints(svc.Key(), port)
	ejected := q.config.Balancer.ejected()
	e, ok := q.pick(svc, all, ejected)
	if !ok && ejected != nil {
		e, ok = q.pick(svc, all, nil)
	}
	if !ok && len(q.avoid) > 0 {
		return e, fmt.Errorf("%w: all of service %v that could be tried have failed", ErrNoEndpoint, svc.Key())
	}
	if !ok {
		return e, fmt.Errorf("%w: service %v has none for port %d (%d known)", ErrNoEndpoint, svc.Key(), port, len(all))
	}
	return e, nil
}

// pick goes over the endpoints twice rather than make a list of candidates.
func (q *question) pick(svc *mesh.Service, all []mesh.Endpoint, ejected *ejections) (mesh.Endpoint, bool) {
	best, total := outOfPlace, uint64(0)
	for i := range all {
		rank := q.usable(svc, all[i].Workload, ejected)
		if rank > best {
			best, total = rank, 0
		}
		if rank == best && rank != outOfPlace {
			total += uint64(all[i].Workload.Capacity)
		}
	}
	if total == 0 {
		return mesh.Endpoint{}, false
	}
	at := q.config.Random(total)
	for i := range all {
		if q.usable(svc, all[i].Workload, ejected) != best {
			continue
		}
		capacity := uint64(all[i].Workload.Capacity)
		if at < capacity {
			return all[i], true
		}
		at -= capacity
	}
	return mesh.Endpoint{}, false
}

// usable ranks a workload as an endpoint, or says that it cannot be one.
func (q *question) usable(svc *mesh.Service, w *mesh.Workload, ejected *ejections) int {
	if w.Capacity == 0 || q.avoided(w) || ejected.has(w.UID) || !q.reachable(w, svc) {
		return outOfPlace
	}
	return q.rank(&svc.LoadBalancing, w)
}

func (q *question) avoided(w *mesh.Workload) bool { return slices.Contains(q.avoid, w.UID) }

func (q *question) reachable(w *mesh.Workload, svc *mesh.Service) bool {
	if w.Network != q.config.Self.Network {
		return w.NetworkGateway != nil
	}
	if _, ok := q.address(w, svc); ok {
		return true
	}
	return w.Tunnel == mesh.TunnelNone && len(w.Addresses) == 0 && w.Hostname != ""
}

// rank is how well a workload's place suits; more is better.
func (q *question) rank(lb *mesh.LoadBalancing, w *mesh.Workload) int {
	if lb.Mode != mesh.BalanceStrict && lb.Mode != mesh.BalanceFailover {
		return 0
	}
	rank := 0
	for i, scope := range lb.Preference {
		if q.near(scope, w) {
			rank++
			continue
		}
		if lb.Mode == mesh.BalanceStrict {
			return outOfPlace
		}
		if i > 0 || scope != mesh.ScopeNetwork {
			return rank
		}
		// Another network, first in order: the places there are still compared.
	}
	return rank
}

// near tells whether w is in the same place as we are.
func (q *question) near(scope mesh.Scope, w *mesh.Workload) bool {
	if scope == mesh.ScopeNetwork {
		return w.Network == q.config.Self.Network
	}
	if q.self == nil {
		return false // we do not know where we are
	}
	switch scope {
	case mesh.ScopeRegion:
		return w.Locality.Region == q.self.Locality.Region
	case mesh.ScopeZone:
		return w.Locality.Zone == q.self.Locality.Zone
	case mesh.ScopeSubzone:
		return w.Locality.Subzone == q.self.Locality.Subzone
	case mesh.ScopeNode:
		return w.Node == q.self.Node
	case mesh.ScopeCluster:
		return w.ClusterID == q.self.ClusterID
	}
	return false
}
