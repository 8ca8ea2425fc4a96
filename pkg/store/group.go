package store

import (
	"slices"
	"sync/atomic"

	"github.com/outrigger-mesh/outrigger/pkg/mesh"
)

// A group is what is known under a service's name: the service, and the
// workloads that say they belong to it. Either may arrive first.
type group struct {
	edit    *edit
	service *mesh.Service // nil while only endpoints have arrived
	members index[string, *mesh.Workload]
	pools   atomic.Pointer[[]pool] // what was asked for so far; it follows from the rest
}

// A pool is the endpoints of one port.
type pool struct {
	port      uint16
	endpoints []mesh.Endpoint
}

func (g *group) endpoints(port uint16) []mesh.Endpoint {
	known := g.pools.Load()
	if known != nil {
		for _, p := range *known {
			if p.port == port {
				return p.endpoints
			}
		}
	}
	found := g.find(port)
	if len(found) == 0 && !g.hasPort(port) {
		return nil // a port that a client made up is not remembered
	}
	for {
		var next []pool
		if known != nil {
			next = slices.Clone(*known)
		}
		next = append(next, pool{port, found})
		if g.pools.CompareAndSwap(known, &next) {
			return found
		}
		known = g.pools.Load()
	}
}

func (g *group) hasPort(port uint16) bool {
	return slices.ContainsFunc(g.service.Ports, func(p mesh.PortMapping) bool { return p.Service == port })
}

func (g *group) find(port uint16) []mesh.Endpoint {
	var found []mesh.Endpoint
	for _, w := range g.members.all() {
		if w.Unhealthy && !g.service.LoadBalancing.AllowUnhealthy {
			continue
		}
		if len(w.Addresses) == 0 && w.Hostname == "" && w.NetworkGateway == nil {
			continue
		}
		if target := TargetPort(g.service, w, port); target != 0 {
			found = append(found, mesh.Endpoint{Workload: w, Service: g.service, Port: target})
		}
	}
	return found
}

// TargetPort is the port on which w serves the port of svc: what w says itself,
// else what the service says, else the port as it is if w has an application
// tunnel on a port of its own. 0 means that it does not serve it.
func TargetPort(svc *mesh.Service, w *mesh.Workload, port uint16) uint16 {
	for _, ports := range [][]mesh.PortMapping{w.Services[svc.Key()], svc.Ports} {
		for _, p := range ports {
			if p.Service == port && p.Target != 0 {
				return p.Target
			}
		}
	}
	if w.ApplicationTunnel != nil && w.ApplicationTunnel.Port != 0 {
		return port
	}
	return 0
}
