package store

import (
	"maps"
	"math/rand/v2"
	"testing"
)

// hashes from good to hopeless: the index must be right with any of them.
var hashes = map[string]func(int) uint64{
	"spread":    func(k int) uint64 { return uint64(k) * 0x9e3779b97f4a7c15 },
	"low bits":  func(k int) uint64 { return uint64(k) << 58 },
	"few":       func(k int) uint64 { return uint64(k % 3) },
	"all equal": func(int) uint64 { return 7 },
}

func TestIndexAgreesWithMap(t *testing.T) {
	for name, hash := range hashes {
		t.Run(name, func(t *testing.T) {
			rnd := rand.New(rand.NewPCG(1, 2))
			x := newIndex[int, int](hash)
			model := map[int]int{}
			for range 200 {
				old, oldModel := x, maps.Clone(model)
				e := new(edit)
				for range 20 {
					k := rnd.IntN(120)
					if rnd.IntN(2) == 0 {
						v := rnd.Int()
						x.put(e, k, v)
						model[k] = v
					} else {
						x.remove(e, k)
						delete(model, k)
					}
				}
				compareIndex(t, &x, model)
				compareIndex(t, &old, oldModel) // the old one is what it was
			}
			e := new(edit)
			for k := range 120 {
				x.remove(e, k)
			}
			if x.size != 0 || len(x.root.entries)+len(x.root.children) != 0 {
				t.Fatalf("emptied index has size %d and %d entries", x.size, len(x.root.entries))
			}
		})
	}
}

func compareIndex(t *testing.T, x *index[int, int], want map[int]int) {
	t.Helper()
	if got := maps.Collect(x.all()); !maps.Equal(got, want) || x.size != len(want) {
		t.Fatalf("got %d %v, want %v", x.size, got, want)
	}
	for k := range 120 {
		got, ok := x.get(k)
		if w, there := want[k]; ok != there || got != w {
			t.Fatalf("get(%d) = %d %v, want %d %v", k, got, ok, w, there)
		}
	}
}

func TestIndexShapeDependsOnContentAlone(t *testing.T) {
	a, b := newIndex[int, int](hashes["spread"]), newIndex[int, int](hashes["spread"])
	e := new(edit)
	for k := range 1000 {
		a.put(e, k, k)
		b.put(e, 999-k, 999-k)
		b.put(e, 5000+k, k)
	}
	for k := range 1000 {
		b.remove(new(edit), 5000+k)
	}
	var keys []int
	for k := range a.all() {
		keys = append(keys, k)
	}
	for k := range b.all() {
		if k != keys[0] {
			t.Fatalf("order differs at %d", k)
		}
		keys = keys[1:]
	}
}
