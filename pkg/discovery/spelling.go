package discovery

import (
	"fmt"
	"net/netip"
	"strings"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/types/known/emptypb"

	"github.com/outrigger-mesh/outrigger/pkg/manifest"
	"github.com/outrigger-mesh/outrigger/pkg/policy"
	securitypb "github.com/outrigger-mesh/outrigger/proto/istio/security"
	workloadpb "github.com/outrigger-mesh/outrigger/proto/istio/workload"
)

// Spelling is how people write what the protos keep as bytes and messages. Files that
// a sidecar reads and those that a control plane serves are written alike.
func Spelling() manifest.ProtoOptions {
	return manifest.ProtoOptions{Bytes: readBytes, Shorthand: readShorthand, Filled: isFilled}
}

// isFilled tells of a list of an agent policy whether it must have entries where it is
// written: an empty one looks like "nothing" and would mean "whatever".
func isFilled(field protoreflect.FullName) bool {
	name, ours := strings.CutPrefix(string(field), "outrigger.policy.v1alpha1.")
	return ours && name != "AgentPolicySpec.rules" && name != "AgentPolicySpec.ports" // these allow nothing, and govern nothing
}

// readBytes reads an IP address: the served messages have no other bytes.
func readBytes(_ protoreflect.FullName, text string) ([]byte, error) {
	a, err := netip.ParseAddr(text)
	if err != nil || a.Zone() != "" {
		return nil, fmt.Errorf("%q is not an IP address; write it like 10.1.2.3 or fd00::1", text)
	}
	return a.Unmap().AsSlice(), nil
}

func readShorthand(message protoreflect.FullName, text string) (proto.Message, error) {
	switch message {
	case "istio.workload.NetworkAddress":
		return networkAddress(text)
	case "istio.workload.NamespacedHostname":
		return NamespacedHostname(text)
	case "istio.workload.GatewayAddress":
		return gatewayAddress(text)
	case "istio.security.Address":
		return AddressRange(text)
	case "istio.security.StringMatch":
		return StringMatch(text), nil
	case "istio.security.ServiceAccountMatch":
		return ServiceAccountMatch(text, "")
	}
	return nil, nil
}

// networkAddress reads "ip", "ip/bits", "network/ip" or "network/ip/bits".
func networkAddress(text string) (*workloadpb.NetworkAddress, error) {
	network, rest := "", text
	p, bits, err := parseRange(rest)
	if err != nil {
		var ok bool
		if network, rest, ok = strings.Cut(text, "/"); ok {
			p, bits, err = parseRange(rest)
		}
	}
	if err != nil {
		return nil, fmt.Errorf("%q is not an address; write it like 10.1.2.3, 10.1.0.0/16 or network-1/10.1.2.3", text)
	}
	a := &workloadpb.NetworkAddress{Network: network, Address: p.Addr().AsSlice()}
	if bits {
		a.Length = proto.Uint32(uint32(p.Bits()))
	}
	return a, nil
}

// parseRange reads "ip" or "ip/bits" and tells whether there were bits.
func parseRange(text string) (p netip.Prefix, bits bool, err error) {
	if a, err := netip.ParseAddr(text); err == nil && a.Zone() == "" {
		a = a.Unmap()
		return netip.PrefixFrom(a, a.BitLen()), false, nil
	}
	p, err = netip.ParsePrefix(text)
	if err == nil && p.Addr().Is4In6() {
		err = fmt.Errorf("%q mixes IPv4 and IPv6", text)
	}
	return p.Masked(), true, err
}

// NamespacedHostname reads "namespace/hostname".
func NamespacedHostname(text string) (*workloadpb.NamespacedHostname, error) {
	namespace, hostname, ok := strings.Cut(text, "/")
	if !ok || !policy.IsDNSLabel(namespace) || !IsHostname(hostname) {
		return nil, fmt.Errorf("%q is not namespace/hostname", text)
	}
	return &workloadpb.NamespacedHostname{Namespace: namespace, Hostname: hostname}, nil
}

// gatewayAddress reads "namespace/hostname", "ip" or "network/ip"; the port is the mesh's.
func gatewayAddress(text string) (*workloadpb.GatewayAddress, error) {
	g := &workloadpb.GatewayAddress{HboneMtlsPort: 15008}
	if a, err := networkAddress(text); err == nil && a.Length == nil {
		g.Destination = &workloadpb.GatewayAddress_Address{Address: a}
		return g, nil
	}
	h, err := NamespacedHostname(text)
	if err != nil {
		return nil, fmt.Errorf("%q is neither namespace/hostname nor an address", text)
	}
	g.Destination = &workloadpb.GatewayAddress_Hostname{Hostname: h}
	return g, nil
}

// AddressRange reads "ip" or "ip/bits".
func AddressRange(text string) (*securitypb.Address, error) {
	p, _, err := parseRange(text)
	if err != nil {
		return nil, fmt.Errorf("%q is not an address or a range; write it like 10.1.2.3 or 10.1.0.0/16", text)
	}
	return &securitypb.Address{Address: p.Addr().AsSlice(), Length: uint32(p.Bits())}, nil
}

// StringMatch reads Istio's notation: "*", "prefix*", "*suffix" or the text itself.
func StringMatch(text string) *securitypb.StringMatch {
	if text == "*" {
		return &securitypb.StringMatch{MatchType: &securitypb.StringMatch_Presence{Presence: &emptypb.Empty{}}}
	}
	if prefix, ok := strings.CutSuffix(text, "*"); ok {
		return &securitypb.StringMatch{MatchType: &securitypb.StringMatch_Prefix{Prefix: prefix}}
	}
	if suffix, ok := strings.CutPrefix(text, "*"); ok {
		return &securitypb.StringMatch{MatchType: &securitypb.StringMatch_Suffix{Suffix: suffix}}
	}
	return &securitypb.StringMatch{MatchType: &securitypb.StringMatch_Exact{Exact: text}}
}

// ServiceAccountMatch reads "namespace/name", or "name" in namespace unless that is "".
func ServiceAccountMatch(text, namespace string) (*securitypb.ServiceAccountMatch, error) {
	ns, name, ok := strings.Cut(text, "/")
	if !ok {
		ns, name = namespace, text
	}
	if !policy.IsDNSLabel(ns) || !policy.IsDNSSubdomain(name) {
		return nil, fmt.Errorf("%q is not a service account; write it as namespace/name", text)
	}
	return &securitypb.ServiceAccountMatch{Namespace: ns, ServiceAccount: name}, nil
}

// IsHostname takes what a service's hostname may be: also a wildcard's "*.".
func IsHostname(s string) bool { return policy.IsDNSSubdomain(strings.TrimPrefix(s, "*.")) }
