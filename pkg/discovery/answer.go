package discovery

import (
	"github.com/outrigger-mesh/outrigger/pkg/mesh"
	"github.com/outrigger-mesh/outrigger/pkg/xds"
)

// answered is called with every response about workloads and services, when it
// has been applied. The batch holds the changes, and the snapshot before them.
func (m *Demand) answered(b *batch, updated []xds.Resource, removed []string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	wrong := map[string]error{}
	for _, r := range b.rejections {
		wrong[r.Name] = r.Err
	}
	for _, r := range updated {
		err := wrong[r.Name]
		m.close(m.names[r.Name], err)
		for _, alias := range r.Aliases {
			m.close(m.names[alias], err)
		}
	}
	for uid, w := range b.Workloads {
		if w != nil { // who fills no aliases is understood as well
			for _, a := range w.Addresses {
				m.close(m.entries[mesh.Reference{Address: mesh.NetworkAddress{Network: w.Network, Address: a}}], nil)
			}
		}
		if last := b.snap.WorkloadByUID(uid); last != nil && (w == nil || w.Unhealthy && !last.Unhealthy) {
			for name := range last.Services {
				m.stale[name] = true
			}
		}
	}
	for name, svc := range b.Services {
		if svc == nil {
			continue
		}
		m.close(m.entries[mesh.Reference{Service: name}], nil)
		for _, v := range svc.VIPs {
			m.close(m.entries[mesh.Reference{Address: mesh.NetworkAddress{Network: v.Network, Address: v.Prefix.Addr()}}], nil)
		}
	}
	if m.store.Snapshot().Self() != b.snap.Self() {
		select {
		case m.wake <- struct{}{}:
		default: // it is awake already
		}
	}
	for _, name := range removed {
		if e := m.names[name]; e != nil {
			e.absent = max(m.Absent, min(2*e.absent, longestAbsent))
			m.closeAsIs(e, nil)
		}
	}
}

// close ends the wait for an answer: there is such a thing, or err.
func (m *Demand) close(e *entry, err error) {
	if e != nil {
		e.absent = 0
		m.closeAsIs(e, err)
	}
}

func (m *Demand) closeAsIs(e *entry, err error) {
	e.err = err
	if e.open {
		e.open = false
		close(e.answer)
	}
}
