package command

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

const goodPolicy = `apiVersion: outrigger.dev/v1alpha1
kind: AgentPolicy
metadata: {name: tools, namespace: tools}
spec:
  ports: [{number: 9000, protocol: MCP}]
  rules:
  - name: reads
    action: Allow
    mcp: {tools: ["get_*"]}
`

func filter(value string) string {
	return `apiVersion: networking.istio.io/v1alpha3
kind: EnvoyFilter
metadata: {name: f, namespace: tools}
spec:
  configPatches:
  - applyTo: EXTENSION_CONFIG
    patch:
      operation: ADD
      value:
        name: outrigger-agent-policy
        typed_config:
          "@type": type.googleapis.com/xds.type.v3.TypedStruct
          type_url: type.googleapis.com/outrigger.policy.v1alpha1.AgentPolicy
          value:
            ` + strings.ReplaceAll(value, "\n", "\n            ") + "\n"
}

func TestCheckSaysWhatIsWrongWithEachDocument(t *testing.T) {
	for _, c := range []struct {
		name, text string
		fails      bool
		says       string
	}{
		{"policy", goodPolicy, false, "policy.yaml:1: AgentPolicy tools/tools: good"},
		{"allows-nothing", strings.Replace(goodPolicy, "Allow", "Deny", 1), false, "AgentPolicy tools/tools: note: no rule of it allows anything"},
		{"typo", strings.Replace(goodPolicy, "action", "acton", 1), true, "typo.yaml:8"},
		{"expression", strings.Replace(goodPolicy, "    mcp:", "    when: [\"nope(\"]\n    mcp:", 1), true, "when"},
		{"filter", filter(goodPolicy), false, "EnvoyFilter tools/f with tools/tools: good"},
		{"filter-typo", filter(strings.Replace(goodPolicy, "MCP", "MPC", 1)), true, "filter-typo.yaml:"},
		{"filter-name", strings.Replace(filter(goodPolicy), "name: outrigger-agent-policy", "name: other", 1), true, "no sidecar asks for"},
		{"filter-type", strings.Replace(filter(goodPolicy), "xds.type.v3.TypedStruct", "other.Type", 1), true, "@type"},
		{"filter-operation", strings.Replace(filter(goodPolicy), "ADD", "MERGE", 1), true, "operation"},
		{"filter-other", "apiVersion: v1\nkind: EnvoyFilter\nmetadata: {name: a, namespace: b}\nspec: {configPatches: [{applyTo: CLUSTER}]}\n---\n" + goodPolicy, false, "carries no agent policy"},
		{"pod", "apiVersion: v1\nkind: Pod\nmetadata: {name: a, namespace: b}\n---\n" + goodPolicy, false, "left alone"},
		{"settings", "workload: {name: a, namespace: b, serviceAccount: c, addresses: [10.0.0.1]}\n", false, "settings: good"},
		{"settings-typo", "workload: {nam: a}\n", true, "nam"},
		{"settings-of-a-pod", "tunnels: {opensPerSecond: 7}\n", false, "settings: not known here: workload.name, from $POD_NAME; workload.namespace, from $POD_NAMESPACE; "},
		{"settings-labels", "workload: {labelsFile: /etc/podinfo/labels}\n", false, "the labels in /etc/podinfo/labels"},
		{"settings-value", "policy: {carriers: [file]}\ninbound:\n  mcpPorts: [\"9000\"]\n  app: nowhere\n", true, "settings-value.yaml:4:8: inbound.app"},
		{"settings-carrier", "inbound: {}\npolicy:\n  carriers: [files]\n", true, "settings-carrier.yaml:3:13: policy.carriers"},
		{"filter-expression", filter(strings.Replace(goodPolicy, "    mcp:", "    when: [\"nope(\"]\n    mcp:", 1)), true, "filter-expression.yaml:23:"},
		{"nowhere", "apiVersion: outrigger.dev/v1alpha1\nkind: Workload\nmetadata: {name: a, namespace: b}\nspec: {node: n}\n", true, "nowhere.yaml:4:7: the workload has no address"},
		{"long", strings.Repeat("# much\n", 4<<20/7+1), true, "the file is larger than 4194304 bytes"},
		{"long-dump", `{"workloads": [` + strings.Repeat(" ", 5<<20) + `], "config": {}}`, true, "long-dump.yaml: dump: read the configuration in the dump"},
		{"twice", goodPolicy + "---\n" + goodPolicy, true, "defined twice, first at"},
		{"version", strings.Replace(goodPolicy, "v1alpha1", "v1", 1), true, "v1alpha1"},
		{"list", "apiVersion: v1\nkind: List\nitems:\n- " + strings.ReplaceAll(strings.Replace(goodPolicy, "MCP", "MPC", 1), "\n", "\n  "), true, "list.yaml:"},
		{"values", "replicas: 3\n---\n" + goodPolicy, false, "nor settings, left alone"},
		{"istio", "apiVersion: security.istio.io/v1\nkind: AuthorizationPolicy\nmetadata: {name: a, namespace: b}\n---\n" + goodPolicy, false, "not checked"},
		{"empty", "apiVersion: v1\nkind: Pod\nmetadata: {name: a, namespace: b}\n", true, "left alone"},
		{"not-yaml", "a: [", true, "not-yaml.yaml"},
		{"not-a-dump", `{"workloads": 3}`, true, "dump"},
	} {
		dir := t.TempDir()
		if err := os.WriteFile(filepath.Join(dir, c.name+".yaml"), []byte(c.text), 0o600); err != nil {
			t.Fatal(err)
		}
		var out bytes.Buffer
		root := Outrigger()
		root.SetOut(&out)
		root.SetErr(&out)
		root.SetArgs([]string{"check", dir})
		err := root.Execute()
		if (err != nil) != c.fails || !strings.Contains(out.String(), c.says) {
			t.Errorf("%s: %v: %s", c.name, err, out.String())
		}
	}
}
