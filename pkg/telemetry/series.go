package telemetry

import (
	"cmp"
	"strings"
	"sync/atomic"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/outrigger-mesh/outrigger/pkg/mesh"
	"github.com/outrigger-mesh/outrigger/pkg/policy"
)

// trafficLabels are ztunnel's, in its order.
var trafficLabels = [...]string{
	"reporter",
	"source_workload", "source_canonical_service", "source_canonical_revision", "source_workload_namespace",
	"source_principal", "source_app", "source_version", "source_cluster",
	"destination_service", "destination_service_namespace", "destination_service_name",
	"destination_workload", "destination_canonical_service", "destination_canonical_revision", "destination_workload_namespace",
	"destination_principal", "destination_app", "destination_version", "destination_cluster",
	"request_protocol", "response_flags", "connection_security_policy",
	"source_region", "source_zone", "destination_region", "destination_zone",
}

// Places of values in trafficLabels.
const (
	atReporter             = 0
	atSource               = 1
	atSourceNamespace      = 4
	atSourcePrincipal      = 5
	atService              = 9
	atDestination          = 12
	atDestinationNamespace = 15
	atDestinationPrincipal = 16
	atProtocol             = 20
	atFlags                = 21
	atSecurity             = 22
	atSourceLocality       = 23
	atDestinationLocality  = 25
)

type labelValues [len(trafficLabels)]string

// seriesKey is a label set whose principals are not yet text.
type seriesKey struct {
	values              labelValues
	source, destination mesh.Principal
}

// A series is the traffic counters of one label set, resolved once.
type series struct {
	values         labelValues
	opened, closed prometheus.Counter
	received, sent prometheus.Counter
	calls          [len(knownMethods) + 1][outcomes]atomic.Pointer[prometheus.Counter]
}

// series finds the counters of a connection. Past the limit all new label sets
// share one per reporter and security policy, so that memory stays bounded.
//
// Keys are large. They are kept off the stack, which would have to grow for the first
// call of a connection and stay that large while the connection idles.
func (m *metrics) series(c *Connection) *series {
	k := keyOf(c)
	m.mu.RLock()
	s := m.traffic[*k]
	m.mu.RUnlock()
	if s == nil {
		s = m.newSeries(k)
	}
	return s
}

func (m *metrics) newSeries(k *seriesKey) *series {
	m.mu.Lock()
	defer m.mu.Unlock()
	if len(m.traffic) >= m.limit {
		k = k.overflowed()
	}
	if s := m.traffic[*k]; s != nil {
		return s
	}
	s := &series{values: k.values}
	v := s.values[:]
	v[atSourcePrincipal], v[atDestinationPrincipal] = cmp.Or(v[atSourcePrincipal], k.source.String()), cmp.Or(v[atDestinationPrincipal], k.destination.String())
	// Who calls is seldom a workload that we have asked for, but its certificate names the namespace.
	v[atSourceNamespace], v[atDestinationNamespace] = cmp.Or(v[atSourceNamespace], k.source.Namespace()), cmp.Or(v[atDestinationNamespace], k.destination.Namespace())
	for i := range v {
		v[i] = cmp.Or(valid(v[i]), unknown)
	}
	s.opened, s.closed = m.opened.WithLabelValues(v...), m.closed.WithLabelValues(v...)
	s.received, s.sent = m.received.WithLabelValues(v...), m.sent.WithLabelValues(v...)
	m.traffic[*k] = s
	return s
}

func keyOf(c *Connection) *seriesKey {
	k := &seriesKey{source: c.Source, destination: c.Destination}
	v := &k.values
	v[atReporter] = reporterName(c.Direction)
	v.workload(atSource, atSourceLocality, c.SourceWorkload)
	v[atService], v[atService+1], v[atService+2] = c.Service.Hostname, c.Service.Namespace, serviceName(c.Service)
	v.workload(atDestination, atDestinationLocality, c.DestinationWorkload)
	v[atProtocol], v[atFlags] = "tcp", "-"
	if !c.Source.IsZero() && !c.Destination.IsZero() {
		v[atSecurity] = "mutual_tls"
	}
	return k
}

func (v *labelValues) workload(at, locality int, w *mesh.Workload) {
	if w == nil {
		return
	}
	v[at], v[at+1], v[at+2], v[at+3] = w.WorkloadName, w.CanonicalName, w.CanonicalRevision, w.Namespace
	v[at+5], v[at+6], v[at+7] = w.CanonicalName, w.CanonicalRevision, w.ClusterID
	v[locality], v[locality+1] = w.Locality.Region, w.Locality.Zone
}

func (k *seriesKey) overflowed() *seriesKey {
	o := new(seriesKey)
	for i := range o.values {
		o.values[i] = overflow
	}
	for _, i := range []int{atReporter, atProtocol, atFlags, atSecurity} {
		o.values[i] = k.values[i]
	}
	return o
}

// serviceName is the Kubernetes name in a service's hostname, or all of another hostname.
func serviceName(n mesh.Name) string {
	name, rest, ok := strings.Cut(n.Hostname, ".")
	if ok && strings.HasPrefix(rest, n.Namespace+".svc") {
		return name
	}
	return n.Hostname
}

// failed is the counter of connections that ended with a flag.
func (m *metrics) failed(c *Connection) prometheus.Counter {
	v := c.series.Load().values
	v[atFlags] = c.Flags
	return m.failures.WithLabelValues(v[:]...)
}

// countSent counts what went towards the peer. In the metrics, of both
// reporters, received is what the client sent and sent what the server did.
func (s *series) countSent(d policy.Direction, n int64) {
	if d == policy.Inbound {
		s.sent.Add(float64(n))
	} else {
		s.received.Add(float64(n))
	}
}

func (s *series) countReceived(d policy.Direction, n int64) {
	if d == policy.Inbound {
		s.received.Add(float64(n))
	} else {
		s.sent.Add(float64(n))
	}
}

// valid keeps bad UTF-8 away from Prometheus, which panics on it.
func valid(s string) string { return strings.ToValidUTF8(s, "\ufffd") }
