package xds

import (
	"fmt"

	discoveryv3 "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	"google.golang.org/grpc/encoding"
	"google.golang.org/grpc/encoding/proto"
	"google.golang.org/grpc/mem"
	"google.golang.org/protobuf/encoding/protowire"
)

// A boundedCodec counts what a response holds before it is decoded: 64 MiB of
// empty resources would otherwise become gigabytes of Go values.
type boundedCodec struct {
	encoding.CodecV2
	resources int
	received  func(typeURL string, bytes int)
}

func newCodec(resources int, received func(typeURL string, bytes int)) boundedCodec {
	return boundedCodec{encoding.GetCodecV2(proto.Name), resources, received}
}

func (c boundedCodec) Unmarshal(data mem.BufferSlice, v any) error {
	response, ok := v.(*discoveryv3.DeltaDiscoveryResponse)
	if !ok {
		return c.CodecV2.Unmarshal(data, v)
	}
	encoded := data.Materialize()
	resources, err := checkCounts(encoded, c.resources)
	if err != nil {
		return err
	}
	if err := decode(encoded, resources, response); err != nil {
		return err
	}
	c.received(response.GetTypeUrl(), len(encoded))
	return nil
}

// Field numbers of DeltaDiscoveryResponse and Resource.
const (
	fieldResources      = 2
	fieldRemoved        = 6
	fieldRemovedNames   = 8
	fieldResourceErrors = 9
	fieldAliases        = 4
)

// checkCounts counts the resources. It allows limit of them, as many removals and
// twice as many aliases. What is not well-formed is left to the decoder to complain of.
func checkCounts(b []byte, limit int) (resources int, err error) {
	var removed, aliases int
	for len(b) > 0 {
		number, kind, n := protowire.ConsumeTag(b)
		if n < 0 {
			return resources, nil
		}
		b = b[n:]
		n = protowire.ConsumeFieldValue(number, kind, b)
		if n < 0 {
			return resources, nil
		}
		switch number {
		case fieldResources:
			resources++
			if body, m := protowire.ConsumeBytes(b); m >= 0 && kind == protowire.BytesType {
				aliases += countAliases(body)
			}
		case fieldRemoved, fieldRemovedNames, fieldResourceErrors:
			removed++
		}
		b = b[n:]
		if resources > limit || removed > limit || aliases > 2*limit {
			return resources, fmt.Errorf("response holds more than %d resources, removals or twice as many aliases", limit)
		}
	}
	return resources, nil
}

func countAliases(b []byte) (aliases int) {
	for len(b) > 0 {
		number, kind, n := protowire.ConsumeTag(b)
		if n < 0 {
			return aliases
		}
		m := protowire.ConsumeFieldValue(number, kind, b[n:])
		if m < 0 {
			return aliases
		}
		if number == fieldAliases {
			aliases++
		}
		b = b[n+m:]
	}
	return aliases
}
