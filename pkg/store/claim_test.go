package store

import (
	"fmt"
	"math/rand/v2"
	"net/netip"
	"testing"

	"github.com/outrigger-mesh/outrigger/pkg/mesh"
)

const claimants = 10_000

func TestTenThousandWorkloadsMayClaimOneAddress(t *testing.T) {
	at := mesh.NetworkAddress{Address: address(10, 1)}
	uid := func(i int) string { return fmt.Sprintf("Kubernetes//Pod/a/w-%05d", i) }
	st := New(Config{})
	all, gone := map[string]*mesh.Workload{}, map[string]*mesh.Workload{}
	for i := range claimants {
		all[uid(i)] = &mesh.Workload{UID: uid(i), Namespace: "a", Addresses: []netip.Addr{at.Address}}
		gone[uid(i)] = nil
	}
	st.Apply(Change{Workloads: all})
	for _, i := range rand.Perm(claimants)[:1000] { // some again, one by one
		w := *all[uid(i)]
		st.Apply(Change{Workloads: map[string]*mesh.Workload{w.UID: &w}})
	}
	if got := st.Snapshot().Workload(at); got == nil || got.UID != uid(0) {
		t.Fatalf("the address leads to %v, want %s", got, uid(0))
	}
	st.Apply(Change{Workloads: map[string]*mesh.Workload{uid(0): nil}})
	if got := st.Snapshot().Workload(at); got == nil || got.UID != uid(1) {
		t.Fatalf("without the best the address leads to %v, want %s", got, uid(1))
	}
	if got := st.Apply(Change{Workloads: gone}).Workload(at); got != nil {
		t.Fatalf("without any the address leads to %s", got.UID)
	}
}

func TestAClaimIsPlacedWithFewComparisons(t *testing.T) {
	x := newIndex[string, []int](hashString)
	compared := 0
	compare := func(a, b int) int { compared++; return a - b }
	for _, v := range rand.Perm(claimants) {
		if !claim(new(edit), &x, "one", v, compare) || claim(new(edit), &x, "one", v, compare) {
			t.Fatalf("%d is not claimed exactly once", v)
		}
	}
	if most := 2 * claimants * 16; compared > most {
		t.Fatalf("%d comparisons for %d claims, at most %d are needed", compared, claimants, most)
	}
	list, _ := x.get("one")
	for i, v := range list {
		if v != i {
			t.Fatalf("%d stands at place %d", v, i)
		}
	}
}

func BenchmarkClaimAmongTenThousand(b *testing.B) {
	st := New(Config{})
	a := address(10, 1)
	all := map[string]*mesh.Workload{}
	for i := range claimants {
		uid := fmt.Sprint("w-", i)
		all[uid] = &mesh.Workload{UID: uid, Namespace: "a", Addresses: []netip.Addr{a}}
	}
	b.ReportAllocs()
	for b.Loop() {
		st.Apply(Change{Workloads: all})
		none := map[string]*mesh.Workload{}
		for uid := range all {
			none[uid] = nil
		}
		st.Apply(Change{Workloads: none})
	}
	b.ReportMetric(float64(b.Elapsed().Microseconds())/float64(b.N)/(2*claimants), "us/change")
}
