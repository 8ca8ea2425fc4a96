package sidecar

import (
	"errors"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
)

// configured is a valid configuration, changed.
func configured(change func(*Config)) Config {
	c := DefaultConfig()
	c.Workload.Name, c.Workload.Namespace, c.Workload.ServiceAccount = "planner-0", "agents", "planner"
	c.Workload.Addresses = []string{"10.0.0.1"}
	c.Records.AccessLog = Off
	change(&c)
	return c
}

func build(t *testing.T, change func(*Config)) *Sidecar {
	t.Helper()
	s, err := New(configured(change), Options{Version: "test", Log: io.Discard})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.closeLogs() })
	return s
}

func TestMistakesInIdentitySettingsAreNamed(t *testing.T) {
	for _, c := range []struct {
		name, path string
		change     func(*IdentityConfig)
		want       []string
	}{
		{"provider", "identity.provider", func(i *IdentityConfig) { i.Provider = "spire" }, []string{`"spire"`, "workload-api"}},
		{"no socket", "identity.socket", func(i *IdentityConfig) { i.Provider = "workload-api" }, []string{"--workload-api-socket", "SPIFFE_ENDPOINT_SOCKET"}},
		{"socket without scheme", "identity.socket", func(i *IdentityConfig) { i.Provider, i.Socket = "workload-api", "/run/agent.sock" }, []string{`"/run/agent.sock"`, "unix://"}},
		{"two files of three", "identity", func(i *IdentityConfig) { i.Provider, i.CertFile, i.KeyFile = "files", "c", "k" }, []string{"identity.bundleFile", "--cert-file, --key-file and --bundle-file"}},
		{"lifetime", "identity.ttl", func(i *IdentityConfig) { i.TTL = Duration(time.Millisecond) }, []string{"1ms", "1s"}},
		{"alias that is no domain", "identity.trustDomainAliases", func(i *IdentityConfig) { i.TrustDomainAliases = []string{"Old.Local"} }, []string{`"Old.Local"`, "lower case"}},
		{"alias with a path", "identity.trustDomainAliases", func(i *IdentityConfig) { i.TrustDomainAliases = []string{"old.local/ns"} }, []string{`"old.local/ns"`}},
		{"empty alias", "identity.trustDomainAliases", func(i *IdentityConfig) { i.TrustDomainAliases = []string{""} }, []string{`""`}},
		{"own domain as alias", "identity.trustDomainAliases", func(i *IdentityConfig) { i.TrustDomainAliases = []string{"cluster.local"} }, []string{"itself"}},
		{"alias that is federated", "identity.trustDomainAliases", func(i *IdentityConfig) {
			i.TrustDomainAliases, i.FederatedBundles = []string{"partner.example"}, map[string]string{"partner.example": "p.pem"}
		}, []string{"partner.example", "one of the two"}},
		{"federated domain that is none", "identity.federatedBundles", func(i *IdentityConfig) { i.FederatedBundles = map[string]string{"spiffe://x": "p.pem"} }, []string{"domain=file"}},
		{"federated domain without a file", "identity.federatedBundles", func(i *IdentityConfig) { i.FederatedBundles = map[string]string{"partner.example": ""} }, []string{"no file"}},
		{"own domain federated", "identity.federatedBundles", func(i *IdentityConfig) { i.FederatedBundles = map[string]string{"cluster.local": "p.pem"} }, []string{"own trust domain"}},
		{"federation beside SPIRE's", "identity.federatedBundles", func(i *IdentityConfig) {
			i.Provider, i.Socket, i.FederatedBundles = "workload-api", "unix:///x", map[string]string{"partner.example": "p.pem"}
		}, []string{"SPIRE"}},
		{"status required without a CRL", "identity.requireRevocationStatus", func(i *IdentityConfig) { i.RequireRevocationStatus = true }, []string{"--crl-file"}},
	} {
		config := configured(func(all *Config) { c.change(&all.Identity) })
		err := config.Validate()
		wrong, ok := errors.AsType[*ConfigError](err)
		if !ok || wrong.Path != c.path {
			t.Errorf("%s: %v", c.name, err)
			continue
		}
		for _, part := range c.want {
			if !strings.Contains(err.Error(), part) {
				t.Errorf("%s: %q does not say %q", c.name, err, part)
			}
		}
	}
}

func TestWithoutSettingsNobodyElseIsTrusted(t *testing.T) {
	s := build(t, func(*Config) {})
	if m := s.mutual; m.AllowTLS12 || m.RequireRevocationStatus || len(m.Aliases) != 0 || m.CRL != nil {
		t.Errorf("%+v", m)
	}
}

func TestIdentitySettingsReachTheHandshake(t *testing.T) {
	crl := filepath.Join(t.TempDir(), "crl.pem")
	s := build(t, func(c *Config) {
		c.Identity.TrustDomainAliases, c.Identity.AllowTLS12 = []string{"old.local"}, true
		c.Identity.CRLFile, c.Identity.RequireRevocationStatus = crl, true
		c.Identity.FederatedBundles = map[string]string{"partner.example": filepath.Join(t.TempDir(), "absent.pem")}
	})
	if m := s.mutual; !m.AllowTLS12 || !m.RequireRevocationStatus || !slices.Equal(m.Aliases, []string{"old.local"}) || m.CRL != s.crl || m.Source != s.source {
		t.Errorf("%+v", m)
	}
}

// What is wrong with certificate and CRL is on the status page, in the dump and
// in what readiness waits for.
func TestTroubleOfIdentityIsShown(t *testing.T) {
	crl := filepath.Join(t.TempDir(), "crl.pem")
	if err := os.WriteFile(crl, []byte("garbage"), 0o600); err != nil {
		t.Fatal(err)
	}
	s := build(t, func(c *Config) { c.Identity.CRLFile = crl })
	facts := map[string]string{}
	for _, f := range s.facts() {
		facts[f.Name] = f.Value
	}
	if !strings.Contains(facts["revocations"], "nobody is admitted") || !strings.Contains(facts["revocations"], crl) || !strings.Contains(facts["certificate"], "no valid certificate") {
		t.Errorf("facts: %v", facts)
	}
	if pending := s.Pending(); !slices.Contains(pending, "certificate") || !slices.Contains(pending, "certificate revocation list") {
		t.Errorf("pending: %v", pending)
	}
	if r := s.revocations(); r.Lists != 0 || !strings.Contains(r.Problem, crl) || r.ProblemSince == "" {
		t.Errorf("dump: %+v", r)
	}
	if c := s.certificates()[0]; !strings.HasPrefix(c.State, "Unavailable: ") {
		t.Errorf("dump: %+v", c)
	}
}
