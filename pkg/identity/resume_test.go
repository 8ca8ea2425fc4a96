package identity

import (
	"crypto/tls"
	"crypto/x509"
	"io"
	"testing"
	"time"

	"github.com/outrigger-mesh/outrigger/pkg/mesh"
	"github.com/outrigger-mesh/outrigger/pkg/meshtest/badcert"
)

// serverConfig is what Server would shake hands with.
func serverConfig(m *Mutual) *tls.Config {
	a := &attempt{mutual: m, self: must(m.Source.SVID()), usage: x509.ExtKeyUsageClientAuth}
	return a.config()
}

// call lets a stock client meet a server of config; it answers the client's
// and the server's view.
func call(t *testing.T, client, server *tls.Config) (*tls.Conn, error) {
	t.Helper()
	near, far := socketPair(t)
	done := make(chan error, 1)
	s := tls.Server(far, server)
	go func() {
		err := s.HandshakeContext(t.Context())
		if err == nil {
			_, err = s.Write([]byte("x")) // behind it the tickets
		}
		far.Close()
		done <- err
	}()
	c := tls.Client(near, client)
	if c.HandshakeContext(t.Context()) == nil {
		io.Copy(io.Discard, c) // takes the tickets
	}
	return c, <-done
}

// TestAResumedSessionIsRefused uses a real ticket: one that a server with our
// own checks, but with tickets on, gave to a peer while it was welcome. go-spiffe's
// server configuration admits such a peer whatever has become of it.
func TestAResumedSessionIsRefused(t *testing.T) {
	a := newAuthority(t, local)
	m := newMutual(t, a, github)
	client := badcert.Stock(issue(t, a, planner, time.Hour).Certificate)
	client.ClientSessionCache = tls.NewLRUClientSessionCache(8)
	client.ServerName = "x" // the cache's key
	var secret [32]byte
	leaky := serverConfig(m)
	leaky.SessionTicketsDisabled = false
	leaky.SetSessionTicketKeys([][32]byte{secret})
	if c, err := call(t, client, leaky); err != nil || c.ConnectionState().DidResume {
		t.Fatalf("first call: %v", err)
	}
	if session, ok := client.ClientSessionCache.Get("x"); !ok || session == nil {
		t.Fatal("the client got no ticket: the test proves nothing")
	}

	t.Run("by our check, even if tickets were on", func(t *testing.T) {
		again := serverConfig(m)
		again.SessionTicketsDisabled = false
		again.SetSessionTicketKeys([][32]byte{secret})
		if _, err := call(t, client, again); reason(err) != ReasonResumed || Flag(err) != "TLS_FAILURE" {
			t.Errorf("a ticket was taken: %v", err)
		}
	})
	t.Run("because no ticket is taken or given", func(t *testing.T) {
		again := serverConfig(m)
		again.SetSessionTicketKeys([][32]byte{secret})
		c, err := call(t, client, again)
		do(t, err)
		if c.ConnectionState().DidResume {
			t.Error("the session was resumed")
		}
	})
	t.Run("and who lost its welcome is refused for what it is", func(t *testing.T) {
		m.Source.(*Memory).Set(issue(t, newAuthority(t, local), github, time.Hour)) // other roots
		again := serverConfig(m)
		again.SetSessionTicketKeys([][32]byte{secret})
		if _, err := call(t, client, again); reason(err) != ReasonChain {
			t.Errorf("refused as %q: %v", reason(err), err)
		}
	})
}

func TestTheClientNeverResumes(t *testing.T) {
	a := newAuthority(t, local)
	m := newMutual(t, a, planner)
	server := badcert.Stock(issue(t, a, github, time.Hour).Certificate) // its tickets are on
	for range 3 {
		near, far := socketPair(t)
		resumed := make(chan bool, 1)
		go func() {
			s := tls.Server(far, server)
			s.HandshakeContext(t.Context())
			s.Write([]byte("x"))
			resumed <- s.ConnectionState().DidResume
		}()
		c, err := m.Client(t.Context(), near, []mesh.Principal{github})
		do(t, err)
		io.ReadFull(c, make([]byte, 1)) // the ticket was before it
		if <-resumed || c.ConnectionState().DidResume {
			t.Error("the session was resumed")
		}
	}
}
