// Package inspect serves the HTTP that it finds inside a connection through an
// ordered list of layers. It does not know its layers.
//
// It reads HTTP/1.1 (RFC 9112) and HTTP/2 with prior knowledge (RFC 9113) strictly, a
// subset that every peer reads the same way, and writes every message anew: no byte of
// framing that a peer sent is ever forwarded. Layers see no difference between the two.
package inspect

import (
	"context"
	"io"
	"net"
	"net/netip"

	"github.com/outrigger-mesh/outrigger/pkg/mesh"
	"github.com/outrigger-mesh/outrigger/pkg/policy"
	"github.com/outrigger-mesh/outrigger/pkg/telemetry"
)

// A Handler answers an exchange. ctx ends when the downstream is gone, unless the
// exchange is to GoOn then, or when the connection is cut; not when the exchange ends.
// What Do was given, the exchange, its request and the body, may be used until the
// response's body is closed, not after: others use their memory then. A handler that
// does not pass on a response it got from another closes its body.
//
// An error becomes a short response of our own; see Error.
type Handler interface {
	Do(ctx context.Context, x *Exchange) (*Response, error)
}

// HandlerFunc is a Handler that is a function.
type HandlerFunc func(ctx context.Context, x *Exchange) (*Response, error)

// Do calls f.
func (f HandlerFunc) Do(ctx context.Context, x *Exchange) (*Response, error) { return f(ctx, x) }

// A Layer wraps a handler with another.
type Layer func(next Handler) Handler

// A Request is the request that was read, strictly, from the downstream.
//
// A layer may replace Body, and then sets ContentLength too. The body is read from
// the downstream as it is read here: "Expect: 100-continue" is answered by the
// first Read. A body that no layer reads is not waited for.
type Request struct {
	Method string
	Target string // as written, in origin form; an absolute form was reduced to it
	// Path is Target's path, percent-decoded once: valid UTF-8 without dot segments
	// and control characters, and no slash or backslash in it was encoded. Empty
	// segments ("//mcp") and parameters ("/mcp;x") are left in.
	Path     string
	RawQuery string // after the "?", as written
	Host     string
	// Header is without hop-by-hop fields and without Expect. The lines of
	// Content-Length, Transfer-Encoding and Host are kept for their place; what is
	// written in it comes from ContentLength and Host.
	Header        Header
	Body          io.Reader // never nil
	ContentLength int64     // -1 if it is not known before the body's end

	scheme string // of HTTP/2
}

// A Response is what goes back downstream.
type Response struct {
	Status        int           // 200 to 599
	Header        Header        // without hop-by-hop fields; lines of Content-Length and Transfer-Encoding only keep a place
	Body          io.ReadCloser // of the app's: Close may be called beside a Read, and ends it
	ContentLength int64         // -1: not known, will be chunked; if Body is nil, what a HEAD or 304 announces
}

// A Conversation is what all exchanges of one connection share.
type Conversation struct {
	Direction   policy.Direction
	Source      mesh.Principal // the verified caller
	Destination mesh.Principal // the verified callee
	Connection  policy.Connection
	Target      policy.Destination
	Port        policy.Port
	Record      *telemetry.Connection
	ClientCert  string // inbound: the value of ClientCertHeader; empty for none
}

// A Caller is who is at the other end of a conversation: the workload that it proved to
// be or, if it proved nothing, the address that it came from.
type Caller struct {
	Principal mesh.Principal
	Address   netip.Addr // only without a Principal; IPv4 is unmapped
}

// Caller is the conversation's caller.
func (c *Conversation) Caller() Caller {
	if c.Source.IsZero() {
		return Caller{Address: c.Connection.SourceAddr.Addr().Unmap()}
	}
	return Caller{Principal: c.Source}
}

// An Exchange is one request and what is known about it. One exchange uses one
// set of policies for all its decisions, unless it lasts and is told to Refresh.
type Exchange struct {
	*Conversation
	Request  *Request
	Policies *policy.Policies                  // of one snapshot
	Snapshot uint64                            // its version
	Current  func() (*policy.Policies, uint64) // the current snapshot's; may be nil
	// Upstream opens another connection to the same app, for a message of our own;
	// see RoundTrip.
	Upstream func(ctx context.Context) (net.Conn, error)

	stream *streamed // of HTTP/2
	after  afterlife
}

// Refresh makes the policies the current ones, and tells whether they are others.
func (x *Exchange) Refresh() bool {
	if x.Current == nil {
		return false
	}
	policies, version := x.Current()
	if policies == nil || version == x.Snapshot {
		return false
	}
	x.Policies, x.Snapshot = policies, version
	return true
}

// Config is how to serve one connection.
type Config struct {
	Conversation *Conversation                               // required
	Layers       []Layer                                     // outermost first
	Policies     func() (*policy.Policies, uint64)           // loads the current snapshot's, once per exchange
	Upstream     func(ctx context.Context) (net.Conn, error) // required: the app
	Limits       Limits
}

// Serve reads requests from downstream until it ends or ctx does, and answers each
// through the layers: one at a time in HTTP/1.1, many beside each other in HTTP/2,
// whichever the downstream begins with. The app is spoken to in the same. It takes over
// downstream.
//
// It returns nil if the conversation simply ended, and otherwise why it was cut or,
// if it was not, the first thing that went wrong with an exchange: an *Error for
// what the downstream or the app did, or ErrDisconnected. The bytes that went towards
// the peer and came from it are added to the conversation's record.
func Serve(ctx context.Context, downstream net.Conn, c Config) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	s := newServer(downstream, c, cancel)
	defer s.close()
	cut := make(chan struct{})
	stop := context.AfterFunc(ctx, func() {
		defer close(cut)
		s.cut()
	})
	defer func() {
		if !stop() {
			<-cut
		}
	}()
	return s.run(ctx)
}
