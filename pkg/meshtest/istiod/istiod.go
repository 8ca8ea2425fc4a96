// Package istiod runs a real Istio control plane in a test, without a cluster:
// etcd, kube-apiserver and istiod as processes on loopback ports of their own.
// A lighter tier, Fake, runs Istio's own test server. The programs come from
// `make istio-testbed`, which must have put their directory into OUTRIGGER_ISTIO.
//
//	//go:build istiod
//
//	func TestSidecarObeysIstiod(t *testing.T) {
//		bed := istiod.Start(t, istiod.Config{})
//		ctx := t.Context()
//		pod := istiod.Pod{Namespace: "agents", Name: "planner-1", ServiceAccount: "planner", Address: "127.9.0.1", HBONE: true}
//		if err := bed.Apply(ctx, istiod.Namespace("agents")+pod.YAML()); err != nil {
//			t.Fatal(err)
//		}
//		token, err := bed.TokenFile(ctx, "agents", "planner") // path of a file that holds a token for istiod
//		...
//		c.Discovery.Address, c.Discovery.RootFile = bed.Secure, bed.RootFile
//	}
//
// bed.Secure is what port 15012 of istiod is: xDS and CA over TLS, for those who
// present a token. bed.Plain is what port 15010 is: xDS for everybody. Apply and
// Delete take YAML as kubectl does: AuthorizationPolicies, EnvoyFilters, Services.
package istiod

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/outrigger-mesh/outrigger/pkg/meshtest/free"
)

const (
	// System is istiod's namespace and the root namespace of the mesh.
	System = "istio-system"
	// ServerName is a name that istiod's certificate bears.
	ServerName = "istiod." + System + ".svc"
	// Audience is what tokens for istiod must be made for.
	Audience = "istio-ca"
	// DryRun in istiod's environment has it serve policies that are only tried out.
	DryRun = "AMBIENT_ENABLE_DRY_RUN_AUTHORIZATION_POLICY=true"

	startTime = 2 * time.Minute
	attempts  = 3 // at finding ports that nobody takes in the meantime
)

// Config changes how istiod runs.
type Config struct {
	Environment []string // more variables for istiod, KEY=value
	Flags       []string // more flags for istiod
	MeshConfig  string   // more YAML for the mesh configuration
}

// A Testbed is a running control plane and the Kubernetes API it watches.
type Testbed struct {
	*Kubernetes

	Plain    string // host:port of xDS in plaintext, without authentication
	Secure   string // host:port of xDS and CA over TLS
	RootPEM  []byte // of the mesh's CA
	RootFile string // a file with RootPEM
	Dir      string // of the logs and of everything the programs write

	config    Config
	programs  string
	http      string   // of istiod, for readiness
	command   []string // istiod's arguments
	etcd, api *process // nil until started
	istiod    *process // nil while stopped
}

// Programs is the directory of the programs, from OUTRIGGER_ISTIO.
func Programs() (string, error) {
	dir := os.Getenv("OUTRIGGER_ISTIO")
	if dir == "" {
		return "", errors.New("OUTRIGGER_ISTIO is not set: run `make contract`, or export OUTRIGGER_ISTIO=$(make -s istio-testbed)")
	}
	for _, name := range []string{"etcd", "kube-apiserver", "pilot-discovery", "fake", "crds"} {
		if _, err := os.Stat(filepath.Join(dir, name)); err != nil {
			return "", fmt.Errorf("a program of the testbed is missing: %w; run `make istio-testbed`", err)
		}
	}
	return dir, nil
}

// Start runs a control plane until the test ends. If the test fails, the end of
// the logs is shown.
func Start(t testing.TB, c Config) *Testbed {
	t.Helper()
	programs, err := Programs()
	if err != nil {
		t.Fatal(err)
	}
	b, err := New(t.Context(), programs, t.TempDir(), c)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if t.Failed() {
			t.Log(b.Logs())
		}
		b.Close()
	})
	return b
}

// New runs a control plane with its files below dir until Close.
func New(ctx context.Context, programs, dir string, c Config) (*Testbed, error) {
	ctx, cancel := context.WithTimeout(ctx, startTime)
	defer cancel()
	var errs []error
	for n := range attempts {
		b := &Testbed{config: c, programs: programs, Dir: filepath.Join(dir, fmt.Sprint("istio-", n))}
		err := b.start(ctx)
		if err == nil {
			return b, nil
		}
		b.Close()
		errs = append(errs, err)
		if !errors.Is(err, errEnded) || !strings.Contains(b.Logs(), "address already in use") {
			break
		}
	}
	return nil, fmt.Errorf("start a control plane: %w", errors.Join(errs...))
}

func (b *Testbed) start(ctx context.Context) error {
	if err := os.MkdirAll(b.Dir, 0o700); err != nil {
		return err
	}
	ports, err := free.Ports(8)
	if err != nil {
		return err
	}
	if err := b.startKubernetes(ctx, ports[:3]); err != nil {
		return err
	}
	if err := b.installCRDs(ctx); err != nil {
		return err
	}
	if err := b.prepare(ports[3:]); err != nil {
		return err
	}
	if err := b.StartIstiod(ctx); err != nil {
		return err
	}
	return b.readRoot(ctx)
}

func (b *Testbed) file(name string) string { return filepath.Join(b.Dir, name) }

// prepare says how istiod is to run.
func (b *Testbed) prepare(ports []int) error {
	b.http, b.Plain, b.Secure = loopback(ports[0]), loopback(ports[1]), loopback(ports[2])
	mesh := fmt.Sprintf("trustDomain: cluster.local\ndefaultConfig:\n  discoveryAddress: %s\n%s", b.Secure, b.config.MeshConfig)
	b.command = append([]string{"discovery", "--kubeconfig=" + b.file("kubeconfig"), "--meshConfig=" + b.file("mesh.yaml"),
		"--namespace=" + System, "--clusterID=Kubernetes", "--httpAddr=" + b.http, "--grpcAddr=" + b.Plain, "--secureGRPCAddr=" + b.Secure,
		"--httpsAddr=" + loopback(ports[3]), "--monitoringAddr=" + loopback(ports[4]), "--ctrlz_address=127.0.0.1", "--ctrlz_port=0"}, b.config.Flags...)
	return os.WriteFile(b.file("mesh.yaml"), []byte(mesh), 0o600)
}

// StartIstiod starts istiod, after StopIstiod again at the same addresses, and
// waits until it is ready. More flags are for this time only.
func (b *Testbed) StartIstiod(ctx context.Context, flags ...string) (err error) {
	cmd := exec.Command(filepath.Join(b.programs, "pilot-discovery"), slices.Concat(b.command, flags)...)
	cmd.Env = append([]string{"PILOT_ENABLE_AMBIENT=true", "POD_NAME=istiod-0", "POD_NAMESPACE=" + System, "CLUSTER_ID=Kubernetes",
		"CA_TRUSTED_NODE_ACCOUNTS=" + System + "/ztunnel", "ISTIOD_CUSTOM_HOST=localhost"}, b.config.Environment...)
	if b.istiod, err = launch("istiod", b.Dir, cmd); err != nil {
		return err
	}
	return b.istiod.ready(ctx, b.client, "http://"+b.http+"/ready")
}

// StopIstiod ends istiod only: connections to it break.
func (b *Testbed) StopIstiod() {
	if b.istiod != nil {
		b.istiod.stop()
		b.istiod = nil
	}
}

// readRoot gets the mesh's root as a pod would have it mounted.
func (b *Testbed) readRoot(ctx context.Context) error {
	for {
		root, err := b.configMap(ctx, System, "istio-ca-root-cert", "root-cert.pem")
		if err == nil {
			b.RootPEM, b.RootFile = []byte(root), b.file("root-cert.pem")
			return os.WriteFile(b.RootFile, b.RootPEM, 0o600)
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("istiod does not publish its root: %w", err)
		case <-time.After(50 * time.Millisecond):
		}
	}
}

// TokenFile makes a file with a token for istiod, as a pod of the service
// account would have it mounted. The service account must exist.
func (b *Testbed) TokenFile(ctx context.Context, namespace, account string) (string, error) {
	token, err := b.Token(ctx, namespace, account, Audience, "")
	if err != nil {
		return "", err
	}
	path := b.file("token-" + namespace + "-" + account)
	return path, os.WriteFile(path, []byte(token), 0o600)
}

// Close ends the programs.
func (b *Testbed) Close() {
	b.StopIstiod()
	for _, p := range []*process{b.api, b.etcd} {
		if p != nil {
			p.stop()
		}
	}
	if b.Kubernetes != nil {
		b.client.CloseIdleConnections()
	}
}

// Logs is the end of what each program printed.
func (b *Testbed) Logs() string {
	var text strings.Builder
	for _, name := range []string{"etcd", "kube-apiserver", "istiod"} {
		p := &process{name: name, log: b.file(name + ".log")}
		fmt.Fprintf(&text, "---- end of %s\n%s\n", p.log, p.tail(20))
	}
	return text.String()
}

func loopback(port int) string { return fmt.Sprintf("127.0.0.1:%d", port) }
