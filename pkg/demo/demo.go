// Package demo runs a small mesh of real processes on loopback addresses: a
// control plane, two agents and an MCP server, each behind a sidecar of its
// own. It shows what the mesh does to their calls, and can keep it running in
// front of somebody's own server.
package demo

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"net/url"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"time"
)

// Config is what may be said to a demo.
type Config struct {
	Keep      bool   // leave the mesh running until ctx ends
	Server    string // URL of an MCP server of the user's; "" for the sample
	Policy    string // agent policy file of the user's; "" for the demo's own or, with Server, one that allows everything
	Listen    string // host:port that the first agent calls; "" picks a free port
	State     string // directory for what others need to join in; "" for a temporary one that is removed at the end
	Network   string // the loopback addresses of the mesh are inside this prefix
	HBONEPort int    // that sidecars listen on
	XDSPort   int    // that the control plane listens on
	Programs  string // directory with outrigger, outrigger-control and outrigger-sample; "" for that of this program

	Out      io.Writer // where the story is told
	Terminal bool      // Out is a terminal: draw
}

// DefaultConfig is the demo as `make demo` runs it.
func DefaultConfig() Config {
	return Config{Network: "127.0.15.0/24", HBONEPort: 15008, XDSPort: 15012, Out: os.Stdout}
}

// startTimeout is how long the mesh may take to be ready.
const startTimeout = 30 * time.Second

// Run starts the mesh, tells the story if nobody else's server is in it, and
// stops everything. It returns nil only if all that it told was true.
func Run(ctx context.Context, c Config) (err error) {
	// The kernel ends the processes of the mesh when the thread that started
	// them does: it must live as long as this.
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	p, err := plan(&c)
	if err != nil {
		return err
	}
	if c.State == "" {
		defer func() { err = errors.Join(err, os.RemoveAll(p.dir)) }()
	}
	if err := p.write(); err != nil {
		return err
	}
	m := newStage(p)
	defer m.stop()
	t := newTelling(c.Out, c.Terminal, p)
	t.begin()
	if err := m.start(ctx); err != nil {
		return err
	}
	t.ready(m)
	if c.Server == "" {
		if err := tell(ctx, m, t); err != nil {
			return err
		}
	}
	if !c.Keep {
		t.end()
		return nil
	}
	t.keeping()
	return m.wait(ctx, t)
}

// a place is an address of the mesh with the ports that a sidecar opens there.
type place struct {
	name      string // of the process
	namespace string
	account   string
	ip        netip.Addr
}

func (p place) at(port int) string {
	return netip.AddrPortFrom(p.ip, uint16(port)).String()
}

// A layout is what the demo has decided before it starts anything.
type layout struct {
	config  Config
	dir     string // the state directory
	control place
	agents  []place
	server  place

	listen     []string // by agent: the address it calls
	path       string   // of the MCP endpoint
	serverPort uint16   // on which the MCP server listens
	app        netip.Addr
	policies   []string // files the control plane watches besides the workloads
}

const (
	trustDomain = "cluster.local"
	service     = "github.tools.svc.cluster.local"
	servicePort = 80
)

func plan(c *Config) (*layout, error) {
	prefix, err := netip.ParsePrefix(c.Network)
	if err != nil || !prefix.Addr().IsLoopback() || !prefix.Addr().Is4() || prefix.Bits() > 24 {
		return nil, fmt.Errorf("%q is not a network for the demo: give IPv4 loopback addresses with room for 256, such as 127.0.15.0/24", c.Network)
	}
	at := func(last byte) netip.Addr {
		a := prefix.Masked().Addr().As4()
		a[3] = last
		return netip.AddrFrom4(a)
	}
	p := &layout{
		config:  *c,
		control: place{name: "control", ip: at(1)},
		agents: []place{
			{name: "planner", namespace: "agents", account: "planner", ip: at(11)},
			{name: "intern", namespace: "agents", account: "intern", ip: at(12)},
		},
		server:     place{name: "github", namespace: "tools", account: "github", ip: at(21)},
		path:       "/mcp",
		serverPort: 9000,
	}
	if c.Policy != "" {
		if _, err := os.Stat(c.Policy); err != nil {
			return nil, fmt.Errorf("--policy: %w", err)
		}
	}
	for flag, port := range map[string]int{"--hbone-port": c.HBONEPort, "--xds-port": c.XDSPort} {
		if port < 1 || port > 65535 {
			return nil, fmt.Errorf("%s %d is not a port: give a number from 1 to 65535", flag, port)
		}
	}
	if err := p.findServer(c.Server); err != nil {
		return nil, err
	}
	if err := p.findListeners(c.Listen); err != nil {
		return nil, err
	}
	if p.dir, err = stateDir(c.State); err != nil { // last: nothing is left behind by a mistake
		return nil, err
	}
	return p, p.findPolicy(c)
}

func stateDir(dir string) (string, error) {
	if dir == "" {
		return os.MkdirTemp("", "outrigger-demo-")
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return "", fmt.Errorf("make state directory: %w", err)
	}
	if err := inUse(dir); err != nil {
		return "", err
	}
	return filepath.Abs(dir)
}

func (p *layout) findServer(server string) error {
	if server == "" {
		return nil
	}
	u, err := url.Parse(server)
	if err != nil || u.Scheme != "http" || u.Hostname() == "" {
		return fmt.Errorf("--server %q is not a plain HTTP URL: give one such as http://127.0.0.1:9000/mcp", server)
	}
	host := u.Hostname()
	if host == "localhost" {
		host = "127.0.0.1"
	}
	if p.app, err = netip.ParseAddr(host); err != nil || !p.app.IsLoopback() {
		return fmt.Errorf("--server %q is not on a loopback address: run the server on this machine, as in http://127.0.0.1:9000/mcp", server)
	}
	port, err := strconv.ParseUint(u.Port(), 10, 16)
	if err != nil || port == 0 {
		return fmt.Errorf("--server %q has no port: give one, as in http://127.0.0.1:9000/mcp", server)
	}
	p.serverPort, p.path = uint16(port), u.EscapedPath()
	return nil
}

// serverDown says why a user's server cannot be reached, if it cannot.
func (p *layout) serverDown() error {
	if p.config.Server == "" {
		return nil
	}
	c, err := net.DialTimeout("tcp", netip.AddrPortFrom(p.app, p.serverPort).String(), time.Second)
	if err != nil {
		return err
	}
	return c.Close()
}

// findListeners gives each agent an address to call: the one that was asked
// for, and free ones on the same host.
func (p *layout) findListeners(listen string) error {
	host, port := "127.0.0.1", "0"
	if listen != "" {
		var err error
		if host, port, err = net.SplitHostPort(listen); err != nil {
			return fmt.Errorf("--listen %q is not an address: give host:port, as in 127.0.0.1:8080", listen)
		}
	}
	for range p.agents {
		ln, err := net.Listen("tcp", net.JoinHostPort(host, port))
		if err != nil {
			return fmt.Errorf("listen for the agent: %w: choose another address with --listen, or stop what uses it", err)
		}
		defer ln.Close() // only now, so that each gets another port
		p.listen = append(p.listen, ln.Addr().String())
		port = "0"
	}
	return nil
}

func (p *layout) findPolicy(c *Config) error {
	if c.Policy == "" {
		p.policies = []string{p.file("config", "policy.yaml")}
		return nil
	}
	path, err := filepath.Abs(c.Policy)
	if err != nil {
		return err
	}
	p.policies = []string{path}
	return nil
}

// file is a path inside the state directory.
func (p *layout) file(elements ...string) string {
	return filepath.Join(append([]string{p.dir}, elements...)...)
}

func (p *layout) agentURL(i int) string { return "http://" + p.listen[i] + p.path }
