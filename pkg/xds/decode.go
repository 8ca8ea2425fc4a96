package xds

import (
	"unicode/utf8"

	discoveryv3 "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	"google.golang.org/protobuf/encoding/protowire"
	protobuf "google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/anypb"
)

// decode is what protobuf.Unmarshal is, for a response of so many resources, in
// half the time and with few allocations: bodies are parts of b, which must stay as
// it is, and the resources are one piece.
// What is not as nearly all resources are is left to protobuf.Unmarshal.
func decode(b []byte, resources int, into *discoveryv3.DeltaDiscoveryResponse) error {
	d := decoder{resources: make([]discoveryv3.Resource, resources), bodies: make([]anypb.Any, resources)}
	all := make([]*discoveryv3.Resource, 0, resources)
	var rest []byte
	for left := b; len(left) > 0; {
		number, kind, n := protowire.ConsumeField(left)
		if n < 0 {
			return protobuf.Unmarshal(b, into) // says what is wrong
		}
		field := left[:n]
		left = left[n:]
		if number != fieldResources || kind != protowire.BytesType {
			rest = append(rest, field...)
			continue
		}
		r, err := d.resource(len(all), content(field))
		if err != nil {
			return err
		}
		all = append(all, r)
	}
	if err := protobuf.Unmarshal(rest, into); err != nil {
		return err
	}
	if len(all) > 0 {
		into.Resources = all
	}
	return nil
}

// content is what a well-formed field of bytes holds.
func content(field []byte) []byte {
	_, _, n := protowire.ConsumeTag(field)
	v, _ := protowire.ConsumeBytes(field[n:])
	return v
}

type decoder struct {
	resources []discoveryv3.Resource
	bodies    []anypb.Any
	typeURL   string // the last one: all have the same
}

func (d *decoder) resource(i int, b []byte) (*discoveryv3.Resource, error) {
	r := &d.resources[i]
	if d.plain(r, &d.bodies[i], b) {
		return r, nil
	}
	return r, protobuf.Unmarshal(b, r) // begins anew
}

// Field numbers of Resource and Any.
const (
	fieldVersion = 1
	fieldBody    = 2
	fieldName    = 3

	fieldTypeURL = 1
	fieldValue   = 2
)

// plain reads a resource that has but a name, a version and a body.
func (d *decoder) plain(r *discoveryv3.Resource, body *anypb.Any, b []byte) bool {
	return eachBytes(b, func(number protowire.Number, v []byte) bool {
		switch {
		case number == fieldBody && r.Resource == nil:
			r.Resource = body
			return d.body(body, v)
		case number == fieldName && utf8.Valid(v):
			r.Name = string(v)
		case number == fieldVersion && utf8.Valid(v):
			r.Version = string(v)
		default:
			return false
		}
		return true
	})
}

func (d *decoder) body(body *anypb.Any, b []byte) bool {
	return eachBytes(b, func(number protowire.Number, v []byte) bool {
		switch {
		case number == fieldTypeURL && utf8.Valid(v):
			if d.typeURL != string(v) {
				d.typeURL = string(v)
			}
			body.TypeUrl = d.typeURL
		case number == fieldValue:
			body.Value = v[:len(v):len(v)]
		default:
			return false
		}
		return true
	})
}

// eachBytes calls each with the fields of a message, as long as it wants them and
// they are strings, bytes or messages.
func eachBytes(b []byte, each func(protowire.Number, []byte) bool) bool {
	for len(b) > 0 {
		number, kind, n := protowire.ConsumeTag(b)
		if n < 0 || kind != protowire.BytesType {
			return false
		}
		v, m := protowire.ConsumeBytes(b[n:])
		if m < 0 || !each(number, v) {
			return false
		}
		b = b[n+m:]
	}
	return true
}
