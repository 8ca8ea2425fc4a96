package conformance

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
)

// A Comparison is two results of the same requirements.
type Comparison struct {
	Requirements string       `json:"requirements"`
	Direct       *Result      `json:"direct"` // of the first run
	Proxied      *Result      `json:"proxied"`
	Differences  []Difference `json:"differences"`
	// Unsteady are checks that differed once although nothing changed: some of the
	// suite's checks wait for a fixed time.
	Unsteady []Difference `json:"unsteady,omitzero"`
}

// A Difference is a check whose outcome changed, with the outcomes of all runs. A
// check that was not made has no status.
type Difference struct {
	Check   string  `json:"check"`
	Direct  []Check `json:"direct"`
	Proxied []Check `json:"proxied"`
}

func (d Difference) String() string {
	return fmt.Sprintf("%s: direct %v, proxied %v", d.Check, d.Direct, d.Proxied)
}

func (c Check) String() string {
	if c.Status == "" {
		return "not made"
	}
	if c.Message == "" {
		return c.Status
	}
	return fmt.Sprintf("%s (%s)", c.Status, c.Message)
}

// runs is how often the suite is run against both URLs before a difference counts.
const runs = 3

// CompareServers runs the suite against a server's own URL and against the one that
// leads to it through a proxy.
func (s Suite) CompareServers(ctx context.Context, requirements, directURL, proxiedURL string) (*Comparison, error) {
	return compare(requirements,
		func() (*Result, error) { return s.Server(ctx, requirements, directURL) },
		func() (*Result, error) { return s.Server(ctx, requirements, proxiedURL) })
}

// CompareClients runs the suite with a client's own command and with the one that
// has its connections proxied.
func (s Suite) CompareClients(ctx context.Context, requirements, directCommand, proxiedCommand string) (*Comparison, error) {
	return compare(requirements,
		func() (*Result, error) { return s.Client(ctx, requirements, directCommand) },
		func() (*Result, error) { return s.Client(ctx, requirements, proxiedCommand) })
}

// compare runs both. If a check differs it runs both again, to tell a difference
// from a check that is unsteady by itself.
func compare(requirements string, alone, behind func() (*Result, error)) (*Comparison, error) {
	var direct, proxied []*Result
	for len(direct) == 0 || len(direct) < runs && len(Diff(direct, proxied)) > 0 {
		d, err := alone()
		if err != nil {
			return nil, fmt.Errorf("direct: %w", err)
		}
		p, err := behind()
		if err != nil {
			return nil, fmt.Errorf("proxied: %w", err)
		}
		direct, proxied = append(direct, d), append(proxied, p)
	}
	c := &Comparison{Requirements: requirements, Direct: direct[0], Proxied: proxied[0]}
	for _, d := range Diff(direct, proxied) {
		if d.unsteady() {
			c.Unsteady = append(c.Unsteady, d)
		} else {
			c.Differences = append(c.Differences, d)
		}
	}
	return c, nil
}

// unsteady tells whether the proxy cannot be blamed. It cannot if the server alone
// shows every outcome that it shows through the proxy. For a check that only warns,
// it is enough that one outcome was seen on both sides, and so it is for a check's
// repetitions, whose number is how often something was done before the end; a failure
// is never excused by a later success.
func (d Difference) unsteady() bool {
	alone, common, failed := true, false, false
	for _, p := range d.Proxied {
		if slices.ContainsFunc(d.Direct, func(c Check) bool { return c.Status == p.Status }) {
			common = true
		} else {
			alone = false
			repetition := p.Status == "" && strings.Contains(d.Check, "#")
			failed = failed || p.Status != "WARNING" && p.Status != "SUCCESS" && !repetition
		}
	}
	return alone || common && !failed
}

// Diff lists the checks whose status is not the same in the runs of the same number,
// by name.
func Diff(direct, proxied []*Result) []Difference {
	names := map[string]bool{}
	for i := range direct {
		for name, d := range direct[i].Checks {
			if d.Status != proxied[i].Checks[name].Status {
				names[name] = true
			}
		}
		for name := range proxied[i].Checks {
			if _, ok := direct[i].Checks[name]; !ok {
				names[name] = true
			}
		}
	}
	var all []Difference
	for _, name := range slices.SortedFunc(maps.Keys(names), strings.Compare) {
		d := Difference{Check: name}
		for i := range direct {
			d.Direct = append(d.Direct, direct[i].Checks[name])
			d.Proxied = append(d.Proxied, proxied[i].Checks[name])
		}
		all = append(all, d)
	}
	return all
}
