package discovery

import (
	"fmt"

	"github.com/go-json-experiment/json/jsontext"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"

	"github.com/outrigger-mesh/outrigger/pkg/policy"
	securitypb "github.com/outrigger-mesh/outrigger/proto/istio/security"
	policypb "github.com/outrigger-mesh/outrigger/proto/outrigger/policy/v1alpha1"
)

// sourceOf keeps a policy's message small, for dumps.
func sourceOf(m proto.Message) []byte {
	b, err := proto.MarshalOptions{Deterministic: true}.Marshal(m)
	if err != nil {
		return nil // text that is not UTF-8: what is wrong with it is told elsewhere
	}
	return b
}

// AgentSpec is what an agent policy says, as people write it under spec. It is
// nil if that is not known.
func AgentSpec(p *policy.Agent) (jsontext.Value, error) {
	m := &policypb.AgentPolicy{}
	return written(p.Source(), m, func() proto.Message { return m.GetSpec() })
}

// AuthorizationSpec is what an L4 authorization says, as people write it under
// spec. It is nil if that is not known.
func AuthorizationSpec(a *policy.Authorization) (jsontext.Value, error) {
	m := &securitypb.Authorization{}
	return written(a.Source(), m, func() proto.Message { return m })
}

func written(source []byte, m proto.Message, spec func() proto.Message) (jsontext.Value, error) {
	if source == nil {
		return nil, nil
	}
	if err := proto.Unmarshal(source, m); err != nil {
		return nil, fmt.Errorf("read a policy's source: %w", err)
	}
	text, err := protojson.Marshal(spec())
	return jsontext.Value(text), err
}
