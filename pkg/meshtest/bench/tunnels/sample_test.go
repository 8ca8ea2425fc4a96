package tunnels

import (
	"errors"
	"math"
	"strings"
	"testing"
	"time"

	"github.com/outrigger-mesh/outrigger/pkg/meshtest/bench/process"
)

func TestMedianIsTheMiddle(t *testing.T) {
	for _, tt := range []struct {
		values []float64
		want   float64
	}{
		{nil, 0}, {[]float64{3}, 3}, {[]float64{9, 1}, 5}, {[]float64{5, 1, 100}, 5}, {[]float64{4, 1, 2, 3}, 2.5},
	} {
		given := append([]float64(nil), tt.values...)
		if got := median(given); got != tt.want {
			t.Errorf("median of %v is %v, want %v", tt.values, got, tt.want)
		}
		for i := range given {
			if given[i] != tt.values[i] {
				t.Errorf("median changed its input %v to %v", tt.values, given)
			}
		}
	}
}

func TestQuantileIsOneOfTheValues(t *testing.T) {
	var hundred []time.Duration
	for i := range 100 {
		hundred = append(hundred, time.Duration(i))
	}
	for _, tt := range []struct {
		of   []time.Duration
		q    float64
		want time.Duration
	}{
		{nil, 0.5, 0}, {hundred[7:8], 0.99, 7}, {hundred, 0.5, 50}, {hundred, 0.99, 99}, {hundred, 1, 99}, {hundred, 0, 0},
	} {
		if got := quantile(tt.of, tt.q); got != tt.want {
			t.Errorf("%v of %d values is %v, want %v", tt.q, len(tt.of), got, tt.want)
		}
	}
}

func cost(units float64, client, server time.Duration) sample {
	return sample{
		units: units, wall: time.Second,
		client: process.Usage{User: client / 4, System: client - client/4}, server: process.Usage{User: server},
	}
}

func TestCostIsOfBothSidesPerUnit(t *testing.T) {
	s := cost(4, 8*time.Second, 12*time.Second)
	if got := s.perUnit(); got != 5 {
		t.Errorf("20 s for 4 units are %v s each, want 5", got)
	}
	if got := s.rate(); got != 4 {
		t.Errorf("rate is %v, want 4", got)
	}
	if none := cost(0, time.Second, 0); none.perUnit() != 0 {
		t.Errorf("no units cost %v each, want 0", none.perUnit())
	}
}

func TestRatioPairsTheRounds(t *testing.T) {
	a := series{cost(1, 1*time.Second, 0), cost(1, 40*time.Second, 0), cost(1, 3*time.Second, 0)}
	b := series{cost(1, 2*time.Second, 0), cost(1, 80*time.Second, 0), cost(1, 4*time.Second, 0)}
	// The second round was slow for both: of 0.5, 0.5 and 0.75 the median is 0.5, whereas that of a ÷ that of b is 0.75.
	if got := ratio(a, b, (*sample).perUnit); math.Abs(got-0.5) > 1e-9 {
		t.Errorf("ratio is %v, want 0.5", got)
	}
	b[1].failed = errors.New("broken")
	if got := ratio(a, b, (*sample).perUnit); got != 0 {
		t.Errorf("ratio to a chain that failed is %v, want none", got)
	}
	if got := b.median((*sample).perUnit); got != 0 {
		t.Errorf("median of a chain that failed is %v, want none", got)
	}
}

func TestGoalsAreMetOrMissed(t *testing.T) {
	results := make(map[string]result)
	for _, g := range goals() {
		results[g.scenario] = result{series: map[string]series{
			ours:  {{units: 1, client: process.Usage{User: 500 * time.Millisecond}, p50: time.Millisecond}},
			stock: {{units: 1, client: process.Usage{User: time.Second}}},
		}}
	}
	var out strings.Builder
	idle := []idleness{{chain: &chain{name: ours}, fresh: holding{kib: [2]float64{7, 9}}, after: holding{kib: [2]float64{15, 14}}}}
	if err := printGoals(&out, results, idle); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{
		"bulk up streams=1", "0.50", "met", "echo 4 KiB c=32", "missed", "1.00 ms", "goal ≤ 500.0 µs",
		"9.0", "goal ≤ 8", "15.0", "goal ≤ 16",
	} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("goals do not say %q:\n%s", want, out.String())
		}
	}
	if met := strings.Count(out.String(), " met "); met != 8 { // 0.50 misses only that of 0.42, 1 ms both of 0.5 ms, 9 KiB that of 8
		t.Errorf("%d goals are met, want 8:\n%s", met, out.String())
	}
}

// TestEveryGoalHasItsScenario keeps the names together.
func TestEveryGoalHasItsScenario(t *testing.T) {
	c := Full()
	names := make(map[string]bool)
	for _, s := range c.scenarios() {
		names[s.name] = true
	}
	for _, g := range goals() {
		if !names[g.scenario] {
			t.Errorf("no scenario is called %q", g.scenario)
		}
	}
}

func TestOnlySelectsByGroupOrPartOfTheName(t *testing.T) {
	c := Config{Only: []string{"tunnels", "64 B c=1"}, Chains: []string{"x/net"}}
	for _, tt := range []struct {
		s    scenario
		want bool
	}{
		{scenario{group: "tunnels", name: "n"}, true},
		{scenario{group: "echo", name: "echo 64 B c=1"}, true},
		{scenario{group: "echo", name: "echo 4 KiB c=1"}, false},
	} {
		if c.wants(&tt.s) != tt.want {
			t.Errorf("%s %q is wanted: %v, want %v", tt.s.group, tt.s.name, !tt.want, tt.want)
		}
	}
	if c.measures(ours) || !c.measures(stock) {
		t.Error("chains are not selected by a part of their names")
	}
}

func TestNumbersAreShort(t *testing.T) {
	for want, got := range map[string]string{
		"12.3k": number(12345), "346": number(345.6), "0.512": number(0.5123),
		"12.3 µs": span(12.34e-6), "1.23 ms": span(1.234e-3), "12.3 ms": span(12.34e-3), "2.05 s": span(2.054), "-": span(0),
		"0.42": times(0.419),
	} {
		if got != want {
			t.Errorf("%q, want %q", got, want)
		}
	}
}

func TestGoroutinesAreReadFromTheProfile(t *testing.T) {
	if n, err := parseGoroutines("goroutine profile: total 1234\n"); err != nil || n != 1234 {
		t.Errorf("%v, %v", n, err)
	}
	for _, bad := range []string{"", "goroutine profile: total", "goroutine profile: total x\n", "goroutine profile: total -3\n", "<html>"} {
		if n, err := parseGoroutines(bad); err == nil {
			t.Errorf("%q gave %v", bad, n)
		}
	}
}
