package main

import (
	"context"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"syscall"
	"time"

	"github.com/outrigger-mesh/outrigger/pkg/demo"
	"github.com/outrigger-mesh/outrigger/pkg/relay"
)

// A bed is the running demo and the relays beside it.
type bed struct {
	endpoints *demo.Endpoints
	paths     []path
	running   []*exec.Cmd
	state     string
}

// A path is one way to the MCP server.
type path struct {
	name string
	url  string
	pids []int // of what stands between the client and the server
}

func start(ctx context.Context, programs string) (b *bed, err error) {
	state, err := os.MkdirTemp("", "outrigger-bench-")
	if err != nil {
		return nil, err
	}
	b = &bed{state: state}
	defer func() {
		if err != nil {
			b.stop()
		}
	}()
	outrigger := filepath.Join(programs, "outrigger")
	cmd := exec.Command(outrigger, "demo", "--keep", "--state", state, "--network", "127.0.16.0/24")
	log, err := os.Create(filepath.Join(state, "demo.log"))
	if err != nil {
		return nil, err
	}
	defer log.Close()
	cmd.Stdout, cmd.Stderr = log, log
	if err := b.launch(cmd); err != nil {
		return nil, err
	}
	if err := b.await(ctx, log.Name()); err != nil {
		return nil, err
	}
	inner, err := b.relay(b.endpoints.Server.Workload)
	if err != nil {
		return nil, err
	}
	outer, err := b.relay(inner.address)
	if err != nil {
		return nil, err
	}
	e := b.endpoints
	b.paths = []path{
		{name: "direct", url: e.Server.Direct},
		{name: "TCP relay pair", url: "http://" + outer.address + "/mcp", pids: []int{inner.pid, outer.pid}},
		{name: "sidecar pair", url: e.Agents[0].URL, pids: []int{e.Processes["sidecar-planner"], e.Processes["sidecar-github"]}},
	}
	return b, nil
}

func (b *bed) launch(cmd *exec.Cmd) error {
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	if err := cmd.Start(); err != nil {
		return err
	}
	b.running = append(b.running, cmd)
	return nil
}

// await waits until the demo has told its whole story and is idle.
func (b *bed) await(ctx context.Context, log string) error {
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	for {
		text, err := os.ReadFile(log)
		if err != nil {
			return err
		}
		if demo.IsKeeping(text) {
			b.endpoints, err = demo.ReadEndpoints(b.state)
			return err
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("the demo is not up: %s", text)
		case <-time.After(50 * time.Millisecond):
		}
	}
}

type relayProcess struct {
	address string
	pid     int
}

func (b *bed) relay(to string) (relayProcess, error) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return relayProcess{}, err
	}
	address := ln.Addr().String()
	ln.Close()
	self, err := os.Executable()
	if err != nil {
		return relayProcess{}, err
	}
	cmd := exec.Command(self, "relay", address, to)
	cmd.Stderr = os.Stderr
	if err := b.launch(cmd); err != nil {
		return relayProcess{}, err
	}
	for range 100 {
		c, err := net.Dial("tcp", address)
		if err == nil {
			c.Close()
			return relayProcess{address, cmd.Process.Pid}, nil
		}
		time.Sleep(20 * time.Millisecond)
	}
	return relayProcess{}, fmt.Errorf("relay on %s is not up", address)
}

func (b *bed) stop() {
	for i := len(b.running) - 1; i >= 0; i-- {
		b.running[i].Process.Signal(syscall.SIGTERM)
		b.running[i].Wait()
	}
	os.RemoveAll(b.state)
}

// relayTCP is one plain relay.
func relayTCP(ctx context.Context, listen, to string) error {
	ln, err := net.Listen("tcp", listen)
	if err != nil {
		return err
	}
	defer context.AfterFunc(ctx, func() { ln.Close() })()
	var conns sync.WaitGroup
	defer conns.Wait()
	for {
		c, err := ln.Accept()
		if err != nil {
			return nil
		}
		conns.Go(func() {
			up, err := net.Dial("tcp", to)
			if err != nil {
				c.Close()
				return
			}
			relay.Copy(ctx, c.(*net.TCPConn), up.(*net.TCPConn))
		})
	}
}
