package sidecar

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
)

// errLoop means that a connection led to one of our own listeners, which would
// carry it there again.
var errLoop = errors.New("the sidecar itself listens there, the connection would loop: let it lead to the app or to a service")

// Doors are where a sidecar listens for connections to carry.
type doors struct {
	listen []netip.AddrPort // with the zero or an unspecified Addr: on every address of the pod
	pod    []netip.Addr
}

// doors are those of the configuration. A port that the system chooses is not among them.
func (c *Config) doors() (*doors, error) {
	d := &doors{}
	for _, text := range c.Workload.Addresses {
		a, err := netip.ParseAddr(text)
		if err != nil {
			return nil, fmt.Errorf("workload.addresses: %w", err)
		}
		d.pod = append(d.pod, a.Unmap())
	}
	listen := []string{c.Inbound.HBONE, c.Inbound.Plain, c.Outbound.Capture}
	for _, f := range c.Outbound.Forwards {
		listen = append(listen, f.Listen)
	}
	for _, address := range listen {
		port := portOf(address)
		if port == 0 {
			continue
		}
		host, _, _ := net.SplitHostPort(address) // portOf has done the same
		on, _ := netip.ParseAddr(host)           // none, or a name, is every address
		d.listen = append(d.listen, netip.AddrPortFrom(on.Unmap(), port))
	}
	return d, nil
}

// has tells whether a connection to an address would arrive at one of ours.
func (d *doors) has(to netip.AddrPort) bool {
	at := to.Addr().Unmap()
	local := at.IsLoopback() || at.IsUnspecified()
	for _, a := range d.pod {
		local = local || a == at
	}
	for _, l := range d.listen {
		everywhere := !l.Addr().IsValid() || l.Addr().IsUnspecified()
		if l.Port() == to.Port() && (l.Addr() == at || local && (everywhere || at.IsUnspecified())) {
			return true
		}
	}
	return false
}

// A dialFunc connects to an address.
type dialFunc func(ctx context.Context, to netip.AddrPort) (net.Conn, error)

// guard keeps dial from our own listeners.
func (d *doors) guard(dial dialFunc) dialFunc {
	return func(ctx context.Context, to netip.AddrPort) (net.Conn, error) {
		if d.has(to) {
			return nil, fmt.Errorf("dial %s: %w", to, errLoop)
		}
		return dial(ctx, to)
	}
}
