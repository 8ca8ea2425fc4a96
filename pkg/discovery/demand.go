package discovery

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/outrigger-mesh/outrigger/pkg/mesh"
	"github.com/outrigger-mesh/outrigger/pkg/store"
	"github.com/outrigger-mesh/outrigger/pkg/xds"
)

// These say why Find does not know. What it returns wraps one of them.
var (
	// ErrUnanswered means that the control plane has not answered in time.
	ErrUnanswered = errors.New("the control plane has not answered")
	// ErrRejected means that what the control plane sent cannot be used.
	ErrRejected = errors.New("what the control plane sent is not usable")
	// ErrTooMany means that as many names are being asked for as may be.
	ErrTooMany = errors.New("too many names are being asked for")
)

// A Subscriber asks a control plane for names; an *xds.Client is one.
type Subscriber interface {
	Subscribe(typeURL string, names ...string) error
	Again(typeURL string, names ...string) error
	Unsubscribe(typeURL string, names ...string) error
	Status() xds.Status
}

// DemandConfig says how names are asked for. Zero values mean the defaults.
type DemandConfig struct {
	Subscriber Subscriber    // required
	Timeout    time.Duration // how long Find waits for an answer; 0 means 5s
	Idle       time.Duration // how long what nobody asks for is kept; 0 means 10m
	Absent     time.Duration // how long a first "no such thing" holds; it doubles up to a minute; 0 means 2s
	Refresh    time.Duration // how often a service in use is asked for again; 0 means 30s
	Max        int           // names that are kept; 0 means 10,000
}

const (
	longestAbsent  = time.Minute
	emptyPause     = 2 * time.Second // between questions for a service without workloads
	membersPerWait = 200             // a service of so many workloads is asked for half as often
	demandTick     = time.Second
	sweepTicks     = 30 // ticks between sweeps
	settled        = time.Minute
)

// A Demand subscribes to the workloads and services that somebody asks for, and
// forgets what nobody has asked for in a while. What is known stays while the
// control plane is away. Its methods may be called from any goroutine.
type Demand struct {
	DemandConfig
	discovery *Discovery
	store     *store.Store
	namespace string // ours

	connected atomic.Bool   // what Run saw last
	wake      chan struct{} // holds a token when our own workload has changed

	mu      sync.RWMutex // guards what follows; Discovery's lock goes before it
	entries map[mesh.Reference]*entry
	names   map[string]*entry       // the same by name
	stale   map[mesh.Name]bool      // services that lost a workload since they were asked for
	own     map[mesh.Reference]bool // our own addresses and services, which are never dropped
}

// An entry is one name that was asked for. All but used is guarded by the Demand's lock.
type entry struct {
	ref    mesh.Reference
	name   string
	used   atomic.Int64  // when somebody last wanted it, in Unix nanoseconds
	asked  time.Time     // when the control plane was last asked
	answer chan struct{} // closed when it has answered; a new one whenever it is asked
	open   bool          // whether the answer is awaited
	err    error         // that the answer was no good
	absent time.Duration // for how long the last answer, that there is no such thing, holds; 0 if it was another
}

// NewDemand makes a Demand for the resources that d takes in. Our own workload
// is asked for before anybody asks; Run must be called.
func (d *Discovery) NewDemand(c DemandConfig, self mesh.Self) (*Demand, error) {
	if c.Subscriber == nil {
		return nil, errors.New("discovery: DemandConfig.Subscriber is missing")
	}
	c.Timeout = cmp.Or(c.Timeout, 5*time.Second)
	c.Idle = cmp.Or(c.Idle, 10*time.Minute)
	c.Absent = cmp.Or(c.Absent, 2*time.Second)
	c.Refresh = cmp.Or(c.Refresh, 30*time.Second)
	c.Max = cmp.Or(c.Max, 10_000)
	m := &Demand{
		DemandConfig: c, discovery: d, store: d.store, namespace: self.Namespace, wake: make(chan struct{}, 1),
		entries: map[mesh.Reference]*entry{}, names: map[string]*entry{}, stale: map[mesh.Name]bool{}, own: map[mesh.Reference]bool{},
	}
	// By its UID istiod tells of our workload as soon as it is there, by its
	// addresses only when asked; but not every workload is a pod.
	if err := c.Subscriber.Subscribe(AddressType, or(self.ClusterID, defaultCluster)+"//Pod/"+self.Namespace+"/"+self.Name); err != nil {
		return nil, err
	}
	for _, a := range self.Addresses {
		m.own[mesh.Reference{Address: mesh.NetworkAddress{Network: self.Network, Address: a}}] = true
	}
	m.Want(refs(m.own)...)
	d.mu.Lock()
	defer d.mu.Unlock()
	d.demand = m
	return m, nil
}

func refs(set map[mesh.Reference]bool) (all []mesh.Reference) {
	for r := range set {
		all = append(all, r)
	}
	return all
}

// Find makes sure that the snapshots from now on hold what there is of the
// references. It waits, until the timeout or the end of ctx, only for what is
// not known. That there is no such thing is no error.
func (m *Demand) Find(ctx context.Context, refs ...mesh.Reference) error {
	var waits []*entry
	snap, now := m.store.Snapshot(), time.Now()
	for _, ref := range refs {
		if m.known(snap, ref, now) {
			continue
		}
		e, err := m.ask(ref, now)
		if err != nil {
			return err
		}
		if e != nil {
			waits = append(waits, e)
		}
	}
	if len(waits) == 0 {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, m.Timeout)
	defer cancel()
	for _, e := range waits {
		if err := m.wait(ctx, e); err != nil {
			return err
		}
	}
	return nil
}

// Want asks for references without waiting. It may fail to, as Find may.
func (m *Demand) Want(refs ...mesh.Reference) {
	snap, now := m.store.Snapshot(), time.Now()
	for _, ref := range refs {
		if m.known(snap, ref, now) {
			continue
		}
		if _, err := m.ask(ref, now); err != nil {
			m.discovery.log.Warn("cannot ask the control plane", "for", ref.String(), "error", err)
			return
		}
	}
}

// known tells whether the control plane need not be asked.
func (m *Demand) known(snap *store.Snapshot, ref mesh.Reference, now time.Time) bool {
	m.mu.RLock()
	defer m.mu.RUnlock()
	e := m.entries[ref]
	if e == nil {
		return false
	}
	e.used.Store(now.UnixNano())
	if svc, there := m.find(snap, ref); there {
		return svc == nil || !empty(snap, svc) || now.Sub(e.asked) < emptyPause && !e.open
	}
	return !e.open && e.absent > 0 && (now.Sub(e.asked) < e.absent || !m.connected.Load())
}

// find tells whether a snapshot has what is referred to, and if it is a service, which.
func (m *Demand) find(snap *store.Snapshot, ref mesh.Reference) (svc *mesh.Service, there bool) {
	if ref.Service != (mesh.Name{}) {
		svc = snap.Service(ref.Service)
		return svc, svc != nil
	}
	if snap.Workload(ref.Address) != nil {
		return nil, true
	}
	svc = snap.ServiceByAddress(ref.Address, m.namespace)
	return svc, svc != nil
}

// satisfied tells whether a snapshot has all that one could wait for.
func (m *Demand) satisfied(snap *store.Snapshot, ref mesh.Reference) bool {
	svc, there := m.find(snap, ref)
	return there && (svc == nil || !empty(snap, svc))
}

func empty(snap *store.Snapshot, svc *mesh.Service) bool {
	for range snap.Members(svc.Key()) {
		return false
	}
	return true
}

// ask asks the control plane, unless it is being asked or has just sent what is
// not usable. The entry is nil if there is nothing to wait for.
func (m *Demand) ask(ref mesh.Reference, now time.Time) (*entry, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	e := m.entries[ref]
	if e != nil && (e.open && now.Sub(e.asked) < m.Timeout || e.err != nil && now.Sub(e.asked) < m.Absent) {
		return e, nil // whoever asked first asked for all
	}
	var err error
	if e == nil {
		if e, err = m.enter(ref, now); err != nil {
			return nil, err
		}
		err = m.Subscriber.Subscribe(AddressType, e.name)
	} else {
		err = m.Subscriber.Again(AddressType, e.name)
	}
	if err != nil {
		return nil, fmt.Errorf("ask for %s: %w", e.name, err)
	}
	e.asked, e.err = now, nil
	if m.satisfied(m.store.Snapshot(), ref) {
		return nil, nil // it came with something else
	}
	if !e.open {
		e.open, e.answer = true, make(chan struct{})
	}
	return e, nil
}

// enter makes room for a reference and takes it in.
func (m *Demand) enter(ref mesh.Reference, now time.Time) (*entry, error) {
	if len(m.entries) >= m.Max {
		m.makeRoom(now)
	}
	if len(m.entries) >= m.Max {
		return nil, fmt.Errorf("ask for %v: %w", ref, ErrTooMany)
	}
	e := &entry{ref: ref, name: ref.String(), answer: make(chan struct{})}
	close(e.answer)
	e.used.Store(now.UnixNano())
	m.entries[ref], m.names[e.name] = e, e
	return e, nil
}

func (m *Demand) wait(ctx context.Context, e *entry) error {
	m.mu.RLock()
	answer := e.answer
	m.mu.RUnlock()
	select {
	case <-answer:
	case <-ctx.Done():
		if _, there := m.find(m.store.Snapshot(), e.ref); there {
			return nil
		}
		return m.unanswered(ctx, e)
	}
	m.mu.RLock()
	defer m.mu.RUnlock()
	if _, there := m.find(m.store.Snapshot(), e.ref); !there && e.err != nil {
		return fmt.Errorf("look up %s: %w: %w", e.name, ErrRejected, e.err)
	}
	return nil
}

func (m *Demand) unanswered(ctx context.Context, e *entry) error {
	if !errors.Is(ctx.Err(), context.DeadlineExceeded) {
		return fmt.Errorf("look up %s: %w", e.name, context.Cause(ctx))
	}
	s, why := m.Subscriber.Status(), "it is connected; look at its log"
	if !s.Connected {
		why = "it is not connected: " + s.Error
	}
	return fmt.Errorf("look up %s: %w within %v: %s: %s", e.name, ErrUnanswered, m.Timeout, s.Target, strings.TrimSuffix(why, ": "))
}
