package tunnels

import (
	"strings"
	"testing"
	"time"

	"github.com/outrigger-mesh/outrigger/pkg/meshtest/bench/process"
	"github.com/outrigger-mesh/outrigger/pkg/meshtest/bench/updates"
)

// Updates are sent for longer than what is sampled: their cost is of those in it.
func TestAnUpdateCostsWhatTheSidecarTakesMoreInTheSameTime(t *testing.T) {
	busy := func(user time.Duration) sample {
		return sample{wall: time.Second, p50: time.Millisecond, p99: 2 * time.Millisecond, client: process.Usage{User: user}}
	}
	var out strings.Builder
	err := printWaves(&out, "some", []string{toNobody, toSink, toSidecar}, map[string][]wave{
		toNobody:  {{sample: busy(100 * time.Millisecond)}},
		toSink:    {{sample: busy(100 * time.Millisecond), outcome: updates.Outcome{Updates: 16_000, Sending: 2 * time.Second}}},
		toSidecar: {{sample: busy(300 * time.Millisecond), outcome: updates.Outcome{Updates: 20_000, Sending: 2 * time.Second}}},
	})
	if err != nil {
		t.Fatal(err)
	}
	lines := strings.Split(out.String(), "\n")
	for way, want := range map[string][]string{toNobody: {" - "}, toSink: {" 8000 "}, toSidecar: {" 10.0k ", " 20.0 µs "}} {
		for _, part := range want {
			found := false
			for _, line := range lines {
				found = found || strings.HasPrefix(line, way) && strings.Contains(line, part)
			}
			if !found {
				t.Errorf("%s: no %q in\n%s", way, part, out.String())
			}
		}
	}
}
