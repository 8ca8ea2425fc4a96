package hbone

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"io"
	"net"
	"net/netip"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/outrigger-mesh/outrigger/pkg/authority"
	"github.com/outrigger-mesh/outrigger/pkg/identity"
	"github.com/outrigger-mesh/outrigger/pkg/mesh"
	"github.com/outrigger-mesh/outrigger/pkg/relay"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

var (
	clientID = mesh.NewPrincipal("cluster.local", "agents", "client")
	serverID = mesh.NewPrincipal("cluster.local", "tools", "server")
)

// A world is a server, a dialer and the certificates of both.
type world struct {
	t        testing.TB
	ca       *authority.Authority
	client   *identity.Memory
	identity *identity.Memory // the server's
	server   *Server
	dialer   *Dialer
	address  netip.AddrPort
	shutdown context.CancelFunc // begins the drain
	cut      context.CancelFunc // ends the drain
	served   chan error
}

func newCA(t testing.TB) *authority.Authority {
	t.Helper()
	ca, err := authority.New("cluster.local", time.Hour)
	if err != nil {
		t.Fatal(err)
	}
	return ca
}

func issue(t testing.TB, ca *authority.Authority, p mesh.Principal) *identity.SVID {
	t.Helper()
	s, err := ca.Issue(p, time.Hour)
	if err != nil {
		t.Fatal(err)
	}
	cert, err := tls.X509KeyPair(s.CertPEM, s.KeyPEM)
	if err != nil {
		t.Fatal(err)
	}
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(ca.RootPEM())
	return &identity.SVID{
		Principal: p, Certificate: &cert,
		Bundles:   map[string]*x509.CertPool{"cluster.local": roots},
		NotBefore: cert.Leaf.NotBefore, NotAfter: cert.Leaf.NotAfter,
	}
}

type options struct {
	server  ServerConfig
	dialer  DialerConfig
	handler Handler
	prepare func(*Server) // before it serves; may be nil
}

func newWorld(t testing.TB, o options) *world {
	t.Helper()
	w := &world{t: t, ca: newCA(t)}
	w.client = identity.NewMemory(issue(t, w.ca, clientID))
	w.identity = identity.NewMemory(issue(t, w.ca, serverID))
	o.server.Mutual = &identity.Mutual{Source: w.identity}
	o.dialer.Mutual = &identity.Mutual{Source: w.client}
	var err error
	if w.server, err = NewServer(o.server); err != nil {
		t.Fatal(err)
	}
	if w.dialer, err = NewDialer(o.dialer); err != nil {
		t.Fatal(err)
	}
	if o.prepare != nil {
		o.prepare(w.server)
	}
	ln := listen(t)
	w.address = netip.MustParseAddrPort(ln.Addr().String())
	var ctx, drain context.Context
	ctx, w.shutdown = context.WithCancel(context.Background())
	drain, w.cut = context.WithCancel(context.Background())
	w.served = make(chan error, 1)
	go func() { w.served <- w.server.Serve(ctx, drain, ln, o.handler) }()
	t.Cleanup(w.close)
	return w
}

func (w *world) close() {
	w.dialer.Close()
	w.cut()
	w.shutdown()
	if err := <-w.served; err != nil {
		w.t.Error(err)
	}
	w.served <- nil
}

func listen(t testing.TB) net.Listener {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	return ln
}

func (w *world) hop(authority string) mesh.Hop {
	return mesh.Hop{Address: w.address, Authority: authority, Expected: []mesh.Principal{serverID}}
}

// dial opens a tunnel or fails the test.
func (w *world) dial() *Tunnel {
	w.t.Helper()
	t, err := w.dialer.Dial(ctxOf(w.t), w.hop("10.0.0.1:80"), Header{})
	if err != nil {
		w.t.Fatal(err)
	}
	return t
}

func ctxOf(t testing.TB) context.Context {
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	t.Cleanup(cancel)
	return ctx
}

// echo accepts everything and sends back what it gets, by Read and Write.
func echo(_ context.Context, in *Incoming) {
	t, err := in.Accept(Header{})
	if err != nil {
		return
	}
	if _, err := io.Copy(struct{ io.Writer }{t}, struct{ io.Reader }{t}); err != nil {
		return
	}
	_ = t.CloseWrite()
}

// relayTo accepts everything and relays it to a TCP address.
func relayTo(t testing.TB, address string) Handler {
	return func(ctx context.Context, in *Incoming) {
		var d net.Dialer
		app, err := d.DialContext(ctx, "tcp", address)
		if err != nil {
			t.Log(err)
			_ = in.Reject(503)
			return
		}
		tunnel, err := in.Accept(Header{})
		if err != nil {
			app.Close()
			return
		}
		relay.Copy(ctx, tunnel, app.(*net.TCPConn))
	}
}

// serveTCP runs f for each connection to the address it returns.
func serveTCP(t testing.TB, f func(*net.TCPConn)) string {
	t.Helper()
	ln := listen(t)
	done := make(chan struct{})
	go func() {
		defer close(done)
		open := make(chan struct{}, 100000)
		n := 0
		for {
			c, err := ln.Accept()
			if err != nil {
				break
			}
			n++
			go func() { f(c.(*net.TCPConn)); c.Close(); open <- struct{}{} }()
		}
		for ; n > 0; n-- {
			<-open
		}
	}()
	t.Cleanup(func() { ln.Close(); <-done })
	return ln.Addr().String()
}

func echoTCP(c *net.TCPConn) {
	buf := make([]byte, 64<<10)
	for {
		n, err := c.Read(buf)
		if n > 0 {
			if _, err := c.Write(buf[:n]); err != nil {
				return
			}
		}
		if err != nil {
			if errors.Is(err, io.EOF) {
				_ = c.CloseWrite()
			}
			return
		}
	}
}

// A front is a TCP listener whose connections go through tunnels of w.
func (w *world) front(authority string) string {
	return serveTCP(w.t, func(c *net.TCPConn) {
		ctx, cancel := context.WithCancel(context.Background())
		defer cancel()
		t, err := w.dialer.Dial(ctx, w.hop(authority), Header{})
		if err != nil {
			relay.Reset(c)
			return
		}
		relay.Copy(ctx, t, c)
	})
}
