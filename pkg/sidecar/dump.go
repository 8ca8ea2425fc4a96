package sidecar

import (
	"crypto/x509"
	"slices"

	"github.com/outrigger-mesh/outrigger/pkg/admin"
)

// dump is the configuration in force, for /config_dump.
func (s *Sidecar) dump() any {
	snap := s.store.Snapshot()
	workloads := slices.Collect(snap.Workloads())
	return admin.Dump{
		Workloads:     admin.Workloads(workloads),
		Services:      admin.Services(slices.Collect(snap.Services()), workloads),
		Policies:      authorizations(snap),
		AgentPolicies: s.agentPolicies(snap),
		Carriers:      s.carriers(snap),
		Rejected:      s.rejected(),
		Pending:       s.Pending(),
		Ejections:     s.ejections(),
		Snapshot:      snap.Version(),
		StaticConfig:  struct{}{},
		Version:       map[string]string{"version": s.version},
		Config:        s.resolved(),
		Certificates:  s.certificates(),
		Revocations:   s.revocations(),
	}
}

func (s *Sidecar) ejections() []admin.Ejection {
	list := []admin.Ejection{}
	for _, e := range s.balancer.Ejections() {
		list = append(list, admin.Ejection{WorkloadUID: e.Target, Until: stamp(e.Until), Failures: e.Failures, Problem: e.Why.Error()})
	}
	return list
}

func (s *Sidecar) certificates() []admin.Certificate {
	c := admin.Certificate{Identity: s.self.Principal.String(), State: "Available", CertChain: []admin.Cert{}, RootCerts: []admin.Cert{}}
	svid, err := s.source.SVID()
	if err != nil {
		c.State = "Unavailable: " + err.Error()
		return []admin.Certificate{c}
	}
	var chain []*x509.Certificate
	for _, der := range svid.Certificate.Certificate {
		if cert, err := x509.ParseCertificate(der); err == nil {
			chain = append(chain, cert)
		}
	}
	c.CertChain, c.RootCerts = admin.Certs(chain), admin.Certs(svid.Roots)
	if trouble := s.source.Err(); trouble != nil {
		c.Problem, c.ProblemSince = trouble.Error(), stamp(s.source.FailingSince())
	}
	return []admin.Certificate{c}
}

// revocations is nil without a CRL.
func (s *Sidecar) revocations() *admin.Revocations {
	if s.crl == nil {
		return nil
	}
	count, ends, _ := s.crl.Lists()
	r := &admin.Revocations{Path: s.config.Identity.CRLFile, Lists: count}
	if !ends.IsZero() {
		r.FirstEnds = stamp(ends)
	}
	if trouble := s.crl.Err(); trouble != nil {
		r.Problem, r.ProblemSince = trouble.Error(), stamp(s.crl.FailingSince())
	}
	return r
}

// resolved is the configuration with what came of the files it names that others do
// not have.
func (s *Sidecar) resolved() Config {
	c := s.config
	c.Workload.Labels, c.Workload.LabelsFile = s.self.Labels, ""
	return c
}
