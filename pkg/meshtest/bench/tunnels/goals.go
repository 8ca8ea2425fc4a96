package tunnels

import (
	"fmt"
	"io"
	"text/tabwriter"
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
	return []goal{
		cpu("bulk up, streams=1", 0.50), cpu("bulk down, streams=1", 0.50),
		cpu("bulk up, streams=8", 0.52), cpu("bulk down, streams=8", 0.52),
		cpu("echo 64 B, c=1", 0.70), cpu("echo 64 B, c=32", 0.70), cpu("echo 4 KiB, c=32", 0.42),
		cpu("new tunnels on a warm connection, c=4", 0.65),
	}
}

// printGoals tells which goals the results meet.
func printGoals(out io.Writer, results map[string]result) error {
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	for _, g := range goals() {
		r, ok := results[g.scenario]
		if !ok || r.series[ours].err() != nil || r.series[stock].err() != nil {
			continue
		}
		v := g.value(&r)
		if v == 0 {
			continue
		}
		verdict := "met"
		if v > g.most {
			verdict = "missed"
		}
		fmt.Fprintf(w, "%s\t%s\t%s\tgoal ≤ %s\t%s\t\n", g.scenario, g.what, g.show(v), g.show(g.most), verdict)
	}
	fmt.Fprintln(out, "\nGoals")
	return w.Flush()
}
