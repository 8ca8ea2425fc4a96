package sidecar

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"sync"

	"github.com/outrigger-mesh/outrigger/pkg/capture"
	"github.com/outrigger-mesh/outrigger/pkg/gate"
	"github.com/outrigger-mesh/outrigger/pkg/relay"
)

// Bounds of a listener whose callers prove no identity.
const (
	mostOpen     = 16384 // connections; each holds two files and some 50 KiB
	mostOpenEach = 2048  // of one address outside the pod
	// mostStrays is how many connections a second of one address are looked at that
	// nobody redirected: they are refused in any case.
	mostStrays = 10
)

// An entrance accepts connections that come without a tunnel, and bounds them.
type entrance struct {
	ln      *capture.Listener
	serve   func(*capture.Conn)         // takes the connection over
	refused func(netip.AddrPort, error) // told of those that were not served; of an address once a second
	open    *gate.Gate                  // those that are served
	strays  *gate.Gate                  // those that nobody redirected
}

func newEntrance(ln *capture.Listener, each int, refused func(netip.AddrPort, error), serve func(*capture.Conn)) *entrance {
	return &entrance{
		ln: ln, serve: serve, refused: refused,
		open:   gate.New(gate.Config{AtOnce: each, Total: mostOpen}),
		strays: gate.New(gate.Config{AtOnce: mostStrays, PerSecond: mostStrays}),
	}
}

// accept serves connections until ctx ends, then waits for those it started. It
// takes over the listener.
func (e *entrance) accept(ctx context.Context) error {
	defer e.ln.Close()
	defer context.AfterFunc(ctx, func() { e.ln.Close() })()
	var conns sync.WaitGroup
	defer conns.Wait()
	for {
		accepted, err := e.ln.Accept()
		if err != nil {
			if ctx.Err() != nil || errors.Is(err, net.ErrClosed) {
				return nil
			}
			return fmt.Errorf("accept on %s: %w", e.ln.Addr(), err)
		}
		c := accepted.(*capture.Conn)
		leave, err := e.enter(c)
		if err != nil {
			e.refuse(c, err)
			continue
		}
		conns.Go(func() {
			defer leave()
			e.serve(c)
		})
	}
}

// enter asks whether c may be served.
func (e *entrance) enter(c *capture.Conn) (leave func(), err error) {
	if c.Forward == "" && !c.Redirected() {
		return e.strays.Enter(c.Source.Addr())
	}
	return e.open.Enter(c.Source.Addr())
}

// refuse ends c without a goroutine and, mostly, without a record.
func (e *entrance) refuse(c *capture.Conn, why error) {
	if tooMany, ok := errors.AsType[*gate.TooManyError](why); !ok || tooMany.Tell {
		e.refused(c.Source, why)
	}
	_ = relay.Reset(c.TCPConn) // it is closed whatever this says
}
