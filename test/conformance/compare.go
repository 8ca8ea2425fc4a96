package conformance

import (
	"context"
	"fmt"
	"slices"
	"strings"
)

// A Comparison is two results of the same requirements.
type Comparison struct {
	Requirements string       `json:"requirements"`
	Direct       *Result      `json:"direct"`
	Proxied      *Result      `json:"proxied"`
	Differences  []Difference `json:"differences"`
}

// A Difference is a check whose outcome changed. A check that was not made has no
// status.
type Difference struct {
	Check   string `json:"check"`
	Direct  Check  `json:"direct,omitzero"`
	Proxied Check  `json:"proxied,omitzero"`
}

func (d Difference) String() string {
	return fmt.Sprintf("%s: direct %s, proxied %s", d.Check, d.Direct, d.Proxied)
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

// Compare runs the suite against a server's own URL and against the one that leads
// to it through a proxy.
func (s Suite) Compare(ctx context.Context, requirements, directURL, proxiedURL string) (*Comparison, error) {
	direct, err := s.Run(ctx, requirements, directURL)
	if err != nil {
		return nil, fmt.Errorf("direct: %w", err)
	}
	proxied, err := s.Run(ctx, requirements, proxiedURL)
	if err != nil {
		return nil, fmt.Errorf("proxied: %w", err)
	}
	return &Comparison{Requirements: requirements, Direct: direct, Proxied: proxied, Differences: Diff(direct, proxied)}, nil
}

// Diff lists the checks whose status is not the same, by name.
func Diff(direct, proxied *Result) []Difference {
	var all []Difference
	for name, d := range direct.Checks {
		if p := proxied.Checks[name]; p.Status != d.Status {
			all = append(all, Difference{name, d, p})
		}
	}
	for name, p := range proxied.Checks {
		if _, ok := direct.Checks[name]; !ok {
			all = append(all, Difference{Check: name, Proxied: p})
		}
	}
	slices.SortFunc(all, func(a, b Difference) int { return strings.Compare(a.Check, b.Check) })
	return all
}
