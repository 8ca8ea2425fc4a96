package sidecar

import (
	"fmt"
	"log/slog"
	"maps"
	"net"
	"net/netip"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/outrigger-mesh/outrigger/pkg/mesh"
)

// Off turns a listener or a log off.
const Off = "off"

const (
	providerCA          = "ca"
	providerFiles       = "files"
	providerWorkloadAPI = "workload-api"
)

// DefaultConfig is what a sidecar does unless it is told otherwise.
func DefaultConfig() Config {
	return Config{
		Workload: WorkloadConfig{
			TrustDomain: "cluster.local", ClusterID: "Kubernetes", ClusterDomain: "cluster.local", RootNamespace: "istio-system",
		},
		Identity: IdentityConfig{Provider: providerCA, TTL: Duration(24 * time.Hour)},
		Discovery: DiscoveryConfig{
			Address: "istiod.istio-system.svc:15012",
			Root:    "/var/run/secrets/istio/root-cert.pem",
			Token:   "/var/run/secrets/tokens/istio-token",
		},
		Inbound:  InboundConfig{HBONE: ":15008", Plain: ":15006"},
		Outbound: OutboundConfig{Capture: ":15001"},
		Admin:    AdminConfig{Address: "127.0.0.1:15000", Metrics: ":15020", Readiness: ":15021"},
		Records:  RecordsConfig{AccessLog: "-", Format: "plain", Audit: Off, Level: "info"},
		Drain:    DrainConfig{Deadline: Duration(5 * time.Second)},
	}
}

// NotSet is the Problem of a ConfigError about a setting that must be given and was not.
const NotSet = "not set"

// A ConfigError names the setting that is wrong, by its path in the YAML file.
type ConfigError struct {
	Path    string // e.g. "workload.name"
	Problem string
	Remedy  string
}

func (e *ConfigError) Error() string { return fmt.Sprintf("%s: %s: %s", e.Path, e.Problem, e.Remedy) }

// Validate checks what a decoder cannot: what must be set, and what fits together.
func (c *Config) Validate() error {
	for _, required := range [...]struct{ path, value, remedy string }{
		{"workload.name", c.Workload.Name, "set --name or POD_NAME to the name of the pod"},
		{"workload.namespace", c.Workload.Namespace, "set --namespace or POD_NAMESPACE to the namespace of the pod"},
		{"workload.serviceAccount", c.Workload.ServiceAccount, "set --service-account or SERVICE_ACCOUNT to the service account of the pod"},
		{"discovery.address", c.Discovery.Address, "set --xds-address or XDS_ADDRESS to the host:port of istiod or outrigger-control"},
	} {
		if required.value == "" {
			return &ConfigError{required.path, NotSet, required.remedy}
		}
	}
	if len(c.Workload.Addresses) == 0 {
		return &ConfigError{"workload.addresses", NotSet, "set --address or INSTANCE_IP to the IP address of the pod"}
	}
	for _, check := range []func() error{c.validateAddresses, c.validateIdentity, c.validatePolicy, c.validateTunnels, c.validateRecords} {
		if err := check(); err != nil {
			return err
		}
	}
	if _, err := c.Self(); err != nil {
		return err
	}
	return nil
}

func (c *Config) validateAddresses() error {
	for _, a := range [...]struct {
		path, value string
		mayBeOff    bool
	}{
		{"discovery.address", c.Discovery.Address, false},
		{"inbound.hbone", c.Inbound.HBONE, false},
		{"inbound.plain", c.Inbound.Plain, true},
		{"outbound.capture", c.Outbound.Capture, true},
		{"admin.address", c.Admin.Address, true},
		{"admin.metrics", c.Admin.Metrics, true},
		{"admin.readiness", c.Admin.Readiness, true},
	} {
		if a.mayBeOff && a.value == Off {
			continue
		}
		_, port, err := net.SplitHostPort(strings.TrimPrefix(a.value, "https://"))
		if err != nil {
			return &ConfigError{a.path, fmt.Sprintf("%q is not an address", a.value), "write host:port, as in 127.0.0.1:15000, or off where it may be turned off"}
		}
		if _, err := strconv.ParseUint(port, 10, 16); err != nil {
			return &ConfigError{a.path, fmt.Sprintf("%q has a port that is none", a.value), "write a number from 1 to 65535 after the colon"}
		}
	}
	if c.Inbound.App != "" {
		if _, err := netip.ParseAddr(c.Inbound.App); err != nil {
			return &ConfigError{"inbound.app", fmt.Sprintf("%q is not an IP address", c.Inbound.App), "write the address on which the app listens, as in 127.0.0.1"}
		}
	}
	_, err := c.mcpPorts()
	return err
}

func (c *Config) mcpPorts() ([]uint16, error) {
	var ports []uint16
	for _, text := range c.Inbound.MCPPorts {
		port, err := strconv.ParseUint(text, 10, 16)
		if err != nil || port == 0 {
			return nil, &ConfigError{"inbound.mcpPorts", fmt.Sprintf("%q is not a port", text), "write a number from 1 to 65535"}
		}
		ports = append(ports, uint16(port))
	}
	return ports, nil
}

func (c *Config) validateRecords() error {
	if !slices.Contains([]string{"plain", "json"}, c.Records.Format) {
		return &ConfigError{"records.format", fmt.Sprintf("%q is not a format", c.Records.Format), "use plain or json"}
	}
	var level slog.Level
	if err := level.UnmarshalText([]byte(c.Records.Level)); err != nil {
		return &ConfigError{"records.level", fmt.Sprintf("%q is not a level", c.Records.Level), "use debug, info, warn or error"}
	}
	return nil
}

// Self is the workload the configuration names.
func (c *Config) Self() (mesh.Self, error) {
	w := &c.Workload
	principal, err := mesh.ParsePrincipal(mesh.NewPrincipal(w.TrustDomain, w.Namespace, w.ServiceAccount).String())
	if err != nil {
		return mesh.Self{}, &ConfigError{"workload", err.Error(), "check trustDomain, namespace and serviceAccount"}
	}
	self := mesh.Self{
		Principal: principal, Name: w.Name, Namespace: w.Namespace, Network: w.Network, ClusterID: w.ClusterID,
		ClusterDomain: w.ClusterDomain, RootNamespace: w.RootNamespace, Labels: maps.Clone(w.Labels),
	}
	for _, text := range w.Addresses {
		address, err := netip.ParseAddr(text)
		if err != nil {
			return mesh.Self{}, &ConfigError{"workload.addresses", fmt.Sprintf("%q is not an IP address", text), "write the address of the pod, as in 10.1.2.3"}
		}
		self.Addresses = append(self.Addresses, address.Unmap())
	}
	if w.LabelsFile != "" {
		if err := readLabels(w.LabelsFile, &self); err != nil {
			return mesh.Self{}, err
		}
	}
	return self, nil
}

// readLabels adds the labels in a file of the Kubernetes downward API: a line
// each, key="value" with Go's quoting.
func readLabels(file string, self *mesh.Self) error {
	data, err := os.ReadFile(file)
	if err != nil {
		return &ConfigError{"workload.labelsFile", err.Error(), "mount the labels of the pod there by the downward API"}
	}
	if self.Labels == nil {
		self.Labels = make(map[string]string)
	}
	for n, line := range strings.Split(strings.TrimSpace(string(data)), "\n") {
		if line == "" {
			continue
		}
		key, quoted, ok := strings.Cut(line, "=")
		value, err := strconv.Unquote(quoted)
		if !ok || err != nil {
			return &ConfigError{"workload.labelsFile", fmt.Sprintf("%s:%d: %q is not a label", file, n+1, line), `write key="value" on each line`}
		}
		self.Labels[key] = value
	}
	return nil
}
