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

// network is loopback addresses that nobody else is likely to use.
func network() func(last byte) netip.Addr {
	base := [4]byte{127, byte(60 + rand.IntN(160)), byte(rand.IntN(256)), 0}
	return func(last byte) netip.Addr { base[3] = last; return netip.AddrFrom4(base) }
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
			at := network()
			certs := certify(t, at(2))
			app, server, front := at(1).String()+":9000", at(2).String()+":9000", at(3).String()+":9000"
			ctx, cancel := context.WithCancel(context.Background())
			var running sync.WaitGroup
			defer running.Wait()
			defer cancel()
			for _, run := range []func() error{
				func() error { return App(ctx, []string{app}) },
				func() error {
					return Run(ctx, Config{Kind: kind, Side: Server, Listen: server, App: app, Certs: certs})
				},
				func() error {
					return Run(ctx, Config{Kind: kind, Side: Client, Listen: front, To: server, App: app, Certs: certs})
				},
			} {
				running.Go(func() {
					if err := run(); err != nil {
						t.Error(err)
					}
				})
			}
			for _, address := range []string{app, server} {
				await(t, address).Close()
			}
			c := await(t, front)
			defer cancel()
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
