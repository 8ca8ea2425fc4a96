package scale

import (
	"fmt"
	"net/netip"

	workloadpb "github.com/outrigger-mesh/outrigger/proto/istio/workload"
)

// The goals' mesh.
const (
	Workloads = 100_000
	Services  = 10_000
	PerSecond = 10_000 // updates
)

// TrustDomain is that of all workloads.
const TrustDomain = "cluster.local"

// Address is the address number i of those that begin with base.
func Address(base byte, i int) netip.Addr {
	return netip.AddrFrom4([4]byte{base, byte(i >> 16), byte(i >> 8), byte(i)})
}

func serviceName(i int) (namespace, hostname string) {
	namespace = fmt.Sprint("namespace-", i%200)
	return namespace, fmt.Sprintf("service-%d.%s.svc.cluster.local", i, namespace)
}

// Service is the service number i, under 11.0.0.0/8, and the name of its resource.
func Service(i int) (string, *workloadpb.Address) {
	namespace, hostname := serviceName(i)
	return namespace + "/" + hostname, &workloadpb.Address{Type: &workloadpb.Address_Service{Service: &workloadpb.Service{
		Name: fmt.Sprint("service-", i), Namespace: namespace, Hostname: hostname,
		Addresses: []*workloadpb.NetworkAddress{{Address: Address(11, i).AsSlice()}},
		Ports:     []*workloadpb.Port{{ServicePort: 80, TargetPort: 8080, AppProtocol: workloadpb.AppProtocol_HTTP11}},
	}}}
}

// Workload is the workload number i, under 10.0.0.0/8 and of one service, and
// the name of its resource. It differs from one revision to another.
func Workload(i int, revision string) (string, *workloadpb.Address) {
	namespace, hostname := serviceName(i % Services)
	name := fmt.Sprintf("deployment-%d-7d4b9c5f6-%05x", i/10, i)
	w := &workloadpb.Workload{
		Uid: "Kubernetes//Pod/" + namespace + "/" + name, Name: name, Namespace: namespace, ServiceAccount: fmt.Sprint("account-", i/10),
		Addresses: [][]byte{Address(10, i).AsSlice()}, TunnelProtocol: workloadpb.TunnelProtocol_HBONE, ClusterId: "Kubernetes",
		CanonicalName: fmt.Sprint("deployment-", i/10), CanonicalRevision: revision, WorkloadName: fmt.Sprint("deployment-", i/10),
		Node: fmt.Sprint("node-", i/50), Locality: &workloadpb.Locality{Region: "region", Zone: "zone"},
		Services: map[string]*workloadpb.PortList{namespace + "/" + hostname: {Ports: []*workloadpb.Port{{ServicePort: 80, TargetPort: 8080}}}},
	}
	return w.Uid, &workloadpb.Address{Type: &workloadpb.Address_Workload{Workload: w}}
}
