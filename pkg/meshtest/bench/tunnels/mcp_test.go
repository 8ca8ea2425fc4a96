package tunnels

import (
	"encoding/json"
	"testing"
	"time"
)

func TestACallHasTheSizeThatWasAskedFor(t *testing.T) {
	for _, size := range []int{1 << 10, 4 << 10} {
		if call := callOf(size); len(call) != size || !json.Valid([]byte(call)) {
			t.Errorf("%d bytes instead of %d: %s", len(call), size, call)
		}
	}
}

func TestWhatIsAddedIsComparedWithinARound(t *testing.T) {
	took := func(all ...time.Duration) (s series) {
		for _, d := range all {
			s = append(s, sample{p50: d})
		}
		return s
	}
	// Twice as slow a machine in the last round: what is added stays.
	if got := added(took(110, 120, 250), took(100, 110, 240)); got < 9.9e-9 || got > 10.1e-9 {
		t.Errorf("%g s are added, want 10 ns", got)
	}
	if got := added(nil, took(100)); got != 0 {
		t.Errorf("%g s are added to nothing", got)
	}
}
