package sidecar

import (
	"errors"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"github.com/outrigger-mesh/outrigger/pkg/discovery"
	"github.com/outrigger-mesh/outrigger/pkg/mesh"
	"github.com/outrigger-mesh/outrigger/pkg/store"
)

var everyCarrier = [][]string{nil, {"mesh"}, {"xds"}, {"ecds"}, {"file"}, {"mesh", "ecds"}, {"mesh", "xds", "ecds", "file"}}

func withCarriers(carriers []string, change ...func(*Config)) Config {
	c := DefaultConfig()
	c.Workload.Name, c.Workload.Namespace, c.Workload.ServiceAccount, c.Workload.Addresses = "github-1", "tools", "github", []string{"10.0.0.2"}
	c.Policy.Carriers = carriers
	if slices.Contains(carriers, "xds") {
		c.Policy.Address = "policies.tools.svc:15012"
	}
	if slices.Contains(carriers, "file") {
		c.Discovery.PolicyFiles = []string{"/etc/outrigger/policies"}
	}
	for _, f := range change {
		f(&c)
	}
	return c
}

// istiod 1.31 exits if a node of type agentgateway asks for what we ask for, and
// sends every pod of the node to who names it.
func TestNoNodeHarmsIstiodOrUs(t *testing.T) {
	self := mesh.Self{Principal: mesh.NewPrincipal("cluster.local", "tools", "github"), Name: "github-1", Namespace: "tools",
		Addresses: []netip.Addr{netip.MustParseAddr("10.0.0.2")}, ClusterDomain: "cluster.local"}
	for _, carriers := range everyCarrier {
		c := withCarriers(carriers)
		_, kind := c.subscriptions()
		n, err := node(kind, &self, "1.0")
		if err != nil {
			t.Fatal(err)
		}
		if got, _, _ := strings.Cut(n.GetId(), "~"); got != nodeZtunnel && got != nodeSidecar {
			t.Errorf("%v: node %s", carriers, n.GetId())
		}
		if _, there := n.GetMetadata().GetFields()["NODE_NAME"]; there {
			t.Errorf("%v: metadata %v", carriers, n.GetMetadata())
		}
	}
}

func TestCarriersDecideWhatIsAskedAndAwaited(t *testing.T) {
	for _, carriers := range everyCarrier {
		c := withCarriers(carriers)
		if err := c.Validate(); err != nil {
			t.Fatalf("%v: %v", carriers, err)
		}
		types, kind := c.subscriptions()
		has := func(url string) bool {
			for _, one := range types {
				if one.URL == url {
					return true
				}
			}
			return false
		}
		mesh, ecds := carriers == nil || slices.Contains(carriers, "mesh"), slices.Contains(carriers, "ecds")
		if has(discovery.AgentPolicyType) != mesh || has(discovery.ExtensionType) != ecds || (kind == nodeSidecar) != ecds {
			t.Errorf("%v: types %v as %s", carriers, types, kind)
		}
		if !types[0].OnDemand || types[1].OnDemand {
			t.Errorf("%v: workloads must be asked for on demand, authorizations not: %v", carriers, types)
		}
		want := []string{store.KindWorkloads, store.KindAuthorizations}
		if mesh {
			want = append(want, discovery.CarrierMesh.Kind())
		}
		if slices.Contains(carriers, "xds") {
			want = append(want, discovery.CarrierPlane.Kind())
		}
		if ecds {
			want = append(want, discovery.CarrierECDS.Kind())
		}
		if slices.Contains(carriers, "file") {
			want = append(want, discovery.FileKind("/etc/outrigger/policies"))
		}
		if got := c.expected(); !slices.Equal(got, want) {
			t.Errorf("%v: awaits %q, want %q", carriers, got, want)
		}
	}
	c := withCarriers(nil, func(c *Config) { c.Discovery.Wildcard = true })
	if types, _ := c.subscriptions(); types[0].OnDemand {
		t.Error("wildcard is on demand")
	}
}

func TestCarriersThatMakeNoSenseAreRefused(t *testing.T) {
	for path, c := range map[string]Config{
		"policy.carriers":       withCarriers([]string{"pigeon"}),
		"discovery.policyFiles": withCarriers([]string{"file"}, func(c *Config) { c.Discovery.PolicyFiles = nil }),
		"policy.address":        withCarriers([]string{"xds"}, func(c *Config) { c.Policy.Address = "" }),
	} {
		if err, ok := errors.AsType[*ConfigError](c.Validate()); !ok || err.Path != path || err.Remedy == "" {
			t.Errorf("%s: %v", path, err)
		}
	}
	c := withCarriers([]string{"ecds"}, func(c *Config) { c.Policy.Address = "policies.tools.svc:15012" })
	if c.Validate() == nil {
		t.Error("an address that nothing uses is accepted")
	}
}
