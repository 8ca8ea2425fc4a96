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
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"time"

	"github.com/outrigger-mesh/outrigger/pkg/authority"
)

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
