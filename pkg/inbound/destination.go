package inbound

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/netip"
	"slices"

	"github.com/outrigger-mesh/outrigger/pkg/hbone"
	"github.com/outrigger-mesh/outrigger/pkg/mesh"
	"github.com/outrigger-mesh/outrigger/pkg/policy"
	"github.com/outrigger-mesh/outrigger/pkg/store"
)

// A refusal is an answer to CONNECT other than 200, with the reason that only the record sees.
type refusal struct {
	status int
	reason error
}

func (r *refusal) Error() string { return r.reason.Error() }
func (r *refusal) Unwrap() error { return r.reason }

func refuse(status int, format string, args ...any) *refusal {
	return &refusal{status, fmt.Errorf(format, args...)}
}

// destination finds what an authority asks for. Only the workload this sidecar
// serves may be asked for: by an address of its own that is also the one the
// peer connected to, or by the hostname of a service it belongs to.
func (p *Proxy) destination(snap *store.Snapshot, authority string, local netip.AddrPort) (policy.Destination, error) {
	address, host, port, err := hbone.ParseAuthority(authority)
	if err != nil {
		return policy.Destination{}, &refusal{http.StatusBadRequest, err}
	}
	self := snap.Self()
	if self == nil {
		return policy.Destination{}, refuse(http.StatusServiceUnavailable,
			"the mesh has not told of workload %s/%s yet: pending %v", p.Self.Namespace, p.Self.Name, snap.Pending())
	}
	dst := policy.Destination{Workload: self, Address: address}
	if self.ApplicationTunnel != nil {
		if dst, err = throughApplication(snap, self, address, host, port, local.Addr()); err != nil {
			return policy.Destination{}, err
		}
	} else if !address.IsValid() {
		dst, err = serviceDestination(snap, self, host, port, local.Addr())
		if err != nil {
			return policy.Destination{}, err
		}
	} else if address.Addr().Unmap() != local.Addr().Unmap() || !self.HasAddress(address.Addr()) {
		return policy.Destination{}, refuse(http.StatusBadRequest,
			"authority %s is not the address %s that was connected to", authority, local.Addr())
	}
	if slices.Contains(p.ReservedPorts, dst.Address.Port()) {
		return policy.Destination{}, refuse(http.StatusServiceUnavailable,
			"port %d is the sidecar's own: a tunnel to it would loop", dst.Address.Port())
	}
	if p.App.IsValid() && !p.isAppPort(self, dst.Address.Port()) {
		return policy.Destination{}, refuse(http.StatusServiceUnavailable,
			"port %d is none that the workload serves: %s has other programs too; give the port a service, or declare it with --mcp-port",
			dst.Address.Port(), p.App)
	}
	return dst, nil
}

// learn makes sure that a service of ours that an authority names is known.
func (p *Proxy) learn(ctx context.Context, authority string) error {
	self := p.Store.Snapshot().Self()
	_, host, _, err := hbone.ParseAuthority(authority)
	if p.Find == nil || self == nil || err != nil || host == "" {
		return nil
	}
	for name := range self.Services {
		if name.Hostname == host {
			if err := p.Find(ctx, mesh.Reference{Service: name}); err != nil {
				return err
			}
		}
	}
	return nil
}

// isAppPort tells whether port is the app's. Where the app listens on an address
// that others share, its ports are those of its services and those declared.
func (p *Proxy) isAppPort(self *mesh.Workload, port uint16) bool {
	if t := self.ApplicationTunnel; t != nil && t.Port == port {
		return true
	}
	for _, ports := range self.Services {
		for _, m := range ports {
			if m.Target == port {
				return true
			}
		}
	}
	return slices.Contains(p.MCPPorts, port)
}

func serviceDestination(snap *store.Snapshot, self *mesh.Workload, host string, port uint16, local netip.Addr) (policy.Destination, error) {
	svc := snap.ServiceByHostname(host, self.Namespace)
	if svc == nil {
		return policy.Destination{}, refuse(http.StatusServiceUnavailable, "no service has the hostname %s", host)
	}
	for _, e := range snap.Endpoints(svc.Key(), port) {
		if e.Workload.UID == self.UID {
			return policy.Destination{Service: svc.Key(), Workload: self, Address: netip.AddrPortFrom(local, e.Port)}, nil
		}
	}
	return policy.Destination{}, refuse(http.StatusServiceUnavailable,
		"workload %s/%s serves no port %d of %s", self.Namespace, self.Name, port, host)
}

func statusOf(err error) int {
	if r, ok := errors.AsType[*refusal](err); ok {
		return r.status
	}
	return http.StatusServiceUnavailable
}
