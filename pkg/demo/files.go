package demo

import (
	"crypto/rand"
	"encoding/hex"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/outrigger-mesh/outrigger/pkg/authority"
)

// write makes the state directory: authority, tokens, workloads and policies.
func (p *layout) write() error {
	if err := os.RemoveAll(p.file("logs")); err != nil { // of an earlier run: it would pass for evidence of this one
		return fmt.Errorf("clear the logs of an earlier run: %w", err)
	}
	for _, dir := range []string{"config", "tokens", "logs"} {
		if err := os.MkdirAll(p.file(dir), 0o700); err != nil {
			return fmt.Errorf("make state directory: %w", err)
		}
	}
	if err := p.writeAuthority(); err != nil {
		return err
	}
	for _, w := range p.workloads() {
		if err := p.writeToken(w); err != nil {
			return err
		}
	}
	if err := write(p.file("config", "mesh.yaml"), p.meshYAML()); err != nil {
		return err
	}
	if p.config.Policy != "" {
		return nil
	}
	if p.config.Server != "" {
		return write(p.policies[0], allowAll(p.serverPort))
	}
	return write(p.policies[0], storyPolicy(p.serverPort, false))
}

func (p *layout) workloads() []place { return append(append([]place(nil), p.agents...), p.server) }

func (p *layout) writeAuthority() error {
	dir := p.file("ca")
	a, err := authority.Load(dir)
	if err != nil {
		if a, err = authority.New(trustDomain, rootLifetime); err != nil {
			return fmt.Errorf("make the demo's authority: %w", err)
		}
		if err := a.Save(dir); err != nil {
			return err
		}
	}
	return os.WriteFile(p.file("root-cert.pem"), a.RootPEM(), 0o644)
}

// rootLifetime is how long the demo's authority lives: a state directory may be kept.
const rootLifetime = 365 * 24 * time.Hour

func (p *layout) token(w place) string { return p.file("tokens", w.namespace, w.account) }

func (p *layout) writeToken(w place) error {
	path := p.token(w)
	if _, err := os.Stat(path); err == nil {
		return nil
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return err
	}
	var secret [32]byte
	rand.Read(secret[:])
	return os.WriteFile(path, []byte(hex.EncodeToString(secret[:])), 0o600)
}

// write replaces a file in one step, so that a watcher never reads half of it.
func write(path, content string) error {
	temporary := path + ".new"
	if err := os.WriteFile(temporary, []byte(content), 0o644); err != nil {
		return err
	}
	return os.Rename(temporary, path)
}

func (p *layout) meshYAML() string {
	var b strings.Builder
	b.WriteString("# Who is in the mesh. The control plane watches this file.\n")
	for _, w := range p.workloads() {
		fmt.Fprintf(&b, `apiVersion: outrigger.dev/v1alpha1
kind: Workload
metadata: {name: %[1]s, namespace: %[2]s}
spec:
  addresses: [%[3]s]
  tunnelProtocol: HBONE
  nativeTunnel: true
  trustDomain: %[4]s
  serviceAccount: %[5]s
  canonicalName: %[1]s
  workloadName: %[1]s
`, w.name, w.namespace, w.ip, trustDomain, w.account)
		if w == p.server {
			fmt.Fprintf(&b, "  services:\n    %s/%s:\n      ports: [{servicePort: %d, targetPort: %d}]\n",
				w.namespace, service, servicePort, p.serverPort)
		}
		b.WriteString("---\n")
	}
	fmt.Fprintf(&b, `apiVersion: outrigger.dev/v1alpha1
kind: Service
metadata: {name: github, namespace: tools}
spec:
  hostname: %s
  ports: [{servicePort: %d, targetPort: %d}]
---
# Nobody without a certificate of the mesh reaches a workload of it.
apiVersion: outrigger.dev/v1alpha1
kind: Authorization
metadata: {name: mutual-tls-only, namespace: istio-system}
spec:
  scope: GLOBAL
  action: DENY
  groups:
  - rules:
    - matches:
      - notPrincipals: [{presence: {}}]
`, service, servicePort, p.serverPort)
	return b.String()
}

// storyPolicy is the demo's policy, before and after the change it shows.
func storyPolicy(port uint16, plannerMayOpenIssues bool) string {
	tools := "search_issues, get_*"
	if plannerMayOpenIssues {
		tools += ", create_issue"
	}
	return fmt.Sprintf(`# Who may use which tool of the MCP server. The control plane watches this file:
# save it and the next call obeys.
apiVersion: outrigger.dev/v1alpha1
kind: AgentPolicy
metadata: {name: github-tools, namespace: tools}
spec:
  direction: Inbound
  ports: [{number: %d, protocol: MCP}]
  rules:
  - name: planner-reads
    action: Allow
    source: {serviceAccounts: [{namespace: agents, name: planner}]}
    mcp: {tools: [%s]}
  - name: intern-searches
    action: Allow
    source: {serviceAccounts: [{namespace: agents, name: intern}]}
    mcp: {tools: [search_issues]}
`, port, tools)
}

func allowAll(port uint16) string {
	return fmt.Sprintf(`# Everything is allowed and recorded. Change it: the control plane watches this file.
apiVersion: outrigger.dev/v1alpha1
kind: AgentPolicy
metadata: {name: allow-all, namespace: tools}
spec:
  direction: Inbound
  ports: [{number: %d, protocol: MCP}]
  rules:
  - name: everybody
    action: Allow
    mcp: {methods: ["*"]}
`, port)
}
