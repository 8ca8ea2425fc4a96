// Package tunnels measures what it costs to carry connections through a pair of
// sidecars, beside other pairs that carry the same, and to govern the MCP in them,
// beside the same pair that does not.
package tunnels

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"time"

	"github.com/outrigger-mesh/outrigger/pkg/meshtest/bench/process"
)

// A chain is a way from the load to the app, through a pair of processes.
type chain struct {
	name   string
	note   string // what the pair is
	place  place
	client *process.Process
	server *process.Process
	admin  [2]string // host:port of the profiles of client and server; "" for none
	to     string    // host:port of the app; "" means the place's
	fds    int       // descriptors that a tunnel takes of the side that holds more

	// start starts a client side at an address that leads to a port of the server's address.
	start func(ctx context.Context, at byte, port uint16) (*process.Process, error)
}

// The chains' names, and the order in which they are printed.
const (
	ours     = "outrigger"
	earlier  = "another build"
	rawTCP   = "raw TCP"
	tlsOnly  = "TLS only"
	stock    = "x/net/http2"
	direct   = "x/net direct"
	envoyTwo = "Envoy"
)

// A place is the loopback addresses of one chain. No two chains share one, so
// that closed connections that the kernel remembers hinder nobody else.
type place struct{ number byte }

func (p place) ip(last byte) netip.Addr { return netip.AddrFrom4([4]byte{127, 40, p.number, last}) }

func (p place) at(last byte, port uint16) string {
	return netip.AddrPortFrom(p.ip(last), port).String()
}

const (
	clientIP = 11
	freshIP  = 12 // of a second client side
	serverIP = 21

	frontPort  = 8080
	serverPort = 15008
	gatePort   = 15009 // where a gate stands before the server
	appPort    = 9000
	mcpPort    = 9001 // of the same app, where agent policies govern it
	httpPort   = 9002 // of the same app, where its HTTP is relayed as such
	adminPort  = 15000
)

func (p place) front() string  { return p.at(clientIP, frontPort) }
func (p place) server() string { return p.at(serverIP, serverPort) }
func (p place) app() string    { return p.at(serverIP, appPort) }
func (p place) mcp() string    { return p.at(serverIP, mcpPort) }
func (p place) http() string   { return p.at(serverIP, httpPort) }

// begin starts the client side that all scenarios but one use.
func (c *chain) begin(ctx context.Context) (_ *chain, err error) {
	c.client, err = c.start(ctx, clientIP, serverPort)
	return c, err
}

// meters are what client and server have spent.
type meters [2]process.Meter

func (c *chain) meters(client *process.Process) (m meters, err error) {
	for i, p := range []*process.Process{client, c.server} {
		if m[i], err = process.Read(p.PID); err != nil {
			return m, fmt.Errorf("%s, %s: %w", c.name, p.Name, err)
		}
	}
	return m, nil
}

// dial connects to a front.
func (c *chain) dial(ctx context.Context, front string) (net.Conn, error) {
	conn, err := (&net.Dialer{Timeout: 10 * time.Second, KeepAlive: -1}).DialContext(ctx, "tcp", front)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", c.name, err)
	}
	return conn, nil
}
