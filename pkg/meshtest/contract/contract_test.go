//go:build istiod

package contract

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/outrigger-mesh/outrigger/pkg/meshtest/istiod"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const (
	addressType       = "type.googleapis.com/istio.workload.Address"
	authorizationType = "type.googleapis.com/istio.security.Authorization"
	extensionType     = "type.googleapis.com/envoy.config.core.v3.TypedExtensionConfig"
	agentPolicyType   = "type.googleapis.com/outrigger.policy.v1alpha1.AgentPolicy"
)

// A contract is one thing that holds of every control plane.
type contract struct {
	name   string
	run    func(*scene)
	unable map[string]string // tiers that cannot be asked, and why
}

const (
	noTLS      = "it has neither TLS nor authentication"
	noCA       = "it has no CA"
	endsStream = "a type that it does not know ends the stream, because it serves those only to the root namespace: a sidecar must not ask"
	refuses    = "it refuses the file and "
	noECDS     = "it serves agent policies as a type of their own and not by ECDS"
)

// table is what holds of which control plane.
func table() []contract {
	noAuth := map[string]string{fake: noTLS}
	stockOnly := map[string]string{ours: noECDS}
	return []contract{
		{"wildcard", wildcard, nil},
		{"live change", liveChange, nil},
		{"removal", removal, nil},
		{"on demand", onDemand, nil},
		{"negative answers", negativeAnswers, nil},
		{"aliases only on demand", aliases, nil},
		{"new pods of a service on demand", newEndpoints, nil},
		{"unsubscribe", unsubscribe, nil},
		{"reconnect with versions", reconnect, nil},
		{"reconnect on demand", reconnectOnDemand, nil},
		{"rejection names the resource and the rest applies", rejection, nil},
		{"a type it does not serve leaves the stream alone", foreignType, map[string]string{fake: endsStream, real: endsStream}},
		{"authentication of streams", authentication, noAuth},
		{"authentication of names", serverName, noAuth},
		{"certificate requests", certificateRequests, map[string]string{fake: noCA}},
		{"the sidecar's own identity client", identityClient, map[string]string{fake: noCA}},
		{"ECDS", extensionConfigs, stockOnly},
		{"ECDS of two filters with one name", repeatedExtensionConfigs, stockOnly},
		{"authorization policies", authorizationPolicies, nil},
		{"an ALLOW on what only requests show fails closed", failsClosed, nil},
		{"a policy on trial", dryRun, nil},
		{"a DENY on what only requests show denies nothing", deniesNothing, map[string]string{ours: refuses + "says that it would deny nothing"}},
		{"STRICT", strict, nil},
		{"STRICT by port", strictByPort, map[string]string{ours: refuses + "names what to write instead"}},
		{"3,000 pods", manyPods, nil},
	}
}

func TestContract(t *testing.T) {
	tiers := []tier{newOurTier(t), fakeTier{istiod.StartFake(t, istiod.DryRun)}, realTier{istiod.Start(t, istiod.Config{Environment: []string{istiod.DryRun}})}}
	for i, c := range table() {
		t.Run(c.name, func(t *testing.T) {
			for _, tier := range tiers {
				t.Run(tier.name(), func(t *testing.T) { play(t, c, tier, i) })
			}
		})
	}
}

// play runs one contract in one tier.
func play(t *testing.T, c contract, tier tier, number int) {
	if why, ok := c.unable[tier.name()]; ok {
		t.Logf("%s cannot be asked: %s", tier.name(), why)
		return
	}
	s := &scene{T: t, tier: tier, namespace: fmt.Sprintf("case-%d", number), number: byte(100 + number)}
	s.apply(istiod.Namespace(s.namespace))
	began := time.Now()
	c.run(s)
	t.Logf("%s: %v", tier.name(), time.Since(began).Round(time.Millisecond))
}

func TestTableSaysWhyATierIsLeftOut(t *testing.T) {
	for _, c := range table() {
		if len(c.unable) == 3 {
			t.Errorf("%s runs nowhere", c.name)
		}
		for tier, why := range c.unable {
			if !strings.Contains(ours+fake+real, tier) || why == "" {
				t.Errorf("%s leaves out %q because of %q", c.name, tier, why)
			}
		}
	}
}
