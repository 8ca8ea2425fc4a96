package main

import (
	"context"
	"io"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"github.com/outrigger-mesh/outrigger/pkg/identity"
)

// A sink is a server that does nothing with what it gets. It takes as many
// connections and as many bytes of each as the sidecar took of the same attacker,
// and then closes. It runs in the attacker's process, at the attacker's priority:
// the machine is as busy as in the attack, but none of that is the sidecar's doing.
type sink struct {
	ln     net.Listener
	mutual *identity.Mutual
	each   int64 // bytes
	left   atomic.Int64
	wait   sync.WaitGroup
}

// sink puts one in the sidecar's place. What it returns ends it.
func (s *striker) sink(ctx context.Context, c config) (end func(), err error) {
	k := &sink{each: c.each}
	k.left.Store(int64(c.taken))
	if k.mutual, err = s.m.identity("tools", "sink"); err != nil {
		return nil, err
	}
	if k.ln, err = net.Listen("tcp", net.JoinHostPort(s.m.Base.String(), "0")); err != nil {
		return nil, err
	}
	self, err := k.mutual.Source.SVID()
	if err != nil {
		return nil, err
	}
	at := k.ln.Addr().String()
	s.m.Tunnel, s.m.Plain, s.m.Out, s.m.Server = at, at, at, self.Principal.String()
	k.wait.Go(func() { k.serve(ctx) })
	return func() {
		k.ln.Close()
		k.wait.Wait()
	}, nil
}

func (k *sink) serve(ctx context.Context) {
	for {
		raw, err := k.ln.Accept()
		if err != nil {
			return // it was closed
		}
		if k.left.Add(-1) < 0 {
			raw.Close()
			continue
		}
		k.wait.Go(func() { k.take(ctx, raw) })
	}
}

// take reads one connection. It takes over raw.
func (k *sink) take(ctx context.Context, raw net.Conn) {
	defer raw.Close()
	defer context.AfterFunc(ctx, func() { raw.Close() })()
	shaking, stop := context.WithTimeout(ctx, 5*time.Second)
	defer stop()
	c, err := k.mutual.Server(shaking, raw)
	if err != nil {
		return
	}
	defer c.Close()
	_, _ = io.CopyN(io.Discard, c, k.each) // it ends with the attacker, if not before
}
