package tunnels

import (
	"context"
	_ "embed"
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"strconv"
	"strings"

	"github.com/outrigger-mesh/outrigger/pkg/meshtest/bench/process"
	"github.com/outrigger-mesh/outrigger/pkg/meshtest/envoy"
)

//go:embed envoy-client.yaml
var envoyClient string

//go:embed envoy-server.yaml
var envoyServer string

// findEnvoy returns an Envoy: one that somebody names, the cached one or, with
// install, one that is put into the cache.
func findEnvoy(ctx context.Context, named string, install bool) (string, error) {
	switch {
	case named != "":
		return exec.LookPath(named)
	case install:
		return envoy.Install(ctx)
	}
	path, err := envoy.Cached()
	if err != nil {
		return "", fmt.Errorf("%w: a run without --quick installs it", err)
	}
	return path, nil
}

// envoys is a pair of Envoys that does with tunnels what ours does.
func (b *bed) envoys(ctx context.Context, p place) (_ *chain, err error) {
	c := &chain{
		name: envoyTwo, place: p, fds: 2,
		note: fmt.Sprintf("Envoy %s with %d workers, tunneling_config and CONNECT termination, mutual TLS with a check of names; no policy, no access log", envoy.Version, runtime.NumCPU()),
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
