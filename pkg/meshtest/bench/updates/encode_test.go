package updates

import (
	"slices"
	"testing"

	discoveryv3 "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	"google.golang.org/protobuf/proto"

	"github.com/outrigger-mesh/outrigger/pkg/discovery"
	"github.com/outrigger-mesh/outrigger/pkg/meshtest/scale"
	workloadpb "github.com/outrigger-mesh/outrigger/proto/istio/workload"
)

// What is encoded by hand is what protobuf reads.
func TestAResponseIsADeltaDiscoveryResponse(t *testing.T) {
	own := Own{Name: "client", Namespace: "bench", TrustDomain: scale.TrustDomain, Address: "127.1.2.3"}
	name, m, err := own.workload()
	if err != nil {
		t.Fatal(err)
	}
	resources, err := appendResource(nil, "own", name, m)
	if err != nil {
		t.Fatal(err)
	}
	name, m = scale.Workload(7, "v2")
	if resources, err = appendResource(resources, "v2", name, m); err != nil {
		t.Fatal(err)
	}
	b := response(discovery.AddressType, "7", resources)
	var r discoveryv3.DeltaDiscoveryResponse
	if err := proto.Unmarshal(b, &r); err != nil {
		t.Fatal(err)
	}
	if r.GetTypeUrl() != discovery.AddressType || r.GetNonce() != "7" || len(r.GetResources()) != 2 {
		t.Fatalf("%d resources of %q, %q", len(r.GetResources()), r.GetTypeUrl(), r.GetNonce())
	}
	if typeURL, nonce := about(b); typeURL != discovery.AddressType || nonce != "7" {
		t.Errorf("about says %q, %q", typeURL, nonce)
	}
	for i, want := range []struct{ name, version, alias string }{
		{"Kubernetes//Pod/bench/client", "own", "/127.1.2.3"},
		{"Kubernetes//Pod/namespace-7/deployment-0-7d4b9c5f6-00007", "v2", "/10.0.0.7"},
	} {
		got := r.GetResources()[i]
		var a workloadpb.Address
		if err := got.GetResource().UnmarshalTo(&a); err != nil || a.GetWorkload().GetUid() != want.name {
			t.Errorf("%s: %v, %v", want.name, &a, err)
		}
		if got.GetName() != want.name || got.GetVersion() != want.version || !slices.Equal(got.GetAliases(), []string{want.alias}) {
			t.Errorf("%s, %s with aliases %q, want %+v", got.GetName(), got.GetVersion(), got.GetAliases(), want)
		}
	}
}
