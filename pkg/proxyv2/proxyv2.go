// Package proxyv2 tells an app who is at the other end of a connection that we
// carry to it: the binary header, version 2, of HAProxy's PROXY protocol, with
// the fields that an ambient mesh adds. It writes headers and reads none.
package proxyv2

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"
)

// Types of fields, of those that the specification leaves to applications.
const (
	sourcePrincipal    = 0xD0 // the SPIFFE ID that the source has proved
	destinationService = 0xD1 // the hostname of the service that was asked for
)

// maxField is the longest value, in bytes: a SPIFFE ID has at most 2048, a hostname 253.
const maxField = 2048

// A Header is what an app is told before the first byte of a connection.
type Header struct {
	Source      netip.AddrPort // of the peer
	Destination netip.AddrPort // that was asked for; of the same family as Source, or that is mapped
	Principal   string         // SPIFFE ID; "" if nobody was authenticated: then there is no such field
	Service     string         // hostname; "" if no service was asked for by name or address
}

var signature = [12]byte{'\r', '\n', '\r', '\n', 0, '\r', '\n', 'Q', 'U', 'I', 'T', '\n'}

const (
	versionProxy = 0x21 // version 2, command PROXY
	tcp4         = 0x11
	tcp6         = 0x21
)

// errNoAddress means that a header would not say who speaks to whom.
var errNoAddress = errors.New("PROXY header without an address")

// Append adds the header to b.
func (h *Header) Append(b []byte) ([]byte, error) {
	src, dst := h.Source.Addr().Unmap(), h.Destination.Addr().Unmap()
	if !src.IsValid() || !dst.IsValid() {
		return b, fmt.Errorf("%w: from %v to %v", errNoAddress, h.Source, h.Destination)
	}
	if len(h.Principal) > maxField || len(h.Service) > maxField {
		return b, fmt.Errorf("PROXY header: a field of %d bytes, at most %d are sent", max(len(h.Principal), len(h.Service)), maxField)
	}
	b = append(b, signature[:]...)
	b = append(b, versionProxy)
	start := len(b) + 3
	if src.Is4() && dst.Is4() {
		b = append(b, tcp4, 0, 0)
		b = append(b, src.AsSlice()...)
		b = append(b, dst.AsSlice()...)
	} else { // one family for both: an IPv4 address goes as ::ffff:a.b.c.d
		s, d := src.As16(), dst.As16()
		b = append(b, tcp6, 0, 0)
		b = append(b, s[:]...)
		b = append(b, d[:]...)
	}
	b = binary.BigEndian.AppendUint16(b, h.Source.Port())
	b = binary.BigEndian.AppendUint16(b, h.Destination.Port())
	b = field(b, sourcePrincipal, h.Principal)
	b = field(b, destinationService, h.Service)
	binary.BigEndian.PutUint16(b[start-2:], uint16(len(b)-start))
	return b, nil
}

// field adds a type-length-value, unless it is empty.
func field(b []byte, typ byte, value string) []byte {
	if value == "" {
		return b
	}
	b = append(b, typ)
	b = binary.BigEndian.AppendUint16(b, uint16(len(value)))
	return append(b, value...)
}
