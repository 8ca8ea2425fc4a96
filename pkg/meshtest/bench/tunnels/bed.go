package tunnels

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"strconv"
	"time"

	"github.com/outrigger-mesh/outrigger/pkg/authority"
	"github.com/outrigger-mesh/outrigger/pkg/control"
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
	group  *process.Group
	chains []*chain
}

// lay starts all chains.
func lay(ctx context.Context, c Config) (b *bed, err error) {
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	dir, err := os.MkdirTemp("", "outrigger-tunnels-")
	if err != nil {
		return nil, err
	}
	b = &bed{config: c, dir: dir, self: self, group: &process.Group{Dir: dir}}
	defer func() {
		if err != nil {
			b.clear()
		}
	}()
	if err := b.certificates(); err != nil {
		return nil, err
	}
	all := []func(context.Context, place) (*chain, error){b.ours, b.raw, b.tls, b.xnet}
	if c.Direct {
		all = append(all, b.xnetDirect)
	}
	for i, lay := range all {
		c, err := lay(ctx, place{byte(i + 1)})
		if err != nil {
			return nil, err
		}
		b.chains = append(b.chains, c)
	}
	args := []string{"app"}
	for _, c := range b.chains {
		args = append(args, c.place.app())
	}
	app, err := b.group.Launch("app", self, args...)
	if err != nil {
		return nil, err
	}
	for _, c := range b.chains {
		if err := app.Listening(ctx, c.place.app()); err != nil {
			return nil, err
		}
	}
	return b, nil
}

// clear ends everything and removes what it wrote.
func (b *bed) clear() {
	b.group.Stop()
	_ = os.RemoveAll(b.dir)
}

// chain returns the chain of a name, nil if it does not run.
func (b *bed) chain(name string) *chain {
	for _, c := range b.chains {
		if c.name == name {
			return c
		}
	}
	return nil
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
	c.admin = [2]string{c.place.clientAdmin(), c.place.serverAdmin()}
	side := func(side, listen, admin string) (*process.Process, error) {
		p, err := b.group.Launch(kind+"-"+side, b.self, "side", kind, side, listen, c.place.server(), c.place.app(), b.dir, admin)
		if err != nil {
			return nil, err
		}
		return p, p.Listening(ctx, listen)
	}
	if c.server, err = side(baseline.Server, c.place.server(), c.admin[1]); err != nil {
		return nil, err
	}
	if c.client, err = side(baseline.Client, c.place.front(), c.admin[0]); err != nil {
		return nil, err
	}
	return &c, nil
}

const (
	xdsPort     = 15012
	statusPort  = 15014
	metricsPort = 15020
	readyPort   = 15021
	controlIP   = 1
)

// ours starts a control plane and two sidecars as users run them: with identity
// checks, L4 policy, metrics and access log.
func (b *bed) ours(ctx context.Context, p place) (_ *chain, err error) {
	if err := b.writeMesh(p); err != nil {
		return nil, err
	}
	plane, err := b.group.Launch("control", filepath.Join(b.config.Programs, "outrigger-control"), "run",
		"--listen", p.at(controlIP, xdsPort), "--status-listen", p.at(controlIP, statusPort), "--trust-domain", trustDomain,
		"--ca-dir", b.file(control.StateCA), "--tokens", b.file(control.StateTokens), "--config-path", b.file("mesh.yaml"))
	if err != nil {
		return nil, err
	}
	if err := plane.Ready(ctx, "http://"+p.at(controlIP, statusPort)+"/healthz/ready"); err != nil {
		return nil, err
	}
	c := &chain{
		name: ours, place: p, fds: 2, admin: [2]string{p.clientAdmin(), p.serverAdmin()},
		note: "two outrigger run under outrigger-control: identity checks, an L4 policy, metrics and access log; the port is not declared MCP",
	}
	if c.server, err = b.sidecar(ctx, p, "server", serverIP); err != nil {
		return nil, err
	}
	c.client, err = b.sidecar(ctx, p, "client", clientIP, "--forward", p.front()+"="+p.app())
	return c, err
}

func (b *bed) sidecar(ctx context.Context, p place, name string, ip byte, more ...string) (*process.Process, error) {
	args := append([]string{"run",
		"--name", name, "--namespace", "bench", "--service-account", name, "--trust-domain", trustDomain, "--address", p.ip(ip).String(),
		"--xds-address", p.at(controlIP, xdsPort), "--xds-root", b.file("mesh-root.pem"), "--xds-name", "istiod.istio-system.svc",
		"--token-file", b.file(control.StateTokens, "bench", name),
		"--hbone-listen", p.at(ip, serverPort), "--plain-listen", "off", "--outbound-listen", "off",
		"--admin-listen", p.at(ip, adminPort), "--metrics-listen", p.at(ip, metricsPort), "--ready-listen", p.at(ip, readyPort),
		"--access-log", b.file("access-" + name + ".log"), "--drain-deadline", "1s",
	}, more...)
	s, err := b.group.Launch("sidecar-"+name, filepath.Join(b.config.Programs, "outrigger"), args...)
	if err != nil {
		return nil, err
	}
	return s, s.Ready(ctx, "http://"+p.at(ip, readyPort)+"/healthz/ready")
}

// writeMesh writes what the control plane needs.
func (b *bed) writeMesh(p place) error {
	for _, account := range []string{"client", "server"} {
		if _, err := control.IssueToken(b.file(control.StateTokens), "bench", account); err != nil {
			return err
		}
	}
	a, err := control.OpenAuthority(b.file(control.StateCA), trustDomain)
	if err != nil {
		return err
	}
	if err := os.WriteFile(b.file("mesh-root.pem"), a.RootPEM(), 0o600); err != nil {
		return err
	}
	return os.WriteFile(b.file("mesh.yaml"), []byte(meshYAML(p)), 0o600)
}

func meshYAML(p place) string {
	const workload = `apiVersion: outrigger.dev/v1alpha1
kind: Workload
metadata: {name: %[1]s, namespace: bench, labels: {app: %[1]s}}
spec:
  addresses: [%[2]s]
  tunnelProtocol: HBONE
  trustDomain: %[3]s
  serviceAccount: %[1]s
  workloadName: %[1]s
  canonicalName: %[1]s
---
`
	return fmt.Sprintf(workload, "client", p.ip(clientIP), trustDomain) + fmt.Sprintf(workload, "server", p.ip(serverIP), trustDomain) + `
apiVersion: security.istio.io/v1
kind: PeerAuthentication
metadata: {name: strict, namespace: istio-system}
spec: {mtls: {mode: STRICT}}
---
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: {name: clients, namespace: bench}
spec:
  selector: {matchLabels: {app: server}}
  action: ALLOW
  rules:
  - from: [{source: {principals: [` + trustDomain + `/ns/bench/sa/client]}}]
    to: [{operation: {ports: ["` + strconv.Itoa(appPort) + `"]}}]
`
}

// dial connects to a chain's front.
func (c *chain) dial(ctx context.Context) (net.Conn, error) {
	conn, err := (&net.Dialer{Timeout: 10 * time.Second, KeepAlive: -1}).DialContext(ctx, "tcp", c.place.front())
	if err != nil {
		return nil, fmt.Errorf("%s: %w", c.name, err)
	}
	return conn, nil
}
