package tunnels

import (
	"context"
	"fmt"
	"io"
	"net"
	"sync"
	"sync/atomic"
	"time"
)

// probeRest is how long the connection that asked whether a client side listens may be carried on.
const probeRest = 300 * time.Millisecond

// cutTimeout is how long both sides may take to notice that their connection has ended.
const cutTimeout = 5 * time.Second

// newConnections makes a pair shake hands for every tunnel: its client side
// reaches the server through a gate that cuts the connection afterwards.
func (c *Config) newConnections() scenario {
	return scenario{
		group: "connections", name: "new mutual TLS connections with one tunnel each c=1", unit: "connection",
		without: rawTCP,
		run: func(ctx context.Context, ch *chain) sample {
			s, err := ch.shakeHands(ctx, c.Connections)
			if err != nil {
				return sample{failed: err}
			}
			return s
		},
	}
}

func (c *chain) shakeHands(ctx context.Context, n int) (s sample, err error) {
	g, err := openGate(c.place.at(serverIP, gatePort), c.place.server())
	if err != nil {
		return s, err
	}
	defer g.close()
	client, err := c.start(ctx, freshIP, gatePort)
	if err != nil {
		return s, err
	}
	defer client.Stop()
	// To see whether it listens is a connection, too, which the client side begins to carry.
	time.Sleep(probeRest)
	if err := g.cut(); err != nil {
		return s, err
	}
	front := c.place.at(freshIP, frontPort)
	once := func() (time.Duration, error) {
		conn, took, err := c.anotherTunnel(ctx, front)
		if err != nil {
			return 0, err
		}
		conn.Close()
		return took, g.cut()
	}
	for range n / 10 { // what is made once, such as a heap
		if _, err := once(); err != nil {
			return s, err
		}
	}
	made := g.made.Load()
	var busy time.Duration
	s = c.takeWith(client, func() (float64, []time.Duration, error) {
		all := make([]time.Duration, n)
		for i := range all {
			took, err := once()
			if err != nil {
				return 0, nil, err
			}
			all[i] = took
			busy += took
		}
		return float64(n), all, nil
	})
	if s.failed == nil && g.made.Load()-made < int64(n) {
		return s, fmt.Errorf("%s: %d tunnels came over %d connections", c.name, n, g.made.Load()-made)
	}
	s.wall = busy // without the cuts between
	return s, nil
}

// cutRetries is how often a tunnel is tried again: a client side may put one on
// the connection that is just being cut.
const cutRetries = 2

// anotherTunnel opens a tunnel and tells how long the attempt took that succeeded.
func (c *chain) anotherTunnel(ctx context.Context, front string) (conn net.Conn, took time.Duration, err error) {
	for range 1 + cutRetries {
		start := time.Now()
		if conn, err = c.tunnel(ctx, front); err == nil {
			return conn, time.Since(start), nil
		}
	}
	return nil, 0, err
}

// A gate passes connections on to an address, and can end those that are open.
type gate struct {
	ln   net.Listener
	to   string
	made atomic.Int64
	wait sync.WaitGroup

	mu   sync.Mutex // guards what follows
	open []*passing
}

// A passing is one connection through a gate.
type passing struct {
	ends [2]*net.TCPConn
	done chan struct{} // closed when both sides have closed theirs
}

func openGate(at, to string) (*gate, error) {
	ln, err := net.Listen("tcp", at)
	if err != nil {
		return nil, fmt.Errorf("gate: %w", err)
	}
	g := &gate{ln: ln, to: to}
	g.wait.Go(g.serve)
	return g, nil
}

func (g *gate) serve() {
	for {
		down, err := g.ln.Accept()
		if err != nil {
			return
		}
		up, err := net.Dial("tcp", g.to)
		if err != nil {
			down.Close()
			continue
		}
		g.made.Add(1)
		p := &passing{ends: [2]*net.TCPConn{down.(*net.TCPConn), up.(*net.TCPConn)}, done: make(chan struct{})}
		g.mu.Lock()
		g.open = append(g.open, p)
		g.mu.Unlock()
		g.wait.Go(p.run)
	}
}

// run copies both ways until both sides have closed.
func (p *passing) run() {
	defer close(p.done)
	var back sync.WaitGroup
	pass := func(to, from *net.TCPConn) {
		_, _ = io.Copy(to, from) // whoever is gone, its side has ended
		_ = to.CloseWrite()
	}
	back.Go(func() { pass(p.ends[0], p.ends[1]) })
	pass(p.ends[1], p.ends[0])
	back.Wait()
	for _, c := range p.ends {
		c.Close()
	}
}

// cut ends the connections that are open, and waits until both sides have noticed.
func (g *gate) cut() error {
	g.mu.Lock()
	open := g.open
	g.open = nil
	g.mu.Unlock()
	for _, p := range open {
		for _, c := range p.ends {
			_ = c.CloseWrite() // fails where the side has closed already
		}
		select {
		case <-p.done:
		case <-time.After(cutTimeout):
			for _, c := range p.ends {
				c.Close()
			}
			return fmt.Errorf("a side has not closed its connection %v after it ended", cutTimeout)
		}
	}
	return nil
}

func (g *gate) close() {
	g.ln.Close()
	_ = g.cut() // all are closed now
	g.wait.Wait()
}
