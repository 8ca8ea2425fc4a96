package hbone

import (
	"errors"
	"fmt"
	"net/netip"
	"strconv"
	"strings"
)

// ErrBadAuthority means that an :authority does not name one place without ambiguity.
var ErrBadAuthority = errors.New("bad authority")

const maxHostname = 253

// ParseAuthority reads the :authority of a CONNECT: "IP:port", "[IPv6]:port" or
// "hostname:port". For an address the AddrPort is valid and host is its
// canonical text; for a hostname the AddrPort is zero.
//
// It is strict, because a second reading of the same text is a way around
// policy: no user, zone, path, escape, upper case, IDN, trailing dot, short,
// octal or hexadecimal IPv4, IPv4 inside IPv6 (mapped, NAT64, 6to4), no port 0
// and no port with a sign or leading zero. Addresses that are nobody's workload are
// refused as well: unspecified, multicast, link-local, broadcast, cloud metadata,
// 127.0.0.1 and ::1. The rest of 127/8 passes, since a mesh on one machine
// gives it to workloads. Whether the place may be reached is for the Handler.
func ParseAuthority(authority string) (netip.AddrPort, string, uint16, error) {
	host, port, err := splitAuthority(authority)
	if err != nil {
		return netip.AddrPort{}, "", 0, fmt.Errorf("%w %q: %s", ErrBadAuthority, clip(authority), err.Error())
	}
	if bracketed := strings.HasPrefix(authority, "["); bracketed || looksNumeric(host) {
		ip, err := parseHostIP(host, bracketed)
		if err != nil {
			return netip.AddrPort{}, "", 0, fmt.Errorf("%w %q: %s", ErrBadAuthority, clip(authority), err.Error())
		}
		return netip.AddrPortFrom(ip, port), ip.String(), port, nil
	}
	if err := checkHostname(host); err != nil {
		return netip.AddrPort{}, "", 0, fmt.Errorf("%w %q: %s", ErrBadAuthority, clip(authority), err.Error())
	}
	return netip.AddrPort{}, host, port, nil
}

func splitAuthority(s string) (host string, port uint16, err error) {
	if len(s) > maxHostname+len(":65535") {
		return "", 0, errors.New("too long")
	}
	i := strings.LastIndexByte(s, ':')
	if i < 0 {
		return "", 0, errors.New("no port")
	}
	host, digits := s[:i], s[i+1:]
	if strings.HasPrefix(host, "[") {
		if !strings.HasSuffix(host, "]") {
			return "", 0, errors.New("bracket not closed before the port")
		}
		host = host[1 : len(host)-1]
	} else if strings.IndexByte(host, ':') >= 0 {
		return "", 0, errors.New("IPv6 without brackets")
	}
	port, err = parsePort(digits)
	return host, port, err
}

func parsePort(digits string) (uint16, error) {
	if digits == "" || len(digits) > 5 || digits[0] == '0' {
		return 0, errors.New("bad port")
	}
	for i := range len(digits) {
		if digits[i] < '0' || digits[i] > '9' {
			return 0, errors.New("bad port")
		}
	}
	n, err := strconv.ParseUint(digits, 10, 16)
	if err != nil {
		return 0, errors.New("bad port")
	}
	return uint16(n), nil
}

// looksNumeric tells whether some resolver would take host for an IPv4 address:
// its last label is a number.
func looksNumeric(host string) bool {
	label := host[strings.LastIndexByte(host, '.')+1:]
	if label == "" {
		return false
	}
	if rest, ok := strings.CutPrefix(label, "0x"); ok {
		_, err := strconv.ParseUint("0"+rest, 16, 64)
		return err == nil
	}
	for i := range len(label) {
		if label[i] < '0' || label[i] > '9' {
			return false
		}
	}
	return true
}

func parseHostIP(host string, bracketed bool) (netip.Addr, error) {
	ip, err := netip.ParseAddr(host)
	switch {
	case err != nil:
		return ip, errors.New("not an IP address")
	case ip.Zone() != "":
		return ip, errors.New("zone")
	case bracketed != ip.Is6():
		return ip, errors.New("brackets are for IPv6")
	case embedsIPv4(ip):
		return ip, errors.New("IPv4 inside IPv6")
	case !reachable(ip):
		return ip, errors.New("address is no workload's")
	}
	return ip, nil
}

func embedsIPv4(ip netip.Addr) bool {
	if ip.Is4In6() {
		return true
	}
	for _, p := range [...]netip.Prefix{
		netip.PrefixFrom(netip.AddrFrom16([16]byte{0, 0x64, 0xff, 0x9b}), 96),       // NAT64, RFC 6052
		netip.PrefixFrom(netip.AddrFrom16([16]byte{0, 0x64, 0xff, 0x9b, 0, 1}), 48), // NAT64, RFC 8215
		netip.PrefixFrom(netip.AddrFrom16([16]byte{0x20, 0x02}), 16),                // 6to4
		netip.PrefixFrom(netip.AddrFrom16([16]byte{0x20, 0x01}), 32),                // Teredo
	} {
		if p.Contains(ip) {
			return true
		}
	}
	// IPv4-compatible ::a.b.c.d, long deprecated; :: and ::1 fall under reachable.
	b := ip.As16()
	return ip.Is6() && [12]byte(b[:12]) == [12]byte{} && ip != netip.IPv6Unspecified() && ip != netip.IPv6Loopback()
}

func reachable(ip netip.Addr) bool {
	switch ip {
	case netip.AddrFrom4([4]byte{127, 0, 0, 1}), netip.IPv6Loopback(),
		netip.AddrFrom4([4]byte{255, 255, 255, 255}),
		netip.AddrFrom4([4]byte{100, 100, 100, 200}),                              // metadata of Alibaba Cloud
		netip.AddrFrom16([16]byte{0: 0xfd, 2: 0x0e, 3: 0xc2, 14: 0x02, 15: 0x54}): // metadata of AWS, fd00:ec2::254
		return false
	}
	thisNetwork := ip.Is4() && ip.As4()[0] == 0
	return !thisNetwork && !ip.IsUnspecified() && !ip.IsMulticast() && !ip.IsLinkLocalUnicast()
}

func checkHostname(host string) error {
	if host == "" || len(host) > maxHostname {
		return errors.New("bad hostname length")
	}
	for label := range strings.SplitSeq(host, ".") {
		if label == "" || len(label) > 63 || label[0] == '-' || label[len(label)-1] == '-' {
			return errors.New("bad hostname label")
		}
		if strings.HasPrefix(label, "xn--") {
			return errors.New("internationalised hostname")
		}
		for i := range len(label) {
			c := label[i]
			if !(c >= 'a' && c <= 'z' || c >= '0' && c <= '9' || c == '-' || c == '_') {
				return errors.New("bad hostname character")
			}
		}
	}
	return nil
}

// clip keeps what a peer wrote short enough for an error.
func clip(s string) string {
	if len(s) > 64 {
		return s[:64] + "..."
	}
	return s
}
