package policy

import "github.com/outrigger-mesh/outrigger/pkg/mesh"

type keyKind uint8

const (
	keyPrincipal keyKind = iota // a: trust domain, b: path
	keyAccount                  // a: namespace, b: name; in any trust domain
	keyNamespace                // a: namespace
	keyPort                     // n: port
	keyObject                   // n: kind, a: name
	keyKinds
)

// A key is something that must be true of whatever a rule matches.
type key struct {
	kind keyKind
	n    uint16
	a, b string
}

func principalKey(p mesh.Principal) key {
	return key{kind: keyPrincipal, a: p.TrustDomain(), b: p.Path()}
}

func objectKey(k Kind, name string) key { return key{kind: keyObject, n: uint16(k), a: name} }

// An index finds the few rules that could match, in the order they were added.
type index struct {
	keyed map[key][]int32
	kinds [keyKinds]bool // which kinds of key there are
	rest  []int32        // rules without key
}

// add files rule i, which must be greater than those before, under keys. It can
// match only where one of them is true; no keys: it could match anywhere.
func (x *index) add(i int, keys []key) {
	if len(keys) == 0 {
		x.rest = append(x.rest, int32(i))
		return
	}
	if x.keyed == nil {
		x.keyed = map[key][]int32{}
	}
	for _, k := range keys {
		list := x.keyed[k]
		if len(list) > 0 && list[len(list)-1] == int32(i) {
			continue // named twice
		}
		x.keyed[k] = append(list, int32(i))
		x.kinds[k.kind] = true
	}
}

// candidates are the rules that could match, as ordered lists that are merged.
type candidates struct {
	lists [keyKinds + 1][]int32
	n     int
}

// start begins with the rules that have no key.
func (x *index) start() candidates {
	var c candidates
	if len(x.rest) > 0 {
		c.lists[0], c.n = x.rest, 1
	}
	return c
}

// with adds the rules that are filed under k.
func (x *index) with(c *candidates, k key) {
	if !x.kinds[k.kind] {
		return
	}
	if list := x.keyed[k]; len(list) > 0 {
		c.lists[c.n] = list
		c.n++
	}
}

// next is the next rule in order, or -1.
func (c *candidates) next() int {
	if c.n == 1 {
		if l := c.lists[0]; len(l) > 0 {
			c.lists[0] = l[1:]
			return int(l[0])
		}
		return -1
	}
	least := int32(-1)
	for i := range c.n {
		if l := c.lists[i]; len(l) > 0 && (least < 0 || l[0] < least) {
			least = l[0]
		}
	}
	for i := range c.n {
		if l := c.lists[i]; len(l) > 0 && l[0] == least {
			c.lists[i] = l[1:]
		}
	}
	return int(least)
}
