package control

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strings"

	discoveryv3 "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/anypb"

	"github.com/outrigger-mesh/outrigger/pkg/manifest"
	workloadpb "github.com/outrigger-mesh/outrigger/proto/istio/workload"
)

// A located object knows its file.
type located struct {
	file string
	*object
}

// A resource is what is served under one name. It never changes.
type resource struct {
	*discoveryv3.Resource
	aliases   []string // told to those who ask by name
	namespace string   // whose sidecars see it; "" means everybody's
	services  []string // keys of the services of a workload
}

// A table is the served state of one type. It never changes.
type table struct {
	resources map[string]*resource
	aliases   map[string][]string // names by alias
	endpoints map[string][]string // workloads by service key
}

func newTable() *table {
	return &table{map[string]*resource{}, map[string][]string{}, map[string][]string{}}
}

// build makes the served state of all objects. Of two that have the same name
// the one whose file sorts first is served; the other is an error.
func build(objects []located, rootNamespace string) (map[string]*table, []error) {
	tables := map[string]*table{AddressType: newTable(), AuthorizationType: newTable(), AgentPolicyType: newTable()}
	first := map[string]located{}
	var kept []located
	var problems []error
	for _, o := range objects {
		id := o.typeURL + " " + o.key
		if other, ok := first[id]; ok {
			problems = append(problems, &manifest.Error{File: o.file, Line: o.line, Column: 1,
				Problem: fmt.Sprintf("%s is already defined in %s:%d", o.key, other.file, other.line), Remedy: "keep one of them"})
			continue
		}
		first[id] = o
		kept = append(kept, o)
	}
	s := newSelectors(kept, rootNamespace)
	for _, o := range kept {
		if err := add(tables, o, s); err != nil {
			problems = append(problems, &manifest.Error{File: o.file, Line: o.line, Column: 1, Problem: err.Error()})
		}
	}
	if s.strictUsed {
		a := strictAuthorization(rootNamespace)
		if err := tables[AuthorizationType].add(AuthorizationType, rootNamespace+"/"+strictName, a, resource{}); err != nil {
			problems = append(problems, err)
		}
	}
	return tables, problems
}

func add(tables map[string]*table, o located, s *selectors) error {
	t := tables[o.typeURL]
	switch {
	case o.workload != nil:
		w := proto.CloneOf(o.workload)
		w.AuthorizationPolicies = append(w.AuthorizationPolicies, s.policies(w.Namespace, o.labels)...)
		slices.Sort(w.AuthorizationPolicies)
		w.AuthorizationPolicies = slices.Compact(w.AuthorizationPolicies)
		return t.add(o.typeURL, o.key, &workloadpb.Address{Type: &workloadpb.Address_Workload{Workload: w}},
			resource{aliases: workloadAliases(w), services: slices.Sorted(maps.Keys(w.Services))})
	case o.service != nil:
		return t.add(o.typeURL, o.key, &workloadpb.Address{Type: &workloadpb.Address_Service{Service: o.service}},
			resource{aliases: serviceAliases(o.service)})
	case o.authorization != nil:
		return t.add(o.typeURL, o.key, o.authorization, resource{namespace: o.namespace})
	case o.agent != nil:
		return t.add(o.typeURL, o.key, o.agent, resource{namespace: o.namespace})
	}
	return nil
}

func (t *table) add(typeURL, name string, m proto.Message, r resource) error {
	b, err := proto.MarshalOptions{Deterministic: true}.Marshal(m)
	if err != nil {
		return fmt.Errorf("encode %s: %w", name, err)
	}
	sum := sha256.Sum256(b)
	r.Resource = &discoveryv3.Resource{Name: name, Version: hex.EncodeToString(sum[:8]), Resource: &anypb.Any{TypeUrl: typeURL, Value: b}}
	t.resources[name] = &r
	for _, alias := range r.aliases {
		t.aliases[alias] = append(t.aliases[alias], name)
	}
	for _, service := range r.services {
		t.endpoints[service] = append(t.endpoints[service], name)
	}
	return nil
}

func workloadAliases(w *workloadpb.Workload) []string {
	var aliases []string
	for _, b := range w.Addresses {
		if a, ok := netip.AddrFromSlice(b); ok {
			aliases = append(aliases, w.Network+"/"+a.String())
		}
	}
	return aliases
}

func serviceAliases(s *workloadpb.Service) []string {
	var aliases []string
	for _, n := range s.Addresses {
		if a, ok := netip.AddrFromSlice(n.Address); ok {
			aliases = append(aliases, n.Network+"/"+a.String())
		}
	}
	return aliases
}

// selectors knows which policies a workload must list.
type selectors struct {
	root       string
	selecting  []located // authorizations with a selector
	peers      []located // in the order of their names
	strictUsed bool
}

func newSelectors(objects []located, rootNamespace string) *selectors {
	s := &selectors{root: rootNamespace}
	for _, o := range objects {
		if o.authorization != nil && o.selector != nil {
			s.selecting = append(s.selecting, o)
		}
		if o.peer != nil {
			s.peers = append(s.peers, o)
		}
	}
	slices.SortFunc(s.peers, func(a, b located) int { return strings.Compare(a.key, b.key) })
	return s
}

func (s *selectors) policies(namespace string, labels map[string]string) []string {
	var names []string
	for _, o := range s.selecting {
		if (o.namespace == namespace || o.namespace == s.root) && selects(o.selector, labels) {
			names = append(names, o.key)
		}
	}
	if s.mode(namespace, labels) == "STRICT" {
		s.strictUsed = true
		names = append(names, s.root+"/"+strictName)
	}
	return names
}

// mode is the narrowest PeerAuthentication's that says something: that of the
// workload, the namespace, the mesh.
func (s *selectors) mode(namespace string, labels map[string]string) string {
	var byRank [3]string
	for _, o := range s.peers {
		rank := -1
		switch {
		case len(o.peer.selector) > 0 && o.namespace == namespace && selects(o.peer.selector, labels):
			rank = 0
		case len(o.peer.selector) > 0:
		case o.namespace == namespace && namespace != s.root:
			rank = 1
		case o.namespace == s.root:
			rank = 2
		}
		if rank >= 0 && o.peer.mode != "UNSET" && byRank[rank] == "" {
			byRank[rank] = o.peer.mode
		}
	}
	for _, mode := range byRank {
		if mode != "" {
			return mode
		}
	}
	return "PERMISSIVE"
}

func selects(selector, labels map[string]string) bool {
	for k, v := range selector {
		if have, ok := labels[k]; !ok || have != v {
			return false
		}
	}
	return true
}
