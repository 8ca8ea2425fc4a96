package store

import (
	"cmp"
	"net/netip"
	"slices"
	"strings"

	"github.com/outrigger-mesh/outrigger/pkg/mesh"
	"github.com/outrigger-mesh/outrigger/pkg/pace"
	"github.com/outrigger-mesh/outrigger/pkg/policy"
)

// A builder makes the next snapshot out of the last one. Whatever it puts into a
// list is ordered by content alone, so that the same resources give the same
// answers in whatever order they arrived.
type builder struct {
	*Snapshot
	edit *edit
	pace *pace.Pace
}

func newBuilder(last *Snapshot, p *pace.Pace) *builder {
	next := *last
	next.version++
	return &builder{Snapshot: &next, edit: new(edit), pace: p}
}

func (b *builder) apply(c Change) {
	b.pace.Begin()
	for uid, w := range c.Workloads {
		b.workload(uid, w)
		b.giveWay()
	}
	for name, svc := range c.Services {
		b.service(name, svc)
		b.giveWay()
	}
	changed := false
	for name, a := range c.Authorizations {
		old, was := b.authorizations.get(name)
		if replace(b.edit, &b.authorizations, name, a) {
			changed = concern(&b.concerned.authorizations, was && b.concerns(old), old, a != nil && b.concerns(a), a) || changed
		}
	}
	for name, p := range c.AgentPolicies {
		old, was := b.agents.get(name)
		if replace(b.edit, &b.agents, name, p) {
			changed = concern(&b.concerned.agents, was && old.Concerns(&b.config.Self), old, p != nil && p.Concerns(&b.config.Self), p) || changed
		}
	}
	for _, kind := range c.Synced {
		if !b.hasSynced(kind) {
			b.synced = append(slices.Clone(b.synced), kind)
			changed = true
		}
	}
	if self := b.findSelf(); self != b.Snapshot.self {
		b.Snapshot.self, changed = self, true
		b.concerned.authorizations = b.gather()
	}
	if changed {
		b.compile()
	}
}

// giveWay lets the data path have its turn. While nothing is allowed yet, there is none.
func (b *builder) giveWay() {
	if b.policies != nil {
		b.pace.Step()
	}
}

// concerned are the policies that can matter to the workload that is served. The
// others, which are most of the mesh's, cost nothing when they change.
type concerned struct {
	authorizations []*policy.Authorization
	agents         []*policy.Agent
}

func (b *builder) concerns(a *policy.Authorization) bool {
	return a.Concerns(&b.config.Self, b.Snapshot.self)
}

// gather finds the authorizations that concern the workload that is served now.
func (b *builder) gather() (all []*policy.Authorization) {
	for _, a := range b.authorizations.all() {
		if b.concerns(a) {
			all = append(all, a)
		}
	}
	return all
}

// concern replaces a policy in the list of those that matter, if it was or is one.
func concern[P comparable](list *[]P, was bool, old P, is bool, p P) (changed bool) {
	if !was && !is {
		return false
	}
	next := slices.DeleteFunc(slices.Clone(*list), func(other P) bool { return was && other == old })
	if is {
		next = append(next, p)
	}
	*list = next
	return true
}

func replace[V any](e *edit, x *index[string, *V], name string, v *V) (changed bool) {
	if old, _ := x.get(name); old == v {
		return false
	}
	if v == nil {
		x.remove(e, name)
	} else {
		x.put(e, name, v)
	}
	return true
}

// compile makes the policies of the workload that is served.
func (b *builder) compile() {
	last := b.policies
	b.policies = nil
	if len(b.Pending()) == 0 {
		b.policies = policy.New(&b.config.Self, b.Snapshot.self, b.concerned.authorizations, b.concerned.agents)
	}
	if b.policies != last {
		b.policyVersion = b.version
	}
}

func (b *builder) workload(uid string, w *mesh.Workload) {
	old, _ := b.workloads.get(uid)
	if old == w {
		return
	}
	if old != nil {
		b.retractAddresses(old, w)
		for name := range old.Services {
			if w == nil || !serves(w, name) {
				b.leave(name, uid)
			}
		}
	}
	if w == nil {
		b.workloads.remove(b.edit, uid)
		b.rename(uid, false)
		return
	}
	b.workloads.put(b.edit, uid, w)
	b.rename(uid, b.config.names(w))
	b.claimAddresses(w, old)
	for name := range w.Services {
		b.group(name).members.put(b.edit, uid, w)
	}
}

func serves(w *mesh.Workload, name mesh.Name) bool {
	_, ok := w.Services[name]
	return ok
}

// claimAddresses claims what w has. Where old, which w replaces, has the same
// address, it takes old's claim over.
func (b *builder) claimAddresses(w, old *mesh.Workload) {
	if w.HostNetwork {
		return // the address is the host's, which many share
	}
	for _, a := range w.Addresses {
		key := addressKey(mesh.NetworkAddress{Network: w.Network, Address: a})
		if claims(old, w.Network, a) {
			exchange(b.edit, &b.addresses, key, old, w, compareWorkloads)
		} else {
			claim(b.edit, &b.addresses, key, w, compareWorkloads)
		}
	}
}

// retractAddresses gives up what w has and next, which replaces it, has not.
func (b *builder) retractAddresses(w, next *mesh.Workload) {
	if w.HostNetwork {
		return
	}
	for _, a := range w.Addresses {
		if !claims(next, w.Network, a) {
			retract(b.edit, &b.addresses, addressKey(mesh.NetworkAddress{Network: w.Network, Address: a}), w, compareWorkloads)
		}
	}
}

// claims tells whether an address of a network leads to w, which may be nil.
func claims(w *mesh.Workload, network string, a netip.Addr) bool {
	return w != nil && !w.HostNetwork && w.Network == network && slices.Contains(w.Addresses, a)
}

// compareWorkloads orders those that claim one address.
func compareWorkloads(a, b *mesh.Workload) int {
	return cmp.Or(cmp.Compare(rank(b), rank(a)), strings.Compare(a.UID, b.UID))
}

func rank(w *mesh.Workload) (r int) {
	if strings.Contains(w.UID, "//Pod/") { // cluster//Pod/namespace/name
		r += 2
	}
	if w.Tunnel == mesh.TunnelHBONE {
		r++
	}
	return r
}

func (b *builder) service(name mesh.Name, svc *mesh.Service) {
	old := b.Service(name)
	if old == svc {
		return
	}
	if old != nil {
		retract(b.edit, &b.hostnames, old.Hostname, old, compareServices)
		for _, v := range old.VIPs {
			b.retractVIP(v, old)
		}
	}
	g := b.group(name)
	g.service = svc
	if svc == nil {
		b.tidy(name, g)
		return
	}
	claim(b.edit, &b.hostnames, svc.Hostname, svc, compareServices)
	for _, v := range svc.VIPs {
		b.claimVIP(v, svc)
	}
}

func (b *builder) claimVIP(v mesh.VIP, svc *mesh.Service) {
	key, ok := prefixKey(v)
	if ok && claim(b.edit, &b.vips, key, svc, compareServices) && key.bits < exact {
		ranges := *b.ranges
		ranges[key.bits]++
		b.ranges = &ranges
	}
}

func (b *builder) retractVIP(v mesh.VIP, svc *mesh.Service) {
	key, ok := prefixKey(v)
	if ok && retract(b.edit, &b.vips, key, svc, compareServices) && key.bits < exact {
		ranges := *b.ranges
		ranges[key.bits]--
		b.ranges = &ranges
	}
}

// compareServices orders those that claim one hostname or VIP.
func compareServices(a, b *mesh.Service) int {
	if a.Canonical != b.Canonical {
		if a.Canonical {
			return -1
		}
		return 1
	}
	return cmp.Or(strings.Compare(a.Namespace, b.Namespace), strings.Compare(a.Hostname, b.Hostname))
}

// group is the group of name, for changing.
func (b *builder) group(name mesh.Name) *group {
	old, ok := b.services.get(name)
	if ok && old.edit == b.edit {
		return old
	}
	g := &group{edit: b.edit, members: newIndex[string, *mesh.Workload](hashString)}
	if ok {
		g.service, g.members = old.service, old.members
	}
	b.services.put(b.edit, name, g)
	return g
}

func (b *builder) leave(name mesh.Name, uid string) {
	g := b.group(name)
	g.members.remove(b.edit, uid)
	b.tidy(name, g)
}

func (b *builder) tidy(name mesh.Name, g *group) {
	if g.service == nil && g.members.size == 0 {
		b.services.remove(b.edit, name)
	}
}
