package tunnels

import (
	"context"
	"fmt"
	"net"
	"sync"
	"time"
)

// A scenario is one thing that is measured on every chain.
type scenario struct {
	group   string // what --only names
	name    string
	unit    string
	spin    bool   // keep the CPUs from sleeping meanwhile
	without string // a chain that has no such thing
	run     func(ctx context.Context, c *chain) sample
}

// scenarios are all there are, in the order in which they are run and printed.
func (c *Config) scenarios() []scenario {
	var all []scenario
	for _, streams := range []int{1, 8, 100} {
		all = append(all, c.bulk("up", streams, upload), c.bulk("down", streams, download))
	}
	for _, at := range []int{1, 32} {
		for _, size := range []int{64, 1 << 10, 4 << 10, 16 << 10} {
			all = append(all, c.echo(size, at))
		}
	}
	return append(all, c.beside(true), c.beside(false), c.newTunnels(), c.newConnections())
}

func (c *Config) bulk(direction string, streams int, transfer func(net.Conn, int64) error) scenario {
	bytes := c.Bytes / int64(streams)
	return scenario{
		group: "bulk", name: fmt.Sprintf("bulk %s streams=%d", direction, streams), unit: "GB",
		run: func(ctx context.Context, ch *chain) sample {
			all, err := ch.open(ctx, streams)
			if err != nil {
				return sample{failed: err}
			}
			defer all.close()
			return ch.take(func() (float64, []time.Duration, error) {
				err := all.each(func(_ int, conn net.Conn) error { return transfer(conn, bytes) })
				return float64(bytes*int64(streams)) / 1e9, nil, err
			})
		},
	}
}

func sizeName(n int) string {
	if n < 1<<10 {
		return fmt.Sprintf("%d B", n)
	}
	return fmt.Sprintf("%d KiB", n>>10)
}

func (c *Config) echo(size, at int) scenario {
	return scenario{
		group: "echo", name: fmt.Sprintf("echo %s c=%d", sizeName(size), at), unit: "message", spin: true,
		run: func(ctx context.Context, ch *chain) sample {
			all, err := ch.open(ctx, at)
			if err != nil {
				return sample{failed: err}
			}
			defer all.close()
			if err := all.askEcho(); err != nil {
				return sample{failed: err}
			}
			if _, err := all.echoAll(size, c.Echo/10); err != nil { // buffers grow
				return sample{failed: err}
			}
			return ch.take(func() (float64, []time.Duration, error) {
				took, err := all.echoAll(size, c.Echo)
				return float64(len(took)), took, err
			})
		},
	}
}

// openers is how many open tunnels at once.
const openers = 4

func (c *Config) newTunnels() scenario {
	return scenario{
		group: "tunnels", name: fmt.Sprintf("new tunnels on a warm connection c=%d", openers), unit: "tunnel",
		run: func(ctx context.Context, ch *chain) sample {
			stay, err := ch.open(ctx, 1) // keeps the connection warm
			if err != nil {
				return sample{failed: err}
			}
			defer stay.close()
			return ch.take(func() (float64, []time.Duration, error) { return ch.churn(ctx, c.Tunnels) })
		},
	}
}

// churn opens n tunnels, a few at a time, and closes each after one answer.
func (c *chain) churn(ctx context.Context, n int) (float64, []time.Duration, error) {
	took := make([]time.Duration, n)
	errs := make([]error, openers)
	var all sync.WaitGroup
	for w := range openers {
		all.Go(func() {
			for i := w; i < n; i += openers {
				start := time.Now()
				conn, err := c.tunnel(ctx, c.place.front())
				if err != nil {
					errs[w] = err
					return
				}
				took[i] = time.Since(start)
				conn.Close()
			}
		})
	}
	all.Wait()
	for _, err := range errs {
		if err != nil {
			return 0, nil, err
		}
	}
	return float64(n), took, nil
}
