//go:build istiod

package contract

import (
	"context"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"

	"github.com/outrigger-mesh/outrigger/pkg/control"
	"github.com/outrigger-mesh/outrigger/pkg/identity"
	"github.com/outrigger-mesh/outrigger/pkg/meshtest/istiod"
)

// The names of the tiers.
const (
	ours = "control"
	fake = "fake"
	real = "istiod"
)

// A tier is a control plane to hold to the contract. Its objects are those of Kubernetes.
type tier interface {
	name() string
	Apply(ctx context.Context, documents string) error
	Delete(ctx context.Context, documents string) error
	// door is where and how to connect; with no token file, without a token.
	door(tokenFile string) door
	// tokenFile has a token of a service account that exists.
	tokenFile(ctx context.Context, namespace, account string) (string, error)
}

// A door is how to get to a control plane.
type door struct {
	address     string
	credentials credentials.TransportCredentials
	perRPC      credentials.PerRPCCredentials
	plane       identity.ControlPlane // empty where there is no TLS
}

// tlsDoor is one with TLS, entered as the sidecar does.
func tlsDoor(plane identity.ControlPlane) door {
	tls, err := plane.Credentials()
	if err != nil {
		panic(err) // the root is the testbed's own file
	}
	return door{plane.Target(), tls, plane.PerRPC(), plane}
}

type realTier struct{ *istiod.Testbed }

func (realTier) name() string { return real }

func (r realTier) door(tokenFile string) door {
	return tlsDoor(identity.ControlPlane{Address: r.Secure, RootCA: r.RootFile, ServerName: istiod.ServerName, TokenFile: tokenFile})
}

func (r realTier) tokenFile(ctx context.Context, namespace, account string) (string, error) {
	return r.TokenFile(ctx, namespace, account)
}

type fakeTier struct{ *istiod.Fake }

func (fakeTier) name() string { return fake }

func (f fakeTier) door(string) door {
	return door{address: f.Plain, credentials: insecure.NewCredentials()}
}

func (fakeTier) tokenFile(context.Context, string, string) (string, error) { return "", nil }

// An ourTier is outrigger-control, which reads files: the objects are written
// down in its own words.
type ourTier struct {
	dir   string
	plane *control.Plane

	mu      sync.Mutex // guards what follows, and the file
	objects objects
}

func newOurTier(t *testing.T) *ourTier {
	o := &ourTier{dir: t.TempDir(), objects: objects{}}
	for _, d := range []string{"config", control.StateTokens} {
		if err := os.Mkdir(filepath.Join(o.dir, d), 0o700); err != nil {
			t.Fatal(err)
		}
	}
	log, err := os.Create(filepath.Join(o.dir, "log"))
	if err != nil {
		t.Fatal(err)
	}
	o.plane, err = control.New(control.Config{
		Listen: "127.0.0.1:0", Status: "127.0.0.1:0", Paths: []string{filepath.Join(o.dir, "config")},
		CADir: filepath.Join(o.dir, control.StateCA), Tokens: filepath.Join(o.dir, control.StateTokens), TrustDomain: "cluster.local",
		MaxTTL: 90 * 24 * time.Hour, Logger: slog.New(slog.NewTextHandler(log, nil)),
	})
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(o.file("root.pem"), o.plane.RootPEM(), 0o600); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- o.plane.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Errorf("outrigger-control: %v", err)
		}
		log.Close()
		if data, err := os.ReadFile(log.Name()); err == nil && t.Failed() {
			lines := strings.Split(string(data), "\n")
			t.Logf("---- end of outrigger-control's log\n%s", strings.Join(lines[max(0, len(lines)-40):], "\n"))
		}
	})
	return o
}

func (o *ourTier) file(name string) string { return filepath.Join(o.dir, name) }

func (*ourTier) name() string { return ours }

func (o *ourTier) Apply(_ context.Context, documents string) error {
	o.mu.Lock()
	defer o.mu.Unlock()
	if err := o.objects.apply(documents); err != nil {
		return err
	}
	return o.write()
}

func (o *ourTier) Delete(_ context.Context, documents string) error {
	o.mu.Lock()
	defer o.mu.Unlock()
	if err := o.objects.remove(documents); err != nil {
		return err
	}
	return o.write()
}

// write replaces the file that outrigger-control watches.
func (o *ourTier) write() error {
	text, err := o.objects.text()
	if err != nil {
		return err
	}
	if err := os.WriteFile(o.file("new"), []byte(text), 0o600); err != nil {
		return err
	}
	return os.Rename(o.file("new"), o.file("config/mesh.yaml"))
}

func (o *ourTier) door(tokenFile string) door {
	return tlsDoor(identity.ControlPlane{Address: o.plane.Addr().String(), RootCA: o.file("root.pem"), ServerName: istiod.ServerName, TokenFile: tokenFile})
}

func (o *ourTier) tokenFile(_ context.Context, namespace, account string) (string, error) {
	return control.IssueToken(o.file(control.StateTokens), namespace, account)
}
