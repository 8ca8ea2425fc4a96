// Package sidecar puts the rooms together: it reads the configuration, opens the
// listeners, lists the inspection layers, runs, and drains.
package sidecar

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"slices"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/outrigger-mesh/outrigger/pkg/capture"
	"github.com/outrigger-mesh/outrigger/pkg/xds"
)

// Options are what a sidecar is given beside its configuration.
type Options struct {
	Version string    // of this build
	Log     io.Writer // for the sidecar's own log
}

// New checks the configuration and builds a sidecar. Nothing is opened but its logs.
func New(c Config, o Options) (*Sidecar, error) {
	if err := c.Validate(); err != nil {
		return nil, err
	}
	self, err := c.Self()
	if err != nil {
		return nil, err
	}
	s := &Sidecar{config: c, version: o.Version, self: self, level: new(slog.LevelVar), quit: make(chan struct{}), started: time.Now()}
	s.stop = sync.OnceFunc(func() { close(s.quit) })
	if err := s.level.UnmarshalText([]byte(c.Records.Level)); err != nil {
		return nil, err
	}
	options := &slog.HandlerOptions{Level: s.level}
	if c.Records.Format == "json" {
		s.logger = slog.New(slog.NewJSONHandler(o.Log, options))
	} else {
		s.logger = slog.New(slog.NewTextHandler(o.Log, options))
	}
	if err := s.build(); err != nil {
		return nil, errors.Join(err, s.closeLogs())
	}
	return s, nil
}

// Run serves until ctx ends or somebody asks for the end, and then drains: no
// new connections, and the open ones may go on until the drain deadline.
func (s *Sidecar) Run(ctx context.Context) (err error) {
	defer func() { err = errors.Join(err, s.closeLogs()) }()
	ctx, stop := context.WithCancel(ctx)
	defer stop()
	go func() {
		select {
		case <-s.quit:
			stop()
		case <-ctx.Done():
		}
	}()
	collectLess()
	listeners, err := s.listen(ctx)
	if err != nil {
		return err
	}
	s.logger.Info("sidecar is up", "identity", s.self.Principal.String(), "version", s.version, "hbone", listeners.hbone.Addr().String())

	// What feeds the data path outlives it: it ends when the drain is over.
	background, endBackground := context.WithCancel(context.WithoutCancel(ctx))
	defer endBackground()
	feeding, feedCtx := errgroup.WithContext(background)
	s.feed(feedCtx, feeding)

	serving, serveCtx := errgroup.WithContext(ctx)
	drain, endDrain := s.drain(serveCtx)
	defer endDrain()
	s.serve(serveCtx, drain, serving, listeners)
	serving.Go(func() error { // a feeder that fails ends the sidecar
		select {
		case <-feedCtx.Done():
			return context.Cause(feedCtx)
		case <-serveCtx.Done():
			return nil
		}
	})
	err = serving.Wait()
	endBackground()
	err = errors.Join(err, s.tunnels.Close(), feeding.Wait())
	if errors.Is(err, context.Canceled) && ctx.Err() != nil {
		return nil
	}
	return err
}

// drain is a context that ends a deadline after ctx does.
func (s *Sidecar) drain(ctx context.Context) (context.Context, context.CancelFunc) {
	drain, end := context.WithCancelCause(context.WithoutCancel(ctx))
	var mu sync.Mutex // guards timer
	var timer *time.Timer
	stop := context.AfterFunc(ctx, func() {
		mu.Lock()
		defer mu.Unlock()
		timer = time.AfterFunc(time.Duration(s.config.Drain.Deadline), func() { end(errDrained) })
	})
	return drain, func() {
		stop()
		mu.Lock()
		defer mu.Unlock()
		if timer != nil {
			timer.Stop()
		}
		end(errDrained)
	}
}

// errDrained is why connections end that outlive the drain deadline.
var errDrained = errors.New("the sidecar stopped, and the drain deadline has passed")

// feed runs what keeps identity and configuration fresh.
func (s *Sidecar) feed(ctx context.Context, g *errgroup.Group) {
	g.Go(func() error { return s.source.Run(ctx) })
	if s.crl != nil {
		g.Go(func() error { return s.crl.Run(ctx) })
	}
	g.Go(func() error { return s.xds.Run(ctx) })
	if s.demand != nil {
		g.Go(func() error { return s.demand.Run(ctx) })
	}
	if s.policies != nil {
		g.Go(func() error { return s.policies.Run(ctx) })
	}
	g.Go(func() error { s.register.Run(ctx); return nil })
	g.Go(func() error { s.tellClosedPorts(ctx); return nil })
	g.Go(func() error {
		new(governor).run(ctx, func() uint64 { return s.store.Snapshot().Version() })
		return nil
	})
	g.Go(func() error { // open tunnels are checked again when roots, certificates or revocations change
		return s.mutual.Watch(ctx, func() {
			s.server.Recheck()
			s.tunnels.Recheck()
		})
	})
	for _, path := range s.config.Discovery.PolicyFiles {
		g.Go(func() error { return s.changes.File(ctx, path) })
	}
}

// serve runs the data path and the admin servers.
func (s *Sidecar) serve(ctx, drain context.Context, g *errgroup.Group, l *listeners) {
	g.Go(func() error { return s.server.Serve(ctx, drain, l.hbone.Sockets(), s.inbound.Tunnel) })
	if l.plain != nil {
		plain := newEntrance(l.plain, mostOpenEach, s.inbound.RefusedPlain, func(c *capture.Conn) { s.inbound.Plain(drain, c.TCPConn, c.Original) })
		g.Go(func() error { return plain.accept(ctx) })
	}
	for _, ln := range l.outbound {
		app := newEntrance(ln, mostOpen, s.outbound.Refused, func(c *capture.Conn) { s.outbound.Serve(drain, c) })
		g.Go(func() error { return app.accept(ctx) })
	}
	for _, a := range l.admin {
		g.Go(func() error { return a.serve(ctx) })
	}
}

// waiting is Pending for who reads it, with what is known of why.
func (s *Sidecar) waiting() []string {
	waiting := s.Pending()
	for i, what := range waiting {
		if what == pendingCertificate {
			waiting[i] += " (" + s.certificateState() + ")"
		}
	}
	if len(s.store.Snapshot().Pending()) == 0 {
		return waiting
	}
	for _, client := range []*xds.Client{s.policies, s.xds} {
		if client == nil {
			continue
		}
		if st := client.Status(); !st.Connected && st.Error != "" {
			waiting = slices.Insert(waiting, 0, "control plane ("+planeState(client)+")")
		}
	}
	return waiting
}

const pendingCertificate = "certificate"

// Pending names what is missing before the sidecar can carry traffic.
func (s *Sidecar) Pending() []string {
	pending := s.store.Snapshot().Pending()
	if _, err := s.source.SVID(); err != nil {
		pending = append(pending, pendingCertificate)
	}
	if _, _, ok := s.crl.Lists(); !ok {
		pending = append(pending, "certificate revocation list")
	}
	return pending
}
