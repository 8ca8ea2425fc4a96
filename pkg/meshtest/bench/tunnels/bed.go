package tunnels

import (
	"context"
	"net/netip"
	"os"
	"path/filepath"
	"strconv"
	"time"

	"github.com/outrigger-mesh/outrigger/pkg/authority"
	"github.com/outrigger-mesh/outrigger/pkg/mesh"
	"github.com/outrigger-mesh/outrigger/pkg/meshtest/bench/baseline"
	"github.com/outrigger-mesh/outrigger/pkg/meshtest/bench/process"
)

const (
	trustDomain = "cluster.local"
	lifetime    = 24 * time.Hour // of certificates: longer than any run
)

// A bed is everything that runs.
type bed struct {
	config Config
	dir    string
	self   string // this program
	envoy  string // the program, "" if there is none
	group  *process.Group
	chains []*chain
}

// layWith makes a bed and lets start fill it. Its processes end with ctx, and with them
// everything that waits for them.
func layWith(ctx context.Context, c Config, start func(b *bed) error) (*bed, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	dir, err := os.MkdirTemp("", "outrigger-tunnels-")
	if err != nil {
		return nil, err
	}
	b := &bed{config: c, dir: dir, self: self, group: &process.Group{Dir: dir}}
	stop := context.AfterFunc(ctx, b.group.Kill)
	if err := start(b); err != nil {
		stop()
		b.clear()
		return nil, err
	}
	return b, nil
}

// lay starts all chains.
func lay(ctx context.Context, c Config, envoy string) (*bed, error) {
	return layWith(ctx, c, func(b *bed) error {
		b.envoy = envoy
		return b.start(ctx)
	})
}

func (b *bed) start(ctx context.Context) error {
	if err := b.certificates(); err != nil {
		return err
	}
	all := []laying{{ours, b.ours(ours, b.config.Programs)}, {rawTCP, b.raw}, {tlsOnly, b.tls}, {stock, b.xnet}}
	if b.config.Against != "" {
		all = append(all, laying{earlier, b.ours(earlier, b.config.Against)})
	}
	if b.config.Direct {
		all = append(all, laying{direct, b.xnetDirect})
	}
	if b.envoy != "" {
		all = append(all, laying{envoyTwo, b.envoys})
	}
	for i, l := range all {
		if !b.config.measures(l.name) {
			continue
		}
		ch, err := l.lay(ctx, place{byte(i + 1)})
		if err != nil {
			return err
		}
		b.chains = append(b.chains, ch)
	}
	args := []string{"app"}
	for _, c := range b.chains {
		args = append(args, c.place.app())
	}
	app, err := b.group.Launch("app", b.self, args...)
	if err != nil {
		return err
	}
	for _, c := range b.chains {
		if err := app.Listening(ctx, c.place.app()); err != nil {
			return err
		}
	}
	return nil
}

// A laying is how a chain of a name is started.
type laying struct {
	name string
	lay  func(context.Context, place) (*chain, error)
}

// clear ends everything and removes what it wrote.
func (b *bed) clear() {
	b.group.Stop()
	_ = os.RemoveAll(b.dir)
}

func (b *bed) file(elements ...string) string {
	return filepath.Join(append([]string{b.dir}, elements...)...)
}

// certificates makes the files of the baselines.
func (b *bed) certificates() error {
	a, err := authority.New(trustDomain, lifetime)
	if err != nil {
		return err
	}
	client, err := a.Issue(mesh.NewPrincipal(trustDomain, "agents", "client"), lifetime)
	if err != nil {
		return err
	}
	var addresses []netip.Addr
	for i := range byte(8) {
		addresses = append(addresses, place{i}.ip(serverIP))
	}
	server, err := a.IssueServer(nil, addresses, lifetime)
	if err != nil {
		return err
	}
	for name, data := range map[string][]byte{
		baseline.RootFile: a.RootPEM(), baseline.ClientCertFile: client.CertPEM, baseline.ClientKeyFile: client.KeyPEM,
		baseline.ServerCertFile: server.CertPEM, baseline.ServerKeyFile: server.KeyPEM,
	} {
		if err := os.WriteFile(b.file(name), data, 0o600); err != nil {
			return err
		}
	}
	return nil
}

func (b *bed) raw(ctx context.Context, p place) (*chain, error) {
	return b.pair(ctx, baseline.Raw, chain{
		name: rawTCP, place: p, fds: 6,
		note: "io.Copy both ways between TCP connections, which the kernel does by splice; no TLS, no identity",
	})
}

func (b *bed) tls(ctx context.Context, p place) (*chain, error) {
	return b.pair(ctx, baseline.TLS, chain{
		name: tlsOnly, place: p, fds: 2,
		note: "crypto/tls with its defaults, one mutual TLS connection for each connection, io.Copy both ways",
	})
}

func (b *bed) xnet(ctx context.Context, p place) (*chain, error) {
	return b.pair(ctx, baseline.XNet, chain{
		name: stock, place: p, fds: 2,
		note: "golang.org/x/net/http2 Transport and Server with their defaults, CONNECT over mutual TLS, the request body an io.Pipe as in Istio's own Go library for HBONE, 32 KiB pooled copy buffers, a flush after every write; no policy, metrics or log",
	})
}

func (b *bed) xnetDirect(ctx context.Context, p place) (*chain, error) {
	return b.pair(ctx, baseline.XNetDirect, chain{
		name: direct, place: p, fds: 2,
		note: "the same with the app's connection itself as request body: one goroutine and one copy less",
	})
}

// pair starts the two processes of a baseline.
func (b *bed) pair(ctx context.Context, kind string, c chain) (_ *chain, err error) {
	p := c.place
	app := c.to
	if app == "" {
		app = p.app()
	}
	c.admin = [2]string{p.at(clientIP, adminPort), p.at(serverIP, adminPort)}
	side := func(side string, ip byte, listen, to string) (*process.Process, error) {
		s, err := b.group.Launch(kind+"-"+side+"-"+strconv.Itoa(int(ip)), b.self, "side", kind, side, listen, to, app, b.dir, p.at(ip, adminPort))
		if err != nil {
			return nil, err
		}
		return s, s.Listening(ctx, listen)
	}
	if c.server, err = side(baseline.Server, serverIP, p.server(), ""); err != nil {
		return nil, err
	}
	c.start = func(ctx context.Context, at byte, port uint16) (*process.Process, error) {
		return side(baseline.Client, at, p.at(at, frontPort), p.at(serverIP, port))
	}
	return c.begin(ctx)
}
