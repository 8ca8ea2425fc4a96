package capture

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"time"
)

// A Dialer connects to where the app, or the next hop, really is. The zero Dialer
// works where nothing is redirected. It may be used concurrently.
type Dialer struct {
	// Mark is put on every connection (SO_MARK), so that the redirection lets it
	// pass; 0 puts none. It needs CAP_NET_ADMIN and exists on Linux only.
	Mark      uint32
	Timeout   time.Duration // 0 means 10s
	KeepAlive time.Duration // of silence before a peer on another machine is probed, and between probes; 0 means 15s
}

// Dial connects to an address.
func (d *Dialer) Dial(ctx context.Context, to netip.AddrPort) (net.Conn, error) {
	return d.DialHost(ctx, to.String())
}

// DialHost connects to host:port, where the host may be a name.
func (d *Dialer) DialHost(ctx context.Context, to string) (net.Conn, error) {
	nd := net.Dialer{Timeout: d.Timeout, KeepAlive: -1} // set on the connection instead, once its ends are known
	if nd.Timeout == 0 {
		nd.Timeout = 10 * time.Second
	}
	if d.Mark != 0 {
		nd.ControlContext = markWith(d.Mark)
	}
	c, err := nd.DialContext(ctx, "tcp", to)
	if err != nil {
		return nil, fmt.Errorf("dial %s: %w", to, reason(err))
	}
	tcp := c.(*net.TCPConn)
	if err := keep(tcp, addrPort(tcp.LocalAddr()).Addr(), addrPort(tcp.RemoteAddr()).Addr(), keepAlive(d.KeepAlive)); err != nil {
		c.Close()
		return nil, fmt.Errorf("dial %s: %w", to, err)
	}
	return c, nil
}
