package discovery

import (
	"reflect"
	"testing"

	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"

	"github.com/outrigger-mesh/outrigger/pkg/mesh"
	workloadpb "github.com/outrigger-mesh/outrigger/proto/istio/workload"
)

func newPlainReader() *plainReader { return &plainReader{names: new(interner), cluster: "c1"} }

func plainWorkload() *workloadpb.Workload {
	return &workloadpb.Workload{
		Uid: "c2//Pod/tools/github-1", Name: "github-1", Namespace: "tools", Network: "n", ServiceAccount: "github", TrustDomain: "td",
		Addresses: [][]byte{{10, 0, 0, 1}, {15: 1}}, TunnelProtocol: workloadpb.TunnelProtocol_HBONE, ClusterId: "c2", Hostname: "",
		CanonicalName: "github", CanonicalRevision: "v1", WorkloadName: "github", WorkloadType: workloadpb.WorkloadType_JOB, Node: "node",
		NativeTunnel: true, Status: workloadpb.WorkloadStatus_UNHEALTHY, NetworkMode: workloadpb.NetworkMode_HOST_NETWORK,
		Locality: &workloadpb.Locality{Region: "r", Zone: "z", Subzone: "s"},
		Services: map[string]*workloadpb.PortList{"tools/github.tools": {Ports: []*workloadpb.Port{{ServicePort: 80, TargetPort: 8080}}}, "tools/b": {}},
	}
}

func addressOf(w *workloadpb.Workload) *workloadpb.Address {
	return &workloadpb.Address{Type: &workloadpb.Address_Workload{Workload: w}}
}

func TestPlainWorkloadsAreReadLikeAllOthers(t *testing.T) {
	for name, c := range map[string]struct {
		change func(*workloadpb.Workload)
		plain  bool
	}{
		"all of it":         {func(*workloadpb.Workload) {}, true},
		"defaults":          {func(w *workloadpb.Workload) { *w = workloadpb.Workload{Uid: w.Uid, Namespace: "tools"} }, true},
		"another name":      {func(w *workloadpb.Workload) { w.Name = "other" }, true},
		"no namespace":      {func(w *workloadpb.Workload) { w.Namespace = "" }, false},
		"bad account":       {func(w *workloadpb.Workload) { w.ServiceAccount = "a/b" }, false},
		"bad address":       {func(w *workloadpb.Workload) { w.Addresses = [][]byte{{1, 2}} }, false},
		"bad service":       {func(w *workloadpb.Workload) { w.Services = map[string]*workloadpb.PortList{"x": nil} }, false},
		"legacy tunnel":     {func(w *workloadpb.Workload) { w.TunnelProtocol = workloadpb.TunnelProtocol_LEGACY_ISTIO_MTLS }, false},
		"unknown status":    {func(w *workloadpb.Workload) { w.Status = 7 }, false},
		"waypoint":          {func(w *workloadpb.Workload) { w.Waypoint = &workloadpb.GatewayAddress{} }, false},
		"policies":          {func(w *workloadpb.Workload) { w.AuthorizationPolicies = []string{"a/b"} }, false},
		"of a newer schema": {func(w *workloadpb.Workload) { w.ProtoReflect().SetUnknown([]byte{0xf8, 0x07, 1}) }, false},
	} {
		in := plainWorkload()
		c.change(in)
		compareReaders(t, name, in.Uid, encoded(t, addressOf(in)), c.plain)
	}
}

func TestPlainTextIsUTF8(t *testing.T) {
	const bad = "a\xff"
	for what, uid := range map[string]string{"all of it": "u", "the uid": bad} {
		var message []byte
		for number, text := range map[protowire.Number]string{fieldUID: uid, fieldNamespace: "tools"} {
			message = protowire.AppendString(protowire.AppendTag(message, number, protowire.BytesType), text)
		}
		data := protowire.AppendBytes(protowire.AppendTag(nil, fieldWorkload, protowire.BytesType), message)
		compareReaders(t, what, uid, data, uid != bad)
	}
}

// compareReaders holds the plain reader to what readAddress reads.
func compareReaders(t *testing.T, what, uid string, data []byte, plain bool) {
	t.Helper()
	p := newPlainReader()
	for range 2 { // and again, when everything is known
		got := p.read(uid, data)
		if (got != nil) != plain {
			t.Fatalf("%s: read: %t, want %t", what, got != nil, plain)
		}
		if got == nil {
			return
		}
		want, ignored, err := readSlowly(data)
		if err != nil || len(ignored) > 0 || !reflect.DeepEqual(got, want) {
			t.Fatalf("%s:\n%+v\nwant\n%+v\nignored %v, error %v", what, got, want, ignored, err)
		}
	}
}

func readSlowly(data []byte) (*mesh.Workload, []string, error) {
	m := &workloadpb.Address{}
	if err := proto.Unmarshal(data, m); err != nil {
		return nil, nil, err
	}
	w, _, ignored, err := readAddress(m, "c1", nil)
	return w, ignored, err
}

func FuzzPlain(f *testing.F) {
	in := plainWorkload()
	f.Add(in.Uid, encoded(f, addressOf(in)))
	f.Add("u", encoded(f, addressOf(&workloadpb.Workload{Uid: "u", Namespace: "n", Locality: &workloadpb.Locality{}})))
	f.Fuzz(func(t *testing.T, uid string, data []byte) {
		compareReaders(t, "fuzz", uid, data, newPlainReader().read(uid, data) != nil)
	})
}

func BenchmarkPlain(b *testing.B) {
	in := plainWorkload()
	data := encoded(b, addressOf(in))
	p := newPlainReader()
	b.ReportAllocs()
	for b.Loop() {
		if p.read(in.Uid, data) == nil {
			b.Fatal("not plain")
		}
	}
}
