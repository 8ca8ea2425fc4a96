package updates

import (
	"context"
	"crypto/tls"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	discoveryv3 "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"

	"github.com/outrigger-mesh/outrigger/pkg/discovery"
)

// SinkNode is the sink's name.
const SinkNode = "sink"

// Sink takes responses from the plane at address and acknowledges them, unread,
// until ctx ends.
func Sink(ctx context.Context, address string) error {
	creds := credentials.NewTLS(&tls.Config{InsecureSkipVerify: true}) // nothing that comes is used
	conn, err := grpc.NewClient(address, grpc.WithTransportCredentials(creds))
	if err != nil {
		return err
	}
	defer conn.Close()
	s, err := discoveryv3.NewAggregatedDiscoveryServiceClient(conn).DeltaAggregatedResources(ctx,
		grpc.ForceCodecV2(newCodec()), grpc.MaxCallRecvMsgSize(64<<20), grpc.WaitForReady(true))
	if err != nil {
		return err
	}
	r := &discoveryv3.DeltaDiscoveryRequest{Node: &corev3.Node{Id: SinkNode}, TypeUrl: discovery.AddressType}
	for {
		if err := s.Send(r); err != nil {
			return err
		}
		var b encoded
		if err := s.RecvMsg(&b); err != nil {
			return err
		}
		r = &discoveryv3.DeltaDiscoveryRequest{}
		r.TypeUrl, r.ResponseNonce = about(b)
	}
}
