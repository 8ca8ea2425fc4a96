package baseline

import (
	"bytes"
	"context"
	"io"
	"math/rand/v2"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/outrigger-mesh/outrigger/pkg/authority"
	"github.com/outrigger-mesh/outrigger/pkg/mesh"
	"github.com/outrigger-mesh/outrigger/pkg/meshtest/free"
)

// certify writes what both sides of a pair need.
func certify(t *testing.T, server netip.Addr) string {
	t.Helper()
	dir := t.TempDir()
	a, err := authority.New("cluster.local", time.Hour)
	if err != nil {
		t.Fatal(err)
	}
	client, err := a.Issue(mesh.NewPrincipal("cluster.local", "agents", "client"), time.Hour)
	if err != nil {
		t.Fatal(err)
	}
	serverSVID, err := a.IssueServer(nil, []netip.Addr{server}, time.Hour)
	if err != nil {
		t.Fatal(err)
	}
	for name, data := range map[string][]byte{
		RootFile: a.RootPEM(), ClientCertFile: client.CertPEM, ClientKeyFile: client.KeyPEM,
		ServerCertFile: serverSVID.CertPEM, ServerKeyFile: serverSVID.KeyPEM,
	} {
		if err := os.WriteFile(filepath.Join(dir, name), data, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

// A stage is an app and the two sides of a pair, on addresses that nobody else is
// likely to use.
type stage struct {
	app, server, front string
	serverIP           netip.Addr
	run                func(all ...func(context.Context) error)
}

// newStage begins a stage; what it runs ends when the returned function is called.
func newStage(t *testing.T) (s stage, end func()) {
	t.Helper()
	port, err := free.Ports(1)
	if err != nil {
		t.Fatal(err)
	}
	base := [4]byte{127, byte(60 + rand.IntN(160)), byte(rand.IntN(256)), 0}
	at := func(last byte) netip.AddrPort {
		base[3] = last
		return netip.AddrPortFrom(netip.AddrFrom4(base), uint16(port[0]))
	}
	ctx, cancel := context.WithCancel(context.Background())
	var running sync.WaitGroup
	s = stage{app: at(1).String(), server: at(2).String(), front: at(3).String(), serverIP: at(2).Addr()}
	s.run = func(all ...func(context.Context) error) {
		for _, one := range all {
			running.Go(func() {
				if err := one(ctx); err != nil {
					t.Error(err)
				}
			})
		}
	}
	return s, func() { cancel(); running.Wait() }
}

// await dials until somebody listens.
func await(t *testing.T, address string) net.Conn {
	t.Helper()
	for end := time.Now().Add(20 * time.Second); ; {
		c, err := net.Dial("tcp", address)
		if err == nil {
			return c
		}
		if time.Now().After(end) {
			t.Fatal(err)
		}
	}
}

func TestEachPairCarriesBytesBothWays(t *testing.T) {
	for _, kind := range []string{Raw, TLS, XNet, XNetDirect} {
		t.Run(kind, func(t *testing.T) {
			s, end := newStage(t)
			defer end()
			certs := certify(t, s.serverIP)
			s.run(func(ctx context.Context) error { return App(ctx, []string{s.app}) },
				func(ctx context.Context) error {
					return Run(ctx, Config{Kind: kind, Side: Server, Listen: s.server, App: s.app, Certs: certs})
				},
				func(ctx context.Context) error {
					return Run(ctx, Config{Kind: kind, Side: Client, Listen: s.front, To: s.server, App: s.app, Certs: certs})
				})
			for _, address := range []string{s.app, s.server} {
				await(t, address).Close()
			}
			c := await(t, s.front)
			defer c.Close() // first, so that nothing is open when all end
			if err := c.SetDeadline(time.Now().Add(20 * time.Second)); err != nil {
				t.Fatal(err)
			}
			if err := Ask(c, AskEcho, 0); err != nil {
				t.Fatal(err)
			}
			message := bytes.Repeat([]byte("message "), 2<<10)
			for range 3 {
				got := make([]byte, len(message))
				if _, err := c.Write(message); err != nil {
					t.Fatal(err)
				}
				if _, err := io.ReadFull(c, got); err != nil || !bytes.Equal(got, message) {
					t.Fatalf("what came back differs: %v", err)
				}
			}
		})
	}
}
