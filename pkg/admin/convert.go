package admin

import (
	"cmp"
	"crypto/x509"
	"encoding/base64"
	"encoding/pem"
	"slices"
	"strconv"
	"time"

	"github.com/outrigger-mesh/outrigger/pkg/mesh"
)

// Workloads are ws, by UID.
func Workloads(ws []*mesh.Workload) []Workload {
	list := make([]Workload, 0, len(ws))
	for _, w := range ws {
		list = append(list, workload(w))
	}
	slices.SortFunc(list, func(a, b Workload) int { return cmp.Compare(a.UID, b.UID) })
	return list
}

func workload(w *mesh.Workload) Workload {
	d := Workload{
		UID: w.UID, Waypoint: gateway(w.Waypoint), NetworkGateway: gateway(w.NetworkGateway),
		Protocol: choose(w.Tunnel == mesh.TunnelHBONE, "HBONE", "TCP"),
		Name:     w.Name, Namespace: w.Namespace, ServiceAccount: w.ServiceAccount, WorkloadName: w.WorkloadName, WorkloadType: w.WorkloadType,
		CanonicalName: w.CanonicalName, CanonicalRevision: w.CanonicalRevision, ClusterID: w.ClusterID, TrustDomain: w.TrustDomain,
		Locality: Locality(w.Locality), Node: w.Node, Network: w.Network, Status: choose(w.Unhealthy, "Unhealthy", "Healthy"),
		Hostname: w.Hostname, Capacity: w.Capacity, NativeTunnel: w.NativeTunnel, AuthorizationPolicies: w.AuthorizationPolicies,
		WorkloadIPs: make([]string, 0, len(w.Addresses)), ApplicationTunnel: ApplicationTunnel{Protocol: "NONE"},
	}
	d.HostNetwork = w.HostNetwork
	for name, ports := range w.Services {
		if d.Services == nil {
			d.Services = map[string]map[string]uint16{}
		}
		d.Services[name.String()] = portMap(ports)
	}
	for _, a := range w.Addresses {
		d.WorkloadIPs = append(d.WorkloadIPs, a.String())
	}
	if t := w.ApplicationTunnel; t != nil {
		d.ApplicationTunnel = ApplicationTunnel{Protocol: choose(t.Proxy, "PROXY", "NONE"), Port: t.Port}
	}
	return d
}

// Services are ss, by namespace and hostname, with those of ws that belong to each.
func Services(ss []*mesh.Service, ws []*mesh.Workload) []Service {
	list := make([]Service, 0, len(ss))
	place := make(map[mesh.Name]int, len(ss))
	sorted := slices.SortedFunc(slices.Values(ss), func(a, b *mesh.Service) int {
		return cmp.Or(cmp.Compare(a.Namespace, b.Namespace), cmp.Compare(a.Hostname, b.Hostname))
	})
	for i, s := range sorted {
		list = append(list, service(s))
		place[s.Key()] = i
	}
	for _, w := range ws {
		for name, ports := range w.Services {
			if i, ok := place[name]; ok {
				list[i].Endpoints[w.UID] = Endpoint{WorkloadUID: w.UID, Service: name.String(), Port: portMap(ports)}
			}
		}
	}
	return list
}

func service(s *mesh.Service) Service {
	d := Service{
		Name: s.Name, Namespace: s.Namespace, Hostname: s.Hostname, VIPs: make([]string, 0, len(s.VIPs)), Ports: portMap(s.Ports),
		Endpoints: map[string]Endpoint{}, Waypoint: gateway(s.Waypoint), LoadBalancer: loadBalancer(s.LoadBalancing), IPFamilies: s.IPFamilies,
	}
	for _, v := range s.VIPs {
		address := v.Prefix.String()
		if v.Prefix.IsSingleIP() {
			address = v.Prefix.Addr().String()
		}
		d.VIPs = append(d.VIPs, v.Network+"/"+address)
	}
	d.Canonical, d.Visibility = s.Canonical, choose(s.NamespaceOnly, "NAMESPACE", "")
	for i := range s.WeightedWaypoints {
		w := &s.WeightedWaypoints[i]
		d.WeightedWaypoints = append(d.WeightedWaypoints, WeightedWaypoint{*gateway(&w.Gateway), w.Weight})
	}
	for _, p := range s.Ports {
		if p.AppProtocol == "" {
			continue
		}
		if d.AppProtocols == nil {
			d.AppProtocols = map[string]string{}
		}
		d.AppProtocols[strconv.Itoa(int(p.Service))] = p.AppProtocol
	}
	for _, p := range s.SubjectAltNames {
		d.SubjectAltNames = append(d.SubjectAltNames, p.String())
	}
	return d
}

func portMap(ports []mesh.PortMapping) map[string]uint16 {
	m := make(map[string]uint16, len(ports))
	for _, p := range ports {
		m[strconv.Itoa(int(p.Service))] = p.Target
	}
	return m
}

func gateway(g *mesh.GatewayAddress) *GatewayAddress {
	if g == nil {
		return nil
	}
	d := &GatewayAddress{Destination: g.Hostname.String(), HBONEMTLSPort: g.HBONEPort}
	if g.Hostname == (mesh.Name{}) {
		d.Destination = g.Address.Network + "/" + g.Address.Address.String()
	}
	if d.HBONEMTLSPort == 0 {
		d.HBONEMTLSPort = 15008
	}
	return d
}

func loadBalancer(l mesh.LoadBalancing) *LoadBalancer {
	if l.Mode == mesh.BalanceUnspecified && len(l.Preference) == 0 && !l.AllowUnhealthy {
		return nil
	}
	d := &LoadBalancer{
		Mode:               name(int(l.Mode), balanceModes),
		RoutingPreferences: make([]string, 0, len(l.Preference)),
		HealthPolicy:       choose(l.AllowUnhealthy, "AllowAll", "OnlyHealthy"),
	}
	for _, s := range l.Preference {
		d.RoutingPreferences = append(d.RoutingPreferences, name(int(s), scopes))
	}
	return d
}

// What modes and scopes are called, in the order of their values.
var (
	balanceModes = []string{"Standard", "Strict", "Failover", "Passthrough"}
	scopes       = []string{"Unspecified", "Region", "Zone", "Subzone", "Node", "Cluster", "Network"}
)

func name(i int, names []string) string {
	if i < len(names) {
		return names[i]
	}
	return strconv.Itoa(i)
}

func choose(condition bool, yes, no string) string {
	if condition {
		return yes
	}
	return no
}

// Certs are certificates as a Dump shows them.
func Certs(chain []*x509.Certificate) []Cert {
	list := make([]Cert, 0, len(chain))
	for _, c := range chain {
		block := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: c.Raw})
		list = append(list, Cert{
			PEM:            base64.StdEncoding.EncodeToString(block),
			SerialNumber:   c.SerialNumber.String(),
			ValidFrom:      c.NotBefore.UTC().Format(time.RFC3339),
			ExpirationTime: c.NotAfter.UTC().Format(time.RFC3339),
		})
	}
	return list
}
