package discovery

import (
	"fmt"
	"net/netip"
	"strings"

	"github.com/outrigger-mesh/outrigger/pkg/mesh"
	workloadpb "github.com/outrigger-mesh/outrigger/proto/istio/workload"
)

// service reads a service. It is complete only if c has nothing to complain of.
func (c *checker) service(in *workloadpb.Service) *mesh.Service {
	s := &mesh.Service{
		Name:      in.GetName(),
		Namespace: c.text(in.GetNamespace()),
		Hostname:  c.text(in.GetHostname()),
		Ports:     c.ports("", in.GetPorts()),
		Waypoint:  c.gateway("waypoint", in.GetWaypoint()),
		Canonical: in.GetCanonical(),
		// As in ztunnel, a visibility that is not known hides nothing. It
		// decides who finds a service, not who may use it.
		NamespaceOnly: in.GetVisibility() == workloadpb.Service_NAMESPACE,
	}
	c.required("namespace", s.Namespace)
	c.required("hostname", s.Hostname)
	if strings.Contains(s.Namespace+s.Hostname, "/") {
		c.add("hostname", "", "namespace and hostname must not contain a slash")
	}
	if f := in.GetIpFamilies(); f != workloadpb.IPFamilies_AUTOMATIC {
		s.IPFamilies = f.String()
	}
	c.vips(s, in.GetAddresses())
	for _, san := range in.GetSubjectAltNames() {
		// Other kinds of names are allowed here, and no tunnel proves them.
		if p, err := mesh.ParsePrincipal(san); err == nil {
			s.SubjectAltNames = append(s.SubjectAltNames, p)
		}
	}
	for i, w := range in.GetWeightedWaypoints() {
		at := fmt.Sprintf("weightedWaypoints[%d].destination", i)
		gw := c.gateway(at, w.GetDestination())
		if gw == nil {
			c.required(at, "")
			continue
		}
		s.WeightedWaypoints = append(s.WeightedWaypoints, mesh.WeightedWaypoint{Gateway: *gw, Weight: w.GetWeight()})
	}
	s.LoadBalancing = c.loadBalancing(in.GetLoadBalancing())
	return s
}

func (c *checker) vips(s *mesh.Service, in []*workloadpb.NetworkAddress) {
	for i, a := range in {
		at := fmt.Sprintf("addresses[%d]", i)
		ip := c.address(at+".address", a.GetAddress())
		length := ip.BitLen()
		if a.Length != nil {
			length = int(a.GetLength())
			if len(a.GetAddress()) == 16 && ip.Is4() {
				length -= 96 // it was written as IPv4-mapped
			}
		}
		if length < 0 || length > ip.BitLen() {
			c.add(at+".length", "", "%d is not a prefix length for %v", a.GetLength(), ip)
			continue
		}
		s.VIPs = append(s.VIPs, mesh.VIP{Network: c.text(a.GetNetwork()), Prefix: netip.PrefixFrom(ip, length).Masked()})
	}
}

func (c *checker) loadBalancing(in *workloadpb.LoadBalancing) mesh.LoadBalancing {
	out := mesh.LoadBalancing{
		Mode:           mesh.BalanceMode(in.GetMode()),
		AllowUnhealthy: in.GetHealthPolicy() == workloadpb.LoadBalancing_ALLOW_ALL,
	}
	for i, scope := range in.GetRoutingPreference() {
		if scope == workloadpb.LoadBalancing_UNSPECIFIED_SCOPE {
			c.add(fmt.Sprintf("loadBalancing.routingPreference[%d]", i), "name a scope", "is not set")
		}
		out.Preference = append(out.Preference, mesh.Scope(scope))
	}
	return out
}
