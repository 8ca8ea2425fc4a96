package admission_test

import (
	"context"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"

	"go.uber.org/goleak"

	"github.com/outrigger-mesh/outrigger/pkg/admission"
	"github.com/outrigger-mesh/outrigger/pkg/policy"
	"github.com/outrigger-mesh/outrigger/pkg/store"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// until admits up to and including a snapshot.
func until(version uint64) admission.Ask {
	return func(s *store.Snapshot) policy.Decision {
		return policy.Decision{Allowed: s.Version() <= version, Reason: "the snapshot is too new"}
	}
}

func running(t testing.TB) (*store.Store, *admission.Register) {
	s := store.New(store.Config{})
	r := admission.NewRegister(s)
	ctx, cancel := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	wg.Go(func() { r.Run(ctx) })
	t.Cleanup(func() { cancel(); wg.Wait() })
	return s, r
}

func TestAConnectionIsCutWhenTheConfigurationNoLongerAdmitsIt(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, r := running(t)
		now := s.Snapshot().Version()
		e := r.Admit(until(now + 1))
		defer e.Release()
		if !e.Decision.Allowed || e.Snapshot.Version() != now {
			t.Fatalf("first answer %+v at %d", e.Decision, e.Snapshot.Version())
		}
		var cut atomic.Pointer[policy.Decision]
		e.OnCut(func(d policy.Decision) { cut.Store(&d) })
		s.Apply(store.Change{})
		synctest.Wait()
		if cut.Load() != nil {
			t.Fatal("cut by a change that admits it")
		}
		s.Apply(store.Change{})
		synctest.Wait()
		if d := cut.Load(); d == nil || d.Reason != "the snapshot is too new" {
			t.Fatalf("cut = %v", d)
		}
		if r.Open() != 0 {
			t.Fatalf("%d connections are still registered", r.Open())
		}
	})
}

func TestAChangeBeforeOnCutIsNotLost(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, r := running(t)
		e := r.Admit(until(s.Snapshot().Version()))
		defer e.Release()
		s.Apply(store.Change{})
		synctest.Wait()
		cut := false
		e.OnCut(func(policy.Decision) { cut = true })
		if !cut {
			t.Fatal("the change that came before OnCut was forgotten")
		}
	})
}

func TestAReleasedConnectionIsNotAsked(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, r := running(t)
		var asked atomic.Int32
		e := r.Admit(func(*store.Snapshot) policy.Decision { asked.Add(1); return policy.Decision{Allowed: true} })
		synctest.Wait() // Run asks once when it begins
		before := asked.Load()
		e.Release()
		s.Apply(store.Change{})
		synctest.Wait()
		if asked.Load() != before {
			t.Fatalf("asked %d times after its release", asked.Load()-before)
		}
	})
}

// No interleaving of admissions with changes leaves a connection open that the
// newest configuration does not admit.
func TestNoStaleDecisionSurvivesAnyInterleaving(t *testing.T) {
	for range 200 {
		synctest.Test(t, func(t *testing.T) {
			s, r := running(t)
			const changes, connections = 20, 50
			open := make([]atomic.Bool, connections)
			limits := make([]uint64, connections)
			var wg sync.WaitGroup
			wg.Go(func() {
				for range changes {
					s.Apply(store.Change{})
				}
			})
			start := s.Snapshot().Version()
			for i := range connections {
				limits[i] = start + uint64(i%(changes+5))
				wg.Go(func() {
					e := r.Admit(until(limits[i]))
					if !e.Decision.Allowed {
						e.Release()
						return
					}
					open[i].Store(true)
					e.OnCut(func(policy.Decision) { open[i].Store(false) })
				})
			}
			wg.Wait()
			synctest.Wait()
			newest := s.Snapshot().Version()
			for i := range open {
				if open[i].Load() != (newest <= limits[i]) {
					t.Fatalf("connection admitted until %d is open=%v at %d", limits[i], open[i].Load(), newest)
				}
			}
		})
	}
}

func BenchmarkAdmitAndRelease(b *testing.B) {
	s := store.New(store.Config{})
	r := admission.NewRegister(s)
	ask := until(1 << 62)
	b.ReportAllocs()
	for b.Loop() {
		r.Admit(ask).Release()
	}
}
