package meshtest_test

import (
	"crypto/x509"
	"encoding/pem"
	"io"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/outrigger-mesh/outrigger/pkg/mesh"
	"github.com/outrigger-mesh/outrigger/pkg/meshtest"
	"github.com/outrigger-mesh/outrigger/pkg/sidecar"
)

const partnerDomain = "partner.example"

var planner = mesh.NewPrincipal("cluster.local", "agents", "planner")

// closes waits until the other end has nothing more to say, and answers how long that took.
func closes(t *testing.T, c io.Reader, since time.Time) {
	t.Helper()
	if _, err := c.Read(make([]byte, 1)); err == nil {
		t.Fatal("something arrived")
	}
	took := time.Since(since)
	if took >= limit-time.Second {
		t.Fatal("it is still open")
	}
	t.Logf("closed after %v; 1 s is the bound", took.Round(time.Millisecond))
}

// trusting is a mesh whose server reads certificate, roots and CRL from files.
func trusting(t *testing.T) (m *meshtest.Mesh, dir string) {
	t.Helper()
	m = meshtest.New(t, meshtest.Config{Adjust: func(account string, c *sidecar.Config) {
		if account == "server" {
			dir = fromFiles(t, account, c)
			c.Identity.CRLFile = filepath.Join(dir, "crl.pem")
			c.Identity.FederatedBundles = map[string]string{partnerDomain: filepath.Join(dir, "partner.pem")}
		}
	}})
	serveEcho(t, m)
	return m, dir
}

func TestARevokedPeersOpenTunnelsCloseAndNoOthers(t *testing.T) {
	m, dir := trusting(t)
	signer := meshAuthority(t, m.Dir)
	bad, good := newPeer(t, m, signer, planner), newPeer(t, m, signer, planner)
	first, second, other := bad.mustOpen(t, m), bad.mustOpen(t, m), good.mustOpen(t, m)
	replace(t, filepath.Join(dir, "crl.pem"), revoke(t, m.Dir, bad.svid.Certificate.Leaf))
	since := time.Now()
	closes(t, first, since)
	closes(t, second, since)
	if err := ping(other); err != nil {
		t.Errorf("a tunnel of the same principal with another certificate: %v", err)
	}
	if tunnel, err := bad.open(t, m); err == nil {
		tunnel.Close()
		t.Error("the revoked peer opened another tunnel")
	}
	record(m, "server", "connection complete", "no longer admitted", "revoked")
	failures(t, m.ServerIP, "CERT_REVOKED")
}

func TestAReRootedPeersOpenTunnelsClose(t *testing.T) {
	m, dir := trusting(t)
	peer := newPeer(t, m, meshAuthority(t, m.Dir), planner)
	tunnel := peer.mustOpen(t, m)
	fresh, err := newAuthority(t, "cluster.local").Issue(mesh.NewPrincipal("cluster.local", "tools", "server"), time.Hour)
	if err != nil {
		t.Fatal(err)
	}
	replace(t, filepath.Join(dir, "key.pem"), fresh.KeyPEM)
	replace(t, filepath.Join(dir, "bundle.pem"), fresh.RootPEM)
	if err := ping(tunnel); err != nil {
		t.Fatalf("files that do not fit together yet: %v", err)
	}
	replace(t, filepath.Join(dir, "cert.pem"), fresh.CertPEM)
	closes(t, tunnel, time.Now())
}

func TestAPartnersOpenTunnelsCloseWithItsRoots(t *testing.T) {
	m, dir := trusting(t)
	signer := newAuthority(t, partnerDomain)
	partner := newPeer(t, m, signer, mesh.NewPrincipal(partnerDomain, "agents", "planner"))
	if tunnel, err := partner.open(t, m); err == nil {
		tunnel.Close()
		t.Fatal("a partner without a bundle was admitted")
	}
	replace(t, filepath.Join(dir, "partner.pem"), signer.RootPEM())
	m.Eventually(func() error {
		tunnel, err := partner.open(t, m)
		if err != nil {
			return err
		}
		return tunnel.Close()
	})
	tunnel := partner.mustOpen(t, m)
	own := newPeer(t, m, meshAuthority(t, m.Dir), planner).mustOpen(t, m)
	replace(t, filepath.Join(dir, "partner.pem"), newAuthority(t, partnerDomain).RootPEM())
	closes(t, tunnel, time.Now())
	if err := ping(own); err != nil {
		t.Errorf("a tunnel of our own trust domain: %v", err)
	}
}

// The caller's sidecar looks at the server as closely as the other way round.
func TestARevokedServersConnectionsAreCutByTheAgentsSidecar(t *testing.T) {
	var crl, server string
	m := meshtest.New(t, meshtest.Config{Adjust: func(account string, c *sidecar.Config) {
		if account == "server" {
			server = fromFiles(t, account, c)
		} else {
			crl = filepath.Join(filepath.Dir(c.Discovery.Root), "crl.pem")
			c.Identity.CRLFile = crl
		}
	}})
	serveEcho(t, m)
	open, err := call(m)
	if err != nil {
		t.Fatal(err)
	}
	defer open.Close()
	data, err := os.ReadFile(filepath.Join(server, "cert.pem"))
	if err != nil {
		t.Fatal(err)
	}
	block, _ := pem.Decode(data)
	cert, err := x509.ParseCertificate(block.Bytes)
	if err != nil {
		t.Fatal(err)
	}
	replace(t, crl, revoke(t, m.Dir, cert))
	closes(t, open, time.Now())
	if c, err := call(m); err == nil {
		c.Close()
		t.Error("the agent reached a revoked server")
	}
	record(m, "agent", "revoked")
	failures(t, m.AgentIP, "CERT_REVOKED")
}
