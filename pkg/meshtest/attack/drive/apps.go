package main

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"os/exec"

	"github.com/go-json-experiment/json"

	"github.com/outrigger-mesh/outrigger/pkg/meshtest/attack"
)

// victims starts what attackers have the sidecar connect to, in a process of its
// own and with the attackers' priority: what these apps do is not the sidecar's
// doing, and shall not keep the client waiting, which is measured in this process.
func (b *bed) victims(on netip.Addr) (apps map[attack.App]string, err error) {
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	b.apps = exec.Command("nice", "-n", "19", self, "--apps", on.String())
	b.apps.Stderr, b.apps.Env = os.Stderr, append(os.Environ(), "GOMAXPROCS=1")
	out, err := b.apps.StdoutPipe()
	if err != nil {
		return nil, err
	}
	if err := b.apps.Start(); err != nil {
		b.apps = nil
		return nil, err
	}
	text := make([]byte, 1024)
	n, err := out.Read(text)
	if err != nil {
		return nil, fmt.Errorf("start the apps that are attacked: %w", err)
	}
	return apps, json.Unmarshal(text[:n], &apps)
}

// serveApps is the apps' process. It prints where they are, and ends with ctx.
func serveApps(ctx context.Context, on netip.Addr) error {
	zeros := make([]byte, 64<<10)
	at := map[attack.App]string{}
	for app, serve := range map[attack.App]func(net.Conn){
		attack.Silent: func(c net.Conn) { _, _ = io.Copy(io.Discard, c) },
		attack.Firehose: func(c net.Conn) {
			_ = c.(*net.TCPConn).SetWriteBuffer(16 << 10) // what nobody takes shall not cost us
			for {
				if _, err := c.Write(zeros); err != nil {
					return
				}
			}
		},
		attack.Closing: func(net.Conn) {},
	} {
		ln, err := listen(on, serve)
		if err != nil {
			return err
		}
		defer ln.Close()
		at[app] = ln.Addr().String()
	}
	text, err := json.Marshal(at)
	if err != nil {
		return err
	}
	if _, err := os.Stdout.Write(text); err != nil {
		return err
	}
	<-ctx.Done()
	return nil
}

// listen serves connections to an address until the listener is closed.
func listen(on netip.Addr, serve func(net.Conn)) (net.Listener, error) {
	ln, err := net.Listen("tcp", netip.AddrPortFrom(on, 0).String())
	if err != nil {
		return nil, err
	}
	go func() {
		for {
			c, err := ln.Accept()
			if err != nil {
				return
			}
			go func() {
				defer c.Close()
				serve(c)
			}()
		}
	}()
	return ln, nil
}
