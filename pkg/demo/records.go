package demo

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"os"
	"strings"
	"time"

	"github.com/go-json-experiment/json"
)

// records looks into the log files of the server's sidecar for the calls that
// the story made, and shows one line of each.
func (m *stage) records(ctx context.Context) (string, error) { return m.eventually(ctx, m.findRecords) }

// eventually looks until it finds: the sidecar writes its records beside the traffic.
func (m *stage) eventually(ctx context.Context, find func() (string, error)) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, stepTimeout)
	defer cancel()
	for {
		seen, err := find()
		if err == nil {
			return seen, nil
		}
		select {
		case <-ctx.Done():
			return "", err
		case <-time.After(50 * time.Millisecond):
		}
	}
}

func (m *stage) findRecords() (string, error) {
	planner, github := spiffeID(m.agents[0]), spiffeID(m.server)
	var seen []string
	for _, want := range []struct {
		tool    string
		allowed bool
		rule    string
	}{
		{"search_issues", true, "planner-reads"},
		{"delete_repository", false, ""},
	} {
		line, err := findAudit(m.audit(m.server), func(r map[string]any) bool {
			return r["source.identity"] == planner && r["destination.identity"] == github &&
				r["mcp.name"] == want.tool && r["decision.allowed"] == want.allowed &&
				r["decision.policy"] == "tools/github-tools" && named(r["decision.version"]) && (want.rule == "" || r["decision.rule"] == want.rule)
		})
		if err != nil {
			return "", fmt.Errorf("audit record of %s: %w", want.tool, err)
		}
		seen = append(seen, "audit: "+line)
	}
	line, err := findAccess(m.accessLog(m.server), planner, github)
	if err != nil {
		return "", err
	}
	return strings.Join(append(seen, "access: "+line), "\n"), nil
}

func findAudit(file string, matches func(map[string]any) bool) (string, error) {
	return findLine(file, func(line []byte) bool {
		var r map[string]any
		return json.Unmarshal(line, &r) == nil && matches(flatten("", r, map[string]any{}))
	})
}

func named(value any) bool {
	text, ok := value.(string)
	return ok && text != ""
}

// flatten names members of members with dots.
func flatten(prefix string, r, into map[string]any) map[string]any {
	for key, value := range r {
		if inner, ok := value.(map[string]any); ok {
			flatten(prefix+key+".", inner, into)
			continue
		}
		into[prefix+key] = value
	}
	return into
}

func findAccess(file, source, destination string) (string, error) {
	return findLine(file, func(line []byte) bool {
		return bytes.Contains(line, []byte(source)) && bytes.Contains(line, []byte(destination))
	})
}

func findLine(file string, matches func([]byte) bool) (string, error) {
	f, err := os.Open(file)
	if err != nil {
		return "", err
	}
	defer f.Close()
	lines := bufio.NewScanner(f)
	lines.Buffer(nil, 1<<20)
	for lines.Scan() {
		if matches(lines.Bytes()) {
			return lines.Text(), nil
		}
	}
	return "", fmt.Errorf("no such line in %s", file)
}
