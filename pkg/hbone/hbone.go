// Package hbone carries connections inside HTTP/2 CONNECT tunnels over mTLS.
// It checks who is at the other end but never whether they may pass: that is
// the Handler's business.
//
// It is an HTTP/2 engine of its own, for CONNECT only, in both roles. One
// goroutine reads a connection and writes what it finds straight to the local
// sockets, never blocking; whoever has frames to send writes them, together
// with what others left meanwhile; one more goroutine sends what the reader
// has to say. Locks are taken in this order: writer, conn, Tunnel.
package hbone

import (
	"context"
	"net"

	"github.com/outrigger-mesh/outrigger/pkg/identity"
	"github.com/outrigger-mesh/outrigger/pkg/mesh"
)

// mutual makes TLS of raw connections. *identity.Mutual is one.
type mutual interface {
	Server(ctx context.Context, raw net.Conn) (*identity.Conn, error)
	Client(ctx context.Context, raw net.Conn, expected []mesh.Principal) (*identity.Conn, error)
	Recheck(p *identity.Peer) error
}

// source tells what we would prove ourselves with now.
type source interface {
	SVID() (*identity.SVID, error)
}
