package tunnels

import (
	"encoding/json"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/outrigger-mesh/outrigger/pkg/meshtest/bench/process"
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

func TestMCPGoalsThatWereNotMeasuredAreNotMet(t *testing.T) {
	took := func(d time.Duration) series {
		return series{{units: 1, client: process.Usage{User: d}, p50: d}}
	}
	call, list := mcpScenario{name: "call", size: 1}, mcpScenario{name: "list"}
	for _, c := range []struct {
		name                 string
		scenario             mcpScenario
		series               map[string]series
		met, missed, unknown int
	}{
		{"all ways", call, map[string]series{governed: took(120), relayed: took(100), opaque: took(50)}, 2, 1, 0},
		{"faster than opaque", list, map[string]series{governed: took(90), opaque: took(100)}, 1, 0, 0},
		{"without HTTP", call, map[string]series{governed: took(120), opaque: took(50)}, 1, 1, 1},
		{"without governed", call, map[string]series{relayed: took(100), opaque: took(50)}, 0, 0, 3},
		{"opaque failed", call, map[string]series{governed: took(120), relayed: took(100), opaque: {{failed: errors.New("no")}}}, 1, 0, 2},
		{"no CPU of HTTP", call, map[string]series{governed: took(120), relayed: {{units: 1}}, opaque: took(50)}, 1, 1, 1},
		{"nothing of the list", list, nil, 0, 0, 1},
	} {
		var out strings.Builder
		if err := printMCPGoals(&out, []mcpResult{{mcpScenario: c.scenario, series: c.series}}, nil); err != nil {
			t.Fatal(err)
		}
		met, missed, unknown := strings.Count(out.String(), " met "), strings.Count(out.String(), " missed "), strings.Count(out.String(), " not measured")
		if met != c.met || missed != c.missed || unknown != c.unknown {
			t.Errorf("%s: %d met, %d missed, %d not measured, want %d, %d, %d:\n%s", c.name, met, missed, unknown, c.met, c.missed, c.unknown, out.String())
		}
	}
}
