package discovery

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/protobuf/proto"

	"github.com/outrigger-mesh/outrigger/pkg/mesh"
	"github.com/outrigger-mesh/outrigger/pkg/store"
	"github.com/outrigger-mesh/outrigger/pkg/xds"
	workloadpb "github.com/outrigger-mesh/outrigger/proto/istio/workload"
)

// A telling control plane answers as istiod does: a name or an alias brings what
// has it, a service brings its workloads, what does not exist is removed, and of
// new workloads of a service it tells nobody who does not ask.
type telling struct {
	t testing.TB
	d *Discovery

	mu         sync.Mutex // guards what follows
	resources  map[string]proto.Message
	subscribed map[string]bool
	log        []string // what was asked, in order
	silent     bool
	down       bool
	since      time.Time
	work       chan []string
}

func newTelling(t testing.TB, c DemandConfig) (*telling, *Demand, *store.Store) {
	t.Helper()
	d, st := newDiscovery(t, store.KindWorkloads)
	p := &telling{t: t, d: d, resources: map[string]proto.Message{}, subscribed: map[string]bool{}, since: time.Now(), work: make(chan []string, 10_000)}
	p.resources[githubUID] = githubWorkload()
	done := make(chan struct{})
	t.Cleanup(func() { close(p.work); <-done })
	go func() {
		defer close(done)
		for names := range p.work {
			p.answer(names)
		}
	}()
	c.Subscriber = p
	m, err := d.NewDemand(c, github)
	if err != nil {
		t.Fatal(err)
	}
	return p, m, st
}

func (p *telling) Subscribe(_ string, names ...string) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, name := range names {
		p.subscribed[name] = true
		p.log = append(p.log, "+"+name)
	}
	p.work <- names
	return nil
}

func (p *telling) Again(_ string, names ...string) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, name := range names {
		p.log = append(p.log, "~"+name)
	}
	p.work <- names
	return nil
}

func (p *telling) Unsubscribe(_ string, names ...string) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, name := range names {
		delete(p.subscribed, name)
		p.log = append(p.log, "-"+name)
	}
	return nil
}

func (p *telling) Status() xds.Status {
	p.mu.Lock()
	defer p.mu.Unlock()
	return xds.Status{Target: "istiod:15012", Connected: !p.down, Since: p.since, Error: "connection refused"}
}

func (p *telling) set(change func()) {
	p.mu.Lock()
	defer p.mu.Unlock()
	change()
}

func (p *telling) asked() string {
	p.mu.Lock()
	defer p.mu.Unlock()
	log := strings.Join(p.log, " ")
	p.log = nil
	return log
}

func (p *telling) answer(names []string) {
	p.mu.Lock()
	if p.silent || p.down {
		p.mu.Unlock()
		return
	}
	found, missing := map[string]proto.Message{}, []string{}
	for _, name := range names {
		there := false
		for n, m := range p.resources {
			if n == name || slices.Contains(aliasesOf(m), name) {
				found[n], there = m, true
				if svc, ok := m.(*workloadpb.Service); ok {
					p.members(svc, found)
				}
			}
		}
		if !there {
			missing = append(missing, name)
		}
	}
	p.mu.Unlock()
	var updated []xds.Resource
	for n, m := range found {
		r := resource(p.t, n, m)
		r.Aliases = aliasesOf(m)
		updated = append(updated, r)
	}
	p.d.Apply(AddressType, updated, missing, false)
}

func (p *telling) members(svc *workloadpb.Service, found map[string]proto.Message) {
	for n, m := range p.resources {
		if w, ok := m.(*workloadpb.Workload); ok && w.Services[svc.Namespace+"/"+svc.Hostname] != nil {
			found[n] = w
		}
	}
}

func aliasesOf(m proto.Message) (all []string) {
	add := func(network string, b []byte) {
		a := (&checker{}).address("", b)
		all = append(all, mesh.NetworkAddress{Network: network, Address: a}.String())
	}
	switch m := m.(type) {
	case *workloadpb.Workload:
		for _, b := range m.Addresses {
			add(m.Network, b)
		}
	case *workloadpb.Service:
		for _, a := range m.Addresses {
			add(a.Network, a.Address)
		}
	}
	return all
}

// pod is a workload of the service with the VIP 10.1.0.1.
func (p *telling) pod(i int) {
	uid := fmt.Sprint("Kubernetes//Pod/tools/pod-", i)
	p.resources[uid] = &workloadpb.Workload{Uid: uid, Name: fmt.Sprint("pod-", i), Namespace: "tools", Addresses: [][]byte{{10, 0, 1, byte(i)}},
		Services: map[string]*workloadpb.PortList{"tools/github.tools": {}}}
}

func (p *telling) service() {
	p.resources["tools/github.tools"] = &workloadpb.Service{Name: "github", Namespace: "tools", Hostname: "github.tools",
		Addresses: []*workloadpb.NetworkAddress{{Address: ip("10.1.0.1")}}, Ports: []*workloadpb.Port{{ServicePort: 80, TargetPort: 8080}}}
}

func at(s string) mesh.Reference {
	return mesh.Reference{Address: mesh.NetworkAddress{Address: addr(s)}}
}

var githubName = mesh.Reference{Service: mesh.Name{Namespace: "tools", Hostname: "github.tools"}}

func running(t *testing.T, m *Demand) {
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error)
	go func() { done <- m.Run(ctx) }()
	t.Cleanup(func() { cancel(); <-done })
}

func holds(s *store.Snapshot) string {
	var all []string
	for w := range s.Workloads() {
		all = append(all, w.Name)
	}
	for svc := range s.Services() {
		all = append(all, svc.Hostname)
	}
	slices.Sort(all)
	return strings.Join(all, " ")
}

func TestOurWorkloadIsAskedForBeforeAnybodyAsks(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p, m, st := newTelling(t, DemandConfig{})
		running(t, m)
		synctest.Wait()
		if got := p.asked(); got != "+"+githubUID+" +/10.0.0.2" {
			t.Errorf("asked %s", got)
		}
		if st.Snapshot().Self() == nil {
			t.Error("our workload is not known")
		}
	})
}

func TestOurWorkloadIsAskedForUntilItIsThere(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p, m, st := newTelling(t, DemandConfig{})
		vm := githubWorkload(func(w *workloadpb.Workload) { w.Uid = "a VM" })
		p.set(func() { delete(p.resources, githubUID) })
		running(t, m)
		time.Sleep(time.Second)
		p.set(func() { p.resources["a VM"] = vm })
		time.Sleep(10 * time.Second)
		if st.Snapshot().Self() == nil {
			t.Errorf("our workload is not known; asked %s", p.asked())
		}
	})
}

func TestFindWaitsForItsOwnAnswerOnly(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p, m, st := newTelling(t, DemandConfig{})
		running(t, m)
		p.set(func() { p.service(); p.pod(1); p.pod(2) })
		synctest.Wait()
		p.asked()
		start := time.Now()
		for _, ref := range []mesh.Reference{at("10.1.0.1"), at("10.0.1.1"), at("10.9.9.9"), at("10.9.9.9")} {
			if err := m.Find(t.Context(), ref); err != nil {
				t.Fatal(err)
			}
		}
		if got := p.asked(); got != "+/10.1.0.1 +/10.0.1.1 +/10.9.9.9" || time.Since(start) != 0 {
			t.Errorf("asked %s in %v", got, time.Since(start))
		}
		if got := holds(st.Snapshot()); got != "github-1 github.tools pod-1 pod-2" {
			t.Errorf("holds %s", got)
		}
		p.set(func() { p.silent = true })
		err := m.Find(t.Context(), at("10.8.8.8"))
		if !errors.Is(err, ErrUnanswered) || time.Since(start) != 5*time.Second || !strings.Contains(err.Error(), "istiod:15012") {
			t.Errorf("after %v: %v", time.Since(start), err)
		}
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		if err := m.Find(ctx, at("10.8.8.9")); !errors.Is(err, context.Canceled) {
			t.Errorf("cancelled: %v", err)
		}
		p.set(func() { p.down = true })
		if err := m.Find(t.Context(), at("10.8.8.7")); !strings.Contains(err.Error(), "not connected: connection refused") {
			t.Errorf("down: %v", err)
		}
	})
}

func TestManyWhoAskForOneNameAskOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p, m, _ := newTelling(t, DemandConfig{})
		p.set(func() { p.silent = true; p.pod(1) })
		synctest.Wait()
		p.asked()
		var all sync.WaitGroup
		var found, failed int
		for range 1000 {
			all.Go(func() {
				err := m.Find(t.Context(), at("10.0.1.1"))
				p.set(func() {
					if err == nil {
						found++
					} else {
						failed++
					}
				})
			})
		}
		synctest.Wait()
		p.set(func() { p.silent = false })
		p.work <- []string{"/10.0.1.1"}
		all.Wait()
		if got := p.asked(); got != "+/10.0.1.1" || found != 1000 {
			t.Errorf("asked %s; %d found it, %d did not", got, found, failed)
		}
	})
}

func TestAbsenceIsRememberedForAWhile(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p, m, st := newTelling(t, DemandConfig{})
		running(t, m)
		synctest.Wait()
		p.asked()
		find := func(want string) {
			t.Helper()
			if err := m.Find(t.Context(), at("10.0.1.1")); err != nil {
				t.Fatal(err)
			}
			if got := p.asked(); got != want {
				t.Errorf("asked %q, want %q", got, want)
			}
		}
		find("+/10.0.1.1")
		time.Sleep(time.Second)
		find("")
		time.Sleep(2 * time.Second)
		find("~/10.0.1.1")
		time.Sleep(3 * time.Second)
		find("") // twice as long
		p.set(func() { p.down = true })
		time.Sleep(time.Hour)
		find("") // what was true when the control plane went away stays true
		p.set(func() { p.down = false; p.pod(1) })
		time.Sleep(2 * time.Second)
		find("~/10.0.1.1")
		if st.Snapshot().Workload(at("10.0.1.1").Address) == nil {
			t.Error("not found")
		}
		find("")
		// A workload that goes away and one that gets its address.
		p.d.Apply(AddressType, nil, []string{"Kubernetes//Pod/tools/pod-1"}, false)
		p.set(func() {
			clear(p.resources)
			p.resources["new"] = &workloadpb.Workload{Uid: "new", Name: "new", Namespace: "tools", Addresses: [][]byte{{10, 0, 1, 1}}}
		})
		find("~/10.0.1.1")
		if w := st.Snapshot().Workload(at("10.0.1.1").Address); w == nil || w.Name != "new" {
			t.Errorf("found %+v", w)
		}
	})
}

func TestUpdateEndsAbsence(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p, m, _ := newTelling(t, DemandConfig{})
		if err := m.Find(t.Context(), at("10.0.1.1")); err != nil {
			t.Fatal(err)
		}
		p.set(func() { p.service(); p.pod(1) })
		if err := m.Find(t.Context(), githubName); err != nil { // brings the workload along
			t.Fatal(err)
		}
		p.asked()
		if err := m.Find(t.Context(), at("10.0.1.1")); err != nil || p.asked() != "" {
			t.Errorf("asked again; %v", err)
		}
	})
}

func TestNewWorkloadsOfAServiceInUseAreFound(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p, m, st := newTelling(t, DemandConfig{})
		running(t, m)
		p.set(func() { p.service(); p.pod(1) })
		find := func() {
			if err := m.Find(t.Context(), githubName); err != nil {
				t.Fatal(err)
			}
		}
		find()
		p.set(func() { p.pod(2) })
		time.Sleep(20 * time.Second)
		find()
		time.Sleep(11 * time.Second)
		if got := holds(st.Snapshot()); got != "github-1 github.tools pod-1 pod-2" {
			t.Fatalf("after a while: holds %s", got)
		}
		// One goes: its successor is looked for at once.
		find()
		p.set(func() { delete(p.resources, "Kubernetes//Pod/tools/pod-1"); p.pod(3) })
		p.d.Apply(AddressType, nil, []string{"Kubernetes//Pod/tools/pod-1"}, false)
		time.Sleep(2 * time.Second)
		if got := holds(st.Snapshot()); got != "github-1 github.tools pod-2 pod-3" {
			t.Fatalf("after a loss: holds %s", got)
		}
		// All go while nobody looks: who comes next waits for the answer.
		time.Sleep(5 * time.Minute)
		p.asked()
		time.Sleep(2 * time.Minute)
		if got := p.asked(); got != "" {
			t.Errorf("asked for a service that nobody uses: %s", got)
		}
		p.set(func() { clear(p.resources); p.service(); p.pod(4) })
		p.d.Apply(AddressType, nil, []string{"Kubernetes//Pod/tools/pod-2", "Kubernetes//Pod/tools/pod-3"}, false)
		find()
		if got := holds(st.Snapshot()); !strings.Contains(got, "pod-4") {
			t.Fatalf("after all were lost: holds %s", got)
		}
	})
}

func TestWhatIsNotUsedIsDropped(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p, m, st := newTelling(t, DemandConfig{})
		running(t, m)
		p.set(func() { p.service(); p.pod(1); p.pod(2) })
		if err := m.Find(t.Context(), at("10.1.0.1"), at("10.0.1.2"), at("10.9.9.9")); err != nil {
			t.Fatal(err)
		}
		for range 3 { // the pod stays in use, the service does not
			time.Sleep(5 * time.Minute)
			if err := m.Find(t.Context(), at("10.0.1.2")); err != nil {
				t.Fatal(err)
			}
		}
		if got := holds(st.Snapshot()); got != "github-1 pod-2" {
			t.Errorf("holds %s", got)
		}
		p.set(func() {
			for _, name := range []string{"/10.1.0.1", "/10.9.9.9"} {
				if p.subscribed[name] || !slices.Contains(p.log, "-"+name) {
					t.Errorf("%s is still subscribed to", name)
				}
			}
			for _, name := range []string{"Kubernetes//Pod/tools/pod-1", "tools/github.tools"} {
				if !slices.Contains(p.log, "-"+name) {
					t.Errorf("%s, which came with another, was not unsubscribed from", name)
				}
			}
		})
		p.set(func() { p.down = true })
		time.Sleep(time.Hour)
		if got := holds(st.Snapshot()); got != "github-1 pod-2" {
			t.Errorf("while the control plane was away things were dropped: holds %s", got)
		}
	})
}

func TestNamesAreBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p, m, _ := newTelling(t, DemandConfig{Max: 100})
		p.set(func() { p.service(); p.pod(1) })
		if err := m.Find(t.Context(), githubName); err != nil {
			t.Fatal(err)
		}
		for i := range 1000 {
			ref := mesh.Reference{Address: mesh.NetworkAddress{Network: fmt.Sprint(i), Address: addr("10.9.9.9")}}
			if err := m.Find(t.Context(), ref); err != nil {
				t.Fatal(err)
			}
		}
		p.set(func() {
			if len(p.subscribed) > 101 || !p.subscribed["tools/github.tools"] { // and our UID
				t.Errorf("%d names, with what exists: %v", len(p.subscribed), p.subscribed["tools/github.tools"])
			}
			p.silent = true
		})
		synctest.Wait()
		failed := 0
		var all sync.WaitGroup
		for i := range 1000 {
			all.Go(func() {
				ref := mesh.Reference{Address: mesh.NetworkAddress{Network: fmt.Sprint("other", i), Address: addr("10.9.9.9")}}
				if errors.Is(m.Find(t.Context(), ref), ErrTooMany) {
					p.set(func() { failed++ })
				}
			})
		}
		all.Wait()
		if failed < 900 {
			t.Errorf("only %d of 1000 unanswered questions were refused", failed)
		}
	})
}

func TestRejectedAnswerIsAnError(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p, m, _ := newTelling(t, DemandConfig{})
		p.set(func() {
			p.resources["bad"] = &workloadpb.Workload{Uid: "bad", Namespace: "tools", Addresses: [][]byte{{10, 0, 9, 9}}, TunnelProtocol: workloadpb.TunnelProtocol_LEGACY_ISTIO_MTLS}
		})
		if err := m.Find(t.Context(), at("10.0.9.9")); !errors.Is(err, ErrRejected) || !strings.Contains(err.Error(), "LEGACY") {
			t.Errorf("got %v", err)
		}
	})
}

func BenchmarkFind(b *testing.B) {
	p, m, _ := newTelling(b, DemandConfig{})
	p.set(func() { p.service(); p.pod(1) })
	refs := []mesh.Reference{at("10.1.0.1"), githubName}
	b.ReportAllocs()
	for b.Loop() {
		if err := m.Find(b.Context(), refs...); err != nil {
			b.Fatal(err)
		}
	}
}

func addr(s string) netip.Addr { return netip.MustParseAddr(s) }
