package sidecar

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/outrigger-mesh/outrigger/pkg/identity"
	"github.com/outrigger-mesh/outrigger/pkg/mesh"
)

// A source is an identity.Source that also tells how it fares.
type source interface {
	identity.Source
	Err() error
	FailingSince() time.Time
}

func (s *Sidecar) buildIdentity() (err error) {
	c := &s.config.Identity
	if s.source, err = s.newSource(c); err != nil {
		return err
	}
	if c.CRLFile != "" {
		if s.crl, err = identity.NewCRL(identity.CRLConfig{Path: c.CRLFile, Logger: s.logger}); err != nil {
			return err
		}
	}
	s.mutual = &identity.Mutual{
		Source: s.source, CRL: s.crl, Aliases: c.TrustDomainAliases,
		RequireRevocationStatus: c.RequireRevocationStatus, AllowTLS12: c.AllowTLS12, StandardRecords: c.StandardRecords,
	}
	return nil
}

func (s *Sidecar) newSource(c *IdentityConfig) (source, error) {
	switch c.Provider {
	case providerFiles:
		return identity.NewFiles(identity.FilesConfig{
			Cert: c.CertFile, Key: c.KeyFile, Bundle: c.BundleFile, Principal: s.self.Principal,
			Federated: c.FederatedBundles, Logger: s.logger,
		})
	case providerWorkloadAPI:
		return identity.NewWorkloadAPI(identity.WorkloadAPIConfig{Address: c.Socket, Principal: s.self.Principal, Logger: s.logger})
	}
	return identity.NewCA(identity.CAConfig{
		ControlPlane: s.config.caPlane(), Principal: s.self.Principal, TTL: time.Duration(c.TTL),
		Federated: c.FederatedBundles, Logger: s.logger,
	})
}

func (c *Config) validateIdentity() error {
	for _, check := range []func() error{c.validateProvider, c.validateTrust} {
		if err := check(); err != nil {
			return err
		}
	}
	return nil
}

func (c *Config) validateProvider() error {
	i := &c.Identity
	switch i.Provider {
	case providerCA:
		if i.TTL < Duration(time.Second) {
			return &ConfigError{"identity.ttl", fmt.Sprintf("%v is too short", i.TTL), "ask for at least 1s, and for at least a few minutes outside of tests"}
		}
	case providerWorkloadAPI:
		if i.Socket == "" {
			return &ConfigError{"identity.socket", NotSet, "set --workload-api-socket or SPIFFE_ENDPOINT_SOCKET to the address of the SPIFFE Workload API, as in unix:///run/spire/agent.sock"}
		}
		if !strings.HasPrefix(i.Socket, "unix:") && !strings.HasPrefix(i.Socket, "tcp:") {
			return &ConfigError{"identity.socket", fmt.Sprintf("%q is not an address", i.Socket), "write unix:// and a path, as in unix:///run/spire/agent.sock"}
		}
	case providerFiles:
		if i.CertFile == "" || i.KeyFile == "" || i.BundleFile == "" {
			return &ConfigError{"identity", "provider files needs three files", "set --cert-file, --key-file and --bundle-file (identity.certFile, identity.keyFile and identity.bundleFile)"}
		}
	default:
		return &ConfigError{"identity.provider", fmt.Sprintf("%q is not a provider", i.Provider), "use ca, files or workload-api"}
	}
	return nil
}

// validateTrust checks whom besides our own trust domain we are told to trust.
func (c *Config) validateTrust() error {
	i := &c.Identity
	for _, alias := range i.TrustDomainAliases {
		switch _, federated := i.FederatedBundles[alias]; {
		case !isTrustDomain(alias):
			return &ConfigError{"identity.trustDomainAliases", fmt.Sprintf("%q is not a trust domain", alias), "write a name in lower case, as in old.example"}
		case alias == c.Workload.TrustDomain:
			return &ConfigError{"identity.trustDomainAliases", fmt.Sprintf("%q is the trust domain itself", alias), "list its other names only"}
		case federated:
			return &ConfigError{"identity.trustDomainAliases", fmt.Sprintf("%q also has a federated bundle", alias), "a trust domain is either an alias of ours or a foreign one: keep it in one of the two"}
		}
	}
	for _, domain := range slices.Sorted(maps.Keys(i.FederatedBundles)) {
		switch {
		case i.Provider == providerWorkloadAPI:
			return &ConfigError{"identity.federatedBundles", "the workload API brings foreign bundles itself", "federate the trust domains in SPIRE and remove this setting"}
		case !isTrustDomain(domain):
			return &ConfigError{"identity.federatedBundles", fmt.Sprintf("%q is not a trust domain", domain), "write domain=file, as in partner.example=/etc/partner.pem"}
		case domain == c.Workload.TrustDomain:
			return &ConfigError{"identity.federatedBundles", fmt.Sprintf("%q is the pod's own trust domain", domain), "list foreign ones only: our own roots come with the certificate"}
		case i.FederatedBundles[domain] == "":
			return &ConfigError{"identity.federatedBundles", fmt.Sprintf("%q has no file", domain), "write domain=file, as in partner.example=/etc/partner.pem"}
		}
	}
	if i.RequireRevocationStatus && i.CRLFile == "" {
		return &ConfigError{"identity.requireRevocationStatus", "there is no CRL to tell the status by, so that nobody would be admitted", "set --crl-file too"}
	}
	return nil
}

func isTrustDomain(name string) bool {
	p, err := mesh.ParsePrincipal("spiffe://" + name + "/x")
	return err == nil && p.TrustDomain() == name
}

// certificateState is how our own certificate is, in a line.
func (s *Sidecar) certificateState() string {
	svid, err := s.source.SVID()
	if err != nil {
		return err.Error()
	}
	state := "valid until " + stamp(svid.NotAfter)
	if trouble := s.source.Err(); trouble != nil {
		state += fmt.Sprintf("; not up to date since %s: %v", stamp(s.source.FailingSince()), trouble)
	}
	return state
}

// revocationState is how the CRL file is, in a line; "" if there is none.
func (s *Sidecar) revocationState() string {
	if s.crl == nil {
		return ""
	}
	count, ends, ok := s.crl.Lists()
	if !ok {
		return fmt.Sprintf("nobody is admitted: %v", s.crl.Err())
	}
	state := fmt.Sprintf("%d lists", count)
	if !ends.IsZero() {
		state += ", the first ends " + stamp(ends)
	}
	if trouble := s.crl.Err(); trouble != nil {
		state += fmt.Sprintf("; not up to date since %s: %v", stamp(s.crl.FailingSince()), trouble)
	}
	return state
}

func stamp(t time.Time) string { return t.UTC().Format(time.RFC3339) }
