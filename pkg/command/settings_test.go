package command

import (
	"errors"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"github.com/spf13/pflag"
	"go.uber.org/goleak"

	"github.com/outrigger-mesh/outrigger/pkg/sidecar"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// load is a configuration from a file's text, an environment and flags.
func load(t *testing.T, file string, env map[string]string, args ...string) (sidecar.Config, error) {
	t.Helper()
	flags := pflag.NewFlagSet("test", pflag.ContinueOnError)
	l := bind(flags, sidecar.DefaultConfig())
	if file != "" {
		path := filepath.Join(t.TempDir(), "sidecar.yaml")
		if err := os.WriteFile(path, []byte(file), 0o600); err != nil {
			t.Fatal(err)
		}
		args = append(args, "--config", path)
	}
	if err := flags.Parse(args); err != nil {
		return sidecar.Config{}, err
	}
	c := sidecar.DefaultConfig()
	err := l.load(&c, func(name string) (string, bool) { v, ok := env[name]; return v, ok })
	return c, err
}

func TestLaterSourcesWin(t *testing.T) {
	const file = "workload: {name: from-file, namespace: from-file, serviceAccount: from-file}\n"
	c, err := load(t, file, map[string]string{"POD_NAMESPACE": "from-env", "SERVICE_ACCOUNT": "from-env"}, "--service-account", "from-flag")
	if err != nil {
		t.Fatal(err)
	}
	w := c.Workload
	if w.Name != "from-file" || w.Namespace != "from-env" || w.ServiceAccount != "from-flag" || w.TrustDomain != "cluster.local" {
		t.Fatalf("workload is %+v", w)
	}
}

func TestBoundsOfTunnelsComeFromEverywhereAndAreChecked(t *testing.T) {
	const file = "tunnels: {opensPerSecond: 7, noisePerSecond: 8, stallTimeout: 3m}\n"
	c, err := load(t, file, map[string]string{"TUNNEL_NOISE_PER_SECOND": "9"}, "--tunnel-resets-per-second", "10")
	if err != nil {
		t.Fatal(err)
	}
	want := sidecar.TunnelsConfig{OpensPerSecond: 7, NoisePerSecond: 9, ResetsPerSecond: 10, StallTimeout: sidecar.Duration(3 * 60 * 1e9)}
	if c.Tunnels != want {
		t.Errorf("%+v", c.Tunnels)
	}
	if _, err := load(t, "", nil, "--tunnels-per-peer", "many"); err == nil {
		t.Error("words were taken for a count")
	}
	c.Workload = sidecar.WorkloadConfig{Name: "a", Namespace: "b", ServiceAccount: "c", TrustDomain: "cluster.local", Addresses: []string{"10.0.0.1"}}
	for _, bad := range []sidecar.Count{-1, 1_000_001} {
		c.Tunnels.ConnsPerPeer = bad
		var wrong *sidecar.ConfigError
		if err := c.Validate(); !errors.As(err, &wrong) || wrong.Path != "tunnels.connsPerPeer" {
			t.Errorf("%d: %v", bad, err)
		}
	}
}

func TestEveryKindOfSettingCanBeGiven(t *testing.T) {
	c, err := load(t, "", map[string]string{"INSTANCE_IP": "10.0.0.1, 10.0.0.2", "SECRET_TTL": "90m", "POD_LABELS": "app=x,tier=y"},
		"--forward", "127.0.0.1:8080=github.tools.svc.cluster.local:80", "--passthrough-unknown")
	if err != nil {
		t.Fatal(err)
	}
	want := sidecar.DefaultConfig()
	want.Workload.Addresses = []string{"10.0.0.1", "10.0.0.2"}
	want.Workload.Labels = map[string]string{"app": "x", "tier": "y"}
	want.Identity.TTL = sidecar.Duration(90 * 60 * 1e9)
	want.Outbound.Forwards = []sidecar.Forward{{Listen: "127.0.0.1:8080", Host: "github.tools.svc.cluster.local", Port: 80}}
	want.Outbound.PassthroughUnknown = true
	if !reflect.DeepEqual(c, want) {
		t.Fatalf("got  %+v\nwant %+v", c, want)
	}
}

func TestIstiosNameForTheClusterGoesFirst(t *testing.T) {
	c, err := load(t, "", map[string]string{"CLUSTER_ID": "b", "ISTIO_META_CLUSTER_ID": "a"})
	if err != nil || c.Workload.ClusterID != "a" {
		t.Fatalf("cluster is %q, %v", c.Workload.ClusterID, err)
	}
}

// A person must learn from the error where the mistake is and how to mend it.
func TestMistakesAreNamedWithTheirPlace(t *testing.T) {
	for _, c := range []struct {
		name, file string
		env        map[string]string
		args       []string
		want       []string
	}{
		{"an unknown field", "workload:\n  nmae: x\n", nil, nil, []string{"sidecar.yaml:2", "nmae", "name"}},
		{"a bad duration in the file", "drain:\n  deadline: soon\n", nil, nil, []string{"sidecar.yaml:2", "soon", "5s"}},
		{"a bad value in the environment", "", map[string]string{"SECRET_TTL": "never"}, nil, []string{"SECRET_TTL", "never", "24h"}},
		{"a bad flag", "", nil, []string{"--forward", "8080"}, []string{"--forward", "8080", "127.0.0.1:8080="}},
	} {
		_, err := load(t, c.file, c.env, c.args...)
		if err == nil {
			t.Errorf("%s: no error", c.name)
			continue
		}
		for _, part := range c.want {
			if !strings.Contains(err.Error(), part) {
				t.Errorf("%s: %q does not say %q", c.name, err, part)
			}
		}
	}
}

func TestAMissingSettingIsNamedWithEveryWayToGiveIt(t *testing.T) {
	l := bind(pflag.NewFlagSet("test", pflag.ContinueOnError), sidecar.DefaultConfig())
	c := sidecar.DefaultConfig()
	err := l.locate(c.Validate())
	wrong, ok := errors.AsType[*sidecar.ConfigError](err)
	if !ok || wrong.Path != "workload.name" {
		t.Fatalf("error is %v", err)
	}
	for _, part := range []string{"--name", "POD_NAME", "workload.name"} {
		if !strings.Contains(err.Error(), part) {
			t.Errorf("%q does not say %q", err, part)
		}
	}
}

func TestABadValueOfTheFileIsNamedWithItsLine(t *testing.T) {
	path := filepath.Join(t.TempDir(), "sidecar.yaml")
	const file = "workload:\n  name: a\n  namespace: b\n  serviceAccount: c\n  addresses: [10.0.0.1]\nrecords:\n  level: loud\n"
	if err := os.WriteFile(path, []byte(file), 0o600); err != nil {
		t.Fatal(err)
	}
	flags := pflag.NewFlagSet("test", pflag.ContinueOnError)
	l := bind(flags, sidecar.DefaultConfig())
	if err := flags.Parse([]string{"--config", path}); err != nil {
		t.Fatal(err)
	}
	c := sidecar.DefaultConfig()
	if err := l.load(&c, func(string) (string, bool) { return "", false }); err != nil {
		t.Fatal(err)
	}
	if err := l.locate(c.Validate()); err == nil || !strings.Contains(err.Error(), "sidecar.yaml:7") || !strings.Contains(err.Error(), "loud") {
		t.Fatalf("error is %v", err)
	}
}

// The flags, the environment, the file and the schema are made from one struct:
// each setting has a flag of its own, a description and a place in the schema.
func TestEverySettingIsDescribed(t *testing.T) {
	schema, err := ConfigSchema()
	if err != nil {
		t.Fatal(err)
	}
	seen := map[string]string{}
	for _, s := range settings(reflect.TypeFor[sidecar.Config]()) {
		if s.doc == "" || s.flag == "" || len(s.env) == 0 {
			t.Errorf("%s lacks a description, a flag or an environment variable", s.path)
		}
		for _, name := range append([]string{"--" + s.flag}, s.env...) {
			if other := seen[name]; other != "" {
				t.Errorf("%s sets both %s and %s", name, other, s.path)
			}
			seen[name] = s.path
		}
		leaf := s.path[strings.LastIndexByte(s.path, '.')+1:]
		if !strings.Contains(schema, `"`+leaf+`"`) || !strings.Contains(schema, strings.ReplaceAll(s.doc, `"`, `\"`)) {
			t.Errorf("the schema does not describe %s", s.path)
		}
	}
}
