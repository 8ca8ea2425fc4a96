package tunnels

import (
	"fmt"
	"io"
	"text/tabwriter"
	"time"

	"github.com/outrigger-mesh/outrigger/pkg/meshtest/bench/process"
)

// print prints the ways of one scenario side by side.
func (r *mcpResult) print(out io.Writer) error {
	fmt.Fprintf(out, "\n%s\n", r.name)
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	fmt.Fprintf(w, "\trequests/s\tp50\tp99\tp50 added to %s\tCPU of the pair/request\tclient user+sys\tserver user+sys\tCPU ÷ %s\t÷ %s\t\n", opaque, opaque, relayed)
	for _, y := range r.ways {
		all := r.series[y.name]
		fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%s\t%s\t%s\t%s\t%s\t%s\t\n", y.name,
			number(all.median((*sample).rate)),
			span(all.median((*sample).middle)), span(all.median(func(s *sample) float64 { return s.p99.Seconds() })),
			span(added(all, r.series[opaque])), span(all.median((*sample).perUnit)),
			all.side(func(s *sample) process.Usage { return s.client }), all.side(func(s *sample) process.Usage { return s.server }),
			times(ratio(all, r.series[opaque], (*sample).perUnit)), times(ratio(all, r.series[relayed], (*sample).perUnit)))
	}
	return w.Flush()
}

// middle is the median latency in seconds.
func (s *sample) middle() float64 { return s.p50.Seconds() }

// added is the median over the rounds of how much longer the median took than the
// other's in the same round.
func added(all, others series) float64 {
	var more []float64
	for i := range min(len(all), len(others)) {
		more = append(more, all[i].middle()-others[i].middle())
	}
	return median(more)
}

// What MCP governed may cost.
const (
	mostRatio     = 1.3 // CPU of the pair, to that of the pair where it looks at no MCP
	mostAdded     = 100 * time.Microsecond
	mostForList   = 8 * time.Millisecond
	mostOfSession = 40 // KiB
)

// An mcpGoal is what one scenario should come to, governed, beside another way.
type mcpGoal struct {
	what, other string
	most        float64
	value       func(all, others series) float64
	show        func(float64) string
}

func (r *mcpResult) goals() []mcpGoal {
	more := func(most time.Duration) mcpGoal {
		return mcpGoal{"p50 added to ", opaque, most.Seconds(), added, span}
	}
	if r.size == 0 {
		return []mcpGoal{more(mostForList)}
	}
	cpu := func(other string) mcpGoal {
		return mcpGoal{"CPU of the pair ÷ ", other, mostRatio, func(all, others series) float64 { return ratio(all, others, (*sample).perUnit) }, times}
	}
	return []mcpGoal{cpu(relayed), cpu(opaque), more(mostAdded)}
}

func printMCPGoals(out io.Writer, results []mcpResult, held *heldSessions) error {
	fmt.Fprintln(out, "\nGoals")
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	line := func(what, of string, v, most float64, show func(float64) string) {
		fmt.Fprintf(w, "%s\t%s\t%s\tgoal ≤ %s\t%s\t\n", what, of, show(v), show(most), verdict(v, most))
	}
	for _, r := range results {
		for _, g := range r.goals() {
			all, others := r.series[governed], r.series[g.other]
			v := g.value(all, others)
			if !all.measured() || !others.measured() || v == 0 { // 0: the CPU of what was too short
				fmt.Fprintf(w, "%s\t%s%s\tnot measured\n", r.name, g.what, g.other)
				continue
			}
			line(r.name, g.what+g.other, v, g.most, g.show)
		}
	}
	if held != nil {
		line(fmt.Sprintf("%d idle sessions", held.sessions), "KiB of the server's side", held.kib, mostOfSession, number)
	}
	return w.Flush()
}
