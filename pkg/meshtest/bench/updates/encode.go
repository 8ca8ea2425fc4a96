package updates

import (
	"fmt"
	"net/netip"

	discoveryv3 "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	"google.golang.org/grpc/encoding"
	grpcproto "google.golang.org/grpc/encoding/proto"
	"google.golang.org/grpc/mem"
	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/anypb"

	"github.com/outrigger-mesh/outrigger/pkg/meshtest/scale"
	workloadpb "github.com/outrigger-mesh/outrigger/proto/istio/workload"
)

// encoded is a message or a part of one.
type encoded []byte

// Field numbers of DeltaDiscoveryResponse.
const (
	fieldResources = 2
	fieldType      = 4
	fieldNonce     = 5
)

// content is what the plane sends, as fields of responses.
type content struct {
	everything encoded
	updates    [2][]encoded // of the same workloads, in turns
}

func encode(own []Own) (c content, err error) {
	add := func(to *encoded, version, name string, m *workloadpb.Address) {
		if err == nil {
			*to, err = appendResource(*to, version, name, m)
		}
	}
	for _, o := range own {
		name, m, err := o.workload()
		if err != nil {
			return c, err
		}
		add(&c.everything, "own", name, m)
	}
	for i := range scale.Services {
		name, m := scale.Service(i)
		add(&c.everything, "s1", name, m)
	}
	for i := range scale.Workloads {
		name, m := scale.Workload(i, "v1")
		add(&c.everything, "w1", name, m)
	}
	for i := range 2 * scale.PerSecond {
		turn := i / scale.PerSecond
		revision := fmt.Sprint("v", 2+turn)
		name, m := scale.Workload(i*7919%scale.Workloads, revision)
		var update encoded
		add(&update, revision, name, m)
		c.updates[turn] = append(c.updates[turn], update)
	}
	return c, err
}

// workload is the one that the mesh knows, and the name of its resource.
func (o *Own) workload() (string, *workloadpb.Address, error) {
	a, err := netip.ParseAddr(o.Address)
	if err != nil {
		return "", nil, fmt.Errorf("workload %s: %w", o.Name, err)
	}
	w := &workloadpb.Workload{
		Uid: "Kubernetes//Pod/" + o.Namespace + "/" + o.Name, Name: o.Name, Namespace: o.Namespace, ServiceAccount: o.Name,
		TrustDomain: o.TrustDomain, Addresses: [][]byte{a.AsSlice()}, TunnelProtocol: workloadpb.TunnelProtocol_HBONE,
		ClusterId: "Kubernetes", CanonicalName: o.Name, WorkloadName: o.Name,
	}
	return w.Uid, &workloadpb.Address{Type: &workloadpb.Address_Workload{Workload: w}}, nil
}

// appendResource adds a resource to those of a response.
func appendResource(to encoded, version, name string, m *workloadpb.Address) (encoded, error) {
	body, err := anypb.New(m)
	if err != nil {
		return nil, err
	}
	b, err := proto.Marshal(&discoveryv3.Resource{Name: name, Version: version, Resource: body, Aliases: aliases(m)})
	if err != nil {
		return nil, err
	}
	return protowire.AppendBytes(protowire.AppendTag(to, fieldResources, protowire.BytesType), b), nil
}

// aliases are what istiod adds: the addresses.
func aliases(m *workloadpb.Address) (all []string) {
	for _, b := range m.GetWorkload().GetAddresses() {
		if a, ok := netip.AddrFromSlice(b); ok {
			all = append(all, "/"+a.String())
		}
	}
	return all
}

// response is a message of its own, for gRPC keeps it.
func response(typeURL, nonce string, resources encoded) encoded {
	b := make(encoded, 0, len(resources)+len(typeURL)+len(nonce)+16)
	b = append(b, resources...)
	b = protowire.AppendString(protowire.AppendTag(b, fieldType, protowire.BytesType), typeURL)
	return protowire.AppendString(protowire.AppendTag(b, fieldNonce, protowire.BytesType), nonce)
}

// about are the type and the nonce of a response.
func about(b []byte) (typeURL, nonce string) {
	for len(b) > 0 {
		number, kind, n := protowire.ConsumeTag(b)
		if n < 0 {
			break
		}
		m := protowire.ConsumeFieldValue(number, kind, b[n:])
		if m < 0 {
			break
		}
		switch number {
		case fieldType:
			v, _ := protowire.ConsumeString(b[n:])
			typeURL = v
		case fieldNonce:
			v, _ := protowire.ConsumeString(b[n:])
			nonce = v
		}
		b = b[n+m:]
	}
	return typeURL, nonce
}

// A codec takes messages that are encoded already, and gives them as they are.
type codec struct{ encoding.CodecV2 }

func newCodec() codec { return codec{encoding.GetCodecV2(grpcproto.Name)} }

func (c codec) Marshal(v any) (mem.BufferSlice, error) {
	if b, ok := v.(encoded); ok {
		return mem.BufferSlice{mem.SliceBuffer(b)}, nil
	}
	return c.CodecV2.Marshal(v)
}

func (c codec) Unmarshal(data mem.BufferSlice, v any) error {
	if b, ok := v.(*encoded); ok {
		*b = data.Materialize()
		return nil
	}
	return c.CodecV2.Unmarshal(data, v)
}
