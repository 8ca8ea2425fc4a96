package tunnels

import (
	"fmt"
	"io"
	"text/tabwriter"
	"time"
)

// A goal is what one scenario should come to.
type goal struct {
	scenario string
	what     string
	most     float64
	value    func(r *result) float64 // 0: not measured
	show     func(float64) string
}

// goals are those of the project.
func goals() []goal {
	cpu := func(scenario string, most float64) goal {
		return goal{scenario, "CPU of the pair ÷ " + stock, most, func(r *result) float64 {
			return ratio(r.series[ours], r.series[stock], (*sample).perUnit)
		}, times}
	}
	p50 := func(scenario string, most time.Duration) goal {
		return goal{scenario, "p50", most.Seconds(), func(r *result) float64 {
			return r.series[ours].median(func(s *sample) float64 { return s.p50.Seconds() })
		}, span}
	}
	return []goal{
		cpu("bulk up streams=1", 0.50), cpu("bulk down streams=1", 0.50),
		cpu("bulk up streams=8", 0.52), cpu("bulk down streams=8", 0.52),
		cpu("echo 64 B c=1", 0.70), cpu("echo 64 B c=32", 0.70), cpu("echo 4 KiB c=32", 0.42),
		cpu("new tunnels on a warm connection c=4", 0.65),
		p50("echo 64 B beside bulk opened while it runs", 500*time.Microsecond),
		p50("echo 64 B beside bulk opened before it", 500*time.Microsecond),
	}
}

// Most of an idle tunnel, in KiB per side.
const (
	mostFresh = 8
	mostAfter = 16
)

// printGoals tells which goals the results meet.
func printGoals(out io.Writer, results map[string]result, idle []idleness) error {
	fmt.Fprintln(out, "\nGoals")
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	for _, g := range goals() {
		r, ok := results[g.scenario]
		if !ok {
			continue
		}
		if v := g.value(&r); v > 0 {
			fmt.Fprintf(w, "%s\t%s\t%s\tgoal ≤ %s\t%s\t\n", g.scenario, g.what, g.show(v), g.show(g.most), verdict(v, g.most))
		} else {
			fmt.Fprintf(w, "%s\t%s\tnot measured\n", g.scenario, g.what)
		}
	}
	for _, i := range idle {
		if i.chain.name != ours || i.failed != nil {
			continue
		}
		for _, g := range []struct {
			when string
			kib  [2]float64
			most float64
		}{{"fresh", i.fresh.kib, mostFresh}, {"after traffic", i.after.kib, mostAfter}} {
			v := max(g.kib[0], g.kib[1])
			fmt.Fprintf(w, "idle tunnel, %s\tKiB of the larger side\t%.1f\tgoal ≤ %.0f\t%s\t\n", g.when, v, g.most, verdict(v, g.most))
		}
	}
	return w.Flush()
}

func verdict(v, most float64) string {
	if v > most {
		return "missed"
	}
	return "met"
}
