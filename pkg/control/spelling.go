package control

import (
	"fmt"
	"net/netip"
	"strings"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/types/known/emptypb"

	"github.com/outrigger-mesh/outrigger/pkg/manifest"
	securitypb "github.com/outrigger-mesh/outrigger/proto/istio/security"
	workloadpb "github.com/outrigger-mesh/outrigger/proto/istio/workload"
)

// spelling is how people write what the protos keep as bytes and messages.
func spelling() manifest.ProtoOptions {
	return manifest.ProtoOptions{Bytes: readBytes, Shorthand: readShorthand}
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
		return namespacedHostname(text)
	case "istio.workload.GatewayAddress":
		return gatewayAddress(text)
	case "istio.security.Address":
		return addressRange(text)
	case "istio.security.StringMatch":
		return stringMatch(text), nil
	case "istio.security.ServiceAccountMatch":
		return serviceAccountMatch(text, "")
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

func namespacedHostname(text string) (*workloadpb.NamespacedHostname, error) {
	namespace, hostname, ok := strings.Cut(text, "/")
	if !ok || !isName(namespace) || !isHostname(hostname) {
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
	h, err := namespacedHostname(text)
	if err != nil {
		return nil, fmt.Errorf("%q is neither namespace/hostname nor an address", text)
	}
	g.Destination = &workloadpb.GatewayAddress_Hostname{Hostname: h}
	return g, nil
}

func addressRange(text string) (*securitypb.Address, error) {
	p, _, err := parseRange(text)
	if err != nil {
		return nil, fmt.Errorf("%q is not an address or a range; write it like 10.1.2.3 or 10.1.0.0/16", text)
	}
	return &securitypb.Address{Address: p.Addr().AsSlice(), Length: uint32(p.Bits())}, nil
}

// stringMatch reads Istio's notation: "*", "prefix*", "*suffix" or the text itself.
func stringMatch(text string) *securitypb.StringMatch {
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

// serviceAccountMatch reads "namespace/name", or "name" in namespace unless that is "".
func serviceAccountMatch(text, namespace string) (*securitypb.ServiceAccountMatch, error) {
	ns, name, ok := strings.Cut(text, "/")
	if !ok {
		ns, name = namespace, text
	}
	if !isName(ns) || !isSubdomain(name) {
		return nil, fmt.Errorf("%q is not a service account; write it as namespace/name", text)
	}
	return &securitypb.ServiceAccountMatch{Namespace: ns, ServiceAccount: name}, nil
}

// isName tells whether s is a DNS-1123 label: a Kubernetes namespace.
func isName(s string) bool {
	return len(s) <= 63 && !strings.Contains(s, ".") && isSubdomain(s)
}

// isSubdomain tells whether s is a DNS-1123 subdomain: most Kubernetes names.
func isSubdomain(s string) bool {
	if s == "" || len(s) > 253 {
		return false
	}
	for label := range strings.SplitSeq(s, ".") {
		if label == "" || label[0] == '-' || label[len(label)-1] == '-' {
			return false
		}
		for i := range len(label) {
			if c := label[i]; !(c >= 'a' && c <= 'z' || c >= '0' && c <= '9' || c == '-') {
				return false
			}
		}
	}
	return true
}

// isHostname takes what a service's hostname may be: also a wildcard's "*.".
func isHostname(s string) bool { return isSubdomain(strings.TrimPrefix(s, "*.")) }
