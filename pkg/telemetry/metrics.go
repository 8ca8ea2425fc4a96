package telemetry

import (
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"

	"github.com/outrigger-mesh/outrigger/pkg/policy"
)

// metrics are all the metrics there are. Those of traffic have ztunnel's names
// and labels. No label takes a value that a peer can invent: workloads and
// services come from the mesh, policies from their author, methods from a table.
// There is no label for tools: a server may have any number of them.
type metrics struct {
	registry *prometheus.Registry

	opened, closed, failures *prometheus.CounterVec
	received, sent           *prometheus.CounterVec
	open                     *prometheus.GaugeVec
	calls                    *prometheus.CounterVec
	durations                *prometheus.HistogramVec
	decisions, audits        *prometheus.CounterVec
	dropped                  *prometheus.CounterVec
	xdsTerminations          *prometheus.CounterVec
	xdsMessages, xdsBytes    *prometheus.CounterVec

	methods      map[string]int // index of each known method
	openInbound  prometheus.Gauge
	openOutbound prometheus.Gauge
	observers    [2][len(knownMethods) + 1]atomic.Pointer[prometheus.Observer]

	limit   int          // of each map
	mu      sync.RWMutex // guards what follows
	traffic map[seriesKey]*series
	policy  map[policyKey]prometheus.Counter
}

// policyKey is one label set of the decision counters.
type policyKey struct {
	reporter, kind, decision, policy string
	audit                            bool
}

const (
	unknown  = "unknown"  // nobody told us
	overflow = "overflow" // one label set too many
)

func newMetrics(registry *prometheus.Registry, version string, limit int) (*metrics, error) {
	m := &metrics{
		registry: registry,
		opened:   counter("istio_tcp_connections_opened_total", "Connections that were opened, denied ones included.", trafficLabels[:]...),
		closed:   counter("istio_tcp_connections_closed_total", "Connections that were closed.", trafficLabels[:]...),
		failures: counter("istio_tcp_connections_failed_total", "Connections that failed, by response flag (unstable).", trafficLabels[:]...),
		received: counter("istio_tcp_received_bytes_total", "Bytes from client to server.", trafficLabels[:]...),
		sent:     counter("istio_tcp_sent_bytes_total", "Bytes from server to client.", trafficLabels[:]...),
		open: prometheus.NewGaugeVec(prometheus.GaugeOpts{
			Name: "istio_tcp_sockets_open", Help: "Connections that are being served (unstable).",
		}, []string{"reporter"}),
		calls: counter("outrigger_mcp_calls_total", "MCP calls by method and outcome: ok, tool_error, error, denied.", callLabels[:]...),
		durations: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name: "outrigger_mcp_call_duration_seconds", Help: "Time from a call's first byte to the end of its answer.",
			Buckets: []float64{.0005, .001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10, 30, 60},
		}, []string{"reporter", "method"}),
		decisions:       counter("outrigger_policy_decisions_total", "Decisions about connections and calls, by the policy that decided.", "reporter", "kind", "decision", "policy"),
		audits:          counter("outrigger_policy_audits_total", "Matches of audit-only rules and dry-run policies, by what they would have done.", "reporter", "kind", "action", "policy"),
		dropped:         counter("outrigger_records_dropped_total", "Records that were not written, by log and reason: full, write, closed.", "log", "reason"),
		xdsTerminations: counter("istio_xds_connection_terminations_total", "Ends of the xDS stream, by reason (unstable).", "reason"),
		xdsMessages:     counter("istio_xds_message_total", "xDS responses received, by type (unstable).", "url"),
		xdsBytes:        counter("istio_xds_message_bytes_total", "Bytes of xDS responses received, by type (unstable).", "url"),
		methods:         make(map[string]int, len(knownMethods)),
		limit:           limit,
		traffic:         make(map[seriesKey]*series),
		policy:          make(map[policyKey]prometheus.Counter),
	}
	for i, method := range knownMethods {
		m.methods[method] = i
	}
	m.openInbound = m.open.WithLabelValues(reporterName(policy.Inbound))
	m.openOutbound = m.open.WithLabelValues(reporterName(policy.Outbound))
	return m, m.register(version)
}

func counter(name, help string, labels ...string) *prometheus.CounterVec {
	return prometheus.NewCounterVec(prometheus.CounterOpts{Name: name, Help: help}, labels)
}

func (m *metrics) register(version string) error {
	build := prometheus.NewGaugeVec(prometheus.GaugeOpts{Name: "istio_build", Help: "The build that runs."}, []string{"component", "tag"})
	if version == "" {
		version = unknown
	}
	build.WithLabelValues("outrigger", version).Set(1)
	for _, c := range []prometheus.Collector{
		build, collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}),
		m.opened, m.closed, m.failures, m.received, m.sent, m.open, m.calls, m.durations,
		m.decisions, m.audits, m.dropped, m.xdsTerminations, m.xdsMessages, m.xdsBytes,
	} {
		if err := m.registry.Register(c); err != nil {
			return err
		}
	}
	return nil
}

func (m *metrics) sockets(d policy.Direction) prometheus.Gauge {
	if d == policy.Inbound {
		return m.openInbound
	}
	return m.openOutbound
}

// decision counts a decision and what only audits.
func (m *metrics) decision(d policy.Direction, kind string, x *policy.Decision) {
	key := policyKey{reporter: reporterName(d), kind: kind, decision: verdict(x), policy: x.Policy}
	m.policyCounter(key).Inc()
	for _, a := range x.Audits {
		key := policyKey{reporter: key.reporter, kind: kind, decision: actionName(a.Action), policy: a.Policy, audit: true}
		m.policyCounter(key).Inc()
	}
}

func (m *metrics) policyCounter(k policyKey) prometheus.Counter {
	m.mu.RLock()
	c, ok := m.policy[k]
	m.mu.RUnlock()
	if ok {
		return c
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	family, name := m.decisions, k.policy
	if k.audit {
		family = m.audits
	}
	if name == "" {
		name = "none"
	}
	if len(m.policy) >= m.limit {
		return family.WithLabelValues(k.reporter, k.kind, k.decision, overflow)
	}
	c = family.WithLabelValues(k.reporter, k.kind, k.decision, name)
	m.policy[k] = c
	return c
}

// call counts a call.
func (m *metrics) call(c *Call, took time.Duration, err error) {
	method, ok := m.methods[c.Method]
	if !ok {
		method = len(knownMethods)
	}
	m.callCounter(c.connection.series.Load(), method, outcomeOf(c, err)).Inc()
	m.observer(c.connection.Direction, method).Observe(took.Seconds())
	m.decision(c.connection.Direction, "call", &c.Decision)
}

func (m *metrics) observer(d policy.Direction, method int) prometheus.Observer {
	at := &m.observers[0][method]
	if d == policy.Inbound {
		at = &m.observers[1][method]
	}
	if o := at.Load(); o != nil {
		return *o
	}
	o := m.durations.WithLabelValues(reporterName(d), methodLabel(method))
	at.Store(&o)
	return o
}
