package sidecar

import (
	"context"
	"encoding/json"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

const (
	goodPolicy = `apiVersion: outrigger.dev/v1alpha1
kind: AgentPolicy
metadata: {name: good, namespace: tools}
spec:
  ports: [{number: 9000, protocol: MCP}]
  rules: [{name: reads, action: Allow, mcp: {tools: ["get_*"]}}]
`
	badPolicy = `apiVersion: outrigger.dev/v1alpha1
kind: AgentPolicy
metadata: {name: bad, namespace: tools}
spec: {direction: Sideways}
`
	l4Policy = `apiVersion: outrigger.dev/v1alpha1
kind: Authorization
metadata: {name: l4, namespace: tools}
spec: {scope: NAMESPACE, action: DENY, groups: [{rules: [{matches: [{destinationPorts: [9000]}]}]}]}
`
)

func TestDumpHoldsWholePoliciesAndHowTheyCame(t *testing.T) {
	dir := t.TempDir()
	for name, text := range map[string]string{"good.yaml": goodPolicy, "bad.yaml": badPolicy, "l4.yaml": l4Policy} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	c := withCarriers([]string{"file", "ecds"}, func(c *Config) {
		c.Records.AccessLog, c.Discovery.PolicyFiles = Off, []string{dir}
	})
	s, err := New(c, Options{Version: "test", Log: io.Discard})
	if err != nil {
		t.Fatal(err)
	}
	defer s.closeLogs()
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error)
	go func() { done <- s.changes.File(ctx, dir) }()
	defer func() { cancel(); <-done }()
	for s.store.Snapshot().Counts().AgentPolicies < 2 {
		time.Sleep(time.Millisecond)
	}
	text, err := json.Marshal(s.dump())
	if err != nil {
		t.Fatal(err)
	}
	flat := strings.ReplaceAll(string(text), " ", "")
	for _, want := range []string{
		`"spec":{"ports":[{"number":9000,"protocol":"MCP"}],"rules":[{"name":"reads","action":"Allow","mcp":{"tools":["get_*"]}}]},"carriers":["file"]`,
		`"destinationPorts":[9000]`, `"scope":"Namespace","action":"Deny"`,
		`"name":"bad","namespace":"tools","problem":`,
		`"rejected":[{"carrier":"` + dir + `","name":"` + filepath.Join(dir, "bad.yaml") + `"`,
		`{"name":"file` + dir + `","delivered":true`, `{"name":"ecds","delivered":false,"pending":"agentpoliciesbycarrierecds(`,
		`"pending":["workloads","authorizations","agentpoliciesbycarrierecds(`,
	} {
		if !strings.Contains(flat, want) {
			t.Errorf("no %s in\n%s", want, flat)
		}
	}
}
