// Package capture accepts the connections of the app, tells where each was going
// before it was redirected to us, and dials past the redirection. It is the only
// home of socket options. It does not know what is done with a connection.
package capture

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"syscall"
	"time"
)

// Config is how to listen.
type Config struct {
	Address string // host:port; "[::]:15001" or ":15001" takes IPv4 and IPv6, "127.0.0.1:8080" one of them
	Flag    string // the flag that sets Address, for the errors, e.g. "--listen"; "" if there is none

	// Forward is a fixed destination, host:port, of every connection. Then the
	// listener needs no redirection: the app calls its address. Empty: connections
	// are redirected here and go where they were going.
	Forward string

	KeepAlive time.Duration // of silence before a peer on another machine is probed, and between probes; 0 means 15s
}

// A Listener accepts TCP connections. It is a net.Listener whose connections are
// all of type *Conn.
type Listener struct {
	*net.TCPListener
	forward string
	keep    net.KeepAliveConfig
	closed  context.Context
	close   context.CancelFunc
}

// A Conn is a connection that was accepted.
type Conn struct {
	*net.TCPConn
	Source netip.AddrPort
	Local  netip.AddrPort // where it arrived

	// Forward is the fixed destination, host:port, of the listener; "" if it has none.
	Forward string
	// Original is where the connection was going before it was redirected. If
	// nobody redirected it, or Forward is set, it is Local.
	Original netip.AddrPort
}

// Redirected tells whether somebody redirected the connection. One that was not,
// and has no Forward, was made to the listener itself: who follows its Original
// would call himself.
func (c *Conn) Redirected() bool { return c.Original != c.Local }

// Listen listens. An error is a *ListenError.
func Listen(ctx context.Context, c Config) (*Listener, error) {
	if c.Forward != "" {
		if _, _, err := net.SplitHostPort(c.Forward); err != nil {
			return nil, &ListenError{Address: c.Address, Problem: "forward to " + c.Forward, Remedy: "write it as host:port", Err: err}
		}
	}
	lc := net.ListenConfig{KeepAlive: -1} // set on each connection instead, with all its parts
	ln, err := lc.Listen(ctx, "tcp", c.Address)
	if err != nil {
		return nil, explain(c, err)
	}
	l := &Listener{TCPListener: ln.(*net.TCPListener), forward: c.Forward, keep: keepAlive(c.KeepAlive)}
	l.closed, l.close = context.WithCancel(context.WithoutCancel(ctx))
	return l, nil
}

// Close ends Accept.
func (l *Listener) Close() error {
	l.close()
	return l.TCPListener.Close()
}

// Accept waits for the next connection; it is a *Conn. An error ends the listener,
// except for those that are of one connection only, which are skipped, and for
// want of files or memory, which passes.
func (l *Listener) Accept() (net.Conn, error) {
	for pause := minPause; ; {
		tcp, err := l.AcceptTCP()
		if err != nil && passing(err) {
			select {
			case <-l.closed.Done():
				return nil, err
			case <-time.After(pause):
				pause = min(2*pause, maxPause)
				continue
			}
		}
		if err != nil {
			return nil, err
		}
		pause = minPause
		if c, err := l.adopt(tcp); err == nil {
			return c, nil
		}
		tcp.Close() // it was reset before we looked at it
	}
}

// Sockets is l for who wants to know nothing but the ends of a connection: its
// Accept returns a *net.TCPConn.
func (l *Listener) Sockets() net.Listener { return sockets{l} }

type sockets struct{ *Listener }

func (s sockets) Accept() (net.Conn, error) {
	c, err := s.Listener.Accept()
	if err != nil {
		return nil, err
	}
	return c.(*Conn).TCPConn, nil
}

// How long Accept waits where the system is short of something.
const minPause, maxPause = 5 * time.Millisecond, time.Second

// passing tells whether accept may work again soon: the system is short of
// something, or the connection was gone before it was accepted.
func passing(err error) bool {
	for _, errno := range [...]syscall.Errno{syscall.EMFILE, syscall.ENFILE, syscall.ENOBUFS, syscall.ENOMEM, syscall.ECONNABORTED, syscall.EINTR} {
		if errors.Is(err, errno) {
			return true
		}
	}
	return false
}

func (l *Listener) adopt(tcp *net.TCPConn) (*Conn, error) {
	c := &Conn{TCPConn: tcp, Source: addrPort(tcp.RemoteAddr()), Local: addrPort(tcp.LocalAddr()), Forward: l.forward}
	if err := keep(tcp, c.Local.Addr(), c.Source.Addr(), l.keep); err != nil {
		return nil, err
	}
	c.Original = c.Local
	if l.forward != "" {
		return c, nil
	}
	original, ok, err := originalDestination(tcp, c.Local.Addr())
	if err != nil {
		return nil, fmt.Errorf("find the original destination: %w", err)
	}
	if ok {
		c.Original = original
	}
	return c, nil
}

// addrPort returns the address of a TCP connection's end; one of IPv4 is never
// written as IPv6.
func addrPort(a net.Addr) netip.AddrPort {
	ap := a.(*net.TCPAddr).AddrPort()
	return netip.AddrPortFrom(ap.Addr().Unmap(), ap.Port())
}

// keep has a connection probed, unless both ends are on this machine: then the
// kernel itself tells of an end that is gone.
func keep(c *net.TCPConn, local, remote netip.Addr, k net.KeepAliveConfig) error {
	if local == remote || local.IsLoopback() || remote.IsLoopback() {
		return nil
	}
	if err := c.SetKeepAliveConfig(k); err != nil {
		return fmt.Errorf("set keep-alive: %w", err)
	}
	return nil
}

func keepAlive(d time.Duration) net.KeepAliveConfig {
	if d == 0 {
		d = 15 * time.Second
	}
	return net.KeepAliveConfig{Enable: true, Idle: d, Interval: d, Count: 3}
}
