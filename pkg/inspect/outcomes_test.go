package inspect

import (
	"os"
	"regexp"
	"strings"
	"testing"
)

// TestTheTableOfOutcomesIsTrue holds each outcome that HTTP.md states with the name of a
// case to that case, which other tests hold the engine to.
func TestTheTableOfOutcomesIsTrue(t *testing.T) {
	text, err := os.ReadFile("HTTP.md")
	if err != nil {
		t.Fatal(err)
	}
	var stated [2]map[string]string
	stated[0], stated[1] = make(map[string]string), make(map[string]string)
	for _, p := range payloads(t, "requests.txt") {
		stated[0][p.name] = p.outcome
	}
	for _, c := range streamCases(t) {
		stated[1][c.name] = c.outcome
	}
	named := regexp.MustCompile("`([^`]+)`: (ok 1 then \\d+|ok \\d+|ok|\\d{3}|reset [A-Z_]+|goaway [A-Z_]+)")
	found := 0
	for _, line := range strings.Split(string(text), "\n") {
		cells := strings.Split(line, "|")
		if len(cells) != 5 {
			continue
		}
		for i, cell := range cells[2:4] {
			for _, m := range named.FindAllStringSubmatch(cell, -1) {
				found++
				if got, ok := stated[i][m[1]]; !ok || got != m[2] {
					t.Errorf("HTTP.md says %q: %s; the case says %q", m[1], m[2], got)
				}
			}
		}
	}
	if found < 35 {
		t.Errorf("only %d outcomes are stated", found)
	}
}
