package store

import (
	"fmt"
	"net/netip"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/outrigger-mesh/outrigger/pkg/mesh"
)

const (
	manyWorkloads = 100_000
	manyServices  = 10_000
)

func serviceName(i int) mesh.Name {
	ns := fmt.Sprint("namespace-", i%200)
	return mesh.Name{Namespace: ns, Hostname: fmt.Sprintf("service-%d.%s.svc.cluster.local", i, ns)}
}

func address(base byte, i int) netip.Addr {
	return netip.AddrFrom4([4]byte{base, byte(i >> 16), byte(i >> 8), byte(i)})
}

// bigService and bigWorkload have no string in common with each other, as when decoded.
func bigService(i int) *mesh.Service {
	n := serviceName(i)
	return &mesh.Service{
		Name: fmt.Sprint("service-", i), Namespace: n.Namespace, Hostname: n.Hostname,
		VIPs:  []mesh.VIP{{Prefix: netip.PrefixFrom(address(11, i), 32)}},
		Ports: []mesh.PortMapping{{Service: 80, Target: 8080, AppProtocol: "HTTP11"}},
	}
}

func bigWorkload(i int) *mesh.Workload {
	n := serviceName(i % manyServices)
	name := fmt.Sprintf("deployment-%d-7d4b9c5f6-%05x", i/10, i)
	return &mesh.Workload{
		UID: "Kubernetes//Pod/" + n.Namespace + "/" + name, Name: name, Namespace: n.Namespace, ServiceAccount: fmt.Sprint("account-", i/10),
		TrustDomain: strings.Clone("cluster.local"), ClusterID: strings.Clone("Kubernetes"), Node: fmt.Sprint("node-", i/50),
		CanonicalName: fmt.Sprint("deployment-", i/10), CanonicalRevision: strings.Clone("latest"),
		WorkloadName: fmt.Sprint("deployment-", i/10), WorkloadType: "deployment",
		Addresses: []netip.Addr{address(10, i)}, Tunnel: mesh.TunnelHBONE, Capacity: 1,
		Services: map[mesh.Name][]mesh.PortMapping{n: {{Service: 80, Target: 8080}}},
	}
}

// load fills a store as a control plane does: services, then workloads, some per response.
func load(batch int) *Store { return loadPart(1, batch) }

// loadPart loads one of so many parts of it.
func loadPart(parts, batch int) *Store {
	st := New(Config{Self: plannerSelf, Expect: []string{"never"}})
	services := map[mesh.Name]*mesh.Service{}
	for i := range manyServices / parts {
		services[serviceName(i)] = bigService(i)
	}
	st.Apply(Change{Services: services})
	for from := 0; from < manyWorkloads/parts; from += batch {
		some := map[string]*mesh.Workload{}
		for i := range batch {
			w := bigWorkload(from + i)
			some[w.UID] = w
		}
		st.Apply(Change{Workloads: some})
	}
	return st
}

func heap() uint64 {
	runtime.GC()
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return m.HeapAlloc
}

// A tenth of it is loaded, which is much quicker with the race detector; see
// BenchmarkLoad for the whole.
func TestHundredThousandWorkloadsFitIn250MB(t *testing.T) {
	const parts = 10
	before := heap()
	st := loadPart(parts, 100)
	used := float64(heap()-before) / 1e6 * parts
	if c := st.Snapshot().Counts(); c.Workloads != manyWorkloads/parts {
		t.Fatalf("loaded %+v", c)
	}
	if used > 250 {
		t.Fatalf("store takes %.0f MB for %d workloads, at most 250 are allowed", used, manyWorkloads)
	}
}

func BenchmarkLoad(b *testing.B) {
	for _, batch := range []int{manyWorkloads, 100} {
		b.Run(fmt.Sprint("batch=", batch), func(b *testing.B) {
			b.ReportAllocs()
			var st *Store
			for b.Loop() {
				st = load(batch)
			}
			all := heap()
			runtime.KeepAlive(st)
			st = nil
			b.ReportMetric(float64(all-heap())/1e6, "MB")
		})
	}
}

func BenchmarkLookup(b *testing.B) {
	s := load(manyWorkloads).Snapshot()
	var addresses, vips []mesh.NetworkAddress
	var names []mesh.Name
	for i := range manyServices {
		addresses = append(addresses, mesh.NetworkAddress{Address: address(10, i*7919%manyWorkloads)})
		vips = append(vips, mesh.NetworkAddress{Address: address(11, i*7919%manyServices)})
		names = append(names, serviceName(i*7919%manyServices))
	}
	for _, lookup := range []struct {
		name string
		do   func(i int) bool
	}{
		{"Workload", func(i int) bool { return s.Workload(addresses[i]) != nil }},
		{"ServiceByAddress", func(i int) bool { return s.ServiceByAddress(vips[i], "namespace-1") != nil }},
		{"ServiceByHostname", func(i int) bool { return s.ServiceByHostname(names[i].Hostname, names[i].Namespace) != nil }},
		{"Service", func(i int) bool { return s.Service(names[i]) != nil }},
		{"Endpoints", func(i int) bool { return len(s.Endpoints(names[i], 80)) == manyWorkloads/manyServices }},
	} {
		b.Run(lookup.name, func(b *testing.B) {
			b.ReportAllocs()
			for i := 0; b.Loop(); i = (i + 1) % manyServices {
				if !lookup.do(i) {
					b.Fatal("not found")
				}
			}
		})
	}
}

func BenchmarkUpdate(b *testing.B) {
	st := load(manyWorkloads)
	b.ReportAllocs()
	for i := 0; b.Loop(); i = (i + 7919) % manyWorkloads {
		w := bigWorkload(i)
		st.Apply(Change{Workloads: map[string]*mesh.Workload{w.UID: w}})
	}
}

func BenchmarkUpdateOfTheBiggestService(b *testing.B) {
	st := load(manyWorkloads)
	member := func(i int) *mesh.Workload {
		w := bigWorkload(i)
		w.Services = map[mesh.Name][]mesh.PortMapping{serviceName(0): nil}
		return w
	}
	for i := range 10_000 {
		w := member(i)
		st.Apply(Change{Workloads: map[string]*mesh.Workload{w.UID: w}})
	}
	b.ReportAllocs()
	for i := 0; b.Loop(); i = (i + 1) % 10_000 {
		w := member(i)
		st.Apply(Change{Workloads: map[string]*mesh.Workload{w.UID: w}})
	}
}

// BenchmarkLookupDuringUpdates is what one reader pays while another goroutine
// applies changes as fast as it can.
func BenchmarkLookupDuringUpdates(b *testing.B) {
	st := load(manyWorkloads)
	done := make(chan struct{})
	var updating sync.WaitGroup
	updating.Go(func() {
		for i := 0; ; i = (i + 7919) % manyWorkloads {
			select {
			case <-done:
				return
			default:
				w := bigWorkload(i)
				st.Apply(Change{Workloads: map[string]*mesh.Workload{w.UID: w}})
			}
		}
	})
	addresses := slices.Collect(func(yield func(mesh.NetworkAddress) bool) {
		for i := 0; i < manyServices && yield(mesh.NetworkAddress{Address: address(10, i)}); i++ {
		}
	})
	b.ReportAllocs()
	for i := 0; b.Loop(); i = (i + 1) % manyServices {
		if st.Snapshot().Workload(addresses[i]) == nil {
			b.Fatal("not found")
		}
	}
	close(done)
	updating.Wait()
}
