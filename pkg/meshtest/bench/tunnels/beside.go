package tunnels

import (
	"context"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"github.com/outrigger-mesh/outrigger/pkg/meshtest/bench/baseline"
)

const (
	pourers   = 2                      // bulk transfers that share the peer with the messages
	untilFull = 300 * time.Millisecond // until their buffers and windows are
)

// beside is messages while bulk transfers go to the same peer, on a tunnel that
// was opened before them or while they run.
func (c *Config) beside(before bool) scenario {
	name := "echo 64 B beside bulk opened while it runs"
	if before {
		name = "echo 64 B beside bulk opened before it"
	}
	return scenario{group: "beside", name: name, unit: "GB", spin: true, run: func(ctx context.Context, ch *chain) sample {
		var early conns
		var err error
		if before {
			if early, err = ch.open(ctx, 1); err != nil {
				return sample{failed: err}
			}
			defer early.close()
		}
		bulk, err := ch.open(ctx, pourers)
		if err != nil {
			return sample{failed: err}
		}
		var poured atomic.Int64
		var pouring sync.WaitGroup
		defer pouring.Wait()
		defer bulk.close()
		for _, conn := range bulk {
			pouring.Go(func() { pour(conn, &poured) })
		}
		time.Sleep(untilFull)
		messages := early
		if !before {
			if messages, err = ch.open(ctx, 1); err != nil {
				return sample{failed: err}
			}
			defer messages.close()
		}
		if err := messages.askEcho(); err != nil {
			return sample{failed: err}
		}
		return ch.take(func() (float64, []time.Duration, error) {
			from := poured.Load()
			took, err := messages.echoAll(64, 2*c.Echo)
			return float64(poured.Load()-from) / 1e9, took, err
		})
	}}
}

// pour sends until c is closed, and counts.
func pour(c net.Conn, poured *atomic.Int64) {
	if baseline.Ask(c, baseline.AskSink, 1<<60) != nil {
		return
	}
	buf := blocks.Get().(*[]byte)
	defer blocks.Put(buf)
	for {
		n, err := c.Write((*buf)[:64<<10])
		poured.Add(int64(n))
		if err != nil {
			return
		}
	}
}
