package discovery

import (
	"fmt"
	"net/netip"
	"slices"
	"testing"

	"github.com/outrigger-mesh/outrigger/pkg/mesh"
	"github.com/outrigger-mesh/outrigger/pkg/policy"
	"github.com/outrigger-mesh/outrigger/pkg/store"
	"github.com/outrigger-mesh/outrigger/pkg/xds"
	securitypb "github.com/outrigger-mesh/outrigger/proto/istio/security"
	workloadpb "github.com/outrigger-mesh/outrigger/proto/istio/workload"
)

const stormed = 100_000 // workloads

func stormAddress(i int) netip.Addr {
	return netip.AddrFrom4([4]byte{11, byte(i >> 16), byte(i >> 8), byte(i)})
}

func stormWorkload(t *testing.T, i int) xds.Resource {
	uid := fmt.Sprint("Kubernetes//Pod/agents/agent-", i)
	return resource(t, uid, &workloadpb.Workload{
		Uid: uid, Name: fmt.Sprint("agent-", i), Namespace: "agents", ServiceAccount: "agent", Addresses: [][]byte{stormAddress(i).AsSlice()},
		Services: map[string]*workloadpb.PortList{"tools/github.tools": {Ports: []*workloadpb.Port{{ServicePort: 80, TargetPort: 8080}}}},
	})
}

func names(all []xds.Resource) (names []string) {
	for _, r := range all {
		names = append(names, r.Name)
	}
	return names
}

// agentsMayNotEnter is a mesh in which everybody but the agents may connect.
func agentsMayNotEnter(t *testing.T) (*Discovery, *store.Store) {
	d, st := newDiscovery(t, store.KindWorkloads, store.KindAuthorizations)
	deny := &securitypb.Authorization{Name: "no-agents", Namespace: "tools", Scope: securitypb.Scope_NAMESPACE, Action: securitypb.Action_DENY,
		Groups: []*securitypb.Group{{Rules: []*securitypb.Rules{{Matches: []*securitypb.Match{{Namespaces: []*securitypb.StringMatch{{MatchType: &securitypb.StringMatch_Exact{Exact: "agents"}}}}}}}}}}
	d.Apply(AddressType, []xds.Resource{resource(t, githubUID, githubWorkload()), resource(t, "tools/github.tools", githubService())}, nil, true)
	d.Apply(AuthorizationType, []xds.Resource{resource(t, "tools/no-agents", deny)}, nil, true)
	return d, st
}

func enters(s *store.Snapshot, namespace string) bool {
	return s.Policies().Connect(&policy.Connection{
		Source: mesh.NewPrincipal("cluster.local", namespace, "agent"), Destination: netip.MustParseAddrPort("10.0.0.2:8080"),
	}).Allowed
}

// A storm tells what is there and what is not after each of its responses.
type storm struct {
	*Discovery
	*store.Store
	alive map[int]bool
}

func (s *storm) response(t *testing.T, added []xds.Resource, removed []string) {
	t.Helper()
	if bad := s.Discovery.Apply(AddressType, added, removed, false); bad != nil {
		t.Fatalf("rejected %v", bad)
	}
	snap := s.Snapshot()
	if enters(snap, "agents") || !enters(snap, "friends") {
		t.Fatal("the policy decides otherwise in the storm")
	}
	if got := snap.Counts().Workloads; got != len(s.alive)+1 {
		t.Fatalf("%d workloads, want %d and our own", got, len(s.alive))
	}
}

// settled looks at every workload by each of its names.
func (s *storm) settled(t *testing.T, all []xds.Resource) {
	t.Helper()
	snap := s.Snapshot()
	for i, r := range all {
		byUID, byAddress := snap.WorkloadByUID(r.Name), snap.Workload(mesh.NetworkAddress{Address: stormAddress(i)})
		if (byUID != nil) != s.alive[i] || byAddress != byUID {
			t.Fatalf("%s is there: %v by UID, %v by address; want %v", r.Name, byUID != nil, byAddress != nil, s.alive[i])
		}
	}
	if got := len(snap.Endpoints(mesh.Name{Namespace: "tools", Hostname: "github.tools"}, 80)); got != len(s.alive) {
		t.Fatalf("%d endpoints, want %d", got, len(s.alive))
	}
}

func TestDeleteStormsLoseNothingAndPolicyGoesOn(t *testing.T) {
	all := make([]xds.Resource, stormed)
	for i := range all {
		all[i] = stormWorkload(t, i)
	}
	d, st := agentsMayNotEnter(t)
	s := &storm{d, st, map[int]bool{}}
	add := func(from, to int) []xds.Resource {
		for i := from; i < to; i++ {
			s.alive[i] = true
		}
		return all[from:to]
	}
	remove := func(from, to int) []string {
		for i := from; i < to; i++ {
			delete(s.alive, i)
		}
		return names(all[from:to])
	}
	const responses, each = 1000, stormed / 1000

	s.response(t, add(0, stormed), nil)
	s.settled(t, all)
	// All in one response, each twice, with names that nobody has.
	gone := remove(0, stormed)
	s.response(t, nil, slices.Concat(gone, []string{"", "/", "nobody", "no/such.service"}, gone))
	s.settled(t, all)

	// Half in one response, then in many: every one removes what is there and adds what is not.
	const half = stormed / 2
	s.response(t, add(0, half), nil)
	for i := range responses / 2 {
		removed := remove(i*each, (i+1)*each)
		s.response(t, add(half+i*each, half+(i+1)*each), removed)
	}
	s.settled(t, all)
	s.response(t, add(0, half), nil)
	for i := range responses {
		s.response(t, nil, remove(i*each, (i+1)*each))
	}
	s.settled(t, all)

	// A policy that goes in the storm goes as the last word said; and without our own workload all is denied.
	d.Apply(AddressType, nil, []string{githubUID}, false)
	if snap := st.Snapshot(); snap.Policies() != nil || enters(snap, "friends") {
		t.Fatal("something is allowed although our own workload is not known")
	}
}

func TestWhatIsRemovedAndSentInOneResponseStays(t *testing.T) {
	d, st := agentsMayNotEnter(t)
	r := stormWorkload(t, 1)
	for range 2 {
		if bad := d.Apply(AddressType, []xds.Resource{r, r}, []string{r.Name, r.Name}, false); bad != nil {
			t.Fatal(bad)
		}
		if s := st.Snapshot(); s.WorkloadByUID(r.Name) == nil || s.Workload(mesh.NetworkAddress{Address: stormAddress(1)}) == nil {
			t.Fatal("it is gone")
		}
	}
}

// A workload with many addresses, each of them twice, in many services, and many
// workloads of one address: whatever goes takes away its own and nothing else.
func TestHugeAndDoubledResourcesAreTakenBackWhole(t *testing.T) {
	const many = 2000
	d, st := agentsMayNotEnter(t)
	empty := st.Snapshot().Counts()
	huge := &workloadpb.Workload{Uid: "Kubernetes//Pod/agents/huge", Name: "huge", Namespace: "agents", ServiceAccount: "agent", Services: map[string]*workloadpb.PortList{}}
	all := []xds.Resource{}
	for i := range many {
		huge.Addresses = append(huge.Addresses, stormAddress(i).AsSlice(), stormAddress(i).AsSlice())
		huge.Services[fmt.Sprintf("tools/service-%d", i)] = &workloadpb.PortList{}
		uid := fmt.Sprint("Kubernetes//Pod/agents/twin-", i)
		all = append(all, resource(t, uid, &workloadpb.Workload{Uid: uid, Name: uid, Namespace: "agents", Addresses: [][]byte{stormAddress(0).AsSlice()}}))
	}
	all = append(all, resource(t, huge.Uid, huge))
	if bad := d.Apply(AddressType, all, nil, false); bad != nil {
		t.Fatal(bad)
	}
	at := func(i int) *mesh.Workload {
		return st.Snapshot().Workload(mesh.NetworkAddress{Address: stormAddress(i)})
	}
	if at(many-1) == nil || st.Snapshot().Counts().Staged != many {
		t.Fatalf("not all is there: %+v", st.Snapshot().Counts())
	}
	d.Apply(AddressType, all, nil, false) // again, and nothing is doubled
	d.Apply(AddressType, nil, []string{huge.Uid}, false)
	if at(0) == nil || at(1) != nil || at(many-1) != nil {
		t.Error("of one address that many had, or of those that one had, the wrong ones are left")
	}
	d.Apply(AddressType, nil, names(all), false)
	if got := st.Snapshot().Counts(); got != empty || at(0) != nil {
		t.Errorf("%+v is left, want %+v", got, empty)
	}
	if s := st.Snapshot(); enters(s, "agents") || !enters(s, "friends") {
		t.Error("the policy decides otherwise")
	}
}
