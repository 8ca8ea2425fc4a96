package hbone

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"os"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/outrigger-mesh/outrigger/pkg/relay"
)

// A plan is what one end of a transfer does. Both ends can work out both
// plans from the seed, so each knows what it must and must not see.
type plan struct {
	size  int  // bytes to send
	reset bool // then reset rather than end
	first bool // send everything before reading
}

func plans(seed uint64) (client, app plan) {
	r := rand.New(rand.NewPCG(seed, 1))
	one := func() plan {
		p := plan{reset: r.IntN(8) == 0, first: r.IntN(4) == 0}
		switch r.IntN(20) {
		case 0:
			p.size = r.IntN(1 << 20)
		case 1, 2, 3:
			p.size = r.IntN(100_000)
		default:
			p.size = r.IntN(2000)
		}
		if p.first {
			p.size = min(p.size, 30_000) // both may do it, and sockets must hold it
		}
		return p
	}
	return one(), one()
}

// stream is what an end sends, from its seed.
func stream(seed uint64, n int) []byte {
	var key [32]byte
	binary.BigEndian.PutUint64(key[:], seed)
	p := make([]byte, n)
	_, _ = rand.NewChaCha8(key).Read(p)
	return p
}

// perform acts out ours on c and judges what theirs has sent.
func perform(c relay.Conn, seed uint64, ours, theirs plan, sent, expected uint64) error {
	var wait sync.WaitGroup
	var sendErr error
	wait.Go(func() { sendErr = act(c, ours, sent) })
	if ours.first {
		wait.Wait()
	}
	got, err := io.ReadAll(struct{ io.Reader }{c})
	wait.Wait()
	if err == nil {
		err = sendErr // the kernel tells of a reset once, to who asks first
	}
	want := stream(expected, theirs.size)
	switch {
	case !bytes.HasPrefix(want, got):
		return fmt.Errorf("seed %d: %d bytes that were never sent", seed, len(got))
	case ours.reset:
		return nil // whatever we saw then
	case theirs.reset && err == nil:
		return fmt.Errorf("seed %d: a reset looks like an end after %d of %d bytes", seed, len(got), len(want))
	case !theirs.reset && (err != nil || len(got) != len(want)):
		return fmt.Errorf("seed %d: %d of %d bytes, %w", seed, len(got), len(want), err)
	}
	return nil
}

func act(c relay.Conn, p plan, seed uint64) error {
	data := stream(seed, p.size)
	for len(data) > 0 {
		n := min(len(data), 1+int(seed%40_000))
		if _, err := c.Write(data[:n]); err != nil {
			return err
		}
		data = data[n:]
	}
	if p.reset {
		return relay.Reset(c)
	}
	return c.CloseWrite()
}

// TestRandomTransfersAreExact: any mix of sizes, half-closes and resets on
// both ends arrives as it was sent. OUTRIGGER_TRANSFERS sets how many.
func TestRandomTransfersAreExact(t *testing.T) {
	transfers := 3000
	if n, err := strconv.Atoi(os.Getenv("OUTRIGGER_TRANSFERS")); err == nil {
		transfers = n
	}
	app := serveTCP(t, func(c *net.TCPConn) {
		var b [8]byte
		if _, err := io.ReadFull(c, b[:]); err != nil {
			return // reset before it began
		}
		seed := binary.BigEndian.Uint64(b[:])
		client, ours := plans(seed)
		if err := perform(c, seed, ours, client, seed*2+1, seed*2); err != nil {
			t.Errorf("app: %v", err)
		}
	})
	// A high limit: here the peer is us, and its resets are the test.
	limits := Limits{ResetsPerSecond: 1 << 20, OpensPerSecond: 1 << 20}
	w := newWorld(t, options{handler: relayTo(t, app), server: ServerConfig{Limits: limits}, dialer: DialerConfig{Limits: limits}})
	front := w.front("10.0.0.1:80")
	var next atomic.Uint64
	var wait sync.WaitGroup
	for range 16 {
		wait.Go(func() {
			for seed := next.Add(1); seed <= uint64(transfers); seed = next.Add(1) {
				if err := transfer(w, front, seed); err != nil {
					t.Errorf("client: %v", err)
				}
			}
		})
	}
	wait.Wait()
}

// transfer is one client, every third one without sockets of its own.
func transfer(w *world, front string, seed uint64) error {
	var c relay.Conn
	var err error
	if seed%3 == 0 {
		ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
		defer cancel()
		c, err = w.dialer.Dial(ctx, w.hop("10.0.0.1:80"), Header{})
	} else {
		var nc net.Conn
		nc, err = net.Dial("tcp", front)
		if err == nil {
			c = nc.(*net.TCPConn)
		}
	}
	if err != nil {
		return err
	}
	defer c.Close()
	_ = c.SetDeadline(time.Now().Add(30 * time.Second))
	if _, err := c.Write(binary.BigEndian.AppendUint64(nil, seed)); err != nil {
		return err
	}
	ours, app := plans(seed)
	err = perform(c, seed, ours, app, seed*2, seed*2+1)
	if errors.Is(err, os.ErrDeadlineExceeded) {
		err = fmt.Errorf("hung: %w", err)
	}
	return err
}
