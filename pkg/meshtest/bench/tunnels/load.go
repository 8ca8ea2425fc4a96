package tunnels

import (
	"context"
	"fmt"
	"io"
	"net"
	"slices"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/outrigger-mesh/outrigger/pkg/meshtest/bench/baseline"
)

// patience is how long anything that waits for a chain waits.
const patience = 60 * time.Second

// open opens n tunnels, each proved by one answer of the app.
func (c *chain) open(ctx context.Context, n int) (conns, error) {
	all := make(conns, n)
	var g errgroup.Group
	g.SetLimit(8)
	for i := range all {
		g.Go(func() (err error) {
			all[i], err = c.tunnel(ctx, c.place.front())
			return err
		})
	}
	if err := g.Wait(); err != nil {
		all.close()
		return nil, err
	}
	return all, nil
}

// tunnel opens one: it asks the app for one byte.
func (c *chain) tunnel(ctx context.Context, front string) (net.Conn, error) {
	conn, err := c.dial(ctx, front)
	if err != nil {
		return nil, err
	}
	_ = conn.SetDeadline(time.Now().Add(patience)) // fails only on a closed connection
	if err = baseline.Ask(conn, baseline.AskSource, 1); err == nil {
		_, err = io.ReadFull(conn, make([]byte, 1))
	}
	if err != nil {
		conn.Close()
		return nil, fmt.Errorf("%s: new tunnel: %w", c.name, err)
	}
	return conn, nil
}

type conns []net.Conn

func (all conns) close() {
	for _, c := range all {
		if c != nil {
			c.Close()
		}
	}
}

// each runs work on all connections at once.
func (all conns) each(work func(i int, c net.Conn) error) error {
	var g errgroup.Group
	for i, c := range all {
		g.Go(func() error { return work(i, c) })
	}
	return g.Wait()
}

const block = 256 << 10

var blocks = sync.Pool{New: func() any { b := make([]byte, block); return &b }}

// upload sends n bytes and waits until the app has them all.
func upload(c net.Conn, n int64) error {
	if err := baseline.Ask(c, baseline.AskSink, n); err != nil {
		return err
	}
	buf := blocks.Get().(*[]byte)
	defer blocks.Put(buf)
	for n > 0 {
		w, err := c.Write((*buf)[:min(n, block)])
		if err != nil {
			return err
		}
		n -= int64(w)
	}
	_, err := io.ReadFull(c, make([]byte, 1))
	return err
}

// download takes n bytes.
func download(c net.Conn, n int64) error {
	if err := baseline.Ask(c, baseline.AskSource, n); err != nil {
		return err
	}
	buf := blocks.Get().(*[]byte)
	defer blocks.Put(buf)
	for n > 0 {
		r, err := c.Read((*buf)[:min(n, block)])
		if err != nil {
			return err
		}
		n -= int64(r)
	}
	return nil
}

// pingPong sends messages of a size over c, each after the echo of the one
// before, until end. It returns how long each took.
func pingPong(c net.Conn, size int, end time.Time) ([]time.Duration, error) {
	message := make([]byte, size)
	took := make([]time.Duration, 0, 1<<14)
	for start := time.Now(); start.Before(end); {
		if _, err := c.Write(message); err != nil {
			return nil, err
		}
		if _, err := io.ReadFull(c, message); err != nil {
			return nil, err
		}
		now := time.Now()
		took = append(took, now.Sub(start))
		start = now
	}
	return took, nil
}

// echoAll is pingPong over all connections at once, which must echo already.
func (all conns) echoAll(size int, d time.Duration) ([]time.Duration, error) {
	took := make([][]time.Duration, len(all))
	end := time.Now().Add(d)
	err := all.each(func(i int, c net.Conn) (err error) {
		took[i], err = pingPong(c, size, end)
		return err
	})
	return slices.Concat(took...), err
}

// askEcho makes the app echo from here on.
func (all conns) askEcho() error {
	return all.each(func(_ int, c net.Conn) error { return baseline.Ask(c, baseline.AskEcho, 0) })
}
