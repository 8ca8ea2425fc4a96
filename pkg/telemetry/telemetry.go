// Package telemetry makes one record of every connection and of every call and
// turns it into an access log line, an audit record and metrics. It decides
// nothing, and what it cannot write it drops and counts: only an audit that was
// configured to block may hold traffic up.
package telemetry

import (
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/netip"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"github.com/outrigger-mesh/outrigger/pkg/mesh"
	"github.com/outrigger-mesh/outrigger/pkg/policy"
)

// Format is how the access log is written.
type Format string

const (
	FormatText Format = "text" // key=value after tab-separated time, level, scope and message, as ztunnel does
	FormatJSON Format = "json" // one flat object per line, as ztunnel does with LOG_FORMAT=json
)

const (
	defaultQueue  = 4 << 20
	defaultSeries = 4096
)

// Config says where records go.
type Config struct {
	AccessLog io.Writer    // nil: no access log
	Format    Format       // of the access log; "" means text
	Level     slog.Leveler // least level of access log lines; nil means info. Debug adds "connection opened"

	Audit      io.Writer // JSON lines; nil: no audit
	AuditBlock bool      // a full audit queue holds traffic up; otherwise the record is dropped and counted

	Queue  int // bytes that may wait for each of the two writers; 0 means 4 MiB
	Series int // label sets the per-connection metrics may have; the rest share one; 0 means 4096

	Self     mesh.Self            // the workload served: names our end of a connection when the mesh does not
	Version  string               // of this build, for istio_build
	Registry *prometheus.Registry // nil: a new one
	Logger   *slog.Logger         // for records that could not be written; nil: nowhere
}

// A Recorder makes records. A nil Recorder makes records that go nowhere.
type Recorder struct {
	access  *sink // nil: none
	audit   *sink // nil: none
	format  Format
	level   slog.Leveler
	self    *mesh.Workload // our own end, until the mesh tells more; nil: unknown
	proof   mesh.Principal // what our own certificate proves
	metrics *metrics
}

// New returns a recorder that writes until Close. It borrows the writers.
func New(c Config) (*Recorder, error) {
	if c.Format == "" {
		c.Format = FormatText
	}
	if c.Format != FormatText && c.Format != FormatJSON {
		return nil, fmt.Errorf("access log format %q: want %q or %q", c.Format, FormatText, FormatJSON)
	}
	if c.Queue < 0 || c.Series < 0 {
		return nil, fmt.Errorf("queue of %d bytes, %d series: want 0 or more", c.Queue, c.Series)
	}
	if c.Queue == 0 {
		c.Queue = defaultQueue
	}
	if c.Series == 0 {
		c.Series = defaultSeries
	}
	if c.Level == nil {
		c.Level = slog.LevelInfo
	}
	if c.Registry == nil {
		c.Registry = prometheus.NewRegistry()
	}
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
	m, err := newMetrics(c.Registry, c.Version, c.Series)
	if err != nil {
		return nil, fmt.Errorf("register metrics: %w", err)
	}
	r := &Recorder{format: c.Format, level: c.Level, self: selfWorkload(&c.Self), proof: c.Self.Principal, metrics: m}
	if c.AccessLog != nil {
		r.access = startSink(sinkConfig{Name: "access", Writer: c.AccessLog, Queue: c.Queue, Dropped: m.dropped, Logger: c.Logger})
	}
	if c.Audit != nil {
		r.audit = startSink(sinkConfig{Name: "audit", Writer: c.Audit, Queue: c.Queue, Block: c.AuditBlock, Dropped: m.dropped, Logger: c.Logger})
	}
	return r, nil
}

// Close writes what still waits and then ends the writers. Records that are
// finished later are dropped and counted. It returns what the last writes said.
func (r *Recorder) Close() error {
	if r == nil {
		return nil
	}
	return errors.Join(r.access.close(), r.audit.close())
}

// Metrics serves the metrics in Prometheus' text format or as OpenMetrics.
func (r *Recorder) Metrics() http.Handler {
	return promhttp.HandlerFor(r.metrics.registry, promhttp.HandlerOpts{EnableOpenMetrics: true, MaxRequestsInFlight: 4, Timeout: 10 * time.Second})
}

// Connection starts the record of a connection. source is who dialled us.
func (r *Recorder) Connection(d policy.Direction, source netip.AddrPort) *Connection {
	c := &Connection{Direction: d, SourceAddr: source, recorder: r, start: time.Now()}
	if r != nil {
		r.metrics.sockets(d).Inc()
	}
	return c
}
