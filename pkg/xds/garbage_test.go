package xds

import (
	"maps"
	"net"
	"testing"

	discoveryv3 "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	"google.golang.org/grpc"
	"google.golang.org/grpc/mem"
	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/anypb"
)

// rawCodec puts the server in charge of every byte.
type rawCodec struct{}

func (rawCodec) Marshal(v any) (mem.BufferSlice, error) {
	return mem.BufferSlice{mem.SliceBuffer(*v.(*[]byte))}, nil
}

func (rawCodec) Unmarshal(data mem.BufferSlice, v any) error {
	*v.(*[]byte) = data.Materialize()
	return nil
}

func (rawCodec) Name() string { return "proto" }

// A rogue control plane says one thing on each stream, in order, and the last
// one ever after.
func rogue(t *testing.T, sayings [][]byte) string {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	streams := make(chan []byte, len(sayings))
	for _, s := range sayings {
		streams <- s
	}
	last := sayings[len(sayings)-1]
	s := grpc.NewServer(grpc.ForceServerCodecV2(rawCodec{}), grpc.UnknownServiceHandler(func(_ any, stream grpc.ServerStream) error {
		var request []byte
		if err := stream.RecvMsg(&request); err != nil {
			return err
		}
		said := last
		select {
		case said = <-streams:
		default:
		}
		if err := stream.SendMsg(&said); err != nil {
			return err
		}
		// The answer, or the end of the stream, is all we wait for.
		return stream.RecvMsg(&request)
	}))
	done := make(chan error, 1)
	go func() { done <- s.Serve(listener) }()
	t.Cleanup(func() { s.Stop(); <-done })
	return listener.Addr().String()
}

func marshal(t *testing.T, r *discoveryv3.DeltaDiscoveryResponse) []byte {
	t.Helper()
	b, err := proto.Marshal(r)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func TestGarbageFromTheWireIsSurvived(t *testing.T) {
	good := marshal(t, &discoveryv3.DeltaDiscoveryResponse{TypeUrl: typeA, Nonce: "n", Resources: []*discoveryv3.Resource{res("good", "1")}})
	field := func(number protowire.Number, b []byte) []byte {
		return protowire.AppendBytes(protowire.AppendTag(nil, number, protowire.BytesType), b)
	}
	response := func(resources ...[]byte) (b []byte) {
		b = field(4, []byte(typeA))
		for _, r := range resources {
			b = append(b, field(2, r)...)
		}
		return b
	}
	deep := []byte{}
	for range 5000 {
		deep = field(2, deep) // nested as a resource's body would be
	}
	many := make([][]byte, 5000)
	for name, said := range map[string][]byte{
		"not a protobuf":            []byte("not a protobuf at all"),
		"cut off":                   good[:len(good)-3],
		"resource's name not UTF-8": response(field(3, []byte("bad \xff\xfe name"))),
		"removed name not UTF-8":    append(field(6, []byte("\xff")), good...),
		"too many resources":        response(many...),
		"deep body":                 response(field(2, append(field(1, []byte(typeA)), field(2, deep)...))),
		"unknown fields":            append(field(900, []byte("a field nobody knows")), response(append(field(3, []byte("x")), field(999, []byte("nor this"))...))...),
		"nothing":                   {},
		"over the limit":            make([]byte, 1<<20),
	} {
		t.Run(name, func(t *testing.T) {
			f := &feed{}
			c := config(f, Type{URL: typeA})
			c.Target, c.MaxResources, c.MaxMessage = rogue(t, [][]byte{said, good}), 1000, 1<<19
			run(t, c)
			eventually(t, "the good response after the bad", func() bool { return maps.Equal(f.names(), map[string]bool{"good": true}) })
		})
	}
}

func TestUnknownFieldsReachTheHandler(t *testing.T) {
	body := protowire.AppendBytes(protowire.AppendTag(nil, 777, protowire.BytesType), []byte("new"))
	s := newSubscription(Type{URL: typeA})
	d, err := s.read(&discoveryv3.DeltaDiscoveryResponse{TypeUrl: typeA, Resources: []*discoveryv3.Resource{{Name: "a", Resource: &anypb.Any{TypeUrl: typeA, Value: body}}}}, 10)
	if err != nil || string(d.updated[0].Body.Value) != string(body) {
		t.Fatalf("got %+v, %v", d, err)
	}
}
