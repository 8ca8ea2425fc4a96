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
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/base64"
	"encoding/hex"
	"encoding/pem"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/outrigger-mesh/outrigger/pkg/authority"
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
	ports, err := freePorts(8)
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

// startKubernetes runs etcd and kube-apiserver.
func (b *Testbed) startKubernetes(ctx context.Context, ports []int) (err error) {
	client, peer := "http://"+loopback(ports[0]), "http://"+loopback(ports[1])
	b.etcd, err = launch("etcd", b.Dir, exec.Command(filepath.Join(b.programs, "etcd"), "--name=test", "--data-dir="+filepath.Join(b.Dir, "etcd"),
		"--listen-client-urls="+client, "--advertise-client-urls="+client, "--listen-peer-urls="+peer,
		"--initial-advertise-peer-urls="+peer, "--initial-cluster=test="+peer, "--unsafe-no-fsync"))
	if err != nil {
		return err
	}
	secret := make([]byte, 16)
	rand.Read(secret) // never fails since Go 1.24
	token := hex.EncodeToString(secret)
	rootPEM, err := b.writeKeys(token)
	if err != nil {
		return fmt.Errorf("make keys: %w", err)
	}
	b.api, err = launch("kube-apiserver", b.Dir, exec.Command(filepath.Join(b.programs, "kube-apiserver"),
		"--etcd-servers="+client, fmt.Sprint("--secure-port=", ports[2]), "--bind-address=127.0.0.1", "--advertise-address=127.0.0.1",
		"--cert-dir="+b.Dir, "--tls-cert-file="+b.file("api.crt"), "--tls-private-key-file="+b.file("api.key"),
		"--service-cluster-ip-range=10.96.0.0/16", "--service-account-issuer=https://kubernetes.default.svc.cluster.local",
		"--service-account-key-file="+b.file("account.key"), "--service-account-signing-key-file="+b.file("account.key"),
		"--token-auth-file="+b.file("tokens.csv"), "--authorization-mode=RBAC", "--disable-admission-plugins=ServiceAccount",
		"--endpoint-reconciler-type=none", "--watch-cache=true", "--max-requests-inflight=2000", "--max-mutating-requests-inflight=1000"))
	if err != nil {
		return err
	}
	b.Kubernetes = newKubernetes(loopback(ports[2]), token, rootPEM)
	kubeconfig := fmt.Sprintf(`apiVersion: v1
kind: Config
clusters: [{name: c, cluster: {server: %q, certificate-authority-data: %s}}]
users: [{name: u, user: {token: %s}}]
contexts: [{name: x, context: {cluster: c, user: u}}]
current-context: x
`, b.base, base64.StdEncoding.EncodeToString(rootPEM), token)
	if err := os.WriteFile(b.file("kubeconfig"), []byte(kubeconfig), 0o600); err != nil {
		return err
	}
	return b.api.ready(ctx, b.client, b.base+"/readyz")
}

func (b *Testbed) file(name string) string { return filepath.Join(b.Dir, name) }

// writeKeys makes what the API server proves itself and its service accounts
// with, and answers the root to trust it by.
func (b *Testbed) writeKeys(token string) (rootPEM []byte, err error) {
	a, err := authority.New("kubernetes.test", 24*time.Hour)
	if err != nil {
		return nil, err
	}
	server, err := a.IssueServer([]string{"localhost"}, []netip.Addr{netip.MustParseAddr("127.0.0.1")}, 24*time.Hour)
	if err != nil {
		return nil, err
	}
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, err
	}
	der, err := x509.MarshalECPrivateKey(key)
	if err != nil {
		return nil, err
	}
	for name, content := range map[string][]byte{
		"api.crt":     server.CertPEM,
		"api.key":     server.KeyPEM,
		"account.key": pem.EncodeToMemory(&pem.Block{Type: "EC PRIVATE KEY", Bytes: der}),
		"tokens.csv":  []byte(token + `,admin,1,"system:masters"` + "\n"),
	} {
		if err := os.WriteFile(b.file(name), content, 0o600); err != nil {
			return nil, err
		}
	}
	return server.RootPEM, nil
}

// installCRDs makes the API server know Istio's kinds, and waits until it does.
func (b *Testbed) installCRDs(ctx context.Context) error {
	files, err := filepath.Glob(filepath.Join(b.programs, "crds", "*.yaml"))
	if err != nil || len(files) == 0 {
		return fmt.Errorf("no CRDs in %s: %v", b.programs, err)
	}
	for _, f := range files {
		data, err := os.ReadFile(f)
		if err != nil {
			return err
		}
		if err := b.Apply(ctx, string(data)); err != nil {
			return fmt.Errorf("%s: %w", f, err)
		}
	}
	for {
		_, err := b.resource(ctx, "/apis/networking.istio.io/v1alpha3", "networking.istio.io/v1alpha3", "EnvoyFilter")
		if err == nil {
			_, err = b.resource(ctx, "/apis/security.istio.io/v1", "security.istio.io/v1", "AuthorizationPolicy")
		}
		if err == nil {
			return b.Apply(ctx, Namespace(System))
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("the CRDs do not come into force: %w", err)
		case <-time.After(50 * time.Millisecond):
		}
	}
}

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
