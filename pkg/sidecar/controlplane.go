package sidecar

import (
	"context"
	"fmt"
	"net"
	"strings"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	"google.golang.org/grpc/credentials"
	"google.golang.org/protobuf/types/known/structpb"

	"github.com/outrigger-mesh/outrigger/pkg/identity"
	"github.com/outrigger-mesh/outrigger/pkg/mesh"
)

// freshCredentials reads the roots of the control plane again for every
// connection: they rotate, and may not be there yet when the sidecar starts.
type freshCredentials struct{ plane *identity.ControlPlane }

// ClientHandshake expects the configured name in the server's certificate. gRPC
// knows the address only, which is what it hands us as authority.
func (c freshCredentials) ClientHandshake(ctx context.Context, _ string, raw net.Conn) (net.Conn, credentials.AuthInfo, error) {
	now, err := c.plane.Credentials()
	if err != nil {
		return nil, nil, err
	}
	return now.ClientHandshake(ctx, c.plane.Name(), raw)
}

func (c freshCredentials) ServerHandshake(net.Conn) (net.Conn, credentials.AuthInfo, error) {
	return nil, nil, fmt.Errorf("these credentials are a client's")
}

func (c freshCredentials) Info() credentials.ProtocolInfo {
	return credentials.ProtocolInfo{SecurityProtocol: "tls"}
}

func (c freshCredentials) Clone() credentials.TransportCredentials { return c }

func (c freshCredentials) OverrideServerName(string) error { return nil }

// discoveryPlane is where xDS comes from; caPlane where certificates come from,
// by default the same.
func (c *Config) discoveryPlane() *identity.ControlPlane {
	return &identity.ControlPlane{
		Address: c.Discovery.Address, RootCA: c.Discovery.Root, ServerName: c.Discovery.Name,
		TokenFile: c.Discovery.Token, Headers: map[string]string{"clusterid": c.Workload.ClusterID},
	}
}

func (c *Config) caPlane() identity.ControlPlane {
	plane := *c.discoveryPlane()
	if c.Identity.CAAddress != "" {
		plane.Address, plane.ServerName = c.Identity.CAAddress, ""
	}
	if c.Identity.CARoot != "" {
		plane.RootCA = c.Identity.CARoot
	}
	if c.Identity.CAName != "" {
		plane.ServerName = c.Identity.CAName
	}
	return plane
}

// The types of node that we may be. Never agentgateway: istiod crashes on it.
const (
	nodeZtunnel = "ztunnel" // istiod serves it workloads and authorizations
	nodeSidecar = "sidecar" // and extension configurations; of authorizations, after the first time, only what can concern the pod
)

// node is how we present ourselves. Without NODE_NAME: istiod would add every pod of the node.
func node(kind string, self *mesh.Self, version string) (*corev3.Node, error) {
	metadata, err := structpb.NewStruct(map[string]any{
		"NAME": self.Name, "NAMESPACE": self.Namespace, "SERVICE_ACCOUNT": self.Principal.ServiceAccount(),
		"INSTANCE_IPS": joinAddresses(self), "CLUSTER_ID": self.ClusterID, "NETWORK": self.Network, "ISTIO_VERSION": version,
	})
	if err != nil {
		return nil, fmt.Errorf("make xDS node: %w", err)
	}
	id := fmt.Sprintf("%s~%s~%s.%s~%s.svc.%s", kind, self.Addresses[0], self.Name, self.Namespace, self.Namespace, self.ClusterDomain)
	return &corev3.Node{Id: id, Metadata: metadata}, nil
}

func joinAddresses(self *mesh.Self) string {
	texts := make([]string, len(self.Addresses))
	for i, a := range self.Addresses {
		texts[i] = a.String()
	}
	return strings.Join(texts, ",")
}
