package admin

import (
	"cmp"
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"strings"

	"github.com/outrigger-mesh/outrigger/pkg/mesh"
)

// Restore is the workload that a dump shows. The error names what cannot be read.
func (d *Workload) Restore() (*mesh.Workload, error) {
	w := &mesh.Workload{
		UID: d.UID, Name: d.Name, Namespace: d.Namespace, ServiceAccount: d.ServiceAccount, WorkloadName: d.WorkloadName,
		WorkloadType: d.WorkloadType, CanonicalName: d.CanonicalName, CanonicalRevision: d.CanonicalRevision, ClusterID: d.ClusterID,
		TrustDomain: d.TrustDomain, Locality: mesh.Locality(d.Locality), Node: d.Node, Network: d.Network, Unhealthy: d.Status == "Unhealthy",
		Hostname: d.Hostname, Capacity: d.Capacity, NativeTunnel: d.NativeTunnel, AuthorizationPolicies: d.AuthorizationPolicies, HostNetwork: d.HostNetwork,
	}
	if d.Protocol == "HBONE" {
		w.Tunnel = mesh.TunnelHBONE
	}
	var err error
	for _, text := range d.WorkloadIPs {
		address, err := netip.ParseAddr(text)
		if err != nil {
			return nil, fmt.Errorf("workload %s: %w", d.UID, err)
		}
		w.Addresses = append(w.Addresses, address)
	}
	if w.Waypoint, err = d.Waypoint.restore(); err != nil {
		return nil, fmt.Errorf("workload %s: waypoint: %w", d.UID, err)
	}
	if w.NetworkGateway, err = d.NetworkGateway.restore(); err != nil {
		return nil, fmt.Errorf("workload %s: network gateway: %w", d.UID, err)
	}
	if t := d.ApplicationTunnel; t.Protocol == "PROXY" || t.Port != 0 {
		w.ApplicationTunnel = &mesh.ApplicationTunnel{Proxy: t.Protocol == "PROXY", Port: t.Port}
	}
	for key, ports := range d.Services {
		if w.Services == nil {
			w.Services = map[mesh.Name][]mesh.PortMapping{}
		}
		if w.Services[serviceName(key)], err = mappings(ports, nil); err != nil {
			return nil, fmt.Errorf("workload %s: service %s: %w", d.UID, key, err)
		}
	}
	return w, nil
}

// Restore is the service that a dump shows. The error names what cannot be read.
func (d *Service) Restore() (*mesh.Service, error) {
	s := &mesh.Service{
		Name: d.Name, Namespace: d.Namespace, Hostname: d.Hostname, IPFamilies: d.IPFamilies,
		Canonical: d.Canonical, NamespaceOnly: d.Visibility == "NAMESPACE", LoadBalancing: d.LoadBalancer.restore(),
	}
	failed := func(what string, err error) (*mesh.Service, error) {
		return nil, fmt.Errorf("service %s/%s: %s: %w", d.Namespace, d.Hostname, what, err)
	}
	for _, text := range d.VIPs {
		vip, err := restoreVIP(text)
		if err != nil {
			return failed("address", err)
		}
		s.VIPs = append(s.VIPs, vip)
	}
	var err error
	if s.Ports, err = mappings(d.Ports, d.AppProtocols); err != nil {
		return failed("ports", err)
	}
	for _, text := range d.SubjectAltNames {
		p, err := mesh.ParsePrincipal(text)
		if err != nil {
			return failed("subjectAltNames", err)
		}
		s.SubjectAltNames = append(s.SubjectAltNames, p)
	}
	if s.Waypoint, err = d.Waypoint.restore(); err != nil {
		return failed("waypoint", err)
	}
	for i := range d.WeightedWaypoints {
		g, err := d.WeightedWaypoints[i].GatewayAddress.restore()
		if err != nil {
			return failed("weighted waypoint", err)
		}
		s.WeightedWaypoints = append(s.WeightedWaypoints, mesh.WeightedWaypoint{Gateway: *g, Weight: d.WeightedWaypoints[i].Weight})
	}
	return s, nil
}

// restoreVIP reads network/address or network/address/bits.
func restoreVIP(text string) (mesh.VIP, error) {
	network, rest, _ := strings.Cut(text, "/")
	if !strings.Contains(rest, "/") {
		address, err := netip.ParseAddr(rest)
		if err != nil {
			return mesh.VIP{}, err
		}
		return mesh.VIP{Network: network, Prefix: netip.PrefixFrom(address, address.BitLen())}, nil
	}
	prefix, err := netip.ParsePrefix(rest)
	return mesh.VIP{Network: network, Prefix: prefix}, err
}

func (d *GatewayAddress) restore() (*mesh.GatewayAddress, error) {
	if d == nil {
		return nil, nil
	}
	g := &mesh.GatewayAddress{HBONEPort: d.HBONEMTLSPort}
	before, behind, _ := strings.Cut(d.Destination, "/")
	if address, err := netip.ParseAddr(behind); err == nil {
		g.Address = mesh.NetworkAddress{Network: before, Address: address}
		return g, nil
	}
	if before == "" || behind == "" {
		return nil, fmt.Errorf("%q is neither network/address nor namespace/hostname", d.Destination)
	}
	g.Hostname = mesh.Name{Namespace: before, Hostname: behind}
	return g, nil
}

func (d *LoadBalancer) restore() (l mesh.LoadBalancing) {
	if d == nil {
		return l
	}
	l.Mode = mesh.BalanceMode(max(0, slices.Index(balanceModes, d.Mode)))
	l.AllowUnhealthy = d.HealthPolicy == "AllowAll"
	for _, p := range d.RoutingPreferences {
		l.Preference = append(l.Preference, mesh.Scope(max(0, slices.Index(scopes, p))))
	}
	return l
}

func serviceName(key string) mesh.Name {
	namespace, hostname, _ := strings.Cut(key, "/")
	return mesh.Name{Namespace: namespace, Hostname: hostname}
}

// mappings are ports in the order of their numbers.
func mappings(ports map[string]uint16, protocols map[string]string) (all []mesh.PortMapping, err error) {
	for text, target := range ports {
		port, err := strconv.ParseUint(text, 10, 16)
		if err != nil {
			return nil, fmt.Errorf("%q is not a port", text)
		}
		all = append(all, mesh.PortMapping{Service: uint16(port), Target: target, AppProtocol: protocols[text]})
	}
	slices.SortFunc(all, func(a, b mesh.PortMapping) int { return cmp.Compare(a.Service, b.Service) })
	return all, nil
}
