package tunnels

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strconv"

	"github.com/outrigger-mesh/outrigger/pkg/control"
	"github.com/outrigger-mesh/outrigger/pkg/meshtest/bench/process"
)

const (
	xdsPort     = 15012
	statusPort  = 15014
	metricsPort = 15020
	readyPort   = 15021
	controlIP   = 1
)

// ours starts a control plane and two sidecars as users run them: with identity
// checks, L4 policy, metrics and access log.
func (b *bed) ours(ctx context.Context, p place) (_ *chain, err error) {
	if err := b.writeMesh(p); err != nil {
		return nil, err
	}
	plane, err := b.group.Launch("control", filepath.Join(b.config.Programs, "outrigger-control"), "run",
		"--listen", p.at(controlIP, xdsPort), "--status-listen", p.at(controlIP, statusPort), "--trust-domain", trustDomain,
		"--ca-dir", b.file(control.StateCA), "--tokens", b.file(control.StateTokens), "--config-path", b.file("mesh.yaml"))
	if err != nil {
		return nil, err
	}
	if err := plane.Ready(ctx, "http://"+p.at(controlIP, statusPort)+"/healthz/ready"); err != nil {
		return nil, err
	}
	c := &chain{
		name: ours, place: p, fds: 2, admin: [2]string{p.at(clientIP, adminPort), p.at(serverIP, adminPort)},
		note: "two outrigger run under outrigger-control: identity checks, an L4 policy, metrics and access log; the port is not declared MCP",
	}
	if c.server, err = b.sidecar(ctx, p, "server", serverIP, serverPort); err != nil {
		return nil, err
	}
	c.start = func(ctx context.Context, at byte, port uint16) (*process.Process, error) {
		name := map[byte]string{clientIP: "client", freshIP: "fresh"}[at]
		return b.sidecar(ctx, p, name, at, port, "--forward", p.at(at, frontPort)+"="+p.app())
	}
	return c.begin(ctx)
}

// sidecar starts one. Its own tunnel port is also the one on which it dials others.
func (b *bed) sidecar(ctx context.Context, p place, name string, ip byte, port uint16, more ...string) (*process.Process, error) {
	args := append([]string{"run",
		"--name", name, "--namespace", "bench", "--service-account", name, "--trust-domain", trustDomain, "--address", p.ip(ip).String(),
		"--xds-address", p.at(controlIP, xdsPort), "--xds-root", b.file("mesh-root.pem"), "--xds-name", "istiod.istio-system.svc",
		"--token-file", b.file(control.StateTokens, "bench", name),
		"--hbone-listen", p.at(ip, port), "--plain-listen", "off", "--outbound-listen", "off",
		"--admin-listen", p.at(ip, adminPort), "--metrics-listen", p.at(ip, metricsPort), "--ready-listen", p.at(ip, readyPort),
		"--access-log", b.file("access-" + name + ".log"), "--drain-deadline", "1s",
	}, more...)
	s, err := b.group.Launch("sidecar-"+name, filepath.Join(b.config.Programs, "outrigger"), args...)
	if err != nil {
		return nil, err
	}
	return s, s.Ready(ctx, "http://"+p.at(ip, readyPort)+"/healthz/ready")
}

// writeMesh writes what the control plane needs.
func (b *bed) writeMesh(p place) error {
	for _, account := range []string{"client", "fresh", "server"} {
		if _, err := control.IssueToken(b.file(control.StateTokens), "bench", account); err != nil {
			return err
		}
	}
	a, err := control.OpenAuthority(b.file(control.StateCA), trustDomain)
	if err != nil {
		return err
	}
	if err := os.WriteFile(b.file("mesh-root.pem"), a.RootPEM(), 0o600); err != nil {
		return err
	}
	return os.WriteFile(b.file("mesh.yaml"), []byte(meshYAML(p)), 0o600)
}

func meshYAML(p place) string {
	const workload = `apiVersion: outrigger.dev/v1alpha1
kind: Workload
metadata: {name: %[1]s, namespace: bench, labels: {app: %[1]s}}
spec:
  addresses: [%[2]s]
  tunnelProtocol: HBONE
  trustDomain: %[3]s
  serviceAccount: %[1]s
  workloadName: %[1]s
  canonicalName: %[1]s
---
`
	return fmt.Sprintf(workload, "client", p.ip(clientIP), trustDomain) + fmt.Sprintf(workload, "fresh", p.ip(freshIP), trustDomain) +
		fmt.Sprintf(workload, "server", p.ip(serverIP), trustDomain) + `
apiVersion: security.istio.io/v1
kind: PeerAuthentication
metadata: {name: strict, namespace: istio-system}
spec: {mtls: {mode: STRICT}}
---
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: {name: clients, namespace: bench}
spec:
  selector: {matchLabels: {app: server}}
  action: ALLOW
  rules:
  - from: [{source: {principals: [` + trustDomain + `/ns/bench/sa/client, ` + trustDomain + `/ns/bench/sa/fresh]}}]
    to: [{operation: {ports: ["` + strconv.Itoa(appPort) + `"]}}]
`
}
