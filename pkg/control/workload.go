package control

import (
	"fmt"
	"strings"

	"github.com/outrigger-mesh/outrigger/pkg/discovery"
	"github.com/outrigger-mesh/outrigger/pkg/manifest"
	"github.com/outrigger-mesh/outrigger/pkg/policy"
	workloadpb "github.com/outrigger-mesh/outrigger/proto/istio/workload"
)

const maxPort = 65535

func (r *reader) workload(d *manifest.Document, e *envelope) (*object, error) {
	w := &workloadpb.Workload{}
	if err := spec(d, w); err != nil {
		return nil, err
	}
	if err := named(d, &w.Name, e.Metadata.Name, "name"); err != nil {
		return nil, err
	}
	if err := named(d, &w.Namespace, e.Metadata.Namespace, "namespace"); err != nil {
		return nil, err
	}
	setDefault(&w.ClusterId, r.config.ClusterID)
	setDefault(&w.Uid, w.ClusterId+"//Pod/"+w.Namespace+"/"+w.Name)
	setDefault(&w.TrustDomain, r.config.TrustDomain)
	setDefault(&w.ServiceAccount, "default")
	setDefault(&w.CanonicalName, w.Name)
	setDefault(&w.WorkloadName, w.Name)
	if err := checkWorkload(d, w); err != nil {
		return nil, err
	}
	return &object{typeURL: AddressType, key: w.Uid, workload: w, labels: e.Metadata.Labels}, nil
}

func checkWorkload(d *manifest.Document, w *workloadpb.Workload) error {
	if len(w.Addresses) == 0 && w.Hostname == "" {
		return d.Fault("the workload has no address", `add addresses: ["10.1.2.3"]`, "spec", "addresses")
	}
	if !policy.IsDNSSubdomain(w.ServiceAccount) {
		return d.Fault(fmt.Sprintf("serviceAccount %q is not a name", w.ServiceAccount), "write lower-case letters, digits, '-' and '.'", "spec", "serviceAccount")
	}
	if port := w.GetApplicationTunnel().GetPort(); port > maxPort {
		return portFault(d, port, "spec", "applicationTunnel", "port")
	}
	for name, ports := range w.Services {
		if _, err := discovery.NamespacedHostname(name); err != nil {
			return d.Fault(err.Error(), "name services by namespace/hostname", "spec", "services", name)
		}
		if err := checkPorts(d, ports.GetPorts(), "spec", "services", name, "ports"); err != nil {
			return err
		}
	}
	for i, name := range w.AuthorizationPolicies {
		if ns, rest, ok := strings.Cut(name, "/"); !ok || !policy.IsDNSLabel(ns) || rest == "" {
			return d.Fault(fmt.Sprintf("%q is not namespace/name of an authorization", name), "", "spec", "authorizationPolicies", fmt.Sprint(i))
		}
	}
	if err := checkGateway(d, w.Waypoint, "waypoint"); err != nil {
		return err
	}
	return checkGateway(d, w.NetworkGateway, "networkGateway")
}

func checkPorts(d *manifest.Document, ports []*workloadpb.Port, path ...string) error {
	for i, p := range ports {
		at := append(path[:len(path):len(path)], fmt.Sprint(i))
		if p.ServicePort == 0 || p.ServicePort > maxPort {
			return portFault(d, p.ServicePort, append(at, "servicePort")...)
		}
		if p.TargetPort > maxPort {
			return portFault(d, p.TargetPort, append(at, "targetPort")...)
		}
	}
	return nil
}

func checkGateway(d *manifest.Document, g *workloadpb.GatewayAddress, field string) error {
	if g == nil {
		return nil
	}
	if g.Destination == nil {
		return d.Fault(field+" names no destination", "set hostname or address", "spec", field)
	}
	if g.HboneMtlsPort > maxPort {
		return portFault(d, g.HboneMtlsPort, "spec", field, "hboneMtlsPort")
	}
	return nil
}

func portFault(d *manifest.Document, port uint32, path ...string) error {
	return d.Fault(fmt.Sprintf("%s: %d is not a port", path[len(path)-1], port), "it must be from 1 to 65535", path...)
}

func (r *reader) service(d *manifest.Document, e *envelope) (*object, error) {
	s := &workloadpb.Service{}
	if err := spec(d, s); err != nil {
		return nil, err
	}
	if err := named(d, &s.Name, e.Metadata.Name, "name"); err != nil {
		return nil, err
	}
	if err := named(d, &s.Namespace, e.Metadata.Namespace, "namespace"); err != nil {
		return nil, err
	}
	setDefault(&s.Hostname, s.Name+"."+s.Namespace+".svc.cluster.local")
	if !discovery.IsHostname(s.Hostname) {
		return nil, d.Fault(fmt.Sprintf("hostname %q is not a hostname", s.Hostname), "write lower-case letters, digits, '-' and '.'", "spec", "hostname")
	}
	if err := checkPorts(d, s.Ports, "spec", "ports"); err != nil {
		return nil, err
	}
	if err := checkGateway(d, s.Waypoint, "waypoint"); err != nil {
		return nil, err
	}
	return &object{typeURL: AddressType, key: s.Namespace + "/" + s.Hostname, service: s}, nil
}
