// Package updates is a control plane of a large mesh that streams updates when
// told to, and a sink that acknowledges them and does nothing else. What it sends
// is encoded before, so that sending costs little.
package updates

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"strconv"
	"sync"
	"time"

	discoveryv3 "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/status"

	"github.com/outrigger-mesh/outrigger/pkg/discovery"
)

// Config says where the plane serves and what.
type Config struct {
	Listen    string // of ADS over TLS
	Control   string // of the orders, plain HTTP
	CertFile  string
	KeyFile   string
	Workloads []Own // that are in the mesh beside the many
}

// Own is a workload with a sidecar.
type Own struct{ Name, Namespace, TrustDomain, Address string }

// A Plane serves one sidecar and one sink.
type Plane struct {
	discoveryv3.UnimplementedAggregatedDiscoveryServiceServer
	mesh content

	mu      sync.Mutex // guards what follows
	streams map[string]*stream
}

// A stream is one that a node holds.
type stream struct {
	grpc.BidiStreamingServer[discoveryv3.DeltaDiscoveryRequest, discoveryv3.DeltaDiscoveryResponse]

	mu       sync.Mutex // guards what follows, and sending
	nonce    int
	sent     map[string]time.Time // that no answer has come to, by nonce
	took     []time.Duration      // until answers came, since the last order
	sending  time.Duration        // of the last order
	rejected string               // what the node complained of
}

// Run serves until ctx ends.
func Run(ctx context.Context, c Config) error {
	creds, err := credentials.NewServerTLSFromFile(c.CertFile, c.KeyFile)
	if err != nil {
		return err
	}
	p := &Plane{streams: map[string]*stream{}}
	if p.mesh, err = encode(c.Workloads); err != nil {
		return err
	}
	ln, err := net.Listen("tcp", c.Listen)
	if err != nil {
		return err
	}
	s := grpc.NewServer(grpc.Creds(creds), grpc.ForceServerCodecV2(newCodec()), grpc.MaxRecvMsgSize(64<<20))
	discoveryv3.RegisterAggregatedDiscoveryServiceServer(s, p)
	orders := &http.Server{Addr: c.Control, Handler: http.HandlerFunc(p.order), ReadHeaderTimeout: time.Second}
	defer context.AfterFunc(ctx, func() { s.Stop(); orders.Close() })()
	var serving sync.WaitGroup
	defer serving.Wait()
	defer s.Stop()
	serving.Go(func() { _ = s.Serve(ln) }) // who is served notices
	if err := orders.ListenAndServe(); ctx.Err() == nil {
		return err
	}
	return nil
}

// DeltaAggregatedResources answers what every first request of a type asks for, and
// takes note of answers.
func (p *Plane) DeltaAggregatedResources(g grpc.BidiStreamingServer[discoveryv3.DeltaDiscoveryRequest, discoveryv3.DeltaDiscoveryResponse]) error {
	s := &stream{BidiStreamingServer: g, sent: map[string]time.Time{}}
	known := map[string]bool{}
	for first := true; ; first = false {
		r, err := g.Recv()
		if err != nil {
			return err
		}
		if first {
			p.mu.Lock()
			p.streams[r.GetNode().GetId()] = s
			p.mu.Unlock()
		}
		if r.GetResponseNonce() != "" {
			s.answered(r, time.Now())
		}
		if known[r.GetTypeUrl()] {
			continue
		}
		known[r.GetTypeUrl()] = true
		var all encoded
		if r.GetTypeUrl() == discovery.AddressType && r.GetNode().GetId() != SinkNode {
			all = p.mesh.everything
		}
		if err := s.send(r.GetTypeUrl(), all); err != nil {
			return err
		}
	}
}

func (s *stream) answered(r *discoveryv3.DeltaDiscoveryRequest, now time.Time) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if at, ok := s.sent[r.GetResponseNonce()]; ok {
		s.took = append(s.took, now.Sub(at))
		delete(s.sent, r.GetResponseNonce())
	}
	if e := r.GetErrorDetail(); e != nil {
		s.rejected = e.GetMessage()
	}
}

// send sends resources that are encoded as those of a response.
func (s *stream) send(typeURL string, resources encoded) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.nonce++
	nonce := strconv.Itoa(s.nonce)
	s.sent[nonce] = time.Now()
	if err := s.SendMsg(response(typeURL, nonce, resources)); err != nil {
		return status.Error(codes.Unavailable, err.Error())
	}
	return nil
}

// find finds the stream of the sink, or of the one other node.
func (p *Plane) find(sink bool) (*stream, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for id, s := range p.streams {
		if (id == SinkNode) == sink {
			return s, nil
		}
	}
	return nil, fmt.Errorf("no stream is open (sink: %t)", sink)
}
