package admission_test

import (
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/outrigger-mesh/outrigger/pkg/policy"
	"github.com/outrigger-mesh/outrigger/pkg/store"
)

// many admits connections about each of which asking takes a while, and counts.
func many(t *testing.T, n int, each time.Duration) (*store.Store, *atomic.Int64) {
	s, r := running(t)
	asked := new(atomic.Int64)
	for range n {
		first := true
		r.Admit(func(*store.Snapshot) policy.Decision {
			if !first { // then a lock is held that Run waits for
				time.Sleep(each)
			}
			first = false
			asked.Add(1)
			return policy.Decision{Allowed: true}
		})
	}
	time.Sleep(time.Second)
	asked.Store(0)
	return s, asked
}

func TestAskingAboutManyConnectionsTakesAFifthOfTheTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const connections, each = 100, 100 * time.Microsecond
		s, asked := many(t, connections, each)
		for range 2000 {
			s.Apply(store.Change{})
			time.Sleep(time.Millisecond)
		}
		share := float64(asked.Load()) * each.Seconds() / 2
		if share < 0.15 || share > 0.25 {
			t.Fatalf("%d questions in two seconds of updates: a share of %.2f, want a fifth", asked.Load(), share)
		}
		time.Sleep(time.Second)
		before := asked.Load()
		s.Apply(store.Change{})
		time.Sleep(connections*each + time.Millisecond)
		if got := asked.Load() - before; got != connections {
			t.Fatalf("%d questions at once after a change by itself, want %d", got, connections)
		}
	})
}

func TestNewPoliciesAreAskedAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const connections, each = 100, 100 * time.Microsecond
		s, asked := many(t, connections, each)
		s.Apply(store.Change{})
		time.Sleep(connections*each + time.Millisecond) // it rests now
		asked.Store(0)
		before := s.Snapshot().PolicyVersion()
		s.Apply(store.Change{Synced: []string{"more"}})
		if s.Snapshot().PolicyVersion() == before {
			t.Fatal("these are the same policies")
		}
		time.Sleep(connections * each)
		if asked.Load() < connections*9/10 {
			t.Fatalf("%d of %d connections were asked about in time", asked.Load(), connections)
		}
	})
}

// BenchmarkUpdateAmongTenThousandConnections is an update while so many are open, all told.
func BenchmarkUpdateAmongTenThousandConnections(b *testing.B) {
	s, r := running(b)
	for range 10_000 {
		r.Admit(until(1 << 62))
	}
	b.ReportAllocs()
	for b.Loop() {
		s.Apply(store.Change{})
		time.Sleep(100 * time.Microsecond) // ten thousand a second at most
	}
}
