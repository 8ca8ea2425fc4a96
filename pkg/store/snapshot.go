package store

import (
	"iter"

	"github.com/outrigger-mesh/outrigger/pkg/mesh"
	"github.com/outrigger-mesh/outrigger/pkg/policy"
)

// A Snapshot is the configuration at one instant. It never changes, any number
// of goroutines may read it, and what it returns belongs to it: callers must
// not change it.
type Snapshot struct {
	version uint64
	config  *Config

	workloads index[string, *mesh.Workload]     // by UID
	addresses index[rangeKey, []*mesh.Workload] // best claim first
	services  index[mesh.Name, *group]
	hostnames index[string, []*mesh.Service]   // in order of rank
	vips      index[rangeKey, []*mesh.Service] // in order of rank
	ranges    *[exact]uint32                   // how many VIPs have each prefix length

	authorizations index[string, *policy.Authorization]
	agents         index[string, *policy.Agent]
	concerned      concerned // those of both that can matter to self

	named         []string // UIDs of the workloads that have Self's name, sorted
	synced        []string
	self          *mesh.Workload
	policies      *policy.Policies
	policyVersion uint64
}

// Version counts the changes applied; it only grows.
func (s *Snapshot) Version() uint64 { return s.version }

// PolicyVersion is the Version at which Policies last changed.
func (s *Snapshot) PolicyVersion() uint64 { return s.policyVersion }

// Self is the workload this sidecar serves, or nil if the mesh has not told of it yet.
func (s *Snapshot) Self() *mesh.Workload { return s.self }

// Workload finds a workload by its address, or nil. Of several with one address
// it is the one most likely to answer there: a pod in the mesh, a pod, a
// workload in the mesh, any. A workload on the network of its host is not found.
func (s *Snapshot) Workload(a mesh.NetworkAddress) *mesh.Workload {
	claims, _ := s.addresses.get(addressKey(a))
	if len(claims) == 0 {
		return nil
	}
	return claims[0]
}

// WorkloadByUID finds a workload by its UID, or nil.
func (s *Snapshot) WorkloadByUID(uid string) *mesh.Workload {
	w, _ := s.workloads.get(uid)
	return w
}

// Service finds a service by name, or nil. Visibility is not looked at.
func (s *Snapshot) Service(n mesh.Name) *mesh.Service {
	g, ok := s.services.get(n)
	if !ok {
		return nil
	}
	return g.service
}

// ServiceByHostname finds the service a client in namespace means by hostname,
// or nil: one of its own namespace, else the canonical one, else the first by namespace.
func (s *Snapshot) ServiceByHostname(hostname, namespace string) *mesh.Service {
	claims, _ := s.hostnames.get(hostname)
	best, _ := choose(claims, namespace)
	return best
}

// ServiceByAddress finds the best service for a VIP as seen from namespace, or
// nil. A VIP that is the address goes before any range that holds it. Of
// several with the address: one of the namespace, the canonical one, the first.
// Of several ranges: one of the namespace, then the longest, then as before.
func (s *Snapshot) ServiceByAddress(a mesh.NetworkAddress, namespace string) *mesh.Service {
	key := addressKey(a)
	claims, _ := s.vips.get(key)
	best, _ := choose(claims, namespace)
	if best != nil {
		return best
	}
	shortest := 0
	if a.Address.Unmap().Is4() {
		shortest = 96
	}
	for bits := exact - 1; bits >= shortest; bits-- {
		if s.ranges[bits] == 0 {
			continue
		}
		claims, _ := s.vips.get(key.within(bits))
		svc, own := choose(claims, namespace)
		if own {
			return svc
		}
		if best == nil {
			best = svc
		}
	}
	return best
}

// choose picks the claim that a client in namespace gets, and tells whether it
// is the namespace's own. claims are in order of rank.
func choose(claims []*mesh.Service, namespace string) (best *mesh.Service, own bool) {
	for _, svc := range claims {
		if svc.Namespace == namespace {
			return svc, true
		}
		if best == nil && !svc.NamespaceOnly {
			best = svc
		}
	}
	return best, false
}

// Endpoints are the places of a service's workloads for one of its ports: those
// that map the port, that can be reached at all, and that are healthy or whose
// service does not mind. The slice is shared.
func (s *Snapshot) Endpoints(n mesh.Name, port uint16) []mesh.Endpoint {
	g, ok := s.services.get(n)
	if !ok || g.service == nil {
		return nil
	}
	return g.endpoints(port)
}

// Policies are those that apply to the workload this sidecar serves. It is nil,
// which denies everything, while anything is Pending.
func (s *Snapshot) Policies() *policy.Policies { return s.policies }

// Authorization finds an authorization by "namespace/name", or nil.
func (s *Snapshot) Authorization(name string) *policy.Authorization {
	a, _ := s.authorizations.get(name)
	return a
}

// AgentPolicy finds an agent policy by "namespace/name", or nil.
func (s *Snapshot) AgentPolicy(name string) *policy.Agent {
	p, _ := s.agents.get(name)
	return p
}

// Pending names what must arrive before anything is allowed: the expected kinds
// that have never been delivered, and PendingSelf with what was looked for.
func (s *Snapshot) Pending() []string {
	var pending []string
	for _, kind := range s.config.Expect {
		if !s.hasSynced(kind) {
			pending = append(pending, kind)
		} else if kind == KindWorkloads && s.self == nil {
			pending = append(pending, s.config.missing())
		}
	}
	return pending
}

// Counts is how much a snapshot holds.
type Counts struct {
	Workloads, Services, Authorizations, AgentPolicies int
	Staged                                             int // services known only by their endpoints
}

// Counts is how much the snapshot holds. It walks the services.
func (s *Snapshot) Counts() Counts {
	c := Counts{Workloads: s.workloads.size, Authorizations: s.authorizations.size, AgentPolicies: s.agents.size}
	for _, g := range s.services.all() {
		if g.service == nil {
			c.Staged++
		} else {
			c.Services++
		}
	}
	return c
}

// Workloads are all workloads, in no order.
func (s *Snapshot) Workloads() iter.Seq[*mesh.Workload] {
	return func(yield func(*mesh.Workload) bool) {
		s.workloads.root.walk(func(_ string, w *mesh.Workload) bool { return yield(w) })
	}
}

// Services are all services, in no order.
func (s *Snapshot) Services() iter.Seq[*mesh.Service] {
	return func(yield func(*mesh.Service) bool) {
		s.services.root.walk(func(_ mesh.Name, g *group) bool { return g.service == nil || yield(g.service) })
	}
}

// Members are the workloads that say they belong to a service, whether it has
// arrived or not, in no order.
func (s *Snapshot) Members(n mesh.Name) iter.Seq[*mesh.Workload] {
	return func(yield func(*mesh.Workload) bool) {
		if g, ok := s.services.get(n); ok {
			g.members.root.walk(func(_ string, w *mesh.Workload) bool { return yield(w) })
		}
	}
}

// Authorizations are all authorizations by "namespace/name", in no order.
func (s *Snapshot) Authorizations() iter.Seq2[string, *policy.Authorization] {
	return s.authorizations.all()
}

// AgentPolicies are all agent policies by "namespace/name", in no order.
func (s *Snapshot) AgentPolicies() iter.Seq2[string, *policy.Agent] { return s.agents.all() }
