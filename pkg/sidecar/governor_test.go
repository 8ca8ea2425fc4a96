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
