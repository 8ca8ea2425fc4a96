// Package identity proves who we are and checks who a peer is. It gets our
// certificate from the mesh CA, from files or from the SPIFFE Workload API, and
// performs every TLS handshake of the mesh, so that a peer is checked in one
// place, every time. It does not know what a peer may do.
package identity

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"time"

	"github.com/outrigger-mesh/outrigger/pkg/mesh"
	"github.com/outrigger-mesh/outrigger/pkg/tls13"
)

// An SVID is our certificate with its key and the roots we trust. It never changes.
type SVID struct {
	Principal   mesh.Principal
	Certificate *tls.Certificate
	Bundles     map[string]*x509.CertPool // roots by trust domain
	Roots       []*x509.Certificate       // those of our own trust domain, to be shown
	NotBefore   time.Time
	NotAfter    time.Time
}

// A Source keeps an SVID fresh.
type Source interface {
	// SVID is the current one, or an error that wraps ErrNoIdentity. It never blocks.
	SVID() (*SVID, error)
	// Changed is closed when SVID would next answer differently.
	Changed() <-chan struct{}
	// Run keeps the SVID fresh until ctx ends.
	Run(ctx context.Context) error
}

// A Peer is who is at the other end of a TLS connection, as its certificate
// proved. Only Server and Client make one that Recheck will admit.
type Peer struct {
	Principal mesh.Principal
	NotAfter  time.Time           // when its certificate ends
	Chain     []*x509.Certificate // as the peer sent it, leaf first

	usage    x509.ExtKeyUsage // what the certificate was used for
	expected []mesh.Principal // by us, when we dialled
}

// A Conn is a TLS connection whose handshake is done and whose peer was checked.
type Conn struct {
	tls13.Secured
	Peer Peer
	Self *SVID // what we proved ourselves with

	state tls.ConnectionState
}

// ConnectionState is what the handshake came to.
func (c *Conn) ConnectionState() tls.ConnectionState { return c.state }
