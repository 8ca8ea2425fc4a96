package store

import "slices"

// Some keys lead to several values, the best first: an address that two workloads
// have, a hostname of many namespaces. The lists are ordered by what is compared,
// by which no two values are equal.

// manyClaims is from how many on a list is changed in place as long as no reader has it.
const manyClaims = 16

// claim adds v to the list of key, in its place, unless it is there.
func claim[K, V comparable](e *edit, x *index[K, []V], key K, v V, compare func(a, b V) int) (added bool) {
	list, _ := x.get(key)
	if len(list) == 0 {
		x.put(e, key, []V{v})
		return true
	}
	i, found := slices.BinarySearchFunc(list, v, compare)
	if found && list[i] == v {
		return false
	}
	x.put(e, key, slices.Insert(editableList(e, x, key, list), i, v))
	return true
}

// exchange puts v, in its place, where old is in the list of key.
func exchange[K, V comparable](e *edit, x *index[K, []V], key K, old, v V, compare func(a, b V) int) {
	list, _ := x.get(key)
	i, found := slices.BinarySearchFunc(list, old, compare)
	if !found || list[i] != old {
		claim(e, x, key, v, compare)
		return
	}
	list = slices.Delete(editableList(e, x, key, list), i, i+1)
	if i, found = slices.BinarySearchFunc(list, v, compare); !found || list[i] != v {
		list = slices.Insert(list, i, v)
	}
	x.put(e, key, list)
}

// retract takes v off the list of key.
func retract[K, V comparable](e *edit, x *index[K, []V], key K, v V, compare func(a, b V) int) (removed bool) {
	list, _ := x.get(key)
	i, found := slices.BinarySearchFunc(list, v, compare)
	switch {
	case !found || list[i] != v:
		return false
	case len(list) == 1:
		x.remove(e, key)
	default:
		x.put(e, key, slices.Delete(editableList(e, x, key, list), i, i+1))
	}
	return true
}

// editableList is a list of x that e may change: a copy, or the list itself if it is
// long and e has made it.
func editableList[K, V comparable](e *edit, x *index[K, []V], key K, list []V) []V {
	if len(list) < manyClaims {
		return slices.Clone(list)
	}
	id := [2]any{x, key}
	if e.lists[id] {
		return list
	}
	if e.lists == nil {
		e.lists = map[[2]any]bool{}
	}
	e.lists[id] = true
	return slices.Grow(slices.Clone(list), 1)
}
