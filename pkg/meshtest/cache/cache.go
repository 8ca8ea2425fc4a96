// Package cache says where tests keep the real peers that they install, from one
// run to the next.
package cache

import (
	"fmt"
	"os"
	"path/filepath"
)

// Dir is $OUTRIGGER_CACHE, or ~/.cache/outrigger.
func Dir() (string, error) {
	if dir := os.Getenv("OUTRIGGER_CACHE"); dir != "" {
		return filepath.Abs(dir)
	}
	home, err := os.UserHomeDir()
	if err != nil {
		return "", fmt.Errorf("find the cache directory, which $OUTRIGGER_CACHE may name: %w", err)
	}
	return filepath.Join(home, ".cache", "outrigger"), nil
}
