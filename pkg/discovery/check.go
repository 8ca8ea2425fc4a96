package discovery

import (
	"fmt"

	"google.golang.org/protobuf/proto"

	"github.com/outrigger-mesh/outrigger/pkg/policy"
	securitypb "github.com/outrigger-mesh/outrigger/proto/istio/security"
	workloadpb "github.com/outrigger-mesh/outrigger/proto/istio/workload"
	policypb "github.com/outrigger-mesh/outrigger/proto/outrigger/policy/v1alpha1"
)

// Check says why a sidecar would reject m, as a join of policy.FieldErrors
// (policy.Problems takes it apart), or nil. m is an AgentPolicy, an
// Authorization, a Workload, a Service or an Address.
func Check(m proto.Message) error {
	switch m := m.(type) {
	case *policypb.AgentPolicy:
		_, err := policy.CompileAgent(agentSpec(m, ""))
		return err
	case *securitypb.Authorization:
		spec := authorizationSpec(m, "")
		c := &checker{}
		for _, part := range unknownParts(&spec) {
			c.add(part, "remove it, or upgrade to a version that knows it", "is unknown")
		}
		if _, err := policy.CompileAuthorization(spec); err != nil {
			c.faults = append(c.faults, err)
		}
		return c.err()
	case *workloadpb.Workload:
		return checkAddress(&workloadpb.Address{Type: &workloadpb.Address_Workload{Workload: m}})
	case *workloadpb.Service:
		return checkAddress(&workloadpb.Address{Type: &workloadpb.Address_Service{Service: m}})
	case *workloadpb.Address:
		return checkAddress(m)
	}
	return fmt.Errorf("check: %T is not a resource that a sidecar understands", m)
}

// checkAddress is stricter than a sidecar in one thing: what a person wrote and
// a sidecar would ignore is a mistake.
func checkAddress(m *workloadpb.Address) error {
	_, _, ignored, err := readAddress(m, defaultCluster, nil)
	if err != nil {
		return err
	}
	c := &checker{}
	for _, field := range ignored {
		c.add(field, "remove it, or upgrade to a version that knows it", "is unknown")
	}
	return c.err()
}
