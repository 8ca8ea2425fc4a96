package pace

import (
	"runtime"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func TestWorkLetsOthersRunOnOneProcessor(t *testing.T) {
	defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(1))
	var ran atomic.Bool
	done := make(chan struct{})
	go func() {
		defer close(done)
		ran.Store(true)
	}()
	var p Pace
	p.Begin()
	for steps := 0; !ran.Load(); steps++ {
		if steps == 100_000_000 {
			t.Fatal("work never let another goroutine run")
		}
		p.Step()
	}
	<-done
}

func TestStepDoesNotWait(t *testing.T) {
	synctest.Test(t, func(*testing.T) {
		start := time.Now()
		var p Pace
		p.Begin()
		for range 100 {
			p.Step()
		}
		if took := time.Since(start); took != 0 {
			t.Fatalf("steps slept %v", took)
		}
	})
}

func TestATurnIsNoShorterThanThatOfOthersOverManyPieces(t *testing.T) {
	synctest.Test(t, func(*testing.T) {
		p := Pace{waited: time.Millisecond} // that others have taken
		steps := 0
		for ; p.waited > 0; steps++ {
			time.Sleep(time.Minute) // not work
			p.Begin()
			time.Sleep(100 * time.Microsecond)
			p.Step()
		}
		if steps != 10 {
			t.Fatalf("gave way after %d pieces of a tenth of what is due each", steps)
		}
	})
}

func BenchmarkStep(b *testing.B) {
	var p Pace
	p.Begin()
	b.ReportAllocs()
	for b.Loop() {
		p.Step()
	}
}
