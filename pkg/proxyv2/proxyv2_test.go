package proxyv2

import (
	"encoding/binary"
	"errors"
	"net/netip"
	"strings"
	"testing"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const sig = "\r\n\r\n\x00\r\nQUIT\n"

func TestHeadersAreAsTheSpecificationHasThem(t *testing.T) {
	at := netip.MustParseAddrPort
	for _, c := range []struct {
		name   string
		header Header
		want   string
	}{
		{"IPv4", Header{Source: at("10.0.0.9:4711"), Destination: at("10.0.0.1:80")},
			sig + "\x21\x11\x00\x0c" + "\x0a\x00\x00\x09\x0a\x00\x00\x01\x12\x67\x00\x50"},
		{"IPv4 in IPv6", Header{Source: at("[::ffff:10.0.0.9]:4711"), Destination: at("10.0.0.1:80")},
			sig + "\x21\x11\x00\x0c" + "\x0a\x00\x00\x09\x0a\x00\x00\x01\x12\x67\x00\x50"},
		{"IPv6", Header{Source: at("[fd00::9]:1"), Destination: at("[fd00::1]:80")},
			sig + "\x21\x21\x00\x24" + "\xfd" + zeros(14) + "\x09\xfd" + zeros(14) + "\x01\x00\x01\x00\x50"},
		{"both families", Header{Source: at("10.0.0.9:1"), Destination: at("[fd00::1]:80")},
			sig + "\x21\x21\x00\x24" + zeros(10) + "\xff\xff\x0a\x00\x00\x09\xfd" + zeros(14) + "\x01\x00\x01\x00\x50"},
		{"identity", Header{Source: at("10.0.0.9:4711"), Destination: at("10.0.0.1:80"), Principal: "spiffe://a/b"},
			sig + "\x21\x11\x00\x1b" + "\x0a\x00\x00\x09\x0a\x00\x00\x01\x12\x67\x00\x50" + "\xd0\x00\x0cspiffe://a/b"},
		{"identity and service", Header{Source: at("10.0.0.9:4711"), Destination: at("10.0.0.1:80"), Principal: "spiffe://a/b", Service: "x.y"},
			sig + "\x21\x11\x00\x21" + "\x0a\x00\x00\x09\x0a\x00\x00\x01\x12\x67\x00\x50" + "\xd0\x00\x0cspiffe://a/b" + "\xd1\x00\x03x.y"},
	} {
		got, err := c.header.Append([]byte("before"))
		if err != nil || string(got) != "before"+c.want {
			t.Errorf("%s: %q, %v\nwant %q", c.name, got, err, c.want)
		}
	}
}

func zeros(n int) string { return strings.Repeat("\x00", n) }

func TestAHeaderThatSaysNothingIsAnError(t *testing.T) {
	at := netip.MustParseAddrPort("10.0.0.1:80")
	for name, h := range map[string]Header{
		"no source":      {Destination: at},
		"no destination": {Source: at},
		"long identity":  {Source: at, Destination: at, Principal: strings.Repeat("x", maxField+1)},
		"long service":   {Source: at, Destination: at, Service: strings.Repeat("x", maxField+1)},
	} {
		if b, err := h.Append(nil); err == nil || len(b) != 0 {
			t.Errorf("%s: %q", name, b)
		}
	}
	if _, err := (&Header{}).Append(nil); !errors.Is(err, errNoAddress) {
		t.Error(err)
	}
}

// FuzzHeader: whatever the values are, the lengths add up, so that no value
// becomes another field or the app's first bytes.
func FuzzHeader(f *testing.F) {
	f.Add([]byte{10, 0, 0, 1}, []byte{10, 0, 0, 2}, "spiffe://a/b", "x.y")
	f.Add(make([]byte, 16), []byte{10, 0, 0, 2}, "\xd1\x00\x01x", "")
	f.Fuzz(func(t *testing.T, src, dst []byte, principal, service string) {
		s, _ := netip.AddrFromSlice(src)
		d, _ := netip.AddrFromSlice(dst)
		h := Header{netip.AddrPortFrom(s, 1), netip.AddrPortFrom(d, 2), principal, service}
		b, err := h.Append(nil)
		if err != nil {
			return
		}
		if n := int(binary.BigEndian.Uint16(b[14:])); n != len(b)-16 {
			t.Fatalf("length %d of %d", n, len(b)-16)
		}
		rest := b[16+12:]
		if b[13] == tcp6 {
			rest = b[16+36:]
		}
		for _, want := range []string{principal, service} {
			if want == "" {
				continue
			}
			n := int(binary.BigEndian.Uint16(rest[1:]))
			if string(rest[3:3+n]) != want {
				t.Fatalf("%q, want %q", rest[3:3+n], want)
			}
			rest = rest[3+n:]
		}
		if len(rest) != 0 {
			t.Fatalf("%q is left", rest)
		}
	})
}

func BenchmarkAppend(b *testing.B) {
	h := Header{netip.MustParseAddrPort("10.0.0.9:1"), netip.MustParseAddrPort("10.0.0.1:80"), "spiffe://cluster.local/ns/a/sa/b", "x.a.svc.cluster.local"}
	buf := make([]byte, 0, 256)
	b.ReportAllocs()
	for b.Loop() {
		if _, err := h.Append(buf); err != nil {
			b.Fatal(err)
		}
	}
}
