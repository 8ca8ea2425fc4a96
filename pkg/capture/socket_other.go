//go:build !linux

package capture

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"syscall"
)

// originalDestination never knows one: there is no redirection outside Linux.
func originalDestination(*net.TCPConn, netip.Addr) (netip.AddrPort, bool, error) {
	return netip.AddrPort{}, false, nil
}

func markWith(mark uint32) func(context.Context, string, string, syscall.RawConn) error {
	return func(context.Context, string, string, syscall.RawConn) error {
		return fmt.Errorf("set SO_MARK %#x: %w", mark, errors.ErrUnsupported)
	}
}
