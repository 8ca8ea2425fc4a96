package identity

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"io"
	"net"
	"testing"
	"time"

	"github.com/outrigger-mesh/outrigger/pkg/mesh"
	"github.com/outrigger-mesh/outrigger/pkg/meshtest/badcert"
	"github.com/outrigger-mesh/outrigger/pkg/tls13"
)

func TestBothEndsLearnWhoTheOtherIs(t *testing.T) {
	a := newAuthority(t, local)
	client, server := newMutual(t, a, planner), newMutual(t, a, github)
	c, s := handshake(t, client, server, mesh.NewPrincipal(local, "tools", "other"), github)
	do(t, errors.Join(c.err, s.err))
	if c.conn.Peer.Principal != github || s.conn.Peer.Principal != planner {
		t.Errorf("client saw %v, server saw %v", c.conn.Peer.Principal, s.conn.Peer.Principal)
	}
	if c.conn.Self.Principal != planner || !c.conn.Peer.NotAfter.Equal(s.conn.Self.NotAfter) || len(c.conn.Peer.Chain) != 1 {
		t.Errorf("self %v, peer until %v, chain of %d", c.conn.Self.Principal, c.conn.Peer.NotAfter, len(c.conn.Peer.Chain))
	}
	state := c.conn.ConnectionState()
	if state.Version != tls.VersionTLS13 || state.NegotiatedProtocol != "h2" || s.conn.ConnectionState().ServerName != "" {
		t.Errorf("version %x, ALPN %q, SNI %q", state.Version, state.NegotiatedProtocol, s.conn.ConnectionState().ServerName)
	}
	works(t, c.conn, s.conn)
	do(t, errors.Join(client.Recheck(&c.conn.Peer), server.Recheck(&s.conn.Peer)))
}

func TestTheClientAcceptsOnlyWhomItExpects(t *testing.T) {
	a := newAuthority(t, local)
	client, server := newMutual(t, a, planner), newMutual(t, a, github)
	for name, expected := range map[string][]mesh.Principal{
		"nobody":                    nil,
		"the zero principal":        {{}},
		"somebody else":             {planner},
		"a longer name":             {mesh.NewPrincipal(local, "tools", "github2")},
		"a shorter name":            {mesh.NewPrincipal(local, "tools", "githu")},
		"another case":              {mesh.NewPrincipal(local, "tools", "GitHub")},
		"another namespace":         {mesh.NewPrincipal(local, "tool", "github")},
		"the other trust domain":    {mesh.NewPrincipal(remote, "tools", "github")},
		"two others":                {planner, mesh.NewPrincipal(remote, "tools", "github")},
		"a pattern, not an account": {mesh.NewPrincipal(local, "tools", "g.thub")},
	} {
		t.Run(name, func(t *testing.T) {
			c, _ := handshake(t, client, server, expected...)
			if reason(c.err) != ReasonUnexpected || Flag(c.err) != "IDENTITY_ERROR" {
				t.Errorf("error %v, flag %s", c.err, Flag(c.err))
			}
		})
	}
}

func TestWithoutACertificateNothingPasses(t *testing.T) {
	a := newAuthority(t, local)
	good, none := newMutual(t, a, github), &Mutual{Source: &Memory{}}
	c, s := handshake(t, none, good, github)
	if !errors.Is(c.err, ErrNoIdentity) || Flag(c.err) != "IDENTITY_ERROR" || s.err == nil {
		t.Errorf("client without: %v; server: %v", c.err, s.err)
	}
	c, s = handshake(t, good, none, github)
	if !errors.Is(s.err, ErrNoIdentity) || c.err == nil {
		t.Errorf("server without: %v; client: %v", s.err, c.err)
	}
	if err := none.Recheck(&Peer{Principal: github}); !errors.Is(err, ErrNoIdentity) {
		t.Errorf("recheck without: %v", err)
	}
}

func TestAPeerThatNobodyAdmittedIsNotAdmittedByRecheck(t *testing.T) {
	a := newAuthority(t, local)
	m := newMutual(t, a, planner)
	chain := m.Source.(*Memory).svid.Certificate.Leaf
	for _, p := range []*Peer{{}, {Principal: github}, {Principal: planner, Chain: []*x509.Certificate{chain}}} {
		if err := m.Recheck(p); err == nil {
			t.Errorf("admitted %+v", p)
		}
	}
}

// TestTLSRefusals puts a stock crypto/tls peer with one defect at the other end.
func TestTLSRefusals(t *testing.T) {
	a := newAuthority(t, local)
	m := newMutual(t, a, github)
	svid := issue(t, a, planner, time.Hour)
	base := tls.Config{InsecureSkipVerify: true, NextProtos: []string{"h2"}, Certificates: []tls.Certificate{*svid.Certificate}}
	for _, c := range []struct {
		name   string
		change func(*tls.Config)
		flag   string // at the server; "" if it admits
	}{
		{"nothing wrong", func(*tls.Config) {}, ""},
		{"any SNI is ignored", func(c *tls.Config) { c.ServerName = "evil.example" }, ""},
		{"h2 among others", func(c *tls.Config) { c.NextProtos = []string{"http/1.1", "h2"} }, ""},
		{"no ALPN", func(c *tls.Config) { c.NextProtos = nil }, "TLS_FAILURE"},
		{"ALPN http/1.1", func(c *tls.Config) { c.NextProtos = []string{"http/1.1"} }, "TLS_FAILURE"},
		{"ALPN h2c", func(c *tls.Config) { c.NextProtos = []string{"h2c"} }, "TLS_FAILURE"},
		{"no certificate", func(c *tls.Config) { c.Certificates = nil }, "TLS_FAILURE"},
		{"TLS 1.2", func(c *tls.Config) { c.MaxVersion = tls.VersionTLS12 }, "TLS_FAILURE"},
		{"TLS 1.0", func(c *tls.Config) { c.MinVersion, c.MaxVersion = tls.VersionTLS10, tls.VersionTLS10 }, "TLS_FAILURE"},
	} {
		t.Run(c.name, func(t *testing.T) {
			config := base.Clone()
			c.change(config)
			near, far := socketPair(t)
			go func() { tls.Client(near, config).HandshakeContext(t.Context()) }()
			conn, err := m.Server(t.Context(), far)
			if Flag(err) != c.flag || (err == nil) != (conn != nil) {
				t.Errorf("flag %q, want %q; error %v", Flag(err), c.flag, err)
			}
		})
	}
}

func TestTheClientRefusesAServerThatDoesNotSpeakH2(t *testing.T) {
	a := newAuthority(t, local)
	m := newMutual(t, a, planner)
	for _, alpn := range [][]string{nil, {"http/1.1"}} {
		near, far := socketPair(t)
		config := &tls.Config{ClientAuth: tls.RequireAnyClientCert, NextProtos: alpn, Certificates: []tls.Certificate{*issue(t, a, github, time.Hour).Certificate}}
		go func() { tls.Server(far, config).HandshakeContext(t.Context()) }()
		if _, err := m.Client(t.Context(), near, []mesh.Principal{github}); Flag(err) != "TLS_FAILURE" {
			t.Errorf("ALPN %v: %v", alpn, err)
		}
	}
}

// TestTheClientShowsItsCertificateWhateverTheServerHints: Envoy and ztunnel
// list the authorities they accept; the list must not silence us.
func TestTheClientShowsItsCertificateWhateverTheServerHints(t *testing.T) {
	a := newAuthority(t, local)
	m := newMutual(t, a, planner)
	near, far := socketPair(t)
	config := &tls.Config{ClientAuth: tls.RequireAnyClientCert, NextProtos: []string{"h2"},
		ClientCAs: pool(badcert.NewRoot("somebody else's", nil)), Certificates: []tls.Certificate{*issue(t, a, github, time.Hour).Certificate}}
	seen := make(chan int, 1)
	go func() {
		c := tls.Server(far, config)
		c.HandshakeContext(t.Context())
		seen <- len(c.ConnectionState().PeerCertificates)
	}()
	_, err := m.Client(t.Context(), near, []mesh.Principal{github})
	do(t, err)
	if n := <-seen; n != 1 {
		t.Errorf("the server saw %d certificates", n)
	}
}

func TestTLS12IsAnOption(t *testing.T) {
	a := newAuthority(t, local)
	m := newMutual(t, a, github)
	m.AllowTLS12 = true
	config := &tls.Config{InsecureSkipVerify: true, NextProtos: []string{"h2"}, MaxVersion: tls.VersionTLS12,
		Certificates: []tls.Certificate{*issue(t, a, planner, time.Hour).Certificate}}
	for suite, want := range map[uint16]bool{
		tls.TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256:       true,
		tls.TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384:       true,
		tls.TLS_ECDHE_ECDSA_WITH_AES_128_CBC_SHA:          false,
		tls.TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256: false,
	} {
		near, far := socketPair(t)
		config := config.Clone()
		config.CipherSuites = []uint16{suite}
		go func() { tls.Client(near, config).HandshakeContext(t.Context()) }()
		c, err := m.Server(t.Context(), far)
		if (err == nil) != want {
			t.Errorf("%s: %v", tls.CipherSuiteName(suite), err)
		}
		if err == nil && c.Peer.Principal != planner {
			t.Errorf("peer is %v", c.Peer.Principal)
		}
	}
}

func TestAHandshakeEndsWithItsContextOrItsTimeout(t *testing.T) {
	a := newAuthority(t, local)
	m := newMutual(t, a, github)
	for name, start := range map[string]func(context.Context, net.Conn) error{
		"server": func(ctx context.Context, c net.Conn) error { _, err := m.Server(ctx, c); return err },
		"client": func(ctx context.Context, c net.Conn) error {
			_, err := m.Client(ctx, c, []mesh.Principal{github})
			return err
		},
	} {
		near, far := socketPair(t)
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error, 1)
		go func() { done <- start(ctx, far) }()
		cancel()
		if err := <-done; !errors.Is(err, context.Canceled) || Flag(err) != "TLS_FAILURE" {
			t.Errorf("%s: %v", name, err)
		}
		if _, err := io.Copy(io.Discard, near); err != nil {
			t.Logf("%s: the peer saw %v", name, err) // closed either way
		}
	}
	m.HandshakeTimeout = time.Millisecond
	_, far := socketPair(t)
	if _, err := m.Server(t.Context(), far); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("silent peer: %v", err)
	}
}

func TestRecordsAreLeftToCryptoTLSWhereThatIsAskedFor(t *testing.T) {
	a := newAuthority(t, local)
	for _, standard := range []bool{false, true} {
		client, server := newMutual(t, a, planner), newMutual(t, a, github)
		client.StandardRecords = standard // the server's are ours, whatever the client's are
		c, s := handshake(t, client, server, github)
		do(t, c.err)
		do(t, s.err)
		if _, ours := c.conn.Secured.(*tls13.Conn); ours == standard {
			t.Errorf("with StandardRecords %v the records are ours: %v", standard, ours)
		}
		works(t, c.conn, s.conn)
	}
}
