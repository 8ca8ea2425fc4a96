package meshtest_test

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"math/big"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/go-json-experiment/json"

	"github.com/outrigger-mesh/outrigger/pkg/admin"
	"github.com/outrigger-mesh/outrigger/pkg/authority"
	"github.com/outrigger-mesh/outrigger/pkg/control"
	"github.com/outrigger-mesh/outrigger/pkg/hbone"
	"github.com/outrigger-mesh/outrigger/pkg/identity"
	"github.com/outrigger-mesh/outrigger/pkg/mesh"
	"github.com/outrigger-mesh/outrigger/pkg/meshtest"
	"github.com/outrigger-mesh/outrigger/pkg/sidecar"
)

// limit is for what happens within a second on a quiet machine.
const limit = 20 * time.Second

// An echoApp is the server's app: it sends back what it gets.
type echoApp struct{ accepted atomic.Int64 }

func serveEcho(t *testing.T, m *meshtest.Mesh) *echoApp {
	t.Helper()
	a := &echoApp{}
	serveEach(t, m.ListenApp(), func(c net.Conn) {
		a.accepted.Add(1)
		io.Copy(c, c)
	})
	return a
}

// serveEach serves each connection with f until the test ends, and takes over ln.
func serveEach(t *testing.T, ln net.Listener, f func(net.Conn)) {
	t.Helper()
	var conns sync.WaitGroup
	conns.Go(func() {
		for {
			c, err := ln.Accept()
			if err != nil {
				return
			}
			conns.Go(func() {
				defer c.Close()
				f(c)
			})
		}
	})
	t.Cleanup(func() { ln.Close(); conns.Wait() })
}

// call opens a connection to the agent's sidecar and has a byte come back.
func call(m *meshtest.Mesh) (net.Conn, error) {
	c, err := net.Dial("tcp", m.Agent)
	if err != nil {
		return nil, err
	}
	c.SetDeadline(time.Now().Add(limit))
	if err := ping(c); err != nil {
		c.Close()
		return nil, err
	}
	return c, nil
}

func ping(c io.ReadWriter) error {
	if _, err := c.Write([]byte("x")); err != nil {
		return err
	}
	_, err := io.ReadFull(c, make([]byte, 1))
	return err
}

// configDump is what the sidecar at ip tells of its identity.
func configDump(ip netip.Addr) (d admin.Dump, err error) {
	text, err := get("http://" + netip.AddrPortFrom(ip, 15000).String() + "/config_dump")
	if err != nil {
		return d, err
	}
	err = json.Unmarshal([]byte(text), &d)
	if err == nil && len(d.Certificates) != 1 {
		err = fmt.Errorf("%d identities", len(d.Certificates))
	}
	return d, err
}

func get(url string) (string, error) {
	client := &http.Client{Timeout: limit, Transport: &http.Transport{DisableKeepAlives: true}}
	res, err := client.Get(url)
	if err != nil {
		return "", err
	}
	defer res.Body.Close()
	text, err := io.ReadAll(io.LimitReader(res.Body, 4<<20))
	return string(text), err
}

// A peer is an end of the mesh that is no sidecar, with a certificate of its own.
type peer struct {
	svid   *identity.SVID
	dialer *hbone.Dialer
}

// newPeer has a certificate of signer's and trusts the mesh's roots, too.
func newPeer(t *testing.T, m *meshtest.Mesh, signer *authority.Authority, id mesh.Principal) *peer {
	t.Helper()
	issued, err := signer.Issue(id, time.Hour)
	if err != nil {
		t.Fatal(err)
	}
	return peerOf(t, m, issued)
}

func peerOf(t *testing.T, m *meshtest.Mesh, issued *authority.IssuedSVID) *peer {
	t.Helper()
	svid, err := identity.ParseSVID(issued.CertPEM, issued.KeyPEM, issued.RootPEM)
	if err != nil {
		t.Fatal(err)
	}
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(meshAuthority(t, m.Dir).RootPEM())
	svid.Bundles["cluster.local"] = roots
	d, err := hbone.NewDialer(hbone.DialerConfig{Mutual: &identity.Mutual{Source: identity.NewMemory(svid)}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { d.Close() })
	return &peer{svid, d}
}

// open opens a tunnel to the server's app and has a byte come back.
func (p *peer) open(t *testing.T, m *meshtest.Mesh) (*hbone.Tunnel, error) {
	ctx, cancel := context.WithTimeout(t.Context(), limit)
	defer cancel()
	tunnel, err := p.dialer.Dial(ctx, m.Hop(m.App.String()), hbone.Header{})
	if err != nil {
		return nil, err
	}
	tunnel.SetDeadline(time.Now().Add(limit))
	if err := ping(tunnel); err != nil {
		tunnel.Close()
		return nil, err
	}
	return tunnel, nil
}

// mustOpen is open, which must work.
func (p *peer) mustOpen(t *testing.T, m *meshtest.Mesh) *hbone.Tunnel {
	t.Helper()
	tunnel, err := p.open(t, m)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { tunnel.Close() })
	return tunnel
}

func meshAuthority(t *testing.T, dir string) *authority.Authority {
	t.Helper()
	a, err := authority.Load(filepath.Join(dir, control.StateCA))
	if err != nil {
		t.Fatal(err)
	}
	return a
}

func newAuthority(t *testing.T, domain string) *authority.Authority {
	t.Helper()
	a, err := authority.New(domain, time.Hour)
	if err != nil {
		t.Fatal(err)
	}
	return a
}

// fromFiles makes a sidecar read its certificate from files of the mesh's
// directory; it answers the directory they are in.
func fromFiles(t *testing.T, account string, c *sidecar.Config) string {
	t.Helper()
	state := filepath.Dir(c.Discovery.Root)
	dir := filepath.Join(state, "identity-"+account)
	if err := control.Issue(state, mesh.NewPrincipal("cluster.local", c.Workload.Namespace, account), time.Hour, dir); err != nil {
		t.Fatal(err)
	}
	c.Identity.Provider = "files"
	c.Identity.CertFile, c.Identity.KeyFile, c.Identity.BundleFile = filepath.Join(dir, "cert.pem"), filepath.Join(dir, "key.pem"), filepath.Join(dir, "bundle.pem")
	return dir
}

// replace swaps a file as a whole.
func replace(t *testing.T, path string, content []byte) {
	t.Helper()
	if err := errors.Join(os.WriteFile(path+".new", content, 0o600), os.Rename(path+".new", path)); err != nil {
		t.Fatal(err)
	}
}

// rootOf is the certificate and key of the mesh's authority.
func rootOf(t *testing.T, dir string) (*x509.Certificate, *ecdsa.PrivateKey) {
	t.Helper()
	pair, err := tls.LoadX509KeyPair(filepath.Join(dir, control.StateCA, authority.CertFile), filepath.Join(dir, control.StateCA, authority.KeyFile))
	if err != nil {
		t.Fatal(err)
	}
	return pair.Leaf, pair.PrivateKey.(*ecdsa.PrivateKey)
}

// revoke is a CRL of the mesh's authority that lists certs.
func revoke(t *testing.T, dir string, certs ...*x509.Certificate) []byte {
	t.Helper()
	root, key := rootOf(t, dir)
	list := &x509.RevocationList{Number: big.NewInt(1), ThisUpdate: time.Now().Add(-time.Minute), NextUpdate: time.Now().Add(time.Hour)}
	for _, c := range certs {
		list.RevokedCertificateEntries = append(list.RevokedCertificateEntries, x509.RevocationListEntry{SerialNumber: c.SerialNumber, RevocationTime: time.Now()})
	}
	der, err := x509.CreateRevocationList(rand.Reader, list, root, key)
	if err != nil {
		t.Fatal(err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: "X509 CRL", Bytes: der})
}

// foreign is what the mesh's root signs for a principal that is not of its trust domain.
func foreign(t *testing.T, dir string, id mesh.Principal) *authority.IssuedSVID {
	t.Helper()
	root, signer := rootOf(t, dir)
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	leaf := &x509.Certificate{
		SerialNumber: big.NewInt(1), NotBefore: time.Now().Add(-time.Minute), NotAfter: time.Now().Add(time.Hour),
		KeyUsage: x509.KeyUsageDigitalSignature, URIs: []*url.URL{{Scheme: "spiffe", Host: id.TrustDomain(), Path: id.Path()}},
	}
	der, err := x509.CreateCertificate(rand.Reader, leaf, root, key.Public(), signer)
	if err != nil {
		t.Fatal(err)
	}
	pkcs8, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	return &authority.IssuedSVID{
		CertPEM: pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}),
		KeyPEM:  pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: pkcs8}),
		RootPEM: meshAuthority(t, dir).RootPEM(),
	}
}

// record waits for a line of an access log that has all of parts.
func record(m *meshtest.Mesh, account string, parts ...string) {
	m.Eventually(func() error { return said(m, account, parts...) })
}

// said is nil if a line of an access log has all of parts.
func said(m *meshtest.Mesh, account string, parts ...string) error {
	data, err := os.ReadFile(filepath.Join(m.Dir, "access-"+account))
	if err != nil {
		return err
	}
	for line := range bytes.Lines(data) {
		missing := false
		for _, part := range parts {
			missing = missing || !strings.Contains(string(line), part)
		}
		if !missing {
			return nil
		}
	}
	return fmt.Errorf("no line says %q:\n%s", parts, data)
}

// logFailures shows the records of connections that ended with an error.
func logFailures(t *testing.T, m *meshtest.Mesh) {
	t.Helper()
	for _, account := range []string{"agent", "server"} {
		data, err := os.ReadFile(filepath.Join(m.Dir, "access-"+account))
		if err != nil {
			t.Error(err)
		}
		for line := range strings.Lines(string(data)) {
			if strings.Contains(line, `"error"`) {
				t.Logf("%s: %s", account, line)
			}
		}
	}
}

// failures checks that the sidecar at ip counts connections that failed with flag.
func failures(t *testing.T, ip netip.Addr, flag string) {
	t.Helper()
	text, err := get("http://" + netip.AddrPortFrom(ip, 15020).String() + "/metrics")
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(text) {
		if strings.HasPrefix(line, "istio_tcp_connections_failed_total{") && strings.Contains(line, `response_flags="`+flag+`"`) {
			return
		}
	}
	t.Errorf("no connection failed with %s:\n%s", flag, text)
}
