package hbone

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"testing"
	"time"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"

	"github.com/outrigger-mesh/outrigger/pkg/identity"
	"github.com/outrigger-mesh/outrigger/pkg/mesh"
	"github.com/outrigger-mesh/outrigger/pkg/meshtest/badcert"
)

// suspicious is how a server or a dialer of that world looks at its peers.
func suspicious(t *testing.T, w *badcert.World) *identity.Mutual {
	t.Helper()
	path := filepath.Join(t.TempDir(), "crl.pem")
	if err := os.WriteFile(path, w.CRLs(), 0o600); err != nil {
		t.Fatal(err)
	}
	crl, err := identity.NewCRL(identity.CRLConfig{Path: path, Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	own := w.Root.Leaf(badcert.ServerID, badcert.NewKey(), nil)
	pool := func(i *badcert.Issuer) *x509.CertPool {
		p := x509.NewCertPool()
		p.AddCert(i.Cert)
		return p
	}
	self, err := mesh.ParsePrincipal(badcert.ServerID)
	if err != nil {
		t.Fatal(err)
	}
	return &identity.Mutual{CRL: crl, Aliases: []string{badcert.Alias}, Source: identity.NewMemory(&identity.SVID{
		Principal: self, Certificate: own, NotAfter: time.Now().Add(time.Hour),
		Bundles: map[string]*x509.CertPool{badcert.Domain: pool(w.Root), badcert.PartnerDomain: pool(w.Partner)},
	})}
}

// TestBadCertificatesOpenNoTunnel lets each specimen call a server, and answer a
// dialer: the bad ones get no CONNECT through, and send none, and the record
// of the refusal says what is wrong with them.
func TestBadCertificatesOpenNoTunnel(t *testing.T) {
	w := badcert.NewWorld()
	m := suspicious(t, w)
	handled, refused := make(chan struct{}, 1), make(chan error, 1)
	s, err := NewServer(ServerConfig{Mutual: m, Limits: Limits{ConnsPerSecond: 1 << 20}, Refused: func(_ netip.AddrPort, why error) { refused <- why }})
	if err != nil {
		t.Fatal(err)
	}
	ln := listen(t)
	ctx, stop := context.WithCancel(context.Background())
	served := make(chan error, 1)
	go func() {
		served <- s.Serve(ctx, ctx, ln, func(_ context.Context, in *Incoming) {
			handled <- struct{}{}
			_ = in.Reject(404)
		})
	}()
	defer func() {
		stop()
		if err := <-served; err != nil {
			t.Error(err)
		}
	}()
	for _, table := range [][]badcert.Specimen{badcert.Names(), badcert.Trust(), badcert.Leaves(), badcert.Good()} {
		for _, specimen := range table {
			t.Run(specimen.Name, func(t *testing.T) {
				cert := specimen.Make(w)
				if specimen.Role != badcert.AsServer {
					go knock(ln.Addr().String(), cert)
					select {
					case why := <-refused:
						if got := reasonOf(why); got != specimen.Want {
							t.Errorf("refused as %q, not %q: %v", got, specimen.Want, why)
						}
					case <-handled:
						if specimen.Want != "" {
							t.Error("its CONNECT was handled")
						}
					}
				}
				if specimen.Role != badcert.AsClient {
					got := lure(t, m, cert)
					if got != specimen.Want {
						t.Errorf("a dialer called it %q, not %q", got, specimen.Want)
					}
				}
			})
		}
	}
}

// reasonOf is the reason of package identity, or the flag where it has none.
func reasonOf(err error) string {
	if peer, ok := errors.AsType[*identity.PeerError](err); ok {
		return string(peer.Reason)
	}
	return identity.Flag(err)
}

// knock shakes hands with a server, showing cert, and sends a CONNECT.
func knock(address string, cert *tls.Certificate) {
	raw, err := net.Dial("tcp", address)
	if err != nil {
		return
	}
	defer raw.Close()
	raw.SetDeadline(time.Now().Add(20 * time.Second))
	c := tls.Client(raw, badcert.Stock(cert))
	if _, err := io.WriteString(c, http2.ClientPreface); err != nil {
		return
	}
	var block bytes.Buffer
	encoder := hpack.NewEncoder(&block)
	for _, f := range []hpack.HeaderField{{Name: ":method", Value: "CONNECT"}, {Name: ":authority", Value: "10.0.0.1:80"}} {
		_ = encoder.WriteField(f) // a buffer takes everything
	}
	fr := http2.NewFramer(c, c)
	if fr.WriteSettings() != nil || fr.WriteHeaders(http2.HeadersFrameParam{StreamID: 1, EndHeaders: true, BlockFragment: block.Bytes()}) != nil {
		return
	}
	_, _ = io.Copy(io.Discard, c)
}

// lure has a dialer call a server that shows cert, and answers why the dialer
// refused it; "" if it sent its preface.
func lure(t *testing.T, m *identity.Mutual, cert *tls.Certificate) string {
	t.Helper()
	d, err := NewDialer(DialerConfig{Mutual: m, AnswerTimeout: 20 * time.Second})
	if err != nil {
		t.Fatal(err)
	}
	defer d.Close()
	ln := listen(t)
	defer ln.Close()
	preface := make(chan bool, 1)
	go func() {
		raw, err := ln.Accept()
		if err != nil {
			preface <- false
			return
		}
		defer raw.Close()
		raw.SetDeadline(time.Now().Add(20 * time.Second))
		_, err = io.ReadFull(tls.Server(raw, badcert.Stock(cert)), make([]byte, len(http2.ClientPreface)))
		preface <- err == nil
	}()
	hop := mesh.Hop{Address: netip.MustParseAddrPort(ln.Addr().String()), Authority: "10.0.0.1:80"}
	for _, id := range []string{badcert.PlannerID, badcert.PartnerID} {
		p, err := mesh.ParsePrincipal(id)
		if err != nil {
			t.Fatal(err)
		}
		hop.Expected = append(hop.Expected, p)
	}
	_, err = d.Dial(ctxOf(t), hop, Header{}) // nobody answers the CONNECT
	if <-preface {
		return ""
	}
	return reasonOf(err)
}
