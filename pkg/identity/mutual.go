package identity

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"net"
	"time"

	"github.com/outrigger-mesh/outrigger/pkg/mesh"
	"github.com/outrigger-mesh/outrigger/pkg/tls13"
)

const (
	protocol         = "h2" // the only one spoken inside the mesh
	handshakeTimeout = 5 * time.Second
)

// Mutual performs mutual TLS as the mesh does: TLS 1.3, ALPN h2, no SNI, no
// resumption, a certificate from both ends. It must not be copied or changed
// once it is in use.
type Mutual struct {
	Source Source // required

	// Aliases are other names of our own trust domain: their principals must
	// chain to our own roots, and one of them is as good as another where a
	// principal is expected. A name that the SVID has a bundle for is no alias.
	Aliases []string
	// CRL is asked about every certificate below the root; nil means that none is kept.
	CRL *CRL
	// RequireRevocationStatus refuses a peer if no valid, current CRL covers
	// each certificate of its chain below the root.
	RequireRevocationStatus bool
	// AllowTLS12 admits TLS 1.2 with ECDHE and AES-GCM besides TLS 1.3.
	AllowTLS12 bool
	// StandardRecords leaves the records to crypto/tls after the handshake too,
	// which costs more CPU in bulk and memory while idle.
	StandardRecords bool
	// HandshakeTimeout bounds a handshake, besides its ctx; 0 means 5 s.
	HandshakeTimeout time.Duration

	verified cache
}

// Server performs the handshake of an accepted connection within ctx. It takes
// over raw: on an error raw is closed.
func (m *Mutual) Server(ctx context.Context, raw net.Conn) (*Conn, error) {
	return m.handshake(ctx, raw, &attempt{mutual: m, usage: x509.ExtKeyUsageClientAuth}, tls.Server)
}

// Client performs the handshake of a dialled connection within ctx and accepts
// only a peer that is one of expected; none expected means that nobody will do.
// It takes over raw.
func (m *Mutual) Client(ctx context.Context, raw net.Conn, expected []mesh.Principal) (*Conn, error) {
	a := &attempt{mutual: m, usage: x509.ExtKeyUsageServerAuth, expected: expected}
	return m.handshake(ctx, raw, a, tls.Client)
}

// Recheck tells whether a peer that was once admitted would be admitted now:
// by the current roots, CRL and clock, and by whom was expected then.
func (m *Mutual) Recheck(p *Peer) error {
	_, err := m.check(p.Chain, p.usage, p.expected)
	return err
}

// Watch calls changed whenever Recheck may answer differently because our
// certificate, roots or CRL changed or a list that is required ended, until ctx
// ends. Calls do not overlap; a change during one is followed by another.
func (m *Mutual) Watch(ctx context.Context, changed func()) error {
	for {
		source, crl := m.Source.Changed(), m.CRL.Changed()
		end, stop := m.listEnds()
		changed() // the first time, too: what happened before we looked counts
		select {
		case <-ctx.Done():
			stop()
			return nil
		case <-source:
		case <-crl:
		case <-end:
		}
		stop()
	}
}

// listEnds fires when the next CRL ends, if status is required; else never.
func (m *Mutual) listEnds() (<-chan time.Time, func() bool) {
	set, _ := m.CRL.current()
	end := set.ends(time.Now())
	if !m.RequireRevocationStatus || end.IsZero() {
		return nil, func() bool { return false }
	}
	t := time.NewTimer(time.Until(end) + time.Millisecond) // past NextUpdate, when the list clears nobody
	return t.C, t.Stop
}

func (m *Mutual) handshake(ctx context.Context, raw net.Conn, a *attempt, role func(net.Conn, *tls.Config) *tls.Conn) (*Conn, error) {
	self, err := m.Source.SVID()
	if err != nil {
		raw.Close()
		return nil, fmt.Errorf("TLS handshake: %w", err)
	}
	a.self = self
	ctx, cancel := context.WithTimeout(ctx, m.timeout())
	defer cancel()
	config := a.config()
	carrier, finish := raw, func(c *tls.Conn) tls13.Secured { return c }
	if !m.StandardRecords {
		shaking := tls13.NewHandshake(raw)
		config.KeyLogWriter = shaking.KeyLog()
		carrier = shaking
		finish = func(c *tls.Conn) tls13.Secured { return shaking.Finish(c, a.usage == x509.ExtKeyUsageServerAuth) }
	}
	c := role(carrier, config)
	if err := c.HandshakeContext(ctx); err != nil {
		raw.Close()
		return nil, fmt.Errorf("TLS handshake with %v: %w", raw.RemoteAddr(), err)
	}
	return &Conn{Secured: finish(c), Peer: a.peer, Self: self, state: c.ConnectionState()}, nil
}

func (m *Mutual) timeout() time.Duration {
	if m.HandshakeTimeout > 0 {
		return m.HandshakeTimeout
	}
	return handshakeTimeout
}

// An attempt is one handshake.
type attempt struct {
	mutual   *Mutual
	self     *SVID
	usage    x509.ExtKeyUsage // of the peer's certificate
	expected []mesh.Principal
	peer     Peer // set by verify
}

// config serves both roles. crypto/tls verifies nothing: VerifyConnection does
// all of it. VerifyPeerCertificate and ClientCAs stay unset because Go does not
// consult them when a session is resumed.
func (a *attempt) config() *tls.Config {
	c := &tls.Config{
		MinVersion:                  tls.VersionTLS13,
		NextProtos:                  h2Only,
		ClientAuth:                  tls.RequireAnyClientCert,
		InsecureSkipVerify:          true, // no host name; verify does the rest
		SessionTicketsDisabled:      true,
		DynamicRecordSizingDisabled: true,
		VerifyConnection:            a.verify,
		GetCertificate:              a.certificate,
		// Not Certificates: it would send none if the peer's list of
		// acceptable authorities lacked ours.
		GetClientCertificate: a.clientCertificate,
	}
	if a.mutual.AllowTLS12 {
		c.MinVersion = tls.VersionTLS12
		c.CipherSuites = tls12Suites
	}
	return c
}

func (a *attempt) certificate(*tls.ClientHelloInfo) (*tls.Certificate, error) {
	return a.self.Certificate, nil
}

func (a *attempt) clientCertificate(*tls.CertificateRequestInfo) (*tls.Certificate, error) {
	return a.self.Certificate, nil
}

// verify is called at the end of every handshake, before any data of the
// application is read or written.
func (a *attempt) verify(state tls.ConnectionState) (err error) {
	if state.DidResume {
		return &PeerError{Reason: ReasonResumed, Err: errResumed}
	}
	if state.NegotiatedProtocol != protocol {
		return &PeerError{Reason: ReasonALPN, Err: fmt.Errorf("ALPN %q was negotiated, %q is required", state.NegotiatedProtocol, protocol)}
	}
	a.peer, err = a.mutual.check(state.PeerCertificates, a.usage, a.expected)
	return err
}
