// Package store holds the latest configuration as one immutable Snapshot:
// workloads, services and their endpoints under every key they are looked up
// by, and the policies of the workload that is served, compiled. It does not
// know where configuration comes from.
package store

import (
	"slices"
	"sync"
	"sync/atomic"

	"github.com/outrigger-mesh/outrigger/pkg/mesh"
	"github.com/outrigger-mesh/outrigger/pkg/pace"
	"github.com/outrigger-mesh/outrigger/pkg/policy"
)

// The kinds of resources, for Config.Expect and Change.Synced.
const (
	KindWorkloads      = "workloads" // and services: they are one kind
	KindAuthorizations = "authorizations"
	KindAgentPolicies  = "agent policies"
)

// PendingSelf is how Pending begins when workloads have been delivered and ours
// is not among them. Its authorizations are then not known.
const PendingSelf = "own workload"

// Config says for whom configuration is kept.
type Config struct {
	Self   mesh.Self
	Expect []string // kinds that must be Synced before anything is allowed
}

// A Change is applied whole, and is visible whole or not at all. A nil value
// removes. The store takes over what the change points to.
type Change struct {
	Workloads      map[string]*mesh.Workload        // by UID
	Services       map[mesh.Name]*mesh.Service      // by namespace/hostname
	Authorizations map[string]*policy.Authorization // by "namespace/name"
	AgentPolicies  map[string]*policy.Agent         // by "namespace/name"
	Synced         []string                         // resource kinds whose first complete state this change delivers
}

// A Store holds the latest Snapshot. Its methods may be called from any goroutine.
type Store struct {
	current  atomic.Pointer[Snapshot]
	watchers atomic.Pointer[[]*watcher]

	applying sync.Mutex // one Apply at a time, watchers included
	pace     pace.Pace  // guarded by applying
	watching sync.Mutex // one change of watchers at a time
}

type watcher struct {
	changed func(*Snapshot)
	stopped atomic.Bool
}

// New returns a store with an empty snapshot, in which everything is pending.
func New(c Config) *Store {
	c.Expect = slices.Clone(c.Expect)
	s := new(Store)
	b := newBuilder(&Snapshot{
		config:         &c,
		workloads:      newIndex[string, *mesh.Workload](hashString),
		addresses:      newIndex[rangeKey, []*mesh.Workload](hashRange),
		services:       newIndex[mesh.Name, *group](hashName),
		hostnames:      newIndex[string, []*mesh.Service](hashString),
		vips:           newIndex[rangeKey, []*mesh.Service](hashRange),
		authorizations: newIndex[string, *policy.Authorization](hashString),
		agents:         newIndex[string, *policy.Agent](hashString),
		ranges:         new([exact]uint32),
	}, &s.pace)
	b.version = 0
	b.compile()
	s.watchers.Store(new([]*watcher))
	s.current.Store(b.Snapshot)
	return s
}

// Snapshot is one pointer load.
func (s *Store) Snapshot() *Snapshot { return s.current.Load() }

// Apply makes a change visible, tells the watchers, and returns the snapshot
// that it made. What it costs depends on the change, not on what the store holds.
func (s *Store) Apply(c Change) *Snapshot {
	s.applying.Lock()
	defer s.applying.Unlock()
	b := newBuilder(s.current.Load(), &s.pace)
	b.apply(c)
	s.current.Store(b.Snapshot)
	// Watchers are read after the snapshot is visible: who begins to watch and
	// then looks misses nothing.
	for _, w := range *s.watchers.Load() {
		if !w.stopped.Load() {
			w.changed(b.Snapshot)
		}
	}
	return b.Snapshot
}

// Watch calls changed after every Apply, in order, from the applying goroutine,
// until stop is called. changed must not block and must not call Apply. A call
// that is under way when stop is called goes on; no other begins.
func (s *Store) Watch(changed func(*Snapshot)) (stop func()) {
	w := &watcher{changed: changed}
	s.setWatchers(func(all []*watcher) []*watcher { return append(all, w) })
	return sync.OnceFunc(func() {
		w.stopped.Store(true)
		s.setWatchers(func(all []*watcher) []*watcher {
			return slices.DeleteFunc(all, func(other *watcher) bool { return other == w })
		})
	})
}

func (s *Store) setWatchers(change func([]*watcher) []*watcher) {
	s.watching.Lock()
	defer s.watching.Unlock()
	next := change(slices.Clone(*s.watchers.Load()))
	s.watchers.Store(&next)
}

func (s *Snapshot) hasSynced(kind string) bool { return slices.Contains(s.synced, kind) }
