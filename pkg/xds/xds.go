// Package xds keeps one delta ADS stream to a control plane and hands what
// arrives on it to a Handler. It knows names, versions, ACK and NACK, and when
// to connect again; what a resource means it refuses to know.
package xds

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"strings"
	"time"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/metadata"
	"google.golang.org/protobuf/types/known/anypb"
)

// Bounds that hold unless Config says otherwise.
const (
	DefaultMaxMessage    = 64 << 20  // bytes of one response
	DefaultMaxResources  = 1_000_000 // of one type
	DefaultMaxSubscribed = 65_536    // names of one type
	DefaultConnect       = 5 * time.Second
)

// A Resource is one named thing that the control plane sent.
type Resource struct {
	Name    string
	Aliases []string   // other names it answers to
	Version string     // empty if the control plane keeps none
	Body    *anypb.Any // nil if Err is not
	// Err tells that the resource cannot be used and why. It will be rejected
	// whatever the handler says; the handler sees it so that it can fail closed
	// on what the resource stood for.
	Err error
}

// A Rejection says which resource is not acceptable, and why.
type Rejection struct {
	Name string
	Err  error
}

// A Handler takes what arrives. Apply is called from one goroutine at a time.
// It applies everything but what it rejects; when it returns, the response is
// acknowledged, and the rejected resources are named to the control plane.
// removed may hold names that were never updated: the control plane says that
// they do not exist. first marks the first response of a type ever, which holds
// the complete state, perhaps an empty one. The handler must not keep the slices.
type Handler interface {
	Apply(typeURL string, updated []Resource, removed []string, first bool) []Rejection
}

// An End is how a stream ended.
type End uint8

const (
	EndUnopened End = iota + 1 // it could not be opened
	EndError                   // it broke, or the control plane ended it with an error
	EndRenewed                 // the control plane asked for a new connection, as istiod does every half hour
	EndComplete                // the control plane simply ended it
)

// A Type is a kind of resource to subscribe to.
type Type struct {
	URL   string
	Names []string // those to subscribe to; nil means all there are
	// OnDemand subscribes to nothing but Names and what Subscribe asks for.
	OnDemand bool
	// Complete says that every response holds all subscribed resources that
	// exist, so that an absent one is gone. istiod serves ECDS so.
	Complete bool
	// Repeated says that one response may hold several resources of one name,
	// which are handed over in order. Otherwise they are rejected. istiod serves
	// ECDS so.
	Repeated bool
}

func (t *Type) wildcard() bool { return t.Names == nil && !t.OnDemand }

// Config says where the control plane is and what we want of it.
type Config struct {
	Target      string                           // required: host:port or a gRPC target
	Credentials credentials.TransportCredentials // required
	PerRPC      credentials.PerRPCCredentials    // asked at every connect; nil: none
	Metadata    metadata.MD                      // more headers, e.g. clusterid
	// Dial replaces the system's dialling, e.g. to get past redirection rules.
	Dial    func(ctx context.Context, address string) (net.Conn, error)
	Node    *corev3.Node // required, with an ID
	Types   []Type       // required; distinct
	Handler Handler      // required
	Logger  *slog.Logger // nil: discards

	Received func(typeURL string, bytes int) // told of every response of a type in Types; nil: nobody
	Ended    func(End)                       // told of every stream's end; nil: nobody
	// Advise says what to do about the error that a stream ended with, for the log
	// and Status; "" if there is nothing to say. Nil: there never is.
	Advise func(error) string

	MaxMessage     int           // bytes of one response; 0 means 64 MiB
	MaxResources   int           // of one type; 0 means 1,000,000
	MaxSubscribed  int           // names of one type; 0 means 65,536
	ConnectTimeout time.Duration // of one attempt; 0 means 5s
}

func (c *Config) complete() error {
	switch {
	case c.Target == "":
		return errors.New("xds: Target is missing")
	case c.Credentials == nil:
		return errors.New("xds: Credentials are missing")
	case c.Handler == nil:
		return errors.New("xds: Handler is missing")
	case c.Node.GetId() == "":
		return errors.New("xds: Node has no ID")
	case len(c.Types) == 0:
		return errors.New("xds: Types are missing")
	case c.MaxMessage < 0 || c.MaxResources < 0 || c.MaxSubscribed < 0 || c.ConnectTimeout < 0:
		return errors.New("xds: a bound is negative")
	}
	if err := checkNode(c.Node, c.Types); err != nil {
		return err
	}
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
	if c.MaxMessage == 0 {
		c.MaxMessage = DefaultMaxMessage
	}
	if c.MaxResources == 0 {
		c.MaxResources = DefaultMaxResources
	}
	if c.MaxSubscribed == 0 {
		c.MaxSubscribed = DefaultMaxSubscribed
	}
	if c.ConnectTimeout == 0 {
		c.ConnectTimeout = DefaultConnect
	}
	return nil
}

// checkNode refuses what harms istiod or ourselves. A node of type agentgateway
// makes istiod 1.31 dereference nil and exit for any type but its own two;
// NODE_NAME makes it send every pod of the node to who asked for none.
func checkNode(n *corev3.Node, types []Type) error {
	if kind, _, _ := strings.Cut(n.GetId(), "~"); kind == "agentgateway" {
		return errors.New(`xds: node type "agentgateway" crashes istiod; use "sidecar" or "ztunnel"`)
	}
	_, named := n.GetMetadata().GetFields()["NODE_NAME"]
	for i := range types {
		t := &types[i]
		if t.URL == "" {
			return errors.New("xds: a type has no URL")
		}
		if t.OnDemand && named {
			return fmt.Errorf("xds: node metadata NODE_NAME subscribes on-demand %s to all pods of the node; leave it out", t.URL)
		}
		for j := range i {
			if types[j].URL == t.URL {
				return fmt.Errorf("xds: type %s is listed twice", t.URL)
			}
		}
	}
	return nil
}
