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

// CRL is how the file of certificate revocation lists is.
type CRL struct {
	Lists int       // in force
	Ends  time.Time // when the first of them does; zero if none does
	Stale time.Time // since when the newest content of the file has not been in use; zero if it is
}

// Gauges are read at every scrape. Nil ones are left out.
type Gauges struct {
	XDS               func() XDS
	Snapshot          func() uint64    // version of the configuration in force
	CertificateExpiry func() time.Time // of our own certificate; zero if there is none
	CertificateStale  func() time.Time // since when it could not be renewed; zero if all is well
	CRL               func() CRL
	Ejected           func() int // targets that are left alone because connections to them kept failing
}

// A gauge is one of Gauges as it is exposed.
type gauge struct {
	name, help string
	value      func() float64
}

// Watch adds gauges whose values others know. It fails if they were added before.
func (r *Recorder) Watch(g Gauges) error {
	for _, list := range [][]gauge{g.configuration(), g.identity()} {
		for _, w := range list {
			if err := r.gauge(w.name, w.help, w.value); err != nil {
				return err
			}
		}
	}
	return nil
}

func (g *Gauges) configuration() (all []gauge) {
	if g.XDS != nil {
		all = append(all,
			gauge{"outrigger_xds_connected", "Whether the xDS stream is open.", func() float64 {
				if g.XDS().Connected {
					return 1
				}
				return 0
			}},
			gauge{"outrigger_xds_staleness_seconds", "How long configuration has not been kept up to date; 0 while the xDS stream is open.", func() float64 {
				if x := g.XDS(); !x.Connected {
					return time.Since(x.Since).Seconds()
				}
				return 0
			}})
	}
	if g.Snapshot != nil {
		all = append(all, gauge{"outrigger_snapshot_version", "Version of the configuration in force.", func() float64 { return float64(g.Snapshot()) }})
	}
	if g.Ejected != nil {
		all = append(all, gauge{"outrigger_ejected_targets", "Workloads and gateways that are left alone for a while because connections to them kept failing.",
			func() float64 { return float64(g.Ejected()) }})
	}
	return all
}

func (g *Gauges) identity() (all []gauge) {
	if g.CertificateExpiry != nil {
		all = append(all, gauge{"outrigger_certificate_expiry_timestamp_seconds", "When our own certificate expires, in Unix time; 0 without one.",
			func() float64 { return unix(g.CertificateExpiry()) }})
	}
	if g.CertificateStale != nil {
		all = append(all, gauge{"outrigger_certificate_staleness_seconds", "How long our own certificate or a trusted root could not be renewed; 0 while all is well.",
			func() float64 { return ago(g.CertificateStale()) }})
	}
	if g.CRL != nil {
		all = append(all,
			gauge{"outrigger_crl_lists", "Certificate revocation lists in force.", func() float64 { return float64(g.CRL().Lists) }},
			gauge{"outrigger_crl_expiry_timestamp_seconds", "When the first certificate revocation list in force ends, in Unix time; 0 if none does.",
				func() float64 { return unix(g.CRL().Ends) }},
			gauge{"outrigger_crl_staleness_seconds", "How long the newest content of the CRL file could not be used; 0 while all is well.",
				func() float64 { return ago(g.CRL().Stale) }})
	}
	return all
}

// unix is a time as a gauge has it; 0 for never.
func unix(t time.Time) float64 {
	if t.IsZero() {
		return 0
	}
	return float64(t.Unix())
}

// ago is how many seconds have passed since t; 0 for never.
func ago(t time.Time) float64 {
	if t.IsZero() {
		return 0
	}
	return time.Since(t).Seconds()
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
