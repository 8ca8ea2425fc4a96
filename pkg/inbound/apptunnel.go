package inbound

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"strings"
	"time"

	"github.com/outrigger-mesh/outrigger/pkg/hbone"
	"github.com/outrigger-mesh/outrigger/pkg/mesh"
	"github.com/outrigger-mesh/outrigger/pkg/policy"
	"github.com/outrigger-mesh/outrigger/pkg/proxyv2"
	"github.com/outrigger-mesh/outrigger/pkg/store"
)

// headerTime is how long an app may take to take a PROXY header; it fits any socket's buffer.
const headerTime = time.Second

// speaksPROXY tells whether the workload is to be told of each connection by a
// PROXY header: it is a proxy itself, and what it is asked for is another's.
func speaksPROXY(w *mesh.Workload) bool {
	return w != nil && w.ApplicationTunnel != nil && w.ApplicationTunnel.Proxy
}

// throughApplication is where a workload with an application tunnel takes what is
// asked for: always on itself, at the tunnel's port if it has one. It may be
// asked for any place that the mesh has, for it stands before others.
func throughApplication(snap *store.Snapshot, self *mesh.Workload, asked netip.AddrPort, host string, port uint16, local netip.Addr) (policy.Destination, error) {
	dst := policy.Destination{Workload: self, Address: netip.AddrPortFrom(local, port)}
	at := mesh.NetworkAddress{Network: self.Network, Address: asked.Addr()}
	switch {
	case asked.IsValid() && self.HasAddress(asked.Addr()):
	case asked.IsValid():
		svc := snap.ServiceByAddress(at, self.Namespace)
		if svc == nil && snap.Workload(at) == nil {
			return dst, refuse(http.StatusBadRequest, "authority %s is nothing that the mesh knows", asked)
		}
		if svc != nil {
			dst.Service = svc.Key()
		}
	default:
		svc := snap.ServiceByHostname(host, self.Namespace)
		if svc == nil {
			return dst, refuse(http.StatusServiceUnavailable, "no service has the hostname %s", host)
		}
		if speaksPROXY(self) && !vip(svc, self.Network).IsValid() {
			return dst, refuse(http.StatusServiceUnavailable, "service %s has no address that a PROXY header could name", host)
		}
		dst.Service = svc.Key()
		if target := store.TargetPort(svc, self, port); target != 0 && self.ApplicationTunnel.Port == 0 {
			dst.Address = netip.AddrPortFrom(local, target)
		}
	}
	if p := self.ApplicationTunnel.Port; p != 0 {
		dst.Address = netip.AddrPortFrom(local, p)
	}
	return dst, nil
}

// vip is the address that a service is told to an app by: of its own network
// rather than another, IPv4 rather than IPv6.
func vip(svc *mesh.Service, network string) (best netip.Addr) {
	rank := -1
	for _, v := range svc.VIPs {
		if !v.Prefix.IsSingleIP() {
			continue
		}
		r := 0
		if v.Network == network {
			r += 2
		}
		if v.Prefix.Addr().Unmap().Is4() {
			r++
		}
		if r > rank {
			best, rank = v.Prefix.Addr().Unmap(), r
		}
	}
	return best
}

// connectApp connects to the app and, if it wants to be told who speaks, tells it.
func (p *Proxy) connectApp(ctx context.Context, a *arrival) (net.Conn, error) {
	app, err := p.Dial(ctx, p.appAddress(a))
	if err != nil || !speaksPROXY(a.target.Workload) {
		return app, err
	}
	if err := p.introduce(app, a); err != nil {
		app.Close()
		return nil, err
	}
	return app, nil
}

// introduce writes the PROXY header. Only what we have verified ourselves is in it.
func (p *Proxy) introduce(app net.Conn, a *arrival) error {
	h := proxyv2.Header{Source: a.from, Principal: a.source.String(), Service: a.target.Service.Hostname}
	address, host, port, err := hbone.ParseAuthority(a.authority)
	if err != nil {
		return err
	}
	h.Destination = address
	if !address.IsValid() {
		svc := p.Store.Snapshot().Service(a.target.Service)
		if svc == nil {
			return fmt.Errorf("service %s is gone", host)
		}
		h.Destination = netip.AddrPortFrom(vip(svc, p.Self.Network), port)
	}
	header, err := h.Append(nil)
	if err != nil {
		return err
	}
	_ = app.SetWriteDeadline(time.Now().Add(headerTime)) // fails only on a closed connection, and then so does Write
	if _, err := app.Write(header); err != nil {
		return fmt.Errorf("write PROXY header: %w", err)
	}
	return app.SetWriteDeadline(time.Time{})
}

// hinted is the service that the source says it has called, if the workload serves it.
// Anybody can say anything there: it is for the record only.
func hinted(snap *store.Snapshot, self *mesh.Workload, forwarded string) mesh.Name {
	for part := range strings.FieldsFuncSeq(forwarded, func(r rune) bool { return r == ';' || r == ',' }) {
		host, ok := strings.CutPrefix(strings.TrimSpace(part), "host=")
		if !ok || self == nil {
			continue
		}
		svc := snap.ServiceByHostname(strings.Trim(host, `"`), self.Namespace)
		if svc == nil {
			return mesh.Name{}
		}
		if _, ok := self.Services[svc.Key()]; ok {
			return svc.Key()
		}
	}
	return mesh.Name{}
}
