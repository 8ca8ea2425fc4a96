package telemetry

import (
	"errors"
	"fmt"
	"io"
	"net/http/httptest"
	"net/netip"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/outrigger-mesh/outrigger/pkg/mesh"
	"github.com/outrigger-mesh/outrigger/pkg/policy"
)

// scrape returns the samples whose line begins with prefix.
func scrape(t *testing.T, r *Recorder, prefix string) []string {
	t.Helper()
	w := httptest.NewRecorder()
	r.Metrics().ServeHTTP(w, httptest.NewRequest("GET", "/metrics", nil))
	body, err := io.ReadAll(w.Result().Body)
	if err != nil || w.Code != 200 {
		t.Fatal(w.Code, err)
	}
	var found []string
	for _, line := range linesOf(string(body)) {
		if strings.HasPrefix(line, prefix) {
			found = append(found, line)
		}
	}
	return found
}

// expect compares one metric's samples, whose labels Prometheus sorts.
func expect(t *testing.T, r *Recorder, prefix string, want ...string) {
	t.Helper()
	if got := strings.Join(scrape(t, r, prefix), "\n"); got != strings.Join(want, "\n") {
		t.Errorf("%s:\n got %s\nwant %s", prefix, got, strings.Join(want, "\n"))
	}
}

const plannerToGithub = `connection_security_policy="mutual_tls",destination_app="github",destination_canonical_revision="v2",destination_canonical_service="github",destination_cluster="Kubernetes",destination_principal="spiffe://cluster.local/ns/tools/sa/github",destination_region="unknown",destination_service="github.tools.svc.cluster.local",destination_service_name="github",destination_service_namespace="tools",destination_version="v2",destination_workload="github",destination_workload_namespace="tools",destination_zone="unknown",reporter="destination",request_protocol="tcp",response_flags="%s",source_app="planner",source_canonical_revision="v1",source_canonical_service="planner",source_cluster="Kubernetes",source_principal="spiffe://cluster.local/ns/agents/sa/planner",source_region="r1",source_version="v1",source_workload="planner",source_workload_namespace="agents",source_zone="z1"`

func TestConnectionMetricsAreZtunnels(t *testing.T) {
	b := newBench(t, Config{Self: githubSelf})
	defer b.close(t)
	labels, failed := fmt.Sprintf(plannerToGithub, "-"), fmt.Sprintf(plannerToGithub, "DENY")

	c := b.inbound()
	expect(t, b.Recorder, "istio_tcp_sockets_open", `istio_tcp_sockets_open{reporter="destination"} 1`, `istio_tcp_sockets_open{reporter="source"} 0`)
	c.Open()
	expect(t, b.Recorder, "istio_tcp_connections_opened_total", "istio_tcp_connections_opened_total{"+labels+"} 1")
	c.Sent(500) // live: before the connection ends
	c.Received(60)
	expect(t, b.Recorder, "istio_tcp_sent_bytes_total", "istio_tcp_sent_bytes_total{"+labels+"} 500")
	c.BytesSent, c.BytesReceived, c.Flags = 518, 67, "DENY"
	c.Close(nil)
	expect(t, b.Recorder, "istio_tcp_sent_bytes_total", "istio_tcp_sent_bytes_total{"+labels+"} 518")
	expect(t, b.Recorder, "istio_tcp_received_bytes_total", "istio_tcp_received_bytes_total{"+labels+"} 67")
	expect(t, b.Recorder, "istio_tcp_connections_closed_total", "istio_tcp_connections_closed_total{"+labels+"} 1")
	expect(t, b.Recorder, "istio_tcp_connections_failed_total", "istio_tcp_connections_failed_total{"+failed+"} 1")
	expect(t, b.Recorder, "istio_tcp_sockets_open", `istio_tcp_sockets_open{reporter="destination"} 0`, `istio_tcp_sockets_open{reporter="source"} 0`)
	expect(t, b.Recorder, "outrigger_policy_decisions_total", `outrigger_policy_decisions_total{decision="allow",kind="connection",policy="tools/l4",reporter="destination"} 1`)
}

func TestBytesAreCountedFromTheClientsSideByBothReporters(t *testing.T) {
	for _, d := range []policy.Direction{policy.Inbound, policy.Outbound} {
		b := newBench(t, Config{})
		c := b.Connection(d, netip.AddrPort{})
		c.BytesSent, c.BytesReceived = 1, 2 // towards the peer; from it
		c.Close(nil)
		request, response := "1", "2"
		if d == policy.Inbound {
			request, response = response, request
		}
		for metric, want := range map[string]string{"istio_tcp_received_bytes_total": request, "istio_tcp_sent_bytes_total": response} {
			if got := scrape(t, b.Recorder, metric); len(got) != 1 || !strings.HasSuffix(got[0], " "+want) {
				t.Errorf("%s: %s = %v, want %s", directionName(d), metric, got, want)
			}
		}
		b.close(t)
	}
}

func TestEarlyFailureHasNoTrafficMetric(t *testing.T) {
	b := newBench(t, Config{})
	defer b.close(t)
	b.Connection(policy.Inbound, netip.AddrPort{}).Close(errors.New("bad certificate"))
	expect(t, b.Recorder, "istio_tcp_connections")
}

func TestCallMetricsByOutcome(t *testing.T) {
	allowed := policy.Decision{Allowed: true, Policy: "tools/github"}
	for _, tt := range []struct {
		outcome, decision string
		d                 policy.Decision
		fill              func(c *Call)
		err               error
	}{
		{"ok", "allow", allowed, func(*Call) {}, nil},
		{"tool_error", "allow", allowed, func(c *Call) { c.ToolError = true }, nil},
		{"error", "allow", allowed, func(c *Call) { c.ErrorCode = -32603 }, nil},
		{"error", "allow", allowed, func(c *Call) { c.Status = 502 }, nil},
		{"error", "allow", allowed, func(*Call) {}, errors.New("reset")},
		{"denied", "deny", denied, func(c *Call) { c.ErrorCode = -32602 }, nil},
	} {
		b := newBench(t, Config{Self: githubSelf})
		c := b.inbound()
		c.Decision = policy.Decision{}
		k := call(c, tt.d)
		tt.fill(k)
		k.Finish(tt.err)
		expect(t, b.Recorder, "outrigger_mcp_calls_total", `outrigger_mcp_calls_total{destination_canonical_service="github",destination_workload_namespace="tools",method="tools/call",outcome="`+tt.outcome+`",reporter="destination",source_canonical_service="planner",source_principal="spiffe://cluster.local/ns/agents/sa/planner",source_workload_namespace="agents"} 1`)
		expect(t, b.Recorder, "outrigger_policy_decisions_total", `outrigger_policy_decisions_total{decision="`+tt.decision+`",kind="call",policy="tools/github",reporter="destination"} 1`)
		expect(t, b.Recorder, "outrigger_mcp_call_duration_seconds_count", `outrigger_mcp_call_duration_seconds_count{method="tools/call",reporter="destination"} 1`)
		if tt.decision == "deny" {
			expect(t, b.Recorder, "outrigger_policy_audits_total", `outrigger_policy_audits_total{action="require",kind="call",policy="tools/dry",reporter="destination"} 1`)
		}
		b.close(t)
	}
}

// The receiver seldom has asked its control plane for the workload that calls it.
func TestWhoCallsIsCountedByCertificateWhenTheWorkloadIsNotKnown(t *testing.T) {
	b := newBench(t, Config{Self: githubSelf})
	defer b.close(t)
	c := b.inbound()
	c.SourceWorkload = nil
	c.Open()
	call(c, policy.Decision{Allowed: true}).Finish(nil)
	c.Close(nil)
	for _, metric := range []string{"istio_tcp_connections_opened_total", "outrigger_mcp_calls_total"} {
		for _, label := range []string{`source_canonical_service="unknown"`, `source_workload_namespace="agents"`, `source_principal="spiffe://cluster.local/ns/agents/sa/planner"`} {
			if got := scrape(t, b.Recorder, metric); len(got) != 1 || !strings.Contains(got[0], label) {
				t.Errorf("%s lacks %s: %v", metric, label, got)
			}
		}
	}
}

func TestPeersCannotInventMethodLabels(t *testing.T) {
	b := newBench(t, Config{})
	defer b.close(t)
	c := b.inbound()
	for i := range 100 {
		k := c.Call()
		k.Method = fmt.Sprintf("x/%d", i)
		k.Finish(nil)
	}
	if got := scrape(t, b.Recorder, "outrigger_mcp_calls_total"); len(got) != 1 || !strings.Contains(got[0], `method="unknown"`) {
		t.Errorf("%d series: %v", len(got), got)
	}
}

func TestCardinalityIsCapped(t *testing.T) {
	b := newBench(t, Config{Series: 10})
	defer b.close(t)
	for i := range 100 {
		c := b.inbound()
		c.Source = mesh.NewPrincipal("cluster.local", "agents", fmt.Sprint("a", i))
		c.Decision.Policy = fmt.Sprint("tools/p", i)
		c.Close(nil)
	}
	got := scrape(t, b.Recorder, "istio_tcp_connections_opened_total")
	if len(got) != 11 {
		t.Errorf("%d label sets, want 10 and one for the rest", len(got))
	}
	if rest := `source_principal="overflow"`; !strings.Contains(strings.Join(got, "\n"), rest) {
		t.Errorf("no %s in %v", rest, got)
	}
	if got := scrape(t, b.Recorder, "outrigger_policy_decisions_total"); len(got) != 11 {
		t.Errorf("%d policies, want 10 and one for the rest", len(got))
	}
}

func TestBadUTF8InLabelsIsReplaced(t *testing.T) {
	b := newBench(t, Config{})
	defer b.close(t)
	c := b.inbound()
	c.Service.Hostname = "\xff"
	c.Close(nil)
	if got := scrape(t, b.Recorder, "istio_tcp_connections_opened_total"); len(got) != 1 || !strings.Contains(got[0], "destination_service=\"\ufffd\"") {
		t.Error(got)
	}
}

func TestGaugesAreReadWhenScraped(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t, Config{Version: "1.2.3"})
		defer b.close(t)
		stream := XDS{Since: time.Now()}
		stale := time.Now()
		g := Gauges{
			XDS:               func() XDS { return stream },
			Snapshot:          func() uint64 { return 12 },
			CertificateExpiry: func() time.Time { return time.Unix(1e9, 0) },
			CertificateStale:  func() time.Time { return stale },
			CRL:               func() CRL { return CRL{Lists: 2, Ends: time.Unix(2e9, 0), Stale: stale} },
			Ejected:           func() int { return 3 },
		}
		if err := b.Watch(g); err != nil {
			t.Fatal(err)
		}
		time.Sleep(90 * time.Second)
		expect(t, b.Recorder, "outrigger_xds", "outrigger_xds_connected 0", "outrigger_xds_staleness_seconds 90")
		expect(t, b.Recorder, "outrigger_ejected", "outrigger_ejected_targets 3")
		stream = XDS{Connected: true, Since: time.Now()}
		time.Sleep(time.Minute)
		expect(t, b.Recorder, "outrigger_xds", "outrigger_xds_connected 1", "outrigger_xds_staleness_seconds 0")
		expect(t, b.Recorder, "outrigger_snapshot", "outrigger_snapshot_version 12")
		expect(t, b.Recorder, "outrigger_certificate", "outrigger_certificate_expiry_timestamp_seconds 1e+09", "outrigger_certificate_staleness_seconds 150")
		expect(t, b.Recorder, "outrigger_crl", "outrigger_crl_expiry_timestamp_seconds 2e+09", "outrigger_crl_lists 2", "outrigger_crl_staleness_seconds 150")
		stale = time.Time{}
		expect(t, b.Recorder, "outrigger_certificate_staleness", "outrigger_certificate_staleness_seconds 0")
		expect(t, b.Recorder, "outrigger_crl_staleness", "outrigger_crl_staleness_seconds 0")
		expect(t, b.Recorder, "istio_build", `istio_build{component="outrigger",tag="1.2.3"} 1`)
		if b.Watch(g) == nil {
			t.Error("the same gauges were added twice")
		}
		b.XDSMessage("type.googleapis.com/istio.workload.Address", 100)
		b.XDSTerminated(XDSReconnect)
		expect(t, b.Recorder, "istio_xds_message_bytes_total", `istio_xds_message_bytes_total{url="type.googleapis.com/istio.workload.Address"} 100`)
		expect(t, b.Recorder, "istio_xds_connection_terminations_total", `istio_xds_connection_terminations_total{reason="Reconnect"} 1`)
	})
}

func TestLabelPlacesMatchTheirNames(t *testing.T) {
	for at, want := range map[int]string{
		atReporter: "reporter", atSource: "source_workload", atSourcePrincipal: "source_principal", atService: "destination_service",
		atDestination: "destination_workload", atDestinationPrincipal: "destination_principal", atProtocol: "request_protocol",
		atFlags: "response_flags", atSecurity: "connection_security_policy", atSourceLocality: "source_region", atDestinationLocality: "destination_region",
	} {
		if trafficLabels[at] != want {
			t.Errorf("place %d is %s, want %s", at, trafficLabels[at], want)
		}
	}
}

func TestNewRejects(t *testing.T) {
	for _, c := range []Config{{Format: "xml"}, {Queue: -1}, {Series: -1}} {
		if r, err := New(c); err == nil {
			r.Close()
			t.Errorf("%+v was accepted", c)
		}
	}
}

func TestBytesBeforeOpenAreCountedOnce(t *testing.T) {
	b := newBench(t, Config{Self: githubSelf})
	defer b.close(t)
	labels := fmt.Sprintf(plannerToGithub, "-")
	c := b.inbound()
	const goroutines, each = 4, 1000
	var counting sync.WaitGroup
	for range goroutines {
		counting.Go(func() {
			for range each {
				c.Sent(1)
				c.Received(2)
			}
		})
	}
	c.Open()
	counting.Wait()
	expect(t, b.Recorder, "istio_tcp_sent_bytes_total", fmt.Sprintf("istio_tcp_sent_bytes_total{%s} %d", labels, goroutines*each))
	expect(t, b.Recorder, "istio_tcp_received_bytes_total", fmt.Sprintf("istio_tcp_received_bytes_total{%s} %d", labels, 2*goroutines*each))
	c.BytesSent, c.BytesReceived = goroutines*each, 2*goroutines*each
	c.Close(nil)
	expect(t, b.Recorder, "istio_tcp_sent_bytes_total", fmt.Sprintf("istio_tcp_sent_bytes_total{%s} %d", labels, goroutines*each))
}
