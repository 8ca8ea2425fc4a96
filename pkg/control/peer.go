package control

import (
	"fmt"
	"slices"
	"strings"

	"google.golang.org/protobuf/types/known/emptypb"

	"github.com/outrigger-mesh/outrigger/pkg/manifest"
	securitypb "github.com/outrigger-mesh/outrigger/proto/istio/security"
)

// A peerAuthentication is the part of Istio's PeerAuthentication that we serve.
type peerAuthentication struct {
	name     string
	selector map[string]string
	mode     string // STRICT, PERMISSIVE, DISABLE, UNSET
}

func (r *reader) peerAuthentication(d *manifest.Document, e *envelope) (*object, error) {
	var s struct {
		Selector *labelSelector `json:"selector"`
		MTLS     struct {
			Mode string `json:"mode"`
		} `json:"mtls"`
		PortLevelMTLS map[string]any `json:"portLevelMtls"`
	}
	if body, ok := d.Child("spec"); ok {
		if err := body.Decode(&s); err != nil {
			return nil, err
		}
	}
	if s.PortLevelMTLS != nil {
		return nil, d.Fault("portLevelMtls is not served", "write an Authorization with destinationPorts", "spec", "portLevelMtls")
	}
	setDefault(&s.MTLS.Mode, "UNSET")
	modes := []string{"STRICT", "PERMISSIVE", "DISABLE", "UNSET"}
	if !slices.Contains(modes, s.MTLS.Mode) {
		return nil, d.Fault(fmt.Sprintf("mode %q is not known", s.MTLS.Mode), "known are "+strings.Join(modes, ", "), "spec", "mtls", "mode")
	}
	p := &peerAuthentication{name: e.Metadata.Name, mode: s.MTLS.Mode}
	if s.Selector != nil {
		p.selector = s.Selector.MatchLabels
	}
	return &object{typeURL: "PeerAuthentication", key: e.Metadata.Namespace + "/" + e.Metadata.Name, peer: p}, nil
}

// strictName is what istiod calls the policy that STRICT becomes.
const strictName = "istio_converted_static_strict"

// strictAuthorization denies whoever has proved no identity.
func strictAuthorization(rootNamespace string) *securitypb.Authorization {
	nobody := &securitypb.StringMatch{MatchType: &securitypb.StringMatch_Presence{Presence: &emptypb.Empty{}}}
	return &securitypb.Authorization{
		Name: strictName, Namespace: rootNamespace, Scope: securitypb.Scope_WORKLOAD_SELECTOR, Action: securitypb.Action_DENY,
		Groups: []*securitypb.Group{{Rules: []*securitypb.Rules{{Matches: []*securitypb.Match{{NotPrincipals: []*securitypb.StringMatch{nobody}}}}}}},
	}
}
