package identity

import (
	"bytes"
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"encoding/pem"
	"errors"
	"io"
	"log/slog"
	"math/big"
	"net"
	"net/url"
	"sync/atomic"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/outrigger-mesh/outrigger/pkg/authority"
	"github.com/outrigger-mesh/outrigger/pkg/mesh"
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

// An issuer is a certificate authority that signs whatever it is told to.
type issuer struct {
	cert  *x509.Certificate
	key   *ecdsa.PrivateKey
	chain []*x509.Certificate // the issuer and those above it, without the root
}

var serials atomic.Int64

func newKey() *ecdsa.PrivateKey { return must(ecdsa.GenerateKey(elliptic.P256(), rand.Reader)) }

// newRoot makes a root; change, if given, spoils it.
func newRoot(name string, change func(*x509.Certificate)) *issuer {
	r := &issuer{key: newKey()}
	t := caTemplate(name)
	if change != nil {
		change(t)
	}
	der := must(x509.CreateCertificate(rand.Reader, t, t, r.key.Public(), r.key))
	r.cert = must(x509.ParseCertificate(der))
	return r
}

func (i *issuer) intermediate(name string, change func(*x509.Certificate)) *issuer {
	r := &issuer{key: newKey()}
	t := caTemplate(name)
	if change != nil {
		change(t)
	}
	der := must(x509.CreateCertificate(rand.Reader, t, i.cert, r.key.Public(), i.key))
	r.cert = must(x509.ParseCertificate(der))
	r.chain = append([]*x509.Certificate{r.cert}, i.chain...)
	return r
}

func caTemplate(name string) *x509.Certificate {
	return &x509.Certificate{
		SerialNumber: big.NewInt(serials.Add(1)), Subject: pkix.Name{Organization: []string{name}},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(24 * time.Hour),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign | x509.KeyUsageCRLSign,
	}
}

func leafTemplate(id string) *x509.Certificate {
	return &x509.Certificate{
		SerialNumber: big.NewInt(serials.Add(1)),
		NotBefore:    time.Now().Add(-2 * time.Minute), NotAfter: time.Now().Add(time.Hour),
		BasicConstraintsValid: true, KeyUsage: x509.KeyUsageDigitalSignature,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
		URIs:        []*url.URL{must(url.Parse(id))},
	}
}

// leaf signs a workload certificate for key; change, if given, spoils it.
func (i *issuer) leaf(id string, key any, change func(*x509.Certificate)) *tls.Certificate {
	t := leafTemplate(id)
	if change != nil {
		change(t)
	}
	return i.sign(t, key)
}

func (i *issuer) sign(t *x509.Certificate, key any) *tls.Certificate {
	public := key.(crypto.Signer).Public()
	der := must(x509.CreateCertificate(rand.Reader, t, i.cert, public, i.key))
	c := &tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}
	for _, above := range i.chain {
		c.Certificate = append(c.Certificate, above.Raw)
	}
	return c
}

// crl signs a list of what it revokes.
func (i *issuer) crl(change func(*x509.RevocationList), revoked ...*x509.Certificate) []byte {
	t := &x509.RevocationList{Number: big.NewInt(serials.Add(1)), ThisUpdate: time.Now().Add(-time.Hour), NextUpdate: time.Now().Add(time.Hour)}
	for _, c := range revoked {
		t.RevokedCertificateEntries = append(t.RevokedCertificateEntries,
			x509.RevocationListEntry{SerialNumber: c.SerialNumber, RevocationTime: time.Now().Add(-time.Minute)})
	}
	if change != nil {
		change(t)
	}
	return must(x509.CreateRevocationList(rand.Reader, t, i.cert, i.key))
}

func pool(issuers ...*issuer) *x509.CertPool {
	p := x509.NewCertPool()
	for _, i := range issuers {
		p.AddCert(i.cert)
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

// reissue signs another certificate for the name and key of one that i signed.
func (i *issuer) reissue(other *issuer) *x509.Certificate {
	t := *other.cert
	t.SerialNumber = big.NewInt(serials.Add(1))
	return must(x509.ParseCertificate(must(x509.CreateCertificate(rand.Reader, &t, i.cert, other.key.Public(), i.key))))
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
func svidOf(c *tls.Certificate, by *issuer) *SVID {
	leaf := must(x509.ParseCertificate(c.Certificate[0]))
	p := must(principalOf(leaf))
	return &SVID{Principal: p, Certificate: c, NotBefore: leaf.NotBefore, NotAfter: leaf.NotAfter,
		Bundles: map[string]*x509.CertPool{p.TrustDomain(): pool(by)}}
}
