package sidecar

import (
	"context"
	"fmt"
	"net"
	"slices"
	"strings"
	"time"

	"github.com/outrigger-mesh/outrigger/pkg/admission"
	"github.com/outrigger-mesh/outrigger/pkg/discovery"
	"github.com/outrigger-mesh/outrigger/pkg/identity"
	"github.com/outrigger-mesh/outrigger/pkg/mesh"
	"github.com/outrigger-mesh/outrigger/pkg/store"
	"github.com/outrigger-mesh/outrigger/pkg/telemetry"
	"github.com/outrigger-mesh/outrigger/pkg/xds"
)

// defaultExtension is the name of the extension configurations with agent policies.
const defaultExtension = "outrigger-agent-policy"

// carries tells whether agent policies come by a carrier.
func (c *Config) carries(by discovery.Carrier) bool {
	if len(c.Policy.Carriers) == 0 {
		return by == discovery.CarrierMesh
	}
	return slices.Contains(c.Policy.Carriers, by.String())
}

func (c *Config) validatePolicy() error {
	known := []string{discovery.CarrierMesh.String(), discovery.CarrierPlane.String(), discovery.CarrierECDS.String(), discovery.CarrierFile.String()}
	for _, name := range c.Policy.Carriers {
		if !slices.Contains(known, name) {
			return &ConfigError{"policy.carriers", fmt.Sprintf("%q is not a carrier", name), "use " + strings.Join(known, ", ")}
		}
	}
	if c.carries(discovery.CarrierFile) && len(c.Discovery.PolicyFiles) == 0 {
		return &ConfigError{"discovery.policyFiles", NotSet, "set --policy-file or POLICY_FILES, for policy.carriers lists file"}
	}
	if !c.carries(discovery.CarrierPlane) {
		if c.Policy.Address != "" {
			return &ConfigError{"policy.address", "set, and policy.carriers does not list xds", "add --policy-carrier xds, or remove the address"}
		}
		return nil
	}
	if _, _, err := net.SplitHostPort(strings.TrimPrefix(c.Policy.Address, "https://")); err != nil {
		return &ConfigError{"policy.address", fmt.Sprintf("%q is not an address", c.Policy.Address), "set --policy-xds-address to the host:port of the server of agent policies"}
	}
	return nil
}

// policyPlane is where agent policies come from by a connection of their own.
func (c *Config) policyPlane() *identity.ControlPlane {
	plane := c.discoveryPlane()
	plane.Address, plane.ServerName = c.Policy.Address, c.Policy.Name
	if c.Policy.Root != "" {
		plane.RootCA = c.Policy.Root
	}
	if c.Policy.Token != "" {
		plane.TokenFile = c.Policy.Token
	}
	return plane
}

// expected are the kinds that must have been delivered before anything is allowed.
func (c *Config) expected() []string {
	kinds := []string{store.KindWorkloads, store.KindAuthorizations}
	for _, by := range []discovery.Carrier{discovery.CarrierMesh, discovery.CarrierPlane, discovery.CarrierECDS} {
		if c.carries(by) {
			kinds = append(kinds, by.Kind())
		}
	}
	for _, path := range c.Discovery.PolicyFiles {
		kinds = append(kinds, discovery.FileKind(path))
	}
	return kinds
}

// subscriptions are the types asked of the mesh's control plane, and the type of
// node that it serves them to.
func (c *Config) subscriptions() (types []xds.Type, kind string) {
	types, kind = []xds.Type{{URL: discovery.AddressType, OnDemand: !c.Discovery.Wildcard}, {URL: discovery.AuthorizationType}}, nodeZtunnel
	if c.carries(discovery.CarrierMesh) {
		types = append(types, xds.Type{URL: discovery.AgentPolicyType})
	}
	if c.carries(discovery.CarrierECDS) {
		types, kind = append(types, xds.Type{URL: discovery.ExtensionType, Names: c.ExtensionNames(), Complete: true, Repeated: true}), nodeSidecar
	}
	return types, kind
}

// ExtensionNames are the names of the extension configurations that hold agent
// policies, for the carrier ecds.
func (c *Config) ExtensionNames() []string {
	if len(c.Policy.Extensions) == 0 {
		return []string{defaultExtension}
	}
	return c.Policy.Extensions
}

func (s *Sidecar) buildConfiguration() (err error) {
	s.store = store.New(store.Config{Self: s.self, Expect: s.config.expected()})
	s.register = admission.NewRegister(s.store)
	if s.changes, err = discovery.New(discovery.Config{Store: s.store, Self: s.self, Logger: s.logger}); err != nil {
		return err
	}
	types, kind := s.config.subscriptions()
	if s.xds, err = s.newClient(s.config.discoveryPlane(), kind, s.changes, types); err != nil {
		return err
	}
	if !s.config.Discovery.Wildcard {
		s.demand, err = s.changes.NewDemand(discovery.DemandConfig{
			Subscriber: s.xds, Timeout: time.Duration(s.config.Discovery.Timeout), Idle: time.Duration(s.config.Discovery.Idle),
		}, s.self)
	}
	if err != nil || !s.config.carries(discovery.CarrierPlane) {
		return err
	}
	s.policies, err = s.newClient(s.config.policyPlane(), nodeZtunnel, s.changes.Plane(), []xds.Type{{URL: discovery.AgentPolicyType}})
	return err
}

func (s *Sidecar) newClient(plane *identity.ControlPlane, kind string, handler xds.Handler, types []xds.Type) (*xds.Client, error) {
	id, err := node(kind, &s.self, s.version)
	if err != nil {
		return nil, err
	}
	return xds.New(xds.Config{
		Target: plane.Target(), Credentials: freshCredentials{plane}, PerRPC: plane.PerRPC(), Node: id, Handler: handler,
		Types: types, Logger: s.logger, Received: s.recorder.XDSMessage, Ended: s.streamEnded, Advise: advise,
	})
}

// advise says what to do about a stream's end. Of a type that it does not know, istiod
// says only that its api generator, which would serve it, is not for everybody.
func advise(err error) string {
	if strings.Contains(err.Error(), "api generator is restricted") {
		return "this is a stock istiod, which does not serve agent policies so: use --policy-carrier ecds (POLICY_CARRIERS)"
	}
	return ""
}

// streamEnded counts a stream's end as ztunnel's metric has it.
func (s *Sidecar) streamEnded(end xds.End) {
	s.recorder.XDSTerminated(map[xds.End]string{
		xds.EndUnopened: telemetry.XDSConnectionError, xds.EndError: telemetry.XDSError,
		xds.EndRenewed: telemetry.XDSReconnect, xds.EndComplete: telemetry.XDSComplete,
	}[end])
}

// finder is what makes sure that the store knows of a connection's
// destination; nil if all of the mesh is in the store.
func (s *Sidecar) finder() func(context.Context, ...mesh.Reference) error {
	if s.demand == nil {
		return nil
	}
	return s.demand.Find
}
