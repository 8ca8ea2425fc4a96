package tunnels

import (
	"fmt"
	"io"
	"strconv"
	"text/tabwriter"

	"github.com/outrigger-mesh/outrigger/pkg/meshtest/bench/process"
)

// print prints the chains of one scenario side by side.
func (r *result) print(out io.Writer) error {
	fmt.Fprintf(out, "\n%s\n", r.name)
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	fmt.Fprintf(w, "\t%s/s\tp50\tp99\tCPU of the pair/%s\tclient user+sys\tserver user+sys\tCPU ÷ %s\t\n", r.unit, r.unit, stock)
	for _, c := range r.chains {
		all := r.series[c.name]
		if err := all.err(); err != nil {
			fmt.Fprintf(w, "%s\tfailed: %v\n", c.name, err)
			continue
		}
		fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%s\t%s\t%s\t%s\t\n", c.name,
			number(all.median((*sample).rate)),
			span(all.median(func(s *sample) float64 { return s.p50.Seconds() })), span(all.median(func(s *sample) float64 { return s.p99.Seconds() })),
			span(all.median((*sample).perUnit)),
			all.side(func(s *sample) process.Usage { return s.client }), all.side(func(s *sample) process.Usage { return s.server }),
			times(ratio(all, r.series[stock], (*sample).perUnit)))
	}
	return w.Flush()
}

// side is user and system time per unit of one process of the pair.
func (all series) side(usage func(*sample) process.Usage) string {
	user := all.median(func(s *sample) float64 { return s.of(usage(s).User) })
	system := all.median(func(s *sample) float64 { return s.of(usage(s).System) })
	return span(user) + " + " + span(system)
}

// number has three digits that count.
func number(v float64) string {
	switch {
	case v >= 1e4:
		return strconv.FormatFloat(v/1e3, 'f', 1, 64) + "k"
	case v >= 100:
		return strconv.FormatFloat(v, 'f', 0, 64)
	}
	return strconv.FormatFloat(v, 'g', 3, 64)
}

// span is a time in seconds, as people write it.
func span(seconds float64) string {
	switch {
	case seconds == 0:
		return "-"
	case seconds >= 0.1:
		return strconv.FormatFloat(seconds, 'f', 2, 64) + " s"
	case seconds >= 0.01:
		return strconv.FormatFloat(seconds*1e3, 'f', 1, 64) + " ms"
	case seconds >= 0.001:
		return strconv.FormatFloat(seconds*1e3, 'f', 2, 64) + " ms"
	}
	return strconv.FormatFloat(seconds*1e6, 'f', 1, 64) + " µs"
}

// times is a ratio.
func times(v float64) string {
	if v == 0 {
		return "-"
	}
	return strconv.FormatFloat(v, 'f', 2, 64)
}
