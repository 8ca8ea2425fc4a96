// Package admin tells how a process is: readiness for the kubelet, metrics for
// Prometheus and, on loopback only, a status page, the configuration in force,
// log levels and profiles. It knows ztunnel's addresses and formats, so that
// Istio's tools work on it, and knows nothing of the data path.
package admin

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"time"

	"golang.org/x/net/netutil"
)

// ErrNotLoopback means that the private server was given an address that others can reach.
var ErrNotLoopback = errors.New("address is not loopback")

const (
	maxConnections   = 128 // of each server
	maxHeaderBytes   = 16 << 10
	headerTimeout    = 2 * time.Second
	readTimeout      = 5 * time.Second
	writeTimeout     = 30 * time.Second
	idleTimeout      = 30 * time.Second
	maxProfile       = 5 * time.Minute
	shutdownPatience = time.Second
)

// Config says what there is to tell. What is nil is not served.
type Config struct {
	Name    string // of the process, on the status page; "" means outrigger
	Version string

	Ready   func() []string // what is still pending; none means ready. Nil is always ready
	Metrics http.Handler
	Dump    func() any     // configuration in force, as JSON; see Dump
	Facts   func() []Fact  // for the status page
	Quit    func()         // asks the process to drain and end; must not block
	Level   *slog.LevelVar // of the process' own log
	Logger  *slog.Logger   // for what goes wrong here; nil: nowhere
}

// A Fact is a line of the status page.
type Fact struct{ Name, Value string }

// Admin serves what Config tells.
type Admin struct {
	config Config
	reset  slog.Level // the level at the start
}

// New returns the servers of one process.
func New(c Config) *Admin {
	if c.Name == "" {
		c.Name = "outrigger"
	}
	if c.Ready == nil {
		c.Ready = func() []string { return nil }
	}
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
	a := &Admin{config: c}
	if c.Level != nil {
		a.reset = c.Level.Level()
	}
	return a
}

// ServeReadiness answers /healthz/ready on ln, port 15021 in Istio, until ctx
// ends. It takes over ln.
func (a *Admin) ServeReadiness(ctx context.Context, ln net.Listener) error {
	return a.serve(ctx, ln, a.readiness(), writeTimeout)
}

// ServeMetrics answers /metrics and /stats/prometheus on ln, port 15020 in
// Istio, until ctx ends. It takes over ln.
func (a *Admin) ServeMetrics(ctx context.Context, ln net.Listener) error {
	return a.serve(ctx, ln, a.metrics(), writeTimeout)
}

// ServePrivate answers everything else on ln, port 15000 in Istio, until ctx
// ends. It takes over ln, which must be a loopback or Unix socket: who reaches
// it may read the configuration and end the process.
func (a *Admin) ServePrivate(ctx context.Context, ln net.Listener) error {
	if !private(ln.Addr()) {
		return errors.Join(fmt.Errorf("serve admin on %v: %w", ln.Addr(), ErrNotLoopback), ln.Close())
	}
	return a.serve(ctx, ln, a.private(), maxProfile+writeTimeout)
}

func private(a net.Addr) bool {
	if a.Network() == "unix" {
		return true
	}
	ap, err := netip.ParseAddrPort(a.String())
	return err == nil && ap.Addr().Unmap().IsLoopback()
}

// serve serves until ctx ends, then waits for the connections it has.
func (a *Admin) serve(ctx context.Context, ln net.Listener, h http.Handler, write time.Duration) error {
	s := &http.Server{
		Handler:           h,
		ReadHeaderTimeout: headerTimeout,
		ReadTimeout:       readTimeout,
		WriteTimeout:      write,
		IdleTimeout:       idleTimeout,
		MaxHeaderBytes:    maxHeaderBytes,
		ErrorLog:          slog.NewLogLogger(a.config.Logger.Handler(), slog.LevelDebug),
	}
	stopped := make(chan struct{})
	cancel := context.AfterFunc(ctx, func() {
		defer close(stopped)
		patience, done := context.WithTimeout(context.WithoutCancel(ctx), shutdownPatience)
		defer done()
		if s.Shutdown(patience) != nil {
			s.Close() // a profile may take minutes
		}
	})
	err := s.Serve(netutil.LimitListener(ln, maxConnections))
	if !cancel() {
		<-stopped
	}
	if errors.Is(err, http.ErrServerClosed) {
		return nil
	}
	return errors.Join(fmt.Errorf("serve admin on %v: %w", ln.Addr(), err), s.Close())
}
