//go:build peers

package peers

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/go-json-experiment/json"
	"go.uber.org/goleak"

	"github.com/outrigger-mesh/outrigger/pkg/authority"
	"github.com/outrigger-mesh/outrigger/pkg/hbone"
	"github.com/outrigger-mesh/outrigger/pkg/identity"
	"github.com/outrigger-mesh/outrigger/pkg/mesh"
	"github.com/outrigger-mesh/outrigger/pkg/meshtest/envoy"
	"github.com/outrigger-mesh/outrigger/pkg/relay"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const patience = 20 * time.Second

var (
	clientID   = mesh.NewPrincipal("cluster.local", "agents", "client")
	serverID   = mesh.NewPrincipal("cluster.local", "tools", "server")
	strangerID = mesh.NewPrincipal("cluster.local", "agents", "stranger")
)

// A bed has the certificates of both ends, in files for others and in memory for us.
type bed struct {
	t   *testing.T
	dir string
	ca  *authority.Authority
}

func newBed(t *testing.T) *bed {
	t.Helper()
	b := &bed{t: t, dir: t.TempDir(), ca: newCA(t)}
	b.write("ca.pem", b.ca.RootPEM())
	b.certificate(b.ca, "client", clientID)
	b.certificate(b.ca, "server", serverID)
	return b
}

func newCA(t *testing.T) *authority.Authority {
	t.Helper()
	ca, err := authority.New("cluster.local", time.Hour)
	if err != nil {
		t.Fatal(err)
	}
	return ca
}

func (b *bed) write(name string, content []byte) {
	b.t.Helper()
	if err := os.WriteFile(filepath.Join(b.dir, name), content, 0o600); err != nil {
		b.t.Fatal(err)
	}
}

// certificate writes the files of an identity and returns it for our own use.
// Whoever signed it, it trusts the bed's authority.
func (b *bed) certificate(ca *authority.Authority, name string, id mesh.Principal) *identity.Mutual {
	b.t.Helper()
	s, err := ca.Issue(id, time.Hour)
	if err != nil {
		b.t.Fatal(err)
	}
	b.write(name+".pem", s.CertPEM)
	b.write(name+".key", s.KeyPEM)
	cert, err := tls.X509KeyPair(s.CertPEM, s.KeyPEM)
	if err != nil {
		b.t.Fatal(err)
	}
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(b.ca.RootPEM())
	return &identity.Mutual{Source: identity.NewMemory(&identity.SVID{
		Principal: id, Certificate: &cert, Bundles: map[string]*x509.CertPool{"cluster.local": roots},
		NotBefore: cert.Leaf.NotBefore, NotAfter: cert.Leaf.NotAfter,
	})}
}

// A peer is a program at the other end.
type peer struct {
	address netip.AddrPort // where it listens
	admin   string
	cmd     *exec.Cmd
	log     *strings.Builder
}

// envoy starts an Envoy with a configuration.
func (b *bed) envoy(config string, values ...string) *peer {
	b.t.Helper()
	program, err := envoy.Install(b.t.Context())
	if err != nil {
		b.t.Fatal(err)
	}
	text, err := os.ReadFile(filepath.Join("testdata", config))
	if err != nil {
		b.t.Fatal(err)
	}
	values = append(values, "DIR", b.dir, "CLIENT_ID", clientID.String(), "SERVER_ID", serverID.String())
	b.write(config, []byte(strings.NewReplacer(values...).Replace(string(text))))
	admin := filepath.Join(b.dir, config+".admin")
	p := b.start(exec.Command(program, "-c", filepath.Join(b.dir, config),
		"--disable-hot-restart", "--concurrency", "1", "--log-level", "error", "--admin-address-path", admin))
	b.eventually(func() error {
		address, err := os.ReadFile(admin)
		if err != nil {
			return err
		}
		p.admin = "http://" + string(address)
		return p.listening()
	})
	return p
}

func (b *bed) start(cmd *exec.Cmd) *peer {
	b.t.Helper()
	p := &peer{cmd: cmd, log: &strings.Builder{}}
	cmd.Stderr = p.log
	if cmd.Stdout == nil {
		cmd.Stdout = p.log
	}
	if err := cmd.Start(); err != nil {
		b.t.Fatal(err)
	}
	b.t.Cleanup(func() {
		_ = cmd.Process.Kill() // it may have ended
		_ = cmd.Wait()
		if b.t.Failed() {
			b.t.Logf("%s said: %s", filepath.Base(cmd.Path), p.log)
		}
	})
	return p
}

// listening asks an Envoy where it listens.
func (p *peer) listening() error {
	var all struct {
		Statuses []struct {
			Address struct {
				Socket struct {
					Address string `json:"address"`
					Port    uint16 `json:"port_value"`
				} `json:"socket_address"`
			} `json:"local_address"`
		} `json:"listener_statuses"`
	}
	text, err := p.ask(http.MethodGet, "/listeners?format=json")
	if err != nil {
		return err
	}
	if err := json.Unmarshal(text, &all); err != nil {
		return err
	}
	if len(all.Statuses) == 0 {
		return fmt.Errorf("no listener yet")
	}
	s := all.Statuses[0].Address.Socket
	p.address, err = netip.ParseAddrPort(net.JoinHostPort(s.Address, strconv.Itoa(int(s.Port))))
	return err
}

func (p *peer) ask(method, path string) ([]byte, error) {
	req, err := http.NewRequest(method, p.admin+path, nil)
	if err != nil {
		return nil, err
	}
	client := &http.Client{Timeout: patience, Transport: &http.Transport{DisableKeepAlives: true}}
	res, err := client.Do(req)
	if err != nil {
		return nil, err
	}
	defer res.Body.Close()
	return io.ReadAll(res.Body)
}

func (b *bed) eventually(check func() error) {
	b.t.Helper()
	deadline := time.Now().Add(patience)
	for {
		err := check()
		if err == nil {
			return
		}
		if time.Now().After(deadline) {
			b.t.Fatal(err)
		}
		time.Sleep(20 * time.Millisecond)
	}
}

// app serves TCP connections with f and returns its address.
func (b *bed) app(f func(*net.TCPConn)) string {
	b.t.Helper()
	ln, err := net.Listen("tcp", "127.0.9.1:0")
	if err != nil {
		b.t.Fatal(err)
	}
	var conns sync.WaitGroup
	conns.Go(func() {
		for {
			c, err := ln.Accept()
			if err != nil {
				return
			}
			conns.Go(func() {
				defer c.Close()
				f(c.(*net.TCPConn))
			})
		}
	})
	b.t.Cleanup(func() { ln.Close(); conns.Wait() })
	return ln.Addr().String()
}

// dialer returns a dialer of ours that ends with the test.
func (b *bed) dialer(m *identity.Mutual) *hbone.Dialer {
	b.t.Helper()
	d, err := hbone.NewDialer(hbone.DialerConfig{Mutual: m, MaxConns: 2})
	if err != nil {
		b.t.Fatal(err)
	}
	b.t.Cleanup(func() { d.Close() })
	return d
}

func hop(p *peer, authority string) mesh.Hop {
	return mesh.Hop{Address: p.address, Authority: authority, Expected: []mesh.Principal{serverID}}
}

func (b *bed) ctx() context.Context {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	b.t.Cleanup(cancel)
	return ctx
}

// A server is ours, before an app.
type server struct {
	port     uint16
	in       chan *hbone.Incoming
	shutdown context.CancelFunc // begins the drain
	cut      context.CancelFunc // ends it
	done     chan struct{}
}

func (b *bed) server(c hbone.ServerConfig, m *identity.Mutual, app string) *server {
	b.t.Helper()
	c.Mutual = m
	s, err := hbone.NewServer(c)
	if err != nil {
		b.t.Fatal(err)
	}
	ln, err := net.Listen("tcp", "127.0.9.1:0")
	if err != nil {
		b.t.Fatal(err)
	}
	o := &server{port: uint16(ln.Addr().(*net.TCPAddr).Port), in: make(chan *hbone.Incoming, 1000), done: make(chan struct{})}
	var ctx, drain context.Context
	ctx, o.shutdown = context.WithCancel(context.Background())
	drain, o.cut = context.WithCancel(context.Background())
	go func() {
		defer close(o.done)
		if err := s.Serve(ctx, drain, ln, func(ctx context.Context, in *hbone.Incoming) {
			o.in <- in
			carry(ctx, in, app)
		}); err != nil {
			b.t.Error(err)
		}
	}()
	b.t.Cleanup(func() { o.cut(); o.shutdown(); <-o.done })
	return o
}

// carry is what a sidecar does, without policy.
func carry(ctx context.Context, in *hbone.Incoming, app string) {
	var d net.Dialer
	c, err := d.DialContext(ctx, "tcp", app)
	if err != nil {
		_ = in.Reject(http.StatusServiceUnavailable)
		return
	}
	tunnel, err := in.Accept(hbone.Header{Baggage: "service.name=server"})
	if err != nil {
		c.Close()
		return
	}
	relay.Copy(ctx, tunnel, c.(*net.TCPConn))
}

func echo(c *net.TCPConn) {
	_, _ = io.Copy(c, struct{ io.Reader }{c})
	_ = c.CloseWrite()
}

// pattern is what a transfer is recognised by.
func pattern(n int) []byte {
	p := make([]byte, n)
	for i := range p {
		p[i] = byte(i * 7 >> 3)
	}
	return p
}
