package tunnels

import (
	"slices"
	"time"

	"github.com/outrigger-mesh/outrigger/pkg/meshtest/bench/process"
)

// A sample is one round of one scenario on one chain.
type sample struct {
	units    float64 // GB, messages, tunnels: what the scenario counts
	wall     time.Duration
	p50, p99 time.Duration // of what took time by itself; 0 if nothing did
	client   process.Usage
	server   process.Usage
	failed   error // the chain could not do it; the rest means nothing
}

// take measures work on a chain: how many units it did, and how long each of them took.
func (c *chain) take(work func() (units float64, took []time.Duration, err error)) sample {
	return c.takeWith(c.client, work)
}

// takeWith is take with another client side.
func (c *chain) takeWith(client *process.Process, work func() (units float64, took []time.Duration, err error)) sample {
	before, err := c.meters(client)
	if err != nil {
		return sample{failed: err}
	}
	start := time.Now()
	units, took, err := work()
	wall := time.Since(start)
	if err != nil {
		return sample{failed: err}
	}
	after, err := c.meters(client)
	if err != nil {
		return sample{failed: err}
	}
	slices.Sort(took)
	return sample{
		units: units, wall: wall, p50: quantile(took, 0.50), p99: quantile(took, 0.99),
		client: after[0].Since(before[0]), server: after[1].Since(before[1]),
	}
}

// quantile is of sorted values; 0 if there is none.
func quantile(sorted []time.Duration, q float64) time.Duration {
	if len(sorted) == 0 {
		return 0
	}
	return sorted[min(len(sorted)-1, int(q*float64(len(sorted))))]
}

// perUnit is the CPU time of the pair for one unit, in seconds.
func (s *sample) perUnit() float64 { return s.of(s.client.Plus(s.server).Total()) }

func (s *sample) of(d time.Duration) float64 {
	if s.units == 0 {
		return 0
	}
	return d.Seconds() / s.units
}

// rate is units per second.
func (s *sample) rate() float64 {
	if s.wall == 0 {
		return 0
	}
	return s.units / s.wall.Seconds()
}

// A series is the samples of one chain, one per round.
type series []sample

// err is why the chain could not do it, nil if it could.
func (all series) err() error {
	for _, s := range all {
		if s.failed != nil {
			return s.failed
		}
	}
	return nil
}

// measured tells whether there is a round, and none that failed.
func (all series) measured() bool { return len(all) > 0 && all.err() == nil }

// median is that of one value over the rounds; 0 if one failed.
func (all series) median(value func(*sample) float64) float64 {
	if all.err() != nil {
		return 0
	}
	values := make([]float64, 0, len(all))
	for i := range all {
		values = append(values, value(&all[i]))
	}
	return median(values)
}

// median is the middle value, or the mean of the two in the middle; 0 of none.
func median(values []float64) float64 {
	if len(values) == 0 {
		return 0
	}
	values = slices.Sorted(slices.Values(values))
	n := len(values)
	return (values[(n-1)/2] + values[n/2]) / 2
}

// ratio is the median over the rounds of value ÷ the other chain's in the same
// round: what disturbs a machine disturbs neighbours alike. 0 if there is none.
func ratio(all, others series, value func(*sample) float64) float64 {
	if all.err() != nil || others.err() != nil {
		return 0
	}
	var ratios []float64
	for i := range min(len(all), len(others)) {
		if o := value(&others[i]); o > 0 {
			ratios = append(ratios, value(&all[i])/o)
		}
	}
	return median(ratios)
}
