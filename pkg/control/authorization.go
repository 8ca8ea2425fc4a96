package control

import (
	"errors"
	"fmt"
	"strconv"

	"github.com/outrigger-mesh/outrigger/pkg/discovery"
	"github.com/outrigger-mesh/outrigger/pkg/manifest"
	securitypb "github.com/outrigger-mesh/outrigger/proto/istio/security"
)

// An authorizationSpec is the spec of Istio's AuthorizationPolicy.
type authorizationSpec struct {
	Selector   *labelSelector   `json:"selector"`
	TargetRef  map[string]any   `json:"targetRef"`
	TargetRefs []map[string]any `json:"targetRefs"`
	Action     string           `json:"action"`
	Provider   map[string]any   `json:"provider"`
	Rules      []istioRule      `json:"rules"`
}

type labelSelector struct {
	MatchLabels map[string]string `json:"matchLabels"`
}

type istioRule struct {
	From []struct {
		Source istioSource `json:"source"`
	} `json:"from"`
	To []struct {
		Operation istioOperation `json:"operation"`
	} `json:"to"`
	When []istioCondition `json:"when"`
}

type istioSource struct {
	Principals           []string `json:"principals"`
	NotPrincipals        []string `json:"notPrincipals"`
	RequestPrincipals    []string `json:"requestPrincipals"`
	NotRequestPrincipals []string `json:"notRequestPrincipals"`
	Namespaces           []string `json:"namespaces"`
	NotNamespaces        []string `json:"notNamespaces"`
	ServiceAccounts      []string `json:"serviceAccounts"`
	NotServiceAccounts   []string `json:"notServiceAccounts"`
	IPBlocks             []string `json:"ipBlocks"`
	NotIPBlocks          []string `json:"notIpBlocks"`
	RemoteIPBlocks       []string `json:"remoteIpBlocks"`
	NotRemoteIPBlocks    []string `json:"notRemoteIpBlocks"`
}

type istioOperation struct {
	Hosts      []string `json:"hosts"`
	NotHosts   []string `json:"notHosts"`
	Ports      []string `json:"ports"`
	NotPorts   []string `json:"notPorts"`
	Methods    []string `json:"methods"`
	NotMethods []string `json:"notMethods"`
	Paths      []string `json:"paths"`
	NotPaths   []string `json:"notPaths"`
}

type istioCondition struct {
	Key       string   `json:"key"`
	Values    []string `json:"values"`
	NotValues []string `json:"notValues"`
}

// authorizationPolicy converts Istio's policy as istiod does for ztunnel: one
// group per rule, one clause each for from, to and every condition.
func (r *reader) authorizationPolicy(d *manifest.Document, e *envelope) (*object, error) {
	var s authorizationSpec
	if body, ok := d.Child("spec"); ok { // without one it allows nothing
		if err := body.Decode(&s); err != nil {
			return nil, err
		}
	}
	if s.TargetRef != nil || s.TargetRefs != nil {
		return nil, d.Fault("targetRefs address a waypoint, and there is none here", "use selector", "spec", "targetRefs")
	}
	a := &securitypb.Authorization{Name: e.Metadata.Name, Namespace: e.Metadata.Namespace, Scope: securitypb.Scope_NAMESPACE,
		DryRun: e.Metadata.Annotations["istio.io/dry-run"] == "true"}
	switch s.Action {
	case "", "ALLOW":
	case "DENY":
		a.Action = securitypb.Action_DENY
	default:
		return nil, d.Fault(fmt.Sprintf("action %q cannot be enforced on connections", s.Action), "known are ALLOW and DENY", "spec", "action")
	}
	o := &object{typeURL: AuthorizationType, key: a.Namespace + "/" + a.Name, authorization: a}
	switch {
	case s.Selector != nil && len(s.Selector.MatchLabels) > 0:
		a.Scope, o.selector = securitypb.Scope_WORKLOAD_SELECTOR, s.Selector.MatchLabels
	case a.Namespace == r.config.RootNamespace:
		a.Scope = securitypb.Scope_GLOBAL
	}
	var faults []error
	for i := range s.Rules {
		c := &converter{d: d, namespace: a.Namespace, deny: a.Action == securitypb.Action_DENY, path: []string{"spec", "rules", strconv.Itoa(i)}}
		group := c.rule(&s.Rules[i])
		faults = append(faults, c.faults...)
		if group != nil {
			a.Groups = append(a.Groups, group)
		}
	}
	if len(faults) > 0 {
		return nil, errors.Join(faults...)
	}
	return o, discovery.CheckIn(d, a)
}
