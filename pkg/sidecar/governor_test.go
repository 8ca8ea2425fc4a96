package sidecar

import "testing"

func TestProcessorsFollowTheLoad(t *testing.T) {
	g := governor{most: 8, now: 8}
	for _, step := range []struct {
		name      string
		busy      float64
		intervals int
		want      int
	}{
		{"a pause is no calm", 0.1, calmIntervals - 1, 8},
		{"a burst ends it", 6, 1, 8},
		{"calm gives up half of them", 0.1, calmIntervals, 4},
		{"down to one", 0.1, 3 * calmIntervals, 1},
		{"one is enough for a little", 0.55, 100, 1},
		{"a busy one gets company at once", 0.8, 1, 2},
		{"which stays while it is needed", 0.6, 100, 2},
		{"load doubles them", 1.3, 1, 4},
		{"up to what there is", 100, 5, 8},
	} {
		for range step.intervals {
			g.decide(step.busy)
		}
		if g.now != step.want {
			t.Fatalf("%s: %d processors, want %d", step.name, g.now, step.want)
		}
	}
}

func TestUpdatesThatStreamInHaveAProcessorOfTheirOwn(t *testing.T) {
	g := governor{most: 8, now: 1}
	for i, step := range []struct {
		version uint64
		want    int
	}{{1, 1}, {1, 1}, {2, 1}, {2, 1}, {3, 1}, {7, 2}, {8, 2}} {
		g.decide(0.1)
		if g.accompany(step.version); g.now != step.want {
			t.Fatalf("step %d: %d processors, want %d", i, g.now, step.want)
		}
	}
	for range calmIntervals {
		g.decide(0.1)
		g.accompany(8)
	}
	if g.now != 1 {
		t.Fatalf("%d processors after the stream, want 1", g.now)
	}
	one := governor{most: 1, now: 1}
	one.accompany(1)
	if one.accompany(2); one.now != 1 {
		t.Fatalf("%d processors of one", one.now)
	}
}
