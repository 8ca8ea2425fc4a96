package store

import (
	"hash/maphash"
	"iter"
	"math/bits"
	"slices"
)

// An index is a persistent hash map: a tree in which every node has up to 32
// slots, each of them empty, an entry or a subtree. Changing one entry copies
// the handful of nodes on its path and shares the rest, so that an old index
// stays what it was while a new one is made, at any size. Reading needs no lock.
type index[K comparable, V any] struct {
	root *node[K, V]
	size int
	hash func(K) uint64
}

// node's slots: an entry where used has its bit, a subtree where inner has.
// Below lastLevel all hash bits are spent, and entries is a plain list.
type node[K comparable, V any] struct {
	edit     *edit // who may still change the node in place
	used     uint32
	inner    uint32
	entries  []entry[K, V]
	children []*node[K, V]
}

type entry[K comparable, V any] struct {
	key   K
	value V
}

// An edit is one Apply. Nodes that it made are not visible to readers yet, and
// it changes them in place.
type edit struct {
	lists map[[2]any]bool // long lists that it made, by index and key
}

const (
	levelBits = 5
	lastLevel = 64 / levelBits * levelBits // the shift at which no whole level of bits is left
)

// seed makes hashes unpredictable to whoever names resources.
var seed = maphash.MakeSeed()

func newIndex[K comparable, V any](hash func(K) uint64) index[K, V] {
	return index[K, V]{hash: hash}
}

func hashString(s string) uint64 { return maphash.String(seed, s) }

func (x *index[K, V]) get(k K) (V, bool) {
	h := x.hash(k)
	n := x.root
	for n != nil && len(n.entries)+len(n.children) > 0 {
		bit := uint32(1) << (h & 31)
		switch {
		case n.used == 0 && n.inner == 0: // a list
			if i := n.find(k); i >= 0 {
				return n.entries[i].value, true
			}
			n = nil
		case n.used&bit != 0:
			if e := &n.entries[place(n.used, bit)]; e.key == k {
				return e.value, true
			}
			n = nil
		case n.inner&bit != 0:
			n, h = n.children[place(n.inner, bit)], h>>levelBits
		default:
			n = nil
		}
	}
	var none V
	return none, false
}

// put sets the value of k.
func (x *index[K, V]) put(e *edit, k K, v V) {
	root, added := x.putIn(e, x.root, 0, x.hash(k), entry[K, V]{k, v})
	x.root = root
	if added {
		x.size++
	}
}

func (x *index[K, V]) putIn(e *edit, n *node[K, V], shift int, h uint64, it entry[K, V]) (_ *node[K, V], added bool) {
	n = n.editable(e)
	if shift >= lastLevel {
		if i := n.find(it.key); i >= 0 {
			n.entries[i] = it
			return n, false
		}
		n.entries = append(n.entries, it)
		return n, true
	}
	bit := uint32(1) << (h >> shift & 31)
	i, j := place(n.used, bit), place(n.inner, bit)
	switch {
	case n.inner&bit != 0:
		n.children[j], added = x.putIn(e, n.children[j], shift+levelBits, h, it)
		return n, added
	case n.used&bit == 0:
		n.used |= bit
		n.entries = slices.Insert(n.entries, i, it)
		return n, true
	case n.entries[i].key == it.key:
		n.entries[i] = it
		return n, false
	}
	other := n.entries[i]
	child, _ := x.putIn(e, nil, shift+levelBits, x.hash(other.key), other)
	child, _ = x.putIn(e, child, shift+levelBits, h, it)
	n.used &^= bit
	n.entries = slices.Delete(n.entries, i, i+1)
	n.inner |= bit
	n.children = slices.Insert(n.children, j, child)
	return n, true
}

// remove forgets k. It does nothing if k is not there.
func (x *index[K, V]) remove(e *edit, k K) {
	if _, ok := x.get(k); !ok {
		return
	}
	x.root = removeFrom(e, x.root, 0, x.hash(k), k)
	x.size--
}

// removeFrom removes k, which is there. A subtree left with one entry becomes
// that entry, so that the tree's shape depends on its content alone.
func removeFrom[K comparable, V any](e *edit, n *node[K, V], shift int, h uint64, k K) *node[K, V] {
	n = n.editable(e)
	if shift >= lastLevel {
		i := n.find(k)
		n.entries = slices.Delete(n.entries, i, i+1)
		return n
	}
	bit := uint32(1) << (h >> shift & 31)
	i, j := place(n.used, bit), place(n.inner, bit)
	if n.used&bit != 0 {
		n.used &^= bit
		n.entries = slices.Delete(n.entries, i, i+1)
		return n
	}
	child := removeFrom(e, n.children[j], shift+levelBits, h, k)
	if len(child.children) > 0 || len(child.entries) > 1 {
		n.children[j] = child
		return n
	}
	n.inner &^= bit
	n.children = slices.Delete(n.children, j, j+1)
	n.used |= bit
	n.entries = slices.Insert(n.entries, i, child.entries[0])
	return n
}

// editable is n if e made it, else a copy that e may change.
func (n *node[K, V]) editable(e *edit) *node[K, V] {
	switch {
	case n == nil:
		return &node[K, V]{edit: e}
	case n.edit == e:
		return n
	}
	return &node[K, V]{
		edit: e, used: n.used, inner: n.inner,
		entries: slices.Clone(n.entries), children: slices.Clone(n.children),
	}
}

func (n *node[K, V]) find(k K) int {
	return slices.IndexFunc(n.entries, func(e entry[K, V]) bool { return e.key == k })
}

// place is where the slot of bit stands among those of set.
func place(set, bit uint32) int { return bits.OnesCount32(set & (bit - 1)) }

func (x *index[K, V]) all() iter.Seq2[K, V] {
	return func(yield func(K, V) bool) { x.root.walk(yield) }
}

func (n *node[K, V]) walk(yield func(K, V) bool) bool {
	if n == nil {
		return true
	}
	for i := range n.entries {
		if !yield(n.entries[i].key, n.entries[i].value) {
			return false
		}
	}
	for _, c := range n.children {
		if !c.walk(yield) {
			return false
		}
	}
	return true
}
