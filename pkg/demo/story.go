package demo

import (
	"context"
	"errors"
	"fmt"
	"time"
)

// tell shows, one after the other, what the mesh does. It stops at the first
// thing that does not hold.
func tell(ctx context.Context, m *stage, t *telling) (err error) {
	planner, err := m.agent(ctx, 0)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, planner.close()) }()
	intern, err := m.agent(ctx, 1)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, intern.close()) }()

	repository := map[string]any{"repository": "acme/site"}
	issue := map[string]any{"repository": "acme/site", "title": "broken link"}
	query := map[string]any{"query": "broken link"}
	for _, s := range []struct {
		title string
		show  func() (string, error)
	}{
		{"An agent sees only the tools its identity may use", func() (string, error) {
			return planner.list("get_repository", "search_issues")
		}},
		{"It calls an allowed tool and gets the result", func() (string, error) { return planner.call("search_issues", query) }},
		{"A hidden tool answers exactly as one that does not exist", func() (string, error) {
			return planner.refused("delete_repository", repository)
		}},
		{"Another identity, another answer: the list", func() (string, error) { return intern.list("search_issues") }},
		{"Another identity, another answer: the call", func() (string, error) { return intern.refused("get_repository", repository) }},
		{"Before the policy changes, the agent may not open an issue", func() (string, error) { return planner.refused("create_issue", issue) }},
		{"The policy file is saved, and the next call obeys without a restart", func() (string, error) { return m.changePolicy(ctx, planner, issue) }},
		{"A peer with a certificate from another trust domain is refused", func() (string, error) { return m.foreigner(ctx) }},
		{"A plain TCP client is refused", func() (string, error) { return m.plainClient(ctx) }},
		{"Access log and audit record name both identities, tool, rule and policy version", func() (string, error) { return m.records(ctx) }},
	} {
		if err := ctx.Err(); err != nil {
			return err
		}
		if err := t.step(s.title, s.show); err != nil {
			return err
		}
	}
	return nil
}

// changePolicy lets the planner open issues and calls until the mesh obeys.
func (m *stage) changePolicy(ctx context.Context, planner *agent, issue map[string]any) (string, error) {
	if err := write(m.policies[0], storyPolicy(m.serverPort, true)); err != nil {
		return "", err
	}
	start := time.Now()
	for {
		seen, err := planner.call("create_issue", issue)
		if err == nil {
			return fmt.Sprintf("%s, %d ms after the file was saved", seen, time.Since(start).Milliseconds()), nil
		}
		if time.Since(start) > stepTimeout {
			return "", fmt.Errorf("%s after the file was saved: %w", stepTimeout, err)
		}
		select {
		case <-ctx.Done():
			return "", ctx.Err()
		case <-time.After(20 * time.Millisecond):
		}
	}
}
