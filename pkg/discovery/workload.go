package discovery

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"github.com/outrigger-mesh/outrigger/pkg/mesh"
	workloadpb "github.com/outrigger-mesh/outrigger/proto/istio/workload"
)

// What an empty field of a workload means to istiod and ztunnel.
const (
	defaultTrustDomain    = "cluster.local"
	defaultServiceAccount = "default"
	defaultCluster        = "Kubernetes"
)

// workload reads a workload. It is complete only if c has nothing to complain of.
func (c *checker) workload(in *workloadpb.Workload, cluster string) *mesh.Workload {
	w := &mesh.Workload{
		UID:            in.GetUid(),
		Name:           in.GetName(),
		Namespace:      c.text(in.GetNamespace()),
		ServiceAccount: c.text(or(in.GetServiceAccount(), defaultServiceAccount)),
		TrustDomain:    c.text(or(in.GetTrustDomain(), defaultTrustDomain)),
		Network:        c.text(in.GetNetwork()),
		ClusterID:      c.text(or(in.GetClusterId(), cluster)),
		Node:           c.text(in.GetNode()),

		CanonicalName:     c.text(in.GetCanonicalName()),
		CanonicalRevision: c.text(in.GetCanonicalRevision()),
		WorkloadName:      c.text(in.GetWorkloadName()),
		WorkloadType:      workloadType(in.GetWorkloadType()),

		Hostname:     in.GetHostname(),
		NativeTunnel: in.GetNativeTunnel(),
		HostNetwork:  in.GetNetworkMode() == workloadpb.NetworkMode_HOST_NETWORK,

		Waypoint:       c.gateway("waypoint", in.GetWaypoint()),
		NetworkGateway: c.gateway("networkGateway", in.GetNetworkGateway()),

		AuthorizationPolicies: c.policyNames(in.GetAuthorizationPolicies()),
		Unhealthy:             in.GetStatus() == workloadpb.WorkloadStatus_UNHEALTHY,
		Capacity:              1,
		Locality: mesh.Locality{
			Region:  c.text(in.GetLocality().GetRegion()),
			Zone:    c.text(in.GetLocality().GetZone()),
			Subzone: c.text(in.GetLocality().GetSubzone()),
		},
	}
	if in.GetCapacity() != nil {
		w.Capacity = in.GetCapacity().GetValue()
	}
	c.required("uid", w.UID)
	c.required("namespace", w.Namespace)
	if w.Namespace != "" && !makesIdentity(w) {
		c.add("serviceAccount", "use a trust domain, namespace and service account that SPIFFE allows", "makes no identity: %v", w.Principal())
	}
	c.workloadAddresses(w, in.GetAddresses())
	c.tunnels(w, in)
	c.workloadServices(w, in.GetServices())
	return w
}

// makesIdentity tells whether the workload's account can be in a certificate.
func makesIdentity(w *mesh.Workload) bool {
	p, err := mesh.ParsePrincipal(w.Principal().String())
	return err == nil && p.Namespace() == w.Namespace && p.ServiceAccount() == w.ServiceAccount
}

func workloadType(t workloadpb.WorkloadType) string {
	switch t {
	case workloadpb.WorkloadType_CRONJOB:
		return "cronjob"
	case workloadpb.WorkloadType_POD:
		return "pod"
	case workloadpb.WorkloadType_JOB:
		return "job"
	}
	return "deployment"
}

func (c *checker) policyNames(in []string) []string {
	for i, name := range in {
		if namespace, policy, _ := strings.Cut(name, "/"); namespace == "" || policy == "" {
			c.add(fmt.Sprintf("authorizationPolicies[%d]", i), "write namespace/name", "%q does not name a policy", name)
		}
	}
	return slices.Clone(in)
}

func (c *checker) workloadAddresses(w *mesh.Workload, in [][]byte) {
	if len(in) > 0 {
		w.Addresses = make([]netip.Addr, len(in))
	}
	for i, b := range in {
		a, ok := netip.AddrFromSlice(b)
		if !ok {
			c.address(fmt.Sprintf("addresses[%d]", i), b)
		}
		w.Addresses[i] = a.Unmap()
	}
}

func (c *checker) tunnels(w *mesh.Workload, in *workloadpb.Workload) {
	switch in.GetTunnelProtocol() {
	case workloadpb.TunnelProtocol_HBONE:
		w.Tunnel = mesh.TunnelHBONE
	case workloadpb.TunnelProtocol_LEGACY_ISTIO_MTLS:
		c.add("tunnelProtocol", "give the workload HBONE", "LEGACY_ISTIO_MTLS cannot be reached by a tunnel, and must not be by plain TCP")
	}
	if t := in.GetApplicationTunnel(); t != nil {
		w.ApplicationTunnel = &mesh.ApplicationTunnel{
			Proxy: t.GetProtocol() == workloadpb.ApplicationTunnel_PROXY,
			Port:  c.port("applicationTunnel.port", t.GetPort(), true),
		}
	}
}

func (c *checker) workloadServices(w *mesh.Workload, in map[string]*workloadpb.PortList) {
	if len(in) > 0 {
		w.Services = make(map[mesh.Name][]mesh.PortMapping, len(in))
	}
	for name, ports := range in {
		w.Services[c.serviceName(name)] = c.ports(name, ports.GetPorts())
	}
}
