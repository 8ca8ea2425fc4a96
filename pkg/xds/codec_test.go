package xds

import (
	"testing"

	discoveryv3 "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	"google.golang.org/grpc/mem"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/durationpb"
)

func protoSize(m proto.Message) int { return proto.Size(m) }

func encode(t testing.TB, m proto.Message) []byte {
	t.Helper()
	b, err := proto.Marshal(m)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func TestCodecCountsBeforeItDecodes(t *testing.T) {
	many := func(n int) (r []*discoveryv3.Resource) {
		for range n {
			r = append(r, &discoveryv3.Resource{})
		}
		return r
	}
	codec := newCodec(10, ignore)
	for _, tt := range []struct {
		name string
		in   *discoveryv3.DeltaDiscoveryResponse
		ok   bool
	}{
		{"as many as allowed", &discoveryv3.DeltaDiscoveryResponse{Resources: many(10), RemovedResources: make([]string, 10)}, true},
		{"resources", &discoveryv3.DeltaDiscoveryResponse{Resources: many(11)}, false},
		{"removals", &discoveryv3.DeltaDiscoveryResponse{RemovedResources: make([]string, 11)}, false},
		{"aliases", &discoveryv3.DeltaDiscoveryResponse{Resources: []*discoveryv3.Resource{{Aliases: make([]string, 21)}}}, false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			var out discoveryv3.DeltaDiscoveryResponse
			err := codec.Unmarshal(mem.BufferSlice{mem.SliceBuffer(encode(t, tt.in))}, &out)
			if (err == nil) != tt.ok || tt.ok && !proto.Equal(&out, tt.in) {
				t.Errorf("got %v", err)
			}
		})
	}
}

// The decoder comes to what protobuf's comes to, or to an error where that does.
func FuzzDecode(f *testing.F) {
	odd := &discoveryv3.DeltaDiscoveryResponse{TypeUrl: typeA, Nonce: "1", SystemVersionInfo: "v", RemovedResources: []string{"b"},
		Resources: []*discoveryv3.Resource{res("a", "1"), {Name: "c", Aliases: []string{"d"}, Ttl: durationpb.New(1)}, {}, res("e", "2")}}
	f.Add(encode(f, odd))
	f.Add(append(encode(f, odd), encode(f, &discoveryv3.DeltaDiscoveryResponse{Nonce: "2", Resources: []*discoveryv3.Resource{res("a", "3")}})...))
	f.Add([]byte{0x12, 0x04, 0x12, 0x00, 0x12, 0x00}) // a body in two parts
	f.Add([]byte{0x12, 0x03, 0x1a, 0x01, 0xff})       // a name that is not UTF-8
	f.Add([]byte{0x12, 0x00, 0x12, 0xff})
	f.Fuzz(func(t *testing.T, data []byte) {
		count, err := checkCounts(data, 100)
		if err != nil {
			return
		}
		var want, got discoveryv3.DeltaDiscoveryResponse
		wanted, err := proto.Unmarshal(data, &want), decode(data, count, &got)
		if (err == nil) != (wanted == nil) || err == nil && !proto.Equal(&got, &want) {
			t.Errorf("%v, %v; want %v, %v", &got, err, &want, wanted)
		}
	})
}

// Whatever bytes come, the client neither crashes nor holds more than it may.
func FuzzResponse(f *testing.F) {
	f.Add(encode(f, &discoveryv3.DeltaDiscoveryResponse{TypeUrl: typeA, Nonce: "1", Resources: []*discoveryv3.Resource{res("a", "1"), res("a", "2"), res("bad", "1"), {}}, RemovedResources: []string{"b", "", "a"}}))
	f.Add([]byte{0x12, 0x00, 0x12, 0xff})
	f.Fuzz(func(t *testing.T, data []byte) {
		const limit = 8
		var r discoveryv3.DeltaDiscoveryResponse
		if newCodec(limit, ignore).Unmarshal(mem.BufferSlice{mem.SliceBuffer(data)}, &r) != nil {
			return
		}
		for _, kind := range []Type{{URL: typeA}, {URL: typeA, Complete: true, Repeated: true}} {
			s := newSubscription(kind)
			s.held = map[string]string{"a": "1", "b": ""}
			s.initial()
			d, err := s.read(&r, limit)
			if err != nil {
				continue
			}
			rejected := merge((&book{}).Apply(typeA, d.updated, d.removed, true), d.unusable)
			s.keep(d, rejected)
			nackText(rejected)
			if len(s.held) > limit {
				t.Fatalf("holds %d", len(s.held))
			}
			for _, u := range rejected {
				if s.held[u.Name] != "" {
					t.Fatalf("%q was rejected and is held at %q", u.Name, s.held[u.Name])
				}
			}
		}
	})
}

func BenchmarkApply(b *testing.B) {
	r := &discoveryv3.DeltaDiscoveryResponse{TypeUrl: typeA}
	for i := range 3000 {
		r.Resources = append(r.Resources, res("Kubernetes//Pod/agents/planner-"+string(rune('a'+i%26))+string(rune('0'+i)), "v"))
	}
	data := encode(b, r)
	codec := newCodec(DefaultMaxResources, ignore)
	b.ReportAllocs()
	b.SetBytes(int64(len(data)))
	for b.Loop() {
		var out discoveryv3.DeltaDiscoveryResponse
		if err := codec.Unmarshal(mem.BufferSlice{mem.SliceBuffer(data)}, &out); err != nil {
			b.Fatal(err)
		}
		s := &subscription{Type: Type{URL: typeA}, held: map[string]string{}}
		d, err := s.read(&out, DefaultMaxResources)
		if err != nil {
			b.Fatal(err)
		}
		s.keep(d, nil)
	}
}

func ignore(string, int) {}
