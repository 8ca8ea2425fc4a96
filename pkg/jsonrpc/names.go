package jsonrpc

import (
	"bytes"
	"encoding/binary"
	"hash/maphash"
)

// crowded is the number of members from which an object's names are looked up
// by hash instead of one by one.
const crowded = 24

// names finds duplicate member names in all objects that are open at once.
// Names of open objects lie on one stack; crowded objects share one hash
// table, keyed by object and name, whose entries of closed objects are left
// behind: no later object has their number.
type names struct {
	stack   []name
	objects uint32 // numbers given so far
	table   []int32
	used    []crowdedName
	seed    maphash.Seed
	seeded  bool
}

type name struct {
	text   []byte // unescaped
	prefix uint64 // length and first bytes: differs in nearly every comparison
}

type crowdedName struct {
	text   []byte
	hash   uint64
	object uint32
}

// A frame is an open object's share of the stack.
type frame struct {
	base    int
	object  uint32
	crowded bool
}

func (n *names) reset() {
	clear(n.stack[:cap(n.stack)])
	n.stack = n.stack[:0]
	n.objects = 0
	if len(n.used) > 0 {
		clear(n.used)
		n.used = n.used[:0]
		clear(n.table)
	}
	if len(n.table) > 1<<14 { // do not keep what only a hostile document needed
		n.table, n.used, n.stack = nil, nil, nil
	}
}

func (n *names) open() frame {
	n.objects++
	return frame{base: len(n.stack), object: n.objects}
}

func (n *names) close(f frame) { n.stack = n.stack[:f.base] }

// add reports false if the object already has the name.
func (n *names) add(f *frame, text []byte) bool {
	if f.crowded {
		return n.insert(f.object, text)
	}
	p := prefix(text)
	for i := f.base; i < len(n.stack); i++ {
		if n.stack[i].prefix == p && (len(text) <= 7 || bytes.Equal(n.stack[i].text, text)) {
			return false
		}
	}
	n.stack = append(n.stack, name{text, p})
	if len(n.stack)-f.base == crowded {
		f.crowded = true
		for _, earlier := range n.stack[f.base:] {
			n.insert(f.object, earlier.text)
		}
	}
	return true
}

func prefix(text []byte) uint64 {
	p := uint64(min(len(text), 0xff)) << 56
	if cap(text) >= 8 { // it is a part of the document: what follows may be read, and is masked
		return p | binary.LittleEndian.Uint64(text[:8])&(1<<(8*min(len(text), 7))-1)
	}
	for i := range min(len(text), 7) {
		p |= uint64(text[i]) << (8 * i)
	}
	return p
}

func (n *names) insert(object uint32, text []byte) bool {
	if !n.seeded {
		n.seed, n.seeded = maphash.MakeSeed(), true
	}
	if 2*(len(n.used)+1) > len(n.table) {
		n.grow()
	}
	h := maphash.Bytes(n.seed, text) ^ uint64(object)*0x9e3779b97f4a7c15
	mask := uint64(len(n.table) - 1)
	i := h & mask
	for ; n.table[i] != 0; i = (i + 1) & mask {
		u := &n.used[n.table[i]-1]
		if u.hash == h && u.object == object && bytes.Equal(u.text, text) {
			return false
		}
	}
	n.used = append(n.used, crowdedName{text, h, object})
	n.table[i] = int32(len(n.used))
	return true
}

func (n *names) grow() {
	n.table = make([]int32, max(128, 2*len(n.table)))
	mask := uint64(len(n.table) - 1)
	for at := range n.used {
		i := n.used[at].hash & mask
		for n.table[i] != 0 {
			i = (i + 1) & mask
		}
		n.table[i] = int32(at + 1)
	}
}
