package sidecar

import (
	"context"
	"fmt"
	"net"
	"strconv"
	"strings"
	"time"

	"github.com/outrigger-mesh/outrigger/pkg/admin"
	"github.com/outrigger-mesh/outrigger/pkg/telemetry"
	"github.com/outrigger-mesh/outrigger/pkg/xds"
)

// An adminServer is one open admin port and what is served there.
type adminServer struct {
	listener net.Listener
	run      func(ctx context.Context, ln net.Listener) error
}

func (a *adminServer) serve(ctx context.Context) error { return a.run(ctx, a.listener) }

func (s *Sidecar) listenAdmin(ctx context.Context) (all []*adminServer, err error) {
	a := admin.New(admin.Config{
		Version: s.version, Ready: s.waiting, Metrics: s.recorder.Metrics(), Dump: s.dump, Facts: s.facts,
		Quit: s.stop, Level: s.level, Logger: s.logger,
	})
	for _, p := range []struct {
		address, flag string
		run           func(context.Context, net.Listener) error
	}{
		{s.config.Admin.Address, "--admin-listen", a.ServePrivate},
		{s.config.Admin.Metrics, "--metrics-listen", a.ServeMetrics},
		{s.config.Admin.Readiness, "--ready-listen", a.ServeReadiness},
	} {
		if p.address == Off {
			continue
		}
		ln, err := (&net.ListenConfig{}).Listen(ctx, "tcp", p.address)
		if err != nil {
			return all, fmt.Errorf("%w: choose another address with %s, or stop what uses it", err, p.flag)
		}
		all = append(all, &adminServer{ln, p.run})
	}
	return all, nil
}

// gauges tell the metrics what only the wiring knows.
func (s *Sidecar) gauges() error {
	return s.recorder.Watch(telemetry.Gauges{
		XDS: func() telemetry.XDS {
			st := s.xds.Status()
			since := st.Since
			if since.IsZero() {
				since = s.started
			}
			return telemetry.XDS{Connected: st.Connected, Since: since}
		},
		Snapshot: func() uint64 { return s.store.Snapshot().Version() },
		CertificateExpiry: func() time.Time {
			svid, err := s.source.SVID()
			if err != nil {
				return time.Time{}
			}
			return svid.NotAfter
		},
		CertificateStale: s.source.FailingSince,
		CRL:              s.crlGauges(),
		Ejected:          func() int { return len(s.balancer.Ejections()) },
	})
}

// crlGauges is nil without a CRL: there is nothing to tell then.
func (s *Sidecar) crlGauges() func() telemetry.CRL {
	if s.crl == nil {
		return nil
	}
	return func() telemetry.CRL {
		count, ends, _ := s.crl.Lists()
		return telemetry.CRL{Lists: count, Ends: ends, Stale: s.crl.FailingSince()}
	}
}

func (s *Sidecar) facts() []admin.Fact {
	snap := s.store.Snapshot()
	counts := snap.Counts()
	facts := []admin.Fact{
		{Name: "identity", Value: s.self.Principal.String()},
		{Name: "certificate", Value: s.certificateState()},
		{Name: "control plane", Value: planeState(s.xds)},
		{Name: "configuration", Value: fmt.Sprintf("version %d: %d workloads, %d services, %d authorizations, %d agent policies",
			snap.Version(), counts.Workloads, counts.Services, counts.Authorizations, counts.AgentPolicies)},
		{Name: "pending", Value: strings.Join(s.Pending(), ", ")},
		{Name: "open connections", Value: strconv.Itoa(s.register.Open())},
	}
	if revocations := s.revocationState(); revocations != "" {
		facts = append(facts, admin.Fact{Name: "revocations", Value: revocations})
	}
	if s.policies != nil {
		facts = append(facts, admin.Fact{Name: "policy control plane", Value: planeState(s.policies)})
	}
	for _, e := range s.ejections() {
		facts = append(facts, admin.Fact{Name: "left alone", Value: e.String()})
	}
	for _, port := range s.closedPorts(snap) {
		facts = append(facts, admin.Fact{Name: "closed port", Value: fmt.Sprintf("%d: %s; %s", port, closedProblem, closedRemedy)})
	}
	for _, r := range s.rejected() {
		facts = append(facts, admin.Fact{Name: "rejected", Value: r.Carrier + " " + r.Name + ": " + r.Problem})
	}
	if p := snap.Policies(); p != nil {
		for _, problem := range p.Problems() {
			facts = append(facts, admin.Fact{Name: "policy problem", Value: problem.Error()})
		}
	}
	return facts
}

func planeState(client *xds.Client) string {
	st := client.Status()
	if st.Connected {
		return "connected to " + st.Target + " since " + st.Since.UTC().Format(time.RFC3339)
	}
	state := "not connected to " + st.Target
	if stale := st.Stale(time.Now()); stale > 0 {
		state += " for " + stale.Round(time.Second).String()
	}
	return state + ": " + st.Error
}
