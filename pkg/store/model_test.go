package store

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"github.com/outrigger-mesh/outrigger/pkg/mesh"
)

// A model answers as a Snapshot should, by looking at everything.
type model struct {
	workloads map[string]*mesh.Workload
	services  map[mesh.Name]*mesh.Service
}

func (m *model) workload(a mesh.NetworkAddress) *mesh.Workload {
	var best *mesh.Workload
	for _, uid := range slices.Sorted(maps.Keys(m.workloads)) {
		w := m.workloads[uid]
		if w.HostNetwork || w.Network != a.Network || !slices.Contains(w.Addresses, a.Address) {
			continue
		}
		if best == nil || standing(w) > standing(best) {
			best = w
		}
	}
	return best
}

func standing(w *mesh.Workload) int {
	pod, hbone := strings.Contains(w.UID, "//Pod/"), w.Tunnel == mesh.TunnelHBONE
	switch {
	case pod && hbone:
		return 4
	case pod:
		return 3
	case hbone:
		return 2
	}
	return 1
}

func (m *model) byHostname(hostname, namespace string) *mesh.Service {
	return m.best(namespace, func(s *mesh.Service) bool { return s.Hostname == hostname })
}

// best is the namespace's own, else the canonical one, else the first.
func (m *model) best(namespace string, match func(*mesh.Service) bool) *mesh.Service {
	var found []*mesh.Service
	for _, s := range m.services {
		if match(s) && (!s.NamespaceOnly || s.Namespace == namespace) {
			found = append(found, s)
		}
	}
	slices.SortFunc(found, func(a, b *mesh.Service) int { return strings.Compare(a.Key().String(), b.Key().String()) })
	var own []*mesh.Service
	for _, s := range found {
		if s.Namespace == namespace {
			own = append(own, s)
		}
	}
	if len(own) > 0 {
		found = own
	}
	for _, s := range found {
		if s.Canonical {
			return s
		}
	}
	if len(found) > 0 {
		return found[0]
	}
	return nil
}

func (m *model) byAddress(a mesh.NetworkAddress, namespace string) *mesh.Service {
	at := func(bits int) func(*mesh.Service) bool {
		return func(s *mesh.Service) bool {
			return slices.ContainsFunc(s.VIPs, func(v mesh.VIP) bool {
				return v.Network == a.Network && v.Prefix.Bits() == bits && v.Prefix.Contains(a.Address)
			})
		}
	}
	full := a.Address.BitLen()
	if s := m.best(namespace, at(full)); s != nil {
		return s
	}
	var first *mesh.Service
	for bits := full - 1; bits >= 0; bits-- {
		s := m.best(namespace, at(bits))
		if s != nil && s.Namespace == namespace {
			return s
		}
		if first == nil {
			first = s
		}
	}
	return first
}

func (m *model) endpoints(n mesh.Name, port uint16) []string {
	var found []string
	svc := m.services[n]
	if svc == nil {
		return nil
	}
	for _, w := range m.workloads {
		ports, ok := w.Services[n]
		if !ok || w.Unhealthy && !svc.LoadBalancing.AllowUnhealthy {
			continue
		}
		for _, p := range slices.Concat(ports, svc.Ports) {
			if p.Service == port && p.Target != 0 {
				found = append(found, fmt.Sprint(w.UID, p.Target))
				break
			}
		}
	}
	slices.Sort(found)
	return found
}

// The world is small, so that names, addresses and ranges collide all the time.
var (
	testNetworks   = []string{"", "east"}
	testNamespaces = []string{"a", "b", "c"}
	testHostnames  = []string{"one.example", "two.example", "three.example"}
	testAddresses  = []string{"10.0.0.1", "10.0.0.2", "10.0.1.1", "10.1.0.1", "fd00::1", "fd00::2"}
	testPrefixes   = []string{"10.0.0.1/32", "10.0.0.2/32", "10.0.0.0/24", "10.0.0.0/16", "10.0.0.0/8", "0.0.0.0/0", "fd00::1/128", "fd00::/64", "::/0"}
)

func pick[T any](r *rand.Rand, from []T) T { return from[r.IntN(len(from))] }

func randomWorkload(r *rand.Rand) *mesh.Workload {
	kind := pick(r, []string{"/Pod/", "networking.istio.io/WorkloadEntry/"})
	n := r.IntN(12)
	w := &mesh.Workload{
		UID: fmt.Sprintf("Kubernetes/%s/ns/w%d", kind, n), Name: fmt.Sprintf("w%d", n),
		Namespace: pick(r, testNamespaces), Network: pick(r, testNetworks),
		HostNetwork: r.IntN(8) == 0, Unhealthy: r.IntN(4) == 0,
		Services: map[mesh.Name][]mesh.PortMapping{},
	}
	if r.IntN(2) == 0 {
		w.Tunnel = mesh.TunnelHBONE
	}
	for range 1 + r.IntN(2) {
		w.Addresses = append(w.Addresses, netip.MustParseAddr(pick(r, testAddresses)))
	}
	for range r.IntN(3) {
		var ports []mesh.PortMapping
		if r.IntN(2) == 0 {
			ports = []mesh.PortMapping{{Service: 80, Target: uint16(8000 + r.IntN(3))}}
		}
		w.Services[mesh.Name{Namespace: pick(r, testNamespaces), Hostname: pick(r, testHostnames)}] = ports
	}
	return w
}

func randomService(r *rand.Rand) *mesh.Service {
	s := &mesh.Service{
		Namespace: pick(r, testNamespaces), Hostname: pick(r, testHostnames),
		Canonical: r.IntN(3) == 0, NamespaceOnly: r.IntN(3) == 0,
		LoadBalancing: mesh.LoadBalancing{AllowUnhealthy: r.IntN(2) == 0},
	}
	for range r.IntN(4) {
		s.VIPs = append(s.VIPs, mesh.VIP{Network: pick(r, testNetworks), Prefix: netip.MustParsePrefix(pick(r, testPrefixes))})
	}
	if r.IntN(2) == 0 {
		s.Ports = []mesh.PortMapping{{Service: 80, Target: 8080}}
	}
	return s
}

func TestSnapshotAgreesWithModel(t *testing.T) {
	for seed := range uint64(8) {
		r := rand.New(rand.NewPCG(seed, 0))
		st := New(Config{Expect: []string{"a kind that never comes"}})
		m := &model{map[string]*mesh.Workload{}, map[mesh.Name]*mesh.Service{}}
		for range 60 {
			st.Apply(randomChange(r, m))
			compareAll(t, m, st.Snapshot())
		}
		compareRebuilt(t, r, m, st.Snapshot())
		st.Apply(everythingRemoved(m))
		s := st.Snapshot()
		if s.workloads.size+s.addresses.size+s.services.size+s.hostnames.size+s.vips.size+len(s.named) != 0 || *s.ranges != [exact]uint32{} {
			t.Fatalf("something is left when all is removed: %+v", s.Counts())
		}
	}
}

func randomChange(r *rand.Rand, m *model) Change {
	c := Change{Workloads: map[string]*mesh.Workload{}, Services: map[mesh.Name]*mesh.Service{}}
	for range 1 + r.IntN(6) {
		w, s := randomWorkload(r), randomService(r)
		if r.IntN(3) == 0 {
			c.Workloads[w.UID] = nil
			delete(m.workloads, w.UID)
		} else {
			c.Workloads[w.UID] = w
			m.workloads[w.UID] = w
		}
		if r.IntN(3) == 0 {
			c.Services[s.Key()] = nil
			delete(m.services, s.Key())
		} else {
			c.Services[s.Key()] = s
			m.services[s.Key()] = s
		}
	}
	return c
}

func everythingRemoved(m *model) Change {
	c := Change{Workloads: map[string]*mesh.Workload{}, Services: map[mesh.Name]*mesh.Service{}}
	for uid := range m.workloads {
		c.Workloads[uid] = nil
	}
	for n := range m.services {
		c.Services[n] = nil
	}
	return c
}

// compareRebuilt gives the same resources to a new store, one by one in another order.
func compareRebuilt(t *testing.T, r *rand.Rand, m *model, want *Snapshot) {
	t.Helper()
	var changes []Change
	for uid, w := range m.workloads {
		changes = append(changes, Change{Workloads: map[string]*mesh.Workload{uid: w}})
	}
	for n, s := range m.services {
		changes = append(changes, Change{Services: map[mesh.Name]*mesh.Service{n: s}})
	}
	r.Shuffle(len(changes), func(i, j int) { changes[i], changes[j] = changes[j], changes[i] })
	st := New(Config{Expect: []string{"a kind that never comes"}})
	for _, c := range changes {
		st.Apply(c)
	}
	compareAll(t, m, st.Snapshot())
	if got := st.Snapshot().Counts(); got != want.Counts() {
		t.Fatalf("rebuilt holds %+v, want %+v", got, want.Counts())
	}
}

func compareAll(t *testing.T, m *model, s *Snapshot) {
	t.Helper()
	for _, network := range testNetworks {
		for _, address := range testAddresses {
			a := mesh.NetworkAddress{Network: network, Address: netip.MustParseAddr(address)}
			if got, want := s.Workload(a), m.workload(a); got != want {
				t.Fatalf("Workload(%v) = %v, want %v", a, got, want)
			}
			for _, ns := range append(testNamespaces, "elsewhere") {
				if got, want := s.ServiceByAddress(a, ns), m.byAddress(a, ns); got != want {
					t.Fatalf("ServiceByAddress(%v, %s) = %+v, want %+v", a, ns, got, want)
				}
			}
		}
	}
	for _, hostname := range testHostnames {
		for _, ns := range append(testNamespaces, "elsewhere") {
			if got, want := s.ServiceByHostname(hostname, ns), m.byHostname(hostname, ns); got != want {
				t.Fatalf("ServiceByHostname(%s, %s) = %+v, want %+v", hostname, ns, got, want)
			}
			n := mesh.Name{Namespace: ns, Hostname: hostname}
			if got := s.Service(n); got != m.services[n] {
				t.Fatalf("Service(%v) = %v", n, got)
			}
			compareEndpoints(t, m, s, n)
		}
	}
}

func compareEndpoints(t *testing.T, m *model, s *Snapshot, n mesh.Name) {
	t.Helper()
	for _, port := range []uint16{80, 81} {
		for range 2 { // the second answer is remembered
			var got []string
			for _, e := range s.Endpoints(n, port) {
				got = append(got, fmt.Sprint(e.Workload.UID, e.Port))
				if e.Service != m.services[n] {
					t.Fatalf("endpoint of %v has service %v", n, e.Service)
				}
			}
			slices.Sort(got)
			if want := m.endpoints(n, port); !slices.Equal(got, want) {
				t.Fatalf("Endpoints(%v, %d) = %v, want %v", n, port, got, want)
			}
		}
	}
}
