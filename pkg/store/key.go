package store

import (
	"encoding/binary"
	"hash/maphash"
	"net/netip"

	"github.com/outrigger-mesh/outrigger/pkg/mesh"
)

// A rangeKey is an address range inside a network, without the pointer that a
// netip.Addr holds, so that looking one up allocates nothing. IPv4 is written
// as IPv4-mapped IPv6; bits count from there (an IPv4 /24 has 120).
type rangeKey struct {
	network string
	address [16]byte
	bits    uint8
}

const exact = 128 // bits of a range that is one address

func addressKey(a mesh.NetworkAddress) rangeKey {
	return rangeKey{a.Network, a.Address.As16(), exact}
}

// prefixKey is false for a prefix that is not valid.
func prefixKey(v mesh.VIP) (rangeKey, bool) {
	if !v.Prefix.IsValid() {
		return rangeKey{}, false
	}
	p := v.Prefix.Masked()
	bits := p.Bits()
	if p.Addr().Is4() {
		bits += 96
	}
	return rangeKey{v.Network, p.Addr().As16(), uint8(bits)}, true
}

// within is the range of so many bits that holds the address of k.
func (k rangeKey) within(bits int) rangeKey {
	p := netip.PrefixFrom(netip.AddrFrom16(k.address), bits).Masked()
	return rangeKey{k.network, p.Addr().As16(), uint8(bits)}
}

func hashRange(k rangeKey) uint64 {
	const odd = 0x9e3779b97f4a7c15
	var b [17]byte
	copy(b[:], k.address[:])
	b[16] = k.bits
	h := maphash.Bytes(seed, b[:])
	if k.network != "" {
		h ^= maphash.String(seed, k.network) * odd
	}
	return h
}

func hashName(n mesh.Name) uint64 {
	var b [8]byte
	binary.LittleEndian.PutUint64(b[:], maphash.String(seed, n.Namespace))
	return maphash.String(seed, n.Hostname) ^ maphash.Bytes(seed, b[:])
}
