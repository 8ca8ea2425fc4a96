package hbone

import (
	"io"
	"net"
	"sync"
	"testing"

	"github.com/outrigger-mesh/outrigger/pkg/relay"
)

// pairBench returns a function that dials an app through a pair of ours in this process.
func pairBench(b *testing.B, app func(*net.TCPConn)) func() *net.TCPConn {
	limits := Limits{OpensPerSecond: 1 << 20, ResetsPerSecond: 1 << 20}
	w := newWorld(b, options{server: ServerConfig{Limits: limits}, handler: relayTo(b, serveTCP(b, app))})
	front := w.front("10.0.0.1:80")
	return func() *net.TCPConn { return dialTCP(b, front) }
}

func BenchmarkEcho(b *testing.B) {
	for name, size := range map[string]int{"64B": 64, "1KiB": 1 << 10, "4KiB": 4 << 10, "16KiB": 16 << 10} {
		for clientsName, clients := range map[string]int{"c=1": 1, "c=32": 32} {
			b.Run(name+"/"+clientsName, func(b *testing.B) {
				dial := pairBench(b, echoTCP)
				b.ReportAllocs()
				var wait sync.WaitGroup
				ops := make(chan struct{}, 64)
				for range clients {
					c := dial()
					wait.Go(func() {
						defer c.Close()
						p := make([]byte, size)
						for range ops {
							_, _ = c.Write(p)
							if _, err := io.ReadFull(c, p); err != nil {
								b.Error(err)
								return
							}
						}
					})
				}
				for b.Loop() {
					ops <- struct{}{}
				}
				close(ops)
				wait.Wait()
			})
		}
	}
}

func BenchmarkBulk(b *testing.B) {
	dial := pairBench(b, func(c *net.TCPConn) { _, _ = io.Copy(io.Discard, struct{ io.Reader }{c}) })
	c := dial()
	p := make([]byte, 1<<20)
	b.SetBytes(int64(len(p)))
	b.ReportAllocs()
	for b.Loop() {
		if _, err := c.Write(p); err != nil {
			b.Fatal(err)
		}
	}
	_ = c.CloseWrite()
	_, _ = io.ReadAll(c)
	c.Close()
}

func BenchmarkNewTunnel(b *testing.B) {
	dial := pairBench(b, echoTCP)
	b.ReportAllocs()
	for b.Loop() {
		c := dial()
		_, _ = c.Write([]byte("x"))
		_, _ = io.ReadFull(c, make([]byte, 1))
		_ = relay.Reset(c)
	}
}
