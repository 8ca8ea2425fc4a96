// Package plan is what every client does and says: list everything, make the
// calls in order, print what was seen as one JSON object.
package plan

import (
	"context"
	"encoding/json"
	"errors"
	"os"
	"time"
)

// A Call is one step: exactly one of Tool, Resource and Prompt is set.
type Call struct {
	Tool      string         `json:"tool"`
	Resource  string         `json:"resource"`
	Prompt    string         `json:"prompt"`
	Arguments map[string]any `json:"arguments"`
}

// Seen is what a client saw.
type Seen struct {
	Tools     any   `json:"tools"`
	Resources any   `json:"resources"`
	Prompts   any   `json:"prompts"`
	Calls     []any `json:"calls"`
}

// Read returns the calls of a plan.
func Read(text string) (calls []Call, err error) {
	return calls, json.Unmarshal([]byte(text), &calls)
}

// Print writes what was seen to standard output.
func (s Seen) Print() error { return json.NewEncoder(os.Stdout).Encode(s) }

// Names is a list's names, or the error of listing.
func Names(names []string, err error) any {
	if err != nil {
		return Failed(err)
	}
	if names == nil {
		names = []string{}
	}
	return names
}

// Outcome is a call's result under its key, or its error.
func Outcome(result map[string]any, err error) any {
	if err != nil {
		return Failed(err)
	}
	return result
}

// Failed is how an error is told.
func Failed(err error) any {
	return map[string]any{"error": map[string]any{"message": err.Error()}}
}

// Journal appends a line to a file: the tool that ran.
func Journal(file, tool string) error {
	f, err := os.OpenFile(file, os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	defer f.Close()
	_, err = f.WriteString(tool + "\n")
	return err
}

// Slow runs until the file beside the journal is there that releases it, or until ctx
// ends, and journals which it was.
func Slow(ctx context.Context, journal string) error {
	if err := Journal(journal, "slow began"); err != nil {
		return err
	}
	for {
		select {
		case <-ctx.Done():
			return errors.Join(ctx.Err(), Journal(journal, "slow cancelled"))
		case <-time.After(10 * time.Millisecond):
		}
		if _, err := os.Stat(journal + ".release"); err == nil {
			return Journal(journal, "slow done")
		}
	}
}
