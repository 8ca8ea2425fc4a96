package hbone

import (
	"errors"
	"fmt"
	"strconv"

	"golang.org/x/net/http2/hpack"
)

// MaxHops is how many of our sidecars one connection may cross.
const MaxHops = 4

// maxFieldValue bounds each header field we send or keep, in bytes.
const maxFieldValue = 8 << 10

// Header is what a CONNECT carries besides its authority. None of it is trusted for authorization.
type Header struct {
	Baggage     string // W3C baggage that describes the source
	Forwarded   string // RFC 7239
	TraceParent string // W3C trace context
	Network     string // x-forwarded-network
	IstioSource string // x-istio-source: waypoint, gateway, sidecar
	Hops        int    // x-outrigger-hops: how many of our sidecars it has crossed
}

var (
	errTooManyHops = errors.New("crossed too many sidecars")
	errBadHeader   = errors.New("bad header field")
)

// check tells whether h can be sent.
func (h *Header) check() error {
	if h.Hops < 0 || h.Hops > MaxHops {
		return fmt.Errorf("%w: %d, at most %d", errTooManyHops, h.Hops, MaxHops)
	}
	for _, v := range [...]string{h.Baggage, h.Forwarded, h.TraceParent, h.Network, h.IstioSource} {
		if len(v) > maxFieldValue || !validFieldValue(v) {
			return fmt.Errorf("%w: %q", errBadHeader, clip(v))
		}
	}
	return nil
}

// encode writes the fields that are set.
func (h *Header) encode(field func(name, value string, index bool)) {
	for _, f := range [...]struct {
		name, value string
		index       bool
	}{
		{"baggage", h.Baggage, true},
		{"forwarded", h.Forwarded, false},
		{"traceparent", h.TraceParent, false},
		{"x-forwarded-network", h.Network, true},
		{"x-istio-source", h.IstioSource, true},
	} {
		if f.value != "" {
			field(f.name, f.value, f.index)
		}
	}
	if h.Hops > 0 {
		field("x-outrigger-hops", strconv.Itoa(h.Hops), true)
	}
}

// add takes over a field that was received; unknown ones are ignored.
func (h *Header) add(f hpack.HeaderField) error {
	switch f.Name {
	case "baggage":
		join(&h.Baggage, f.Value, ",")
	case "forwarded":
		join(&h.Forwarded, f.Value, ", ")
	case "traceparent":
		if h.TraceParent == "" && validTraceParent(f.Value) {
			h.TraceParent = f.Value
		}
	case "x-forwarded-network":
		return once(&h.Network, f)
	case "x-istio-source":
		return once(&h.IstioSource, f)
	case "x-outrigger-hops":
		return h.addHops(f.Value)
	}
	return nil
}

func (h *Header) addHops(v string) error {
	if len(v) != 1 || v[0] < '1' || v[0] > '9' || h.Hops != 0 {
		return fmt.Errorf("%w: x-outrigger-hops %q", errBadHeader, clip(v))
	}
	h.Hops = int(v[0] - '0')
	if h.Hops > MaxHops {
		return fmt.Errorf("%w: %d, at most %d", errTooManyHops, h.Hops, MaxHops)
	}
	return nil
}

func join(dst *string, v, sep string) {
	switch {
	case len(*dst)+len(v) > maxFieldValue:
	case *dst == "":
		*dst = v
	default:
		*dst += sep + v
	}
}

func once(dst *string, f hpack.HeaderField) error {
	if *dst != "" || len(f.Value) > maxFieldValue {
		return fmt.Errorf("%w: %s", errBadHeader, f.Name)
	}
	*dst = f.Value
	return nil
}

// validTraceParent: version 00 of W3C trace context, the only one in use.
func validTraceParent(s string) bool {
	if len(s) != 55 || s[:3] != "00-" || s[35] != '-' || s[52] != '-' {
		return false
	}
	for i := 3; i < len(s); i++ {
		c := s[i]
		if i != 35 && i != 52 && !(c >= '0' && c <= '9' || c >= 'a' && c <= 'f') {
			return false
		}
	}
	return true
}

// validFieldValue: RFC 9113 §8.2.1 and printable, as logs will have it.
func validFieldValue(s string) bool {
	for i := range len(s) {
		if c := s[i]; c < ' ' && c != '\t' || c == 0x7f {
			return false
		}
	}
	return s == "" || s[0] != ' ' && s[0] != '\t' && s[len(s)-1] != ' ' && s[len(s)-1] != '\t'
}

// validFieldName: RFC 9113 §8.2.1, a lower-case token.
func validFieldName(s string) bool {
	if s == "" {
		return false
	}
	for i := range len(s) {
		if c := s[i]; c <= ' ' || c >= 0x7f || c >= 'A' && c <= 'Z' || notToken(c) {
			return false
		}
	}
	return true
}

func notToken(c byte) bool {
	switch c {
	case '"', '(', ')', ',', '/', ':', ';', '<', '=', '>', '?', '@', '[', '\\', ']', '{', '}':
		return true
	}
	return false
}
