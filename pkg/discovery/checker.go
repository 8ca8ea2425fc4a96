package discovery

import (
	"errors"
	"fmt"
	"net/netip"
	"strings"

	"github.com/outrigger-mesh/outrigger/pkg/mesh"
	"github.com/outrigger-mesh/outrigger/pkg/policy"
	workloadpb "github.com/outrigger-mesh/outrigger/proto/istio/workload"
)

// A checker collects what is wrong with one resource while it is read.
type checker struct {
	faults []error
	more   int // not listed
	intern func(string) string
}

func (c *checker) add(field, remedy, format string, args ...any) {
	if len(c.faults) == maxProblems {
		c.more++
		return
	}
	c.faults = append(c.faults, &policy.FieldError{Field: field, Problem: fmt.Sprintf(format, args...), Remedy: remedy})
}

func (c *checker) err() error {
	if c.more > 0 {
		c.faults = append(c.faults, fmt.Errorf("and %d more problems", c.more))
	}
	return errors.Join(c.faults...)
}

func (c *checker) text(s string) string {
	if c.intern == nil {
		return s
	}
	return c.intern(s)
}

func (c *checker) required(field, s string) {
	if s == "" {
		c.add(field, "", "is missing")
	}
}

const maxPort = 65535

// port reads a port number; zero is a port only where it means something.
func (c *checker) port(field string, n uint32, zero bool) uint16 {
	if n > maxPort || n == 0 && !zero {
		c.add(field, "ports are 1 to 65535", "%d is not a port", n)
		return 0
	}
	return uint16(n)
}

func (c *checker) address(field string, b []byte) netip.Addr {
	a, ok := netip.AddrFromSlice(b)
	if !ok {
		c.add(field, "an address has 4 or 16 bytes", "has %d bytes", len(b))
	}
	return a.Unmap()
}

// serviceName reads the "namespace/hostname" of a service that a workload is of.
func (c *checker) serviceName(s string) mesh.Name {
	namespace, hostname, ok := strings.Cut(s, "/")
	if !ok || namespace == "" || hostname == "" || strings.Contains(hostname, "/") {
		c.add(fmt.Sprintf("services[%s]", s), "write namespace/hostname", "%q does not name a service", s)
		return mesh.Name{}
	}
	return mesh.Name{Namespace: c.text(namespace), Hostname: c.text(hostname)}
}

// ports reads the ports of a service, or those that a workload has of another.
func (c *checker) ports(of string, in []*workloadpb.Port) []mesh.PortMapping {
	if len(in) == 0 {
		return nil
	}
	ports := make([]mesh.PortMapping, len(in))
	for i, p := range in {
		service, target := p.GetServicePort(), p.GetTargetPort()
		if service == 0 || service > maxPort || target > maxPort { // only then is the place written
			at := fmt.Sprintf("ports[%d]", i)
			if of != "" {
				at = fmt.Sprintf("services[%s].%s", of, at)
			}
			c.port(at+".servicePort", service, false)
			c.port(at+".targetPort", target, true) // 0: a named port, that each workload maps
		}
		ports[i] = mesh.PortMapping{Service: uint16(service), Target: uint16(target)}
		if p.GetAppProtocol() != workloadpb.AppProtocol_UNKNOWN {
			ports[i].AppProtocol = p.GetAppProtocol().String()
		}
	}
	return ports
}

func (c *checker) gateway(field string, in *workloadpb.GatewayAddress) *mesh.GatewayAddress {
	if in == nil {
		return nil
	}
	out := &mesh.GatewayAddress{HBONEPort: c.port(field+".hboneMtlsPort", in.GetHboneMtlsPort(), true)}
	switch to := in.GetDestination().(type) {
	case *workloadpb.GatewayAddress_Hostname:
		c.required(field+".hostname.namespace", to.Hostname.GetNamespace())
		c.required(field+".hostname.hostname", to.Hostname.GetHostname())
		out.Hostname = mesh.Name{Namespace: c.text(to.Hostname.GetNamespace()), Hostname: c.text(to.Hostname.GetHostname())}
	case *workloadpb.GatewayAddress_Address:
		out.Address = mesh.NetworkAddress{Network: c.text(to.Address.GetNetwork()), Address: c.address(field+".address.address", to.Address.GetAddress())}
	default:
		// Whoever is sent through a gateway must not pass it by.
		c.add(field, "set hostname or address", "says that there is a gateway, but not where")
	}
	return out
}

// enums rejects fields whose enum value has no name in our schema.
func (c *checker) enums(fields []string) {
	for _, field := range fields {
		if field != "visibility" { // see service
			c.add(field, "use a value that this version knows", "has an unknown value")
		}
	}
}

// or is s, or what it means if it is empty.
func or(s, meaning string) string {
	if s == "" {
		return meaning
	}
	return s
}
