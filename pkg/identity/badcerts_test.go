package identity

import (
	"crypto/tls"
	"crypto/x509"
	"net"
	"os"
	"path/filepath"
	"testing"

	"github.com/outrigger-mesh/outrigger/pkg/mesh"
	"github.com/outrigger-mesh/outrigger/pkg/meshtest/badcert"
)

const (
	alias     = badcert.Alias
	plannerID = badcert.PlannerID
	partnerID = badcert.PartnerID
	aliasID   = badcert.AliasID
)

// A world is a mesh with a federated partner, an alias, a CRL, and people who mean harm.
type world struct {
	*badcert.World
	mutual   *Mutual
	expected []mesh.Principal
}

func newWorld(t testing.TB) *world {
	w := &world{World: badcert.NewWorld(), expected: []mesh.Principal{planner, must(mesh.ParsePrincipal(partnerID))}}
	path := filepath.Join(t.TempDir(), "crl.pem")
	do(t, os.WriteFile(path, w.CRLs(), 0o600))
	own := w.Root.Leaf(github.String(), badcert.NewKey(), nil)
	leaf := must(x509.ParseCertificate(own.Certificate[0]))
	w.mutual = &Mutual{
		Source: NewMemory(&SVID{Principal: github, Certificate: own, NotBefore: leaf.NotBefore, NotAfter: leaf.NotAfter,
			Bundles: map[string]*x509.CertPool{local: pool(w.Root), remote: pool(w.Partner)}}),
		Aliases: []string{alias},
		CRL:     must(NewCRL(CRLConfig{Path: path, Logger: quiet})),
	}
	return w
}

// unparsed is the want of what crypto/tls itself refuses: no reason of ours, but TLS_FAILURE.
const unparsed Reason = badcert.Unparsed

// TestBadCertificates lets each specimen try to pass as a client and as a
// server, twice: what was refused must not be admitted by being remembered.
func TestBadCertificates(t *testing.T) {
	w := newWorld(t)
	bad := 0
	for _, table := range [][]badcert.Specimen{badcert.Names(), badcert.Trust(), badcert.Leaves(), badcert.Good()} {
		for _, s := range table {
			if s.Want != "" {
				bad++
			}
			t.Run(s.Name, func(t *testing.T) {
				cert := s.Make(w.World)
				for range 2 {
					if s.Role != badcert.AsServer {
						judge(t, Reason(s.Want), "as client", meetClient(t, w, cert))
					}
					if s.Role != badcert.AsClient {
						judge(t, Reason(s.Want), "as server", meetServer(t, w, cert))
					}
				}
			})
		}
	}
	if bad < 60 {
		t.Errorf("only %d bad certificates were tried", bad)
	}
	t.Logf("%d bad certificates", bad)
}

func judge(t *testing.T, wanted Reason, role string, err error) {
	t.Helper()
	got := reason(err)
	if got == "" && err != nil {
		got = Reason(Flag(err))
	}
	if got != wanted {
		t.Errorf("%s: %q, want %q: %v", role, got, wanted, err)
	}
	flag := map[Reason]string{"": "", unparsed: "TLS_FAILURE", ReasonRevoked: "CERT_REVOKED"}
	want, ok := flag[wanted]
	if !ok {
		want = "IDENTITY_ERROR"
	}
	if Flag(err) != want {
		t.Errorf("%s: flag %s, want %s", role, Flag(err), want)
	}
}

func meetClient(t *testing.T, w *world, cert *tls.Certificate) error {
	near, far := socketPair(t)
	done := make(chan struct{})
	go func() { defer close(done); tls.Client(near, badcert.Stock(cert)).HandshakeContext(t.Context()) }()
	conn, err := w.mutual.Server(t.Context(), far)
	<-done
	return recheck(t, w, conn, err)
}

func meetServer(t *testing.T, w *world, cert *tls.Certificate) error {
	near, far := socketPair(t)
	done := make(chan struct{})
	go func() {
		defer close(done)
		c := net.Conn(far)
		if tls.Server(c, badcert.Stock(cert)).HandshakeContext(t.Context()) != nil {
			c.Close() // it cannot show that certificate at all
		}
	}()
	conn, err := w.mutual.Client(t.Context(), near, w.expected)
	<-done
	return recheck(t, w, conn, err)
}

// recheck: who is admitted by a handshake is admitted by Recheck.
func recheck(t *testing.T, w *world, conn *Conn, err error) error {
	t.Helper()
	if err == nil {
		do(t, w.mutual.Recheck(&conn.Peer))
	}
	return err
}
