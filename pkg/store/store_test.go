package store

import (
	"fmt"
	"net/netip"
	"slices"
	"sync"
	"testing"

	"github.com/outrigger-mesh/outrigger/pkg/mesh"
	"github.com/outrigger-mesh/outrigger/pkg/policy"
)

func planner(name string) *mesh.Workload {
	return &mesh.Workload{
		UID: "Kubernetes//Pod/agents/" + name, Name: name, Namespace: "agents", ServiceAccount: "planner",
		TrustDomain: "cluster.local", ClusterID: "Kubernetes", Addresses: []netip.Addr{netip.MustParseAddr("10.0.0.1")},
	}
}

var plannerSelf = mesh.Self{
	Principal: mesh.NewPrincipal("cluster.local", "agents", "planner"),
	Name:      "planner-1", Namespace: "agents", ClusterID: "Kubernetes",
	Addresses: []netip.Addr{netip.MustParseAddr("10.0.0.1")},
}

func workloads(all ...*mesh.Workload) map[string]*mesh.Workload {
	m := map[string]*mesh.Workload{}
	for _, w := range all {
		m[w.UID] = w
	}
	return m
}

func changed(w *mesh.Workload, change func(*mesh.Workload)) *mesh.Workload {
	change(w)
	return w
}

func TestSelfIsFoundByNameThenByAddress(t *testing.T) {
	byName := planner("planner-1")
	elsewhere := []netip.Addr{netip.MustParseAddr("10.9.9.9")}
	for _, test := range []struct {
		fact string
		w    *mesh.Workload
		want bool
	}{
		{"name, namespace and account", changed(planner("planner-1"), func(w *mesh.Workload) { w.Addresses = elsewhere }), true},
		{"another name at our address", planner("entry"), true},
		{"another name elsewhere", changed(planner("x"), func(w *mesh.Workload) { w.Addresses = elsewhere }), false},
		{"our name in another cluster", changed(planner("planner-1"), func(w *mesh.Workload) { w.ClusterID, w.Addresses = "other", elsewhere }), false},
		{"our name with another account", changed(planner("planner-1"), func(w *mesh.Workload) { w.ServiceAccount = "root" }), false},
		{"our name in another namespace", changed(planner("planner-1"), func(w *mesh.Workload) { w.Namespace = "tools" }), false},
		{"our address in another network", changed(planner("x"), func(w *mesh.Workload) { w.Network = "east" }), false},
		{"host network, by name", changed(planner("planner-1"), func(w *mesh.Workload) { w.HostNetwork = true }), true},
	} {
		st := New(Config{Self: plannerSelf, Expect: []string{"never"}})
		if got := st.Apply(Change{Workloads: workloads(test.w)}).Self(); (got == test.w) != test.want {
			t.Errorf("%s: found %v, want found: %v", test.fact, got, test.want)
		}
		if test.w.UID == byName.UID {
			continue
		}
		if got := st.Apply(Change{Workloads: workloads(byName)}).Self(); got != byName {
			t.Errorf("%s: name does not go before address: %v", test.fact, got)
		}
		if got := st.Apply(Change{Workloads: map[string]*mesh.Workload{byName.UID: nil}}).Self(); (got == test.w) != test.want {
			t.Errorf("%s: after the named one left: %v", test.fact, got)
		}
	}
}

func TestNothingIsAllowedWhileAnythingIsPending(t *testing.T) {
	st := New(Config{Self: plannerSelf, Expect: []string{KindWorkloads, KindAuthorizations}})
	const self = PendingSelf + ` (of namespace "agents" and service account "planner" the control plane has told of no workload named "planner-1" in cluster "Kubernetes",` +
		` nor of one at [10.0.0.1] in network "": see whether the pod has these, and correct --namespace, --service-account, --name, --cluster-id, --address or --network)`
	for _, step := range []struct {
		change Change
		want   []string
	}{
		{Change{}, []string{KindWorkloads, KindAuthorizations}},
		{Change{Workloads: workloads(planner("planner-1"))}, []string{KindWorkloads, KindAuthorizations}},
		{Change{Synced: []string{KindWorkloads}}, []string{KindAuthorizations}},
		{Change{Workloads: map[string]*mesh.Workload{planner("planner-1").UID: nil}}, []string{self, KindAuthorizations}},
		{Change{Synced: []string{KindAuthorizations}}, []string{self}},
	} {
		s := st.Apply(step.change)
		if !slices.Equal(s.Pending(), step.want) {
			t.Fatalf("pending %v, want %v", s.Pending(), step.want)
		}
		if s.Policies() != nil {
			t.Fatalf("there are policies while %v is pending", s.Pending())
		}
	}
}

func TestASnapshotNeverChanges(t *testing.T) {
	st := New(Config{Expect: []string{"never"}})
	name := mesh.Name{Namespace: "tools", Hostname: "github"}
	svc := &mesh.Service{Namespace: name.Namespace, Hostname: name.Hostname, Ports: []mesh.PortMapping{{Service: 80, Target: 8080}}}
	w := changed(planner("planner-1"), func(w *mesh.Workload) { w.Services = map[mesh.Name][]mesh.PortMapping{name: nil} })
	before := st.Apply(Change{Workloads: workloads(w), Services: map[mesh.Name]*mesh.Service{name: svc}})
	at := mesh.NetworkAddress{Address: w.Addresses[0]}
	st.Apply(Change{Workloads: map[string]*mesh.Workload{w.UID: nil}, Services: map[mesh.Name]*mesh.Service{name: nil}})
	if before.Workload(at) != w || before.Service(name) != svc || len(before.Endpoints(name, 80)) != 1 || before.ServiceByHostname("github", "") != svc {
		t.Fatal("an old snapshot lost what was removed later")
	}
	if now := st.Snapshot(); now.Workload(at) != nil || now.Service(name) != nil || now.Endpoints(name, 80) != nil || now.Version() != before.Version()+1 {
		t.Fatal("the new snapshot still has what was removed")
	}
}

func TestEndpointsMayArriveBeforeTheirService(t *testing.T) {
	st := New(Config{Expect: []string{"never"}})
	name := mesh.Name{Namespace: "tools", Hostname: "github"}
	member := func(n int, unhealthy bool) *mesh.Workload {
		return changed(planner(fmt.Sprint("w", n)), func(w *mesh.Workload) {
			w.Unhealthy, w.Services = unhealthy, map[mesh.Name][]mesh.PortMapping{name: nil}
		})
	}
	s := st.Apply(Change{Workloads: workloads(member(1, false), member(2, true))})
	if s.Endpoints(name, 80) != nil || s.Counts().Staged != 1 {
		t.Fatalf("endpoints without a service: %v", s.Counts())
	}
	for _, test := range []struct {
		allowUnhealthy bool
		want           int
	}{{false, 1}, {true, 2}, {false, 1}} { // the service is sent again; endpoints stay and are filtered anew
		svc := &mesh.Service{Namespace: name.Namespace, Hostname: name.Hostname, Ports: []mesh.PortMapping{{Service: 80, Target: 8080}}}
		svc.LoadBalancing.AllowUnhealthy = test.allowUnhealthy
		s = st.Apply(Change{Services: map[mesh.Name]*mesh.Service{name: svc}})
		if got := s.Endpoints(name, 80); len(got) != test.want {
			t.Errorf("%d endpoints with AllowUnhealthy %v, want %d", len(got), test.allowUnhealthy, test.want)
		}
	}
}

func TestTargetPortOrder(t *testing.T) {
	svc := &mesh.Service{Hostname: "h", Ports: []mesh.PortMapping{{Service: 80, Target: 8080}, {Service: 81}}}
	own := map[mesh.Name][]mesh.PortMapping{svc.Key(): {{Service: 80, Target: 9000}, {Service: 82, Target: 9002}}}
	tunnel := &mesh.ApplicationTunnel{Port: 15088}
	for _, test := range []struct {
		w    mesh.Workload
		port uint16
		want uint16
	}{
		{mesh.Workload{Services: own}, 80, 9000},
		{mesh.Workload{Services: own}, 82, 9002},
		{mesh.Workload{}, 80, 8080},
		{mesh.Workload{}, 81, 0}, // a named port that the workload does not map
		{mesh.Workload{}, 83, 0},
		{mesh.Workload{ApplicationTunnel: tunnel}, 83, 83},
		{mesh.Workload{ApplicationTunnel: &mesh.ApplicationTunnel{Proxy: true}}, 83, 0},
	} {
		if got := TargetPort(svc, &test.w, test.port); got != test.want {
			t.Errorf("port %d: %d, want %d", test.port, got, test.want)
		}
	}
}

func TestWatchersSeeEverySnapshotInOrder(t *testing.T) {
	st := New(Config{Expect: []string{"never"}})
	var seen []uint64
	stop := st.Watch(func(s *Snapshot) { seen = append(seen, s.Version()) })
	var wait sync.WaitGroup
	for range 8 {
		wait.Go(func() {
			for range 100 {
				st.Apply(Change{})
			}
		})
	}
	wait.Wait()
	stop()
	stop()
	st.Apply(Change{})
	if len(seen) != 800 || !slices.IsSorted(seen) || seen[0] != 1 || seen[799] != 800 {
		t.Fatalf("saw %d versions, %v to %v", len(seen), seen[0], seen[len(seen)-1])
	}
}

// Whoever begins to watch and then looks must not miss a change in between.
func TestWatchThenLookMissesNothing(t *testing.T) {
	st := New(Config{Expect: []string{"never"}})
	var applying sync.WaitGroup
	applying.Go(func() {
		for range 2000 {
			st.Apply(Change{})
		}
	})
	for range 200 {
		var mu sync.Mutex
		var told []uint64
		stop := st.Watch(func(s *Snapshot) {
			mu.Lock()
			defer mu.Unlock()
			told = append(told, s.Version())
		})
		looked := st.Snapshot().Version()
		for st.Snapshot().Version() < min(looked+2, 2000) {
		}
		stop()
		mu.Lock()
		if len(told) > 0 && told[0] > looked+1 {
			t.Fatalf("looked at %d, was first told of %d", looked, told[0])
		}
		mu.Unlock()
	}
	applying.Wait()
}

func TestReadersDuringUpdates(t *testing.T) {
	st := New(Config{Self: plannerSelf, Expect: []string{"never"}})
	w := planner("planner-1")
	name := mesh.Name{Namespace: "tools", Hostname: "github"}
	w.Services = map[mesh.Name][]mesh.PortMapping{name: {{Service: 80, Target: 8080}}}
	svc := &mesh.Service{Namespace: name.Namespace, Hostname: name.Hostname}
	at := mesh.NetworkAddress{Address: w.Addresses[0]}
	var wait sync.WaitGroup
	done := make(chan struct{})
	for range 4 {
		wait.Go(func() {
			for {
				select {
				case <-done:
					return
				default:
				}
				s := st.Snapshot()
				there := s.WorkloadByUID(w.UID) != nil
				if there != (s.Workload(at) != nil) || there != (s.Self() != nil) || there != (len(s.Endpoints(name, 80)) == 1) {
					t.Error("one snapshot gives two answers")
					return
				}
			}
		})
	}
	st.Apply(Change{Services: map[mesh.Name]*mesh.Service{name: svc}})
	for i := range 3000 {
		change := Change{Workloads: map[string]*mesh.Workload{w.UID: w}}
		if i%2 == 1 {
			change.Workloads[w.UID] = nil
		}
		st.Apply(change)
	}
	close(done)
	wait.Wait()
}

func TestPoliciesThatConcernOthersAreNotCompiledAgain(t *testing.T) {
	st := New(Config{Self: plannerSelf, Expect: []string{KindWorkloads}})
	me := &mesh.Workload{UID: "me", Name: plannerSelf.Name, Namespace: plannerSelf.Namespace, ServiceAccount: plannerSelf.Principal.ServiceAccount(),
		AuthorizationPolicies: []string{"elsewhere/listed"}}
	st.Apply(Change{Workloads: map[string]*mesh.Workload{me.UID: me}, Synced: []string{KindWorkloads}})
	authorization := func(namespace, name string, scope policy.Scope) Change {
		a, err := policy.CompileAuthorization(policy.AuthorizationSpec{Name: name, Namespace: namespace, Scope: scope, Action: policy.ActionDeny})
		if err != nil {
			t.Fatal(err)
		}
		return Change{Authorizations: map[string]*policy.Authorization{namespace + "/" + name: a}}
	}
	gone := func(name string) Change {
		return Change{Authorizations: map[string]*policy.Authorization{name: nil}}
	}
	for _, step := range []struct {
		fact   string
		change Change
		again  bool
	}{
		{"another namespace's", authorization("elsewhere", "theirs", policy.ScopeNamespace), false},
		{"of other workloads", authorization(plannerSelf.Namespace, "selected", policy.ScopeWorkload), false},
		{"our namespace's", authorization(plannerSelf.Namespace, "ours", policy.ScopeNamespace), true},
		{"the mesh's", authorization("elsewhere", "all", policy.ScopeGlobal), true},
		{"one that we list", authorization("elsewhere", "listed", policy.ScopeWorkload), true},
		{"the mesh's becomes another namespace's", authorization("elsewhere", "all", policy.ScopeNamespace), true},
		{"and changes again", authorization("elsewhere", "all", policy.ScopeNamespace), false},
		{"another's goes", gone("elsewhere/theirs"), false},
		{"ours goes", gone(plannerSelf.Namespace + "/ours"), true},
	} {
		before := st.Snapshot().PolicyVersion()
		if s := st.Apply(step.change); (s.PolicyVersion() != before) != step.again {
			t.Errorf("%s: compiled again: %v", step.fact, !step.again)
		}
	}
	// What we are decides what concerns us: then all are looked at.
	moved := *me
	moved.AuthorizationPolicies = []string{plannerSelf.Namespace + "/selected"}
	st.Apply(Change{Workloads: map[string]*mesh.Workload{me.UID: &moved}})
	before := st.Snapshot().PolicyVersion()
	if s := st.Apply(authorization(plannerSelf.Namespace, "selected", policy.ScopeWorkload)); s.PolicyVersion() == before {
		t.Error("one that we list now was not compiled")
	}
	if s := st.Apply(authorization("elsewhere", "listed", policy.ScopeWorkload)); s.PolicyVersion() != before+1 {
		t.Error("one that we list no more was compiled")
	}
}
