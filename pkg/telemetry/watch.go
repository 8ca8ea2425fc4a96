package telemetry

import (
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// XDS is how the configuration stream is.
type XDS struct {
	Connected bool
	Since     time.Time // when it was connected or lost; before the first connection, when it was first tried
}

// Gauges are read at every scrape. Nil ones are left out.
type Gauges struct {
	XDS               func() XDS
	Snapshot          func() uint64    // version of the configuration in force
	CertificateExpiry func() time.Time // of our own certificate; zero if there is none
}

// Watch adds gauges whose values others know. It fails if they were added before.
func (r *Recorder) Watch(g Gauges) error {
	if g.XDS != nil {
		if err := r.gauge("outrigger_xds_connected", "Whether the xDS stream is open.", func() float64 {
			if g.XDS().Connected {
				return 1
			}
			return 0
		}); err != nil {
			return err
		}
		if err := r.gauge("outrigger_xds_staleness_seconds", "How long configuration has not been kept up to date; 0 while the xDS stream is open.", func() float64 {
			if x := g.XDS(); !x.Connected {
				return time.Since(x.Since).Seconds()
			}
			return 0
		}); err != nil {
			return err
		}
	}
	if g.Snapshot != nil {
		if err := r.gauge("outrigger_snapshot_version", "Version of the configuration in force.", func() float64 { return float64(g.Snapshot()) }); err != nil {
			return err
		}
	}
	if g.CertificateExpiry == nil {
		return nil
	}
	return r.gauge("outrigger_certificate_expiry_timestamp_seconds", "When our own certificate expires, in Unix time; 0 without one.", func() float64 {
		if t := g.CertificateExpiry(); !t.IsZero() {
			return float64(t.Unix())
		}
		return 0
	})
}

func (r *Recorder) gauge(name, help string, value func() float64) error {
	return r.metrics.registry.Register(prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: name, Help: help}, value))
}

// XDSMessage counts a response of n bytes. typeURL must be one we subscribed to.
func (r *Recorder) XDSMessage(typeURL string, n int) {
	r.metrics.xdsMessages.WithLabelValues(typeURL).Inc()
	r.metrics.xdsBytes.WithLabelValues(typeURL).Add(float64(n))
}

// Why an xDS stream ended, as ztunnel's metric has it.
const (
	XDSConnectionError = "ConnectionError" // it could not be opened
	XDSError           = "Error"           // the server ended it with an error
	XDSReconnect       = "Reconnect"       // the server or we ended it to begin anew
	XDSComplete        = "Complete"        // the server simply ended it
)

// XDSTerminated counts the end of an xDS stream; reason is one of the constants above.
func (r *Recorder) XDSTerminated(reason string) {
	r.metrics.xdsTerminations.WithLabelValues(reason).Inc()
}
