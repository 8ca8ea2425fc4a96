package sidecar

import (
	"testing"
	"time"
)

func TestMemoryIsTidiedOnceAfterABusyTime(t *testing.T) {
	var used time.Duration
	interval := func(td *tidier, busy float64, spent time.Duration) bool {
		used += spent
		return td.due(busy, used)
	}
	var td tidier
	tidied := 0
	for round := range 3 {
		for range 20 {
			if interval(&td, 0.5, 50*time.Millisecond) {
				t.Errorf("round %d: tidied while busy", round)
			}
		}
		for i := range 100 {
			if interval(&td, 0.001, 100*time.Microsecond) {
				if tidied++; i < restIntervals-1 {
					t.Errorf("round %d: tidied after %d restful intervals", round, i+1)
				}
			}
		}
	}
	if tidied != 3 {
		t.Errorf("tidied %d times after 3 busy times", tidied)
	}
}

func TestARestThatNothingCameBeforeIsNotTidied(t *testing.T) {
	var td tidier
	for i := range 1000 {
		if td.due(0.001, time.Duration(i)*100*time.Microsecond) {
			t.Fatalf("tidied after %d intervals of nothing", i)
		}
	}
}

// To tidy a large heap takes a good part of a second: that must neither look like a busy time
// nor come often.
func TestTidyingItselfIsNotTidiedAfter(t *testing.T) {
	const cost = 400 * time.Millisecond
	var td tidier
	var used time.Duration
	tidied := 0
	intervals := func(n int, busy float64, spent time.Duration) {
		for range n {
			if used += spent; td.due(busy, used) {
				tidied++
				used += cost
				td.done(used)
			}
		}
	}
	intervals(1, 0.5, time.Second)
	intervals(1000, 0.001, 100*time.Microsecond)
	if tidied != 1 {
		t.Errorf("tidied %d times after a busy time, want once", tidied)
	}
	before := used - cost
	intervals(100_000, 0.02, 2*time.Millisecond)
	if most := int((used - before) / (worthCosts * cost)); tidied-1 > most {
		t.Errorf("tidied %d times while %v were used, want at most %d", tidied-1, used-before, most)
	}
}
