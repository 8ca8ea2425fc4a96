package discovery

import (
	"cmp"
	"context"
	"slices"
	"time"

	"github.com/outrigger-mesh/outrigger/pkg/mesh"
	"github.com/outrigger-mesh/outrigger/pkg/store"
)

// Run asks again for what may have changed unsaid, and drops what is not used,
// until ctx ends. Nothing is dropped while the control plane is away.
func (m *Demand) Run(ctx context.Context) error {
	tick := time.NewTicker(demandTick)
	defer tick.Stop()
	for n := 1; ; n++ {
		status := m.Subscriber.Status()
		m.connected.Store(status.Connected)
		if status.Connected {
			m.refresh(time.Now())
			if n%sweepTicks == 0 && time.Since(status.Since) >= settled {
				m.sweep(time.Now())
			}
		}
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		case <-m.wake:
		}
	}
}

// refresh asks for our own workload and its services, and again for the
// services in use: soon for those that have lost a workload, now and then for others.
func (m *Demand) refresh(now time.Time) {
	snap := m.store.Snapshot()
	m.Want(m.keepOwn(snap)...)
	m.mu.Lock()
	defer m.mu.Unlock()
	var again []string
	stale := map[mesh.Name]bool{}
	for _, e := range m.entries {
		svc, there := m.find(snap, e.ref)
		if !there || svc == nil || m.waiting(e, now) {
			continue // it is told of as it changes, or asked for when it is needed
		}
		lost := m.stale[svc.Key()]
		switch {
		case e.used.Load() >= e.asked.UnixNano() && now.Sub(e.asked) >= m.pause(snap, svc, lost):
			e.asked = now
			again = append(again, e.name)
		case lost:
			stale[svc.Key()] = true
		}
	}
	m.stale = stale
	if len(again) == 0 {
		return
	}
	if err := m.Subscriber.Again(AddressType, again...); err != nil {
		m.discovery.log.Error("cannot ask the control plane again", "error", err)
	}
}

// waiting tells whether the answer may still come.
func (m *Demand) waiting(e *entry, now time.Time) bool { return e.open && now.Sub(e.asked) < m.Timeout }

// pause is how long a service in use is left alone.
func (m *Demand) pause(snap *store.Snapshot, svc *mesh.Service, lost bool) time.Duration {
	factor := 1 + time.Duration(members(snap, svc)/membersPerWait)
	if lost {
		return demandTick / 2 * factor
	}
	return m.Refresh * factor
}

func members(snap *store.Snapshot, svc *mesh.Service) (n int) {
	for range snap.Members(svc.Key()) {
		n++
	}
	return n
}

// keepOwn takes note of our own services, which are needed to know who asks for
// them by name, and answers what of our own is not known.
func (m *Demand) keepOwn(snap *store.Snapshot) (missing []mesh.Reference) {
	m.mu.Lock()
	defer m.mu.Unlock()
	self := snap.Self()
	for ref := range m.own {
		if ref.Service != (mesh.Name{}) {
			delete(m.own, ref)
		}
	}
	if self != nil {
		for name := range self.Services {
			m.own[mesh.Reference{Service: name}] = true
		}
	}
	for ref := range m.own {
		if _, there := m.find(snap, ref); !there || m.entries[ref] == nil {
			missing = append(missing, ref)
		}
	}
	return missing
}

// sweep drops the names that nobody has used for a while and then what no
// remaining name leads to.
func (m *Demand) sweep(now time.Time) {
	d := m.discovery
	d.mu.Lock()
	defer d.mu.Unlock()
	m.mu.Lock() // until all is done: who asks meanwhile must not rely on what goes
	defer m.mu.Unlock()
	var drop []string
	for ref, e := range m.entries {
		if !m.waiting(e, now) && !m.own[ref] && now.UnixNano()-e.used.Load() >= int64(m.Idle) {
			delete(m.entries, ref)
			delete(m.names, e.name)
			drop = append(drop, e.name)
		}
	}
	b := d.batch(AddressType)
	if gone := m.unreachable(b.snap); len(gone) > 0 {
		b.addresses(nil, gone)
		d.store.Apply(b.Change)
		drop = append(drop, gone...)
	}
	m.unsubscribe(drop)
}

func (m *Demand) unsubscribe(names []string) {
	if len(names) == 0 {
		return
	}
	if err := m.Subscriber.Unsubscribe(AddressType, names...); err != nil {
		m.discovery.log.Error("cannot unsubscribe", "error", err)
	}
}

// unreachable are the workloads and services that no name leads to and no file holds.
func (m *Demand) unreachable(snap *store.Snapshot) (gone []string) {
	workloads, services := map[*mesh.Workload]bool{}, map[*mesh.Service]bool{}
	keep := func(svc *mesh.Service) {
		if svc == nil || services[svc] {
			return
		}
		services[svc] = true
		for w := range snap.Members(svc.Key()) {
			workloads[w] = true
		}
	}
	for ref := range m.entries {
		if ref.Service != (mesh.Name{}) {
			keep(snap.Service(ref.Service))
			continue
		}
		workloads[snap.Workload(ref.Address)] = true
		keep(snap.ServiceByAddress(ref.Address, m.namespace))
	}
	workloads[snap.Self()] = true
	local := &m.discovery.local
	for w := range snap.Workloads() {
		if !workloads[w] && local.Workloads[w.UID] != w {
			gone = append(gone, w.UID)
		}
	}
	for svc := range snap.Services() {
		if !services[svc] && local.Services[svc.Key()] != svc {
			gone = append(gone, svc.Key().String())
		}
	}
	return gone
}

// makeRoom forgets a sixteenth of the names: first those that do not exist, then
// those that were not used for the longest time. What they led to goes with the
// next sweep.
func (m *Demand) makeRoom(now time.Time) {
	var all []*entry
	for ref, e := range m.entries {
		if !m.own[ref] && !m.waiting(e, now) {
			all = append(all, e)
		}
	}
	slices.SortFunc(all, func(a, b *entry) int {
		if (a.absent > 0) != (b.absent > 0) {
			return cmp.Compare(b.absent, a.absent)
		}
		return cmp.Compare(a.used.Load(), b.used.Load())
	})
	var names []string
	for _, e := range all[:min(len(all), max(1, m.Max/16))] {
		delete(m.entries, e.ref)
		delete(m.names, e.name)
		names = append(names, e.name)
	}
	m.unsubscribe(names)
}
