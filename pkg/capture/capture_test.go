package capture

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"strings"
	"syscall"
	"testing"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// call dials the listener and returns its end of the connection.
func call(t *testing.T, l *Listener, to string) *Conn {
	t.Helper()
	d := Dialer{}
	c, err := d.DialHost(t.Context(), to)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	got, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { got.Close() })
	conn := got.(*Conn)
	if want := c.LocalAddr().(*net.TCPAddr).AddrPort(); conn.Source != want {
		t.Errorf("source %v, want %v", conn.Source, want)
	}
	return conn
}

func listen(t *testing.T, c Config) *Listener {
	t.Helper()
	l, err := Listen(t.Context(), c)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	return l
}

func TestAcceptTakesADirectConnectionForNotRedirected(t *testing.T) {
	for _, host := range []string{"127.0.0.1", "[::1]"} {
		l := listen(t, Config{Address: host + ":0"})
		c := call(t, l, l.Addr().String())
		if c.Redirected() || c.Original != c.Local || c.Local.String() != l.Addr().String() {
			t.Errorf("%s: original %v, local %v", host, c.Original, c.Local)
		}
	}
}

func TestSocketsAreWhatTheListenerAccepts(t *testing.T) {
	l := listen(t, Config{Address: "127.0.0.1:0"})
	d := Dialer{}
	c, err := d.DialHost(t.Context(), l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	got, err := l.Sockets().Accept()
	if err != nil {
		t.Fatal(err)
	}
	defer got.Close()
	if _, ok := got.(*net.TCPConn); !ok {
		t.Errorf("a %T", got)
	}
	l.Close()
	if _, err := l.Sockets().Accept(); err == nil {
		t.Error("a closed listener accepts")
	}
}

func TestOneListenerTakesBothFamiliesAndUnmapsIPv4(t *testing.T) {
	l := listen(t, Config{Address: ":0"})
	port := l.Addr().(*net.TCPAddr).AddrPort().Port()
	for _, ip := range []string{"127.0.0.1", "::1"} {
		want := netip.AddrPortFrom(netip.MustParseAddr(ip), port)
		if c := call(t, l, want.String()); c.Local != want || c.Original != want {
			t.Errorf("local %v, original %v, want %v", c.Local, c.Original, want)
		}
	}
}

func TestForwardListenerNamesItsDestination(t *testing.T) {
	l := listen(t, Config{Address: "127.0.0.1:0", Forward: "github.tools.svc.cluster.local:80"})
	if c := call(t, l, l.Addr().String()); c.Forward != "github.tools.svc.cluster.local:80" || c.Redirected() {
		t.Errorf("forward %q, original %v", c.Forward, c.Original)
	}
}

func TestListenSaysWhatToDoAboutIt(t *testing.T) {
	taken := listen(t, Config{Address: "127.0.0.1:0"})
	addr := taken.Addr().String()
	for _, c := range []struct {
		config Config
		is     error
		want   string
	}{
		{Config{Address: addr, Flag: "--listen"}, syscall.EADDRINUSE,
			"listen on " + addr + ": address already in use: choose another with --listen or stop what uses it"},
		{Config{Address: addr}, syscall.EADDRINUSE,
			"listen on " + addr + ": address already in use: choose another or stop what uses it"},
		{Config{Address: "192.0.2.1:80", Flag: "--listen"}, syscall.EADDRNOTAVAIL,
			"listen on 192.0.2.1:80: no interface of this machine has this address: choose another with --listen"},
		{Config{Address: "127.0.0.1"}, nil, "write it as host:port"},
		{Config{Address: "127.0.0.1:0", Forward: "github"}, nil, "write it as host:port"},
	} {
		l, err := Listen(t.Context(), c.config)
		if err == nil {
			l.Close()
			t.Errorf("%+v: no error", c.config)
			continue
		}
		if _, ok := errors.AsType[*ListenError](err); !ok || !strings.HasSuffix(err.Error(), c.want) {
			t.Errorf("got  %v\nwant %v", err, c.want)
		}
		if c.is != nil && !errors.Is(err, c.is) {
			t.Errorf("%v is not %v", err, c.is)
		}
	}
}

func TestDialSaysWhereItWasGoing(t *testing.T) {
	l := listen(t, Config{Address: "127.0.0.1:0"})
	addr := l.Addr().(*net.TCPAddr).AddrPort()
	l.Close()
	d := Dialer{}
	_, err := d.Dial(t.Context(), addr)
	if want := "dial " + addr.String() + ": connection refused"; err == nil || err.Error() != want || !errors.Is(err, syscall.ECONNREFUSED) {
		t.Errorf("got %v, want %s", err, want)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := d.Dial(ctx, addr); !errors.Is(err, context.Canceled) && err == nil {
		t.Errorf("dialled with an ended context: %v", err)
	}
}

func TestAcceptEndsWhenTheListenerIsClosed(t *testing.T) {
	l := listen(t, Config{Address: "127.0.0.1:0"})
	l.Close()
	if _, err := l.Accept(); !errors.Is(err, net.ErrClosed) {
		t.Errorf("got %v", err)
	}
}

func BenchmarkAccept(b *testing.B) {
	l, err := Listen(b.Context(), Config{Address: "127.0.0.1:0"})
	if err != nil {
		b.Fatal(err)
	}
	defer l.Close()
	d := Dialer{}
	to := l.Addr().(*net.TCPAddr).AddrPort()
	b.ReportAllocs()
	for b.Loop() {
		c, err := d.Dial(b.Context(), to)
		if err != nil {
			b.Fatal(err)
		}
		a, err := l.Accept()
		if err != nil {
			b.Fatal(err)
		}
		a.Close()
		c.Close()
	}
}

func TestOnlyConnectionsToOtherMachinesAreProbed(t *testing.T) {
	l := listen(t, Config{Address: "127.0.0.1:0"})
	accepted := call(t, l, l.Addr().String())
	dialled, err := (&Dialer{}).Dial(t.Context(), l.Addr().(*net.TCPAddr).AddrPort())
	if err != nil {
		t.Fatal(err)
	}
	defer dialled.Close()
	probed := func(c *net.TCPConn) (on int) {
		raw, err := c.SyscallConn()
		if err != nil {
			t.Fatal(err)
		}
		if err := raw.Control(func(fd uintptr) { on, err = syscall.GetsockoptInt(int(fd), syscall.SOL_SOCKET, syscall.SO_KEEPALIVE) }); err != nil {
			t.Fatal(err)
		}
		return on
	}
	if probed(accepted.TCPConn) != 0 || probed(dialled.(*net.TCPConn)) != 0 {
		t.Error("a connection within this machine is probed")
	}
	a, b := netip.MustParseAddr("10.0.0.1"), netip.MustParseAddr("10.0.0.2")
	if err := keep(accepted.TCPConn, a, a, keepAlive(0)); err != nil || probed(accepted.TCPConn) != 0 {
		t.Errorf("a connection from an address to itself is probed: %v", err)
	}
	if err := keep(accepted.TCPConn, a, b, keepAlive(0)); err != nil || probed(accepted.TCPConn) != 1 {
		t.Errorf("a connection to another machine is not probed: %v", err)
	}
}
