package hbone

import (
	"errors"
	"net/netip"
	"testing"
)

func TestParseAuthorityReadsWhatIsUnambiguous(t *testing.T) {
	for _, c := range []struct {
		in, host string
		port     uint16
		ip       bool
	}{
		{"10.1.2.3:80", "10.1.2.3", 80, true},
		{"127.0.15.21:15008", "127.0.15.21", 15008, true},
		{"[2001:db8::1]:443", "2001:db8::1", 443, true},
		{"[2001:DB8:0::1]:443", "2001:db8::1", 443, true},
		{"mcp.tools.svc.cluster.local:8080", "mcp.tools.svc.cluster.local", 8080, false},
		{"a:1", "a", 1, false},
		{"a_b.c-d:65535", "a_b.c-d", 65535, false},
		{"1a.b2:80", "1a.b2", 80, false},
	} {
		ap, host, port, err := ParseAuthority(c.in)
		if err != nil || host != c.host || port != c.port || ap.IsValid() != c.ip {
			t.Errorf("%q: %v %q %d, %v", c.in, ap, host, port, err)
		}
		if c.ip && ap != netip.AddrPortFrom(netip.MustParseAddr(c.host), c.port) {
			t.Errorf("%q: %v", c.in, ap)
		}
	}
}

var badAuthorities = []string{
	"", ":", ":80", "10.0.0.1", "10.0.0.1:", "host", "host:", "[::]", "[]:80",
	"10.0.0.1:0", "10.0.0.1:00", "10.0.0.1:080", "10.0.0.1:65536", "10.0.0.1:99999", "10.0.0.1:123456",
	"10.0.0.1:+80", "10.0.0.1:-1", "10.0.0.1: 80", "10.0.0.1:80 ", " 10.0.0.1:80", "10.0.0.1:8_0", "10.0.0.1:0x50", "10.0.0.1:８０",
	"127.0.0.1:80", "[::1]:80", "0.0.0.0:80", "[::]:80", "0.1.2.3:80", "255.255.255.255:80",
	"[::ffff:127.0.0.1]:80", "[::ffff:10.0.0.1]:80", "[::127.0.0.1]:80", "[::2]:80", "[64:ff9b::7f00:1]:80", "[64:ff9b::127.0.0.1]:80",
	"[64:ff9b:1::1]:80", "[2002:7f00:1::]:80", "[2001:0:1::1]:80",
	"[fe80::1%eth0]:80", "[2001:db8::1%1]:80", "fe80::1%eth0:80", "10.0.0.1%eth0:80",
	"169.254.169.254:80", "169.254.1.1:80", "[fd00:ec2::254]:80", "100.100.100.200:80", "[fe80::1]:80", "224.0.0.1:80", "239.1.1.1:80", "[ff02::1]:80",
	"0177.0.0.1:80", "0x7f.0.0.1:80", "0x7f000001:80", "2130706433:80", "127.1:80", "127.0.1:80", "1.2.3:80", "10.0.0.01:80", "010.0.0.1:80", "1.2.3.4.5:80", "a.1:80", "a.0x1:80", "256.1.1.1:80",
	"user@host:80", "user:pw@host:80", "http://host:80", "host:80/", "host/x:80", "host?x:80", "host#x:80", "host%2e:80", "ho st:80", "host\x00:80", "host\r\n:80", "host\t:80",
	"[10.0.0.1]:80", "[host]:80", "[::1:80", "::1]:80", "[[::1]]:80", "[2001:db8::1]80", "[2001:db8::1]", "2001:db8::1:80", "[2001:db8::1]:80:80", "[2001:db8::1]x:80", "x[2001:db8::1]:80",
	"Host:80", "HOST:80", "hoſt:80", "bücher.example:80", "xn--bcher-kva.example:80", "a.xn--p1ai:80", "host.:80", ".host:80", "a..b:80", "-a.b:80", "a-.b:80", "*.a:80", "a,b:80", "a:b:80", "a;b:80",
}

func TestParseAuthorityRefusesWhatCouldBeReadInTwoWays(t *testing.T) {
	long := make([]byte, 300)
	for i := range long {
		long[i] = 'a'
	}
	for _, in := range append(badAuthorities, string(long)+":80", string(long[:64])+".b:80") {
		if ap, host, port, err := ParseAuthority(in); !errors.Is(err, ErrBadAuthority) {
			t.Errorf("%q was read as %v %q %d, %v", in, ap, host, port, err)
		}
	}
}

func FuzzParseAuthority(f *testing.F) {
	for _, s := range badAuthorities {
		f.Add(s)
	}
	f.Add("10.1.2.3:80")
	f.Add("[2001:db8::1]:443")
	f.Add("a.b:1")
	f.Fuzz(func(t *testing.T, s string) {
		ap, host, port, err := ParseAuthority(s)
		if err != nil {
			return
		}
		// What was read says the same when it is written and read again.
		again := netip.AddrPortFrom(ap.Addr(), port).String()
		if !ap.IsValid() {
			again = s
			if _, err := netip.ParseAddr(host); err == nil {
				t.Errorf("%q: address %q passed as hostname", s, host)
			}
		} else if a := ap.Addr(); a.Is4In6() || a.IsUnspecified() || a.IsMulticast() || a.IsLinkLocalUnicast() || a.Zone() != "" {
			t.Errorf("%q: %v", s, a)
		}
		ap2, host2, port2, err := ParseAuthority(again)
		if err != nil || ap2 != ap || host2 != host || port2 != port {
			t.Errorf("%q: %v %q %d, again %q: %v %q %d, %v", s, ap, host, port, again, ap2, host2, port2, err)
		}
	})
}
