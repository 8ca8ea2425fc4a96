package capture

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"syscall"

	"golang.org/x/sys/unix"
)

// originalDst is SO_ORIGINAL_DST and IP6T_SO_ORIGINAL_DST, which have one value.
const originalDst = 80

// originalDestination asks netfilter where a connection was going. It is not ok if
// the connection is not tracked, and so was not redirected.
func originalDestination(c *net.TCPConn, local netip.Addr) (dst netip.AddrPort, ok bool, err error) {
	raw, err := c.SyscallConn()
	if err != nil {
		return dst, false, err
	}
	var sysErr error
	err = raw.Control(func(fd uintptr) {
		if local.Is4() {
			dst, sysErr = original4(int(fd))
		} else {
			dst, sysErr = original6(int(fd))
		}
	})
	switch {
	case err != nil:
		return dst, false, err
	case errors.Is(sysErr, unix.ENOENT), errors.Is(sysErr, unix.ENOPROTOOPT), errors.Is(sysErr, unix.EOPNOTSUPP):
		return dst, false, nil // not tracked, or nothing on this machine tracks
	case sysErr != nil:
		return dst, false, fmt.Errorf("SO_ORIGINAL_DST: %w", sysErr)
	}
	return dst, true, nil
}

// original4 and original6 use the getsockopt calls of x/sys/unix whose results are
// large enough for a sockaddr_in and a sockaddr_in6.
func original4(fd int) (netip.AddrPort, error) {
	v, err := unix.GetsockoptIPv6Mreq(fd, unix.SOL_IP, originalDst)
	if err != nil {
		return netip.AddrPort{}, err
	}
	return decode4(v.Multiaddr)
}

func original6(fd int) (netip.AddrPort, error) {
	v, err := unix.GetsockoptIPv6MTUInfo(fd, unix.SOL_IPV6, originalDst)
	if err != nil {
		return netip.AddrPort{}, err
	}
	if v.Addr.Family != unix.AF_INET6 {
		return netip.AddrPort{}, unix.EAFNOSUPPORT
	}
	var port [2]byte
	binary.NativeEndian.PutUint16(port[:], v.Addr.Port)
	return netip.AddrPortFrom(netip.AddrFrom16(v.Addr.Addr).Unmap(), binary.BigEndian.Uint16(port[:])), nil
}

// decode4 reads a sockaddr_in: family in the machine's order, then port and
// address in the network's.
func decode4(b [16]byte) (netip.AddrPort, error) {
	if binary.NativeEndian.Uint16(b[:]) != unix.AF_INET {
		return netip.AddrPort{}, unix.EAFNOSUPPORT
	}
	return netip.AddrPortFrom(netip.AddrFrom4([4]byte(b[4:8])), binary.BigEndian.Uint16(b[2:])), nil
}

// markWith puts a mark on a socket before it connects.
func markWith(mark uint32) func(context.Context, string, string, syscall.RawConn) error {
	return func(_ context.Context, _, _ string, raw syscall.RawConn) error {
		var sysErr error
		if err := raw.Control(func(fd uintptr) {
			sysErr = unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_MARK, int(mark))
		}); err != nil {
			return err
		}
		if sysErr != nil {
			return fmt.Errorf("set SO_MARK %#x: %w", mark, sysErr)
		}
		return nil
	}
}
