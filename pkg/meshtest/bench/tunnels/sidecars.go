package tunnels

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"

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

// A workload is one that a sidecar is for.
type workload struct {
	name string // also of its service account
	ip   byte
}

func clientSide() workload { return workload{"client", clientIP} }
func freshSide() workload  { return workload{"fresh", freshIP} }
func serverSide() workload { return workload{"server", serverIP} }

// ours starts sidecars of some programs, in a directory of their own.
func (b *bed) ours(name, programs string) func(context.Context, place) (*chain, error) {
	own := *b
	own.config.Programs, own.dir = programs, b.file(name)
	return func(ctx context.Context, p place) (*chain, error) {
		if err := os.Mkdir(own.dir, 0o700); err != nil {
			return nil, err
		}
		return own.sidecars(ctx, name, p)
	}
}

// sidecars starts a control plane and two sidecars as users run them: with identity
// checks, L4 policy, metrics and access log.
func (b *bed) sidecars(ctx context.Context, name string, p place) (_ *chain, err error) {
	if err := b.control(ctx, p, []workload{clientSide(), freshSide()}, ""); err != nil {
		return nil, err
	}
	c := &chain{
		name: name, place: p, fds: 2, admin: [2]string{p.at(clientIP, adminPort), p.at(serverIP, adminPort)},
		note: "two outrigger run under outrigger-control: identity checks, an L4 policy, metrics and access log; the port is not declared MCP",
	}
	if c.server, err = b.sidecar(ctx, p, serverSide(), serverPort); err != nil {
		return nil, err
	}
	c.start = func(ctx context.Context, at byte, port uint16) (*process.Process, error) {
		w := map[byte]workload{clientIP: clientSide(), freshIP: freshSide()}[at]
		return b.sidecar(ctx, p, w, port, "--forward", p.at(at, frontPort)+"="+p.app())
	}
	return c.begin(ctx)
}

// control starts a control plane that knows the server and those who may reach its
// ports, and agent policies if there are any.
func (b *bed) control(ctx context.Context, p place, clients []workload, policies string) error {
	if err := b.writeMesh(p, clients, policies); err != nil {
		return err
	}
	plane, err := b.group.Launch(filepath.Base(b.dir)+"-control", filepath.Join(b.config.Programs, "outrigger-control"), "run",
		"--listen", p.at(controlIP, xdsPort), "--status-listen", p.at(controlIP, statusPort), "--trust-domain", trustDomain,
		"--ca-dir", b.file(control.StateCA), "--tokens", b.file(control.StateTokens), "--config-path", b.file("mesh.yaml"))
	if err != nil {
		return err
	}
	return plane.Ready(ctx, "http://"+p.at(controlIP, statusPort)+"/healthz/ready")
}

// sidecar starts one. Its own tunnel port is also the one on which it dials others.
func (b *bed) sidecar(ctx context.Context, p place, w workload, port uint16, more ...string) (*process.Process, error) {
	args := append([]string{"run",
		"--name", w.name, "--namespace", "bench", "--service-account", w.name, "--trust-domain", trustDomain, "--address", p.ip(w.ip).String(),
		"--xds-address", p.at(controlIP, xdsPort), "--xds-root", b.file("mesh-root.pem"), "--xds-name", "istiod.istio-system.svc",
		"--token-file", b.file(control.StateTokens, "bench", w.name),
		"--hbone-listen", p.at(w.ip, port), "--plain-listen", "off", "--outbound-listen", "off",
		"--admin-listen", p.at(w.ip, adminPort), "--metrics-listen", p.at(w.ip, metricsPort), "--ready-listen", p.at(w.ip, readyPort),
		"--access-log", b.file("access-" + w.name + ".log"), "--drain-deadline", "1s",
	}, more...)
	s, err := b.group.Launch(filepath.Base(b.dir)+"-sidecar-"+w.name, filepath.Join(b.config.Programs, "outrigger"), args...)
	if err != nil {
		return nil, err
	}
	return s, s.Ready(ctx, "http://"+p.at(w.ip, readyPort)+"/healthz/ready")
}

// writeMesh writes what the control plane needs.
func (b *bed) writeMesh(p place, clients []workload, policies string) error {
	for _, w := range append(clients, serverSide()) {
		if _, err := control.IssueToken(b.file(control.StateTokens), "bench", w.name); err != nil {
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
	return os.WriteFile(b.file("mesh.yaml"), []byte(meshYAML(p, clients)+policies), 0o600)
}

func meshYAML(p place, clients []workload) string {
	var b strings.Builder
	var principals []string
	for _, w := range clients {
		principals = append(principals, trustDomain+"/ns/bench/sa/"+w.name)
	}
	for _, w := range append(clients, serverSide()) {
		fmt.Fprintf(&b, `apiVersion: outrigger.dev/v1alpha1
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
`, w.name, p.ip(w.ip), trustDomain)
	}
	fmt.Fprintf(&b, `apiVersion: security.istio.io/v1
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
  - from: [{source: {principals: [%s]}}]
    to: [{operation: {ports: ["%d", "%d", "%d"]}}]
`, strings.Join(principals, ", "), appPort, mcpPort, httpPort)
	return b.String()
}
