package control

import (
	"cmp"
	"context"
	"fmt"
	"log/slog"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"time"
	"unicode"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	discoveryv3 "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/peer"
	"google.golang.org/grpc/status"

	"github.com/outrigger-mesh/outrigger/pkg/mesh"
)

const (
	maxNACK  = 1 << 10 // bytes that are kept of a rejection
	maxNames = 100_000 // names one stream may subscribe to
	maxTypes = 32      // types one stream may ask for
)

// nodes knows who is connected. Its methods are go-control-plane's callbacks.
type nodes struct {
	limit   int
	logger  *slog.Logger
	callers *callers

	mu   sync.Mutex // guards what follows
	open map[int64]*node
}

type node struct {
	NodeStatus
	principal mesh.Principal
	names     map[string]bool // subscribed to, by type and name
	types     map[string]*TypeStatus
}

// A NodeStatus is a connected sidecar.
type NodeStatus struct {
	ID        string       `json:"id"`
	Principal string       `json:"principal"`
	Address   string       `json:"address"`
	Since     time.Time    `json:"since"`
	Types     []TypeStatus `json:"types"`
}

// A TypeStatus is how a sidecar stands to one type.
type TypeStatus struct {
	Type      string    `json:"type"`
	Sent      time.Time `json:"sent,omitzero"`      // when a response was last sent
	LastACK   time.Time `json:"lastAck,omitzero"`   // when one was last accepted whole
	LastNACK  time.Time `json:"lastNack,omitzero"`  // when something was last rejected
	Rejection string    `json:"rejection,omitzero"` // what was, unless a later response was accepted
	Pending   bool      `json:"pending"`            // whether a response is unanswered
}

func newNodes(limit int) *nodes { return &nodes{limit: limit, open: map[int64]*node{}} }

// OnDeltaStreamOpen admits a stream if it is known who opens it.
func (n *nodes) OnDeltaStreamOpen(ctx context.Context, id int64, _ string) error {
	principal, err := n.callers.identify(ctx)
	if err != nil {
		return err
	}
	address := ""
	if p, ok := peer.FromContext(ctx); ok {
		address = p.Addr.String()
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	if len(n.open) >= n.limit {
		return status.Error(codes.ResourceExhausted, "too many streams")
	}
	n.open[id] = &node{principal: principal, names: map[string]bool{}, types: map[string]*TypeStatus{},
		NodeStatus: NodeStatus{Principal: principal.String(), Address: address, Since: time.Now()}}
	return nil
}

// OnDeltaStreamClosed forgets a stream.
func (n *nodes) OnDeltaStreamClosed(id int64, _ *corev3.Node) {
	n.mu.Lock()
	defer n.mu.Unlock()
	delete(n.open, id)
}

// OnStreamDeltaRequest checks the node against who opened the stream, and notes
// what the request answers.
func (n *nodes) OnStreamDeltaRequest(id int64, r *discoveryv3.DeltaDiscoveryRequest) error {
	n.mu.Lock()
	defer n.mu.Unlock()
	s := n.open[id]
	if s == nil {
		return status.Error(codes.Unauthenticated, "the stream was not admitted")
	}
	if r.GetNode() == nil && s.ID == "" {
		return status.Error(codes.InvalidArgument, "the first request names no node")
	}
	if r.GetNode() != nil {
		if err := checkNode(r.GetNode(), s.principal); err != nil {
			return err
		}
		s.ID = printable(r.GetNode().GetId(), 256)
	}
	if err := s.subscribe(r); err != nil {
		return err
	}
	t := s.types[r.GetTypeUrl()]
	if t == nil {
		if len(s.types) == maxTypes {
			return status.Error(codes.ResourceExhausted, "too many types")
		}
		t = &TypeStatus{Type: printable(r.GetTypeUrl(), 256)}
		s.types[r.GetTypeUrl()] = t
	}
	n.noteAnswer(s, t, r)
	return nil
}

// subscribe counts the names that the stream holds. A name may be ended and
// begun again any number of times.
func (s *node) subscribe(r *discoveryv3.DeltaDiscoveryRequest) error {
	for _, name := range r.GetResourceNamesSubscribe() {
		s.names[r.GetTypeUrl()+" "+name] = true
	}
	for _, name := range r.GetResourceNamesUnsubscribe() {
		delete(s.names, r.GetTypeUrl()+" "+name)
	}
	if len(s.names) > maxNames {
		return status.Error(codes.ResourceExhausted, "too many subscribed names")
	}
	return nil
}

func (n *nodes) noteAnswer(s *node, t *TypeStatus, r *discoveryv3.DeltaDiscoveryRequest) {
	switch {
	case r.GetResponseNonce() == "":
	case r.GetErrorDetail() == nil:
		t.LastACK, t.Rejection, t.Pending = time.Now(), "", false
	default:
		t.LastNACK, t.Pending = time.Now(), false
		t.Rejection = printable(r.GetErrorDetail().GetMessage(), maxNACK)
		n.logger.Warn("sidecar rejected configuration", "node", s.ID, "type", t.Type, "reason", t.Rejection)
	}
}

// OnStreamDeltaResponse notes that something was sent.
func (n *nodes) OnStreamDeltaResponse(id int64, _ *discoveryv3.DeltaDiscoveryRequest, r *discoveryv3.DeltaDiscoveryResponse) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if s := n.open[id]; s != nil && s.types[r.GetTypeUrl()] != nil {
		t := s.types[r.GetTypeUrl()]
		t.Sent, t.Pending = time.Now(), true
	}
}

func (n *nodes) list() []NodeStatus {
	n.mu.Lock()
	defer n.mu.Unlock()
	list := make([]NodeStatus, 0, len(n.open))
	for _, s := range n.open {
		one := s.NodeStatus
		for _, t := range s.types {
			one.Types = append(one.Types, *t)
		}
		slices.SortFunc(one.Types, func(a, b TypeStatus) int { return strings.Compare(a.Type, b.Type) })
		list = append(list, one)
	}
	slices.SortFunc(list, func(a, b NodeStatus) int {
		return cmp.Or(strings.Compare(a.ID, b.ID), a.Since.Compare(b.Since))
	})
	return list
}

// A nodeID is type~ip~name.namespace~domain taken apart; zero if it is not that.
type nodeID struct{ kind, ip, name, namespace string }

func parseNode(id string) nodeID {
	parts := strings.Split(id, "~")
	if len(parts) != 4 || len(id) > 1024 {
		return nodeID{}
	}
	dot := strings.LastIndexByte(parts[2], '.')
	if dot <= 0 {
		return nodeID{}
	}
	return nodeID{parts[0], parts[1], parts[2][:dot], parts[2][dot+1:]}
}

// checkNode holds a node to what istiod asks of it: an ID of four parts, an
// address, and the namespace and service account that its opener has proved.
func checkNode(n *corev3.Node, p mesh.Principal) error {
	id := parseNode(n.GetId())
	switch id.kind {
	case "sidecar", "ztunnel", "router", "waypoint":
	default:
		return status.Error(codes.InvalidArgument, "node ID is not <sidecar or ztunnel>~<ip>~<name>.<namespace>~<domain>")
	}
	fields := n.GetMetadata().GetFields()
	if _, err := netip.ParseAddr(id.ip); err != nil && fields["INSTANCE_IPS"].GetStringValue() == "" {
		return status.Error(codes.InvalidArgument, "node ID has no IP address, and INSTANCE_IPS is not set")
	}
	namespace := cmp.Or(fields["NAMESPACE"].GetStringValue(), id.namespace)
	account := cmp.Or(fields["SERVICE_ACCOUNT"].GetStringValue(), p.ServiceAccount())
	if p.Namespace() == "" || namespace != p.Namespace() || account != p.ServiceAccount() {
		return status.Error(codes.PermissionDenied, printable(fmt.Sprintf("the caller's identity %v does not match node %s/%s", p, namespace, account), maxNACK))
	}
	return nil
}

// printable makes s fit for logs and status: no controls, valid, at most n bytes.
func printable(s string, n int) string {
	s = strings.Map(func(r rune) rune {
		if !unicode.IsPrint(r) {
			return ' '
		}
		return r
	}, strings.ToValidUTF8(s, "?"))
	if len(s) > n {
		s = strings.ToValidUTF8(s[:n], "")
	}
	return s
}
