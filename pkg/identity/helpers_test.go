package identity

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"encoding/pem"
	"errors"
	"io"
	"log/slog"
	"net"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/outrigger-mesh/outrigger/pkg/authority"
	"github.com/outrigger-mesh/outrigger/pkg/mesh"
	"github.com/outrigger-mesh/outrigger/pkg/meshtest/badcert"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const (
	local  = "cluster.local"
	remote = "partner.example"
)

var (
	planner = mesh.NewPrincipal(local, "agents", "planner")
	github  = mesh.NewPrincipal(local, "tools", "github")
	quiet   = slog.New(slog.DiscardHandler)
)

func must[T any](v T, err error) T {
	if err != nil {
		panic(err)
	}
	return v
}

func do(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func pool(issuers ...*badcert.Issuer) *x509.CertPool {
	p := x509.NewCertPool()
	for _, i := range issuers {
		p.AddCert(i.Cert)
	}
	return p
}

func certPEM(certs ...*x509.Certificate) []byte {
	var b bytes.Buffer
	for _, c := range certs {
		b.Write(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: c.Raw}))
	}
	return b.Bytes()
}

func newAuthority(t testing.TB, domain string) *authority.Authority {
	t.Helper()
	a, err := authority.New(domain, 365*24*time.Hour)
	do(t, err)
	return a
}

func issue(t testing.TB, a *authority.Authority, p mesh.Principal, ttl time.Duration) *SVID {
	t.Helper()
	i, err := a.Issue(p, ttl)
	do(t, err)
	s, err := ParseSVID(i.CertPEM, i.KeyPEM, i.RootPEM)
	do(t, err)
	return s
}

func newMutual(t testing.TB, a *authority.Authority, p mesh.Principal) *Mutual {
	t.Helper()
	return &Mutual{Source: NewMemory(issue(t, a, p, time.Hour))}
}

// A result is how a handshake ended at one end.
type result struct {
	conn *Conn
	err  error
}

// socketPair is a TCP connection on loopback.
func socketPair(t testing.TB) (client, server net.Conn) {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	do(t, err)
	defer ln.Close()
	client, err = net.Dial("tcp", ln.Addr().String())
	do(t, err)
	server, err = ln.Accept()
	do(t, err)
	t.Cleanup(func() { client.Close(); server.Close() })
	return client, server
}

// handshake lets the two meet over TCP.
func handshake(t testing.TB, client, server *Mutual, expected ...mesh.Principal) (c, s result) {
	t.Helper()
	near, far := socketPair(t)
	done := make(chan result, 1)
	go func() {
		conn, err := server.Server(t.Context(), far)
		done <- result{conn, err}
	}()
	conn, err := client.Client(t.Context(), near, expected)
	return result{conn, err}, <-done
}

// works carries a byte each way.
func works(t testing.TB, c, s *Conn) {
	t.Helper()
	for _, pair := range [][2]net.Conn{{c, s}, {s, c}} {
		_, err := pair[0].Write([]byte("x"))
		do(t, err)
		_, err = io.ReadFull(pair[1], make([]byte, 1))
		do(t, err)
	}
}

func reason(err error) Reason {
	var p *PeerError
	if errors.As(err, &p) {
		return p.Reason
	}
	return ""
}

// background runs f until the test ends.
func background(t testing.TB, f func(context.Context) error) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- f(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Errorf("ended with %v", err)
		}
	})
}

// deltaIndicator marks a CRL as one that lists changes only (RFC 5280 §5.2.4).
var deltaIndicator = pkix.Extension{Id: asn1.ObjectIdentifier{2, 5, 29, 27}, Critical: true, Value: []byte{2, 1, 1}}

// until waits for what no channel tells of.
func until(t *testing.T, happened func() bool) {
	t.Helper()
	for limit := time.Now().Add(20 * time.Second); !happened(); time.Sleep(time.Millisecond) {
		if time.Now().After(limit) {
			t.Fatal("it never happened")
		}
	}
}

// svidOf makes an SVID of a certificate that by signed, whatever is wrong with it.
func svidOf(c *tls.Certificate, by *badcert.Issuer) *SVID {
	leaf := must(x509.ParseCertificate(c.Certificate[0]))
	p := must(principalOf(leaf))
	return &SVID{Principal: p, Certificate: c, NotBefore: leaf.NotBefore, NotAfter: leaf.NotAfter,
		Bundles: map[string]*x509.CertPool{p.TrustDomain(): pool(by)}}
}
