package command

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/santhosh-tekuri/jsonschema/v6"
	"go.yaml.in/yaml/v4"
)

const policySchema = "../../schema/agentpolicy.schema.json"

// fenced are the YAML blocks of the README, at its own indentation.
func fenced(t *testing.T) (blocks []string) {
	t.Helper()
	text, err := os.ReadFile("../../README.md")
	if err != nil {
		t.Fatal(err)
	}
	for i, part := range strings.Split(string(text), "```") {
		if body, ok := strings.CutPrefix(part, "yaml\n"); ok && i%2 == 1 {
			blocks = append(blocks, body)
		}
	}
	return blocks
}

// judged is what a schema says of a YAML document.
func judged(t *testing.T, schema *jsonschema.Schema, text string) error {
	t.Helper()
	var document any
	if err := yaml.Unmarshal([]byte(text), &document); err != nil {
		t.Fatalf("%v: %s", err, text)
	}
	return schema.Validate(document)
}

// checked is whether `outrigger check` accepts a document.
func checked(t *testing.T, text string) (string, error) {
	t.Helper()
	path := filepath.Join(t.TempDir(), "document.yaml")
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	var out bytes.Buffer
	root := Outrigger()
	root.SetOut(&out)
	root.SetErr(&out)
	root.SetArgs([]string{"check", path})
	err := root.Execute()
	return out.String(), err
}

const fullPolicy = `apiVersion: outrigger.dev/v1alpha1
kind: AgentPolicy
metadata: {name: full.example, namespace: tools}
spec:
  direction: Inbound
  target: {selector: {matchLabels: {app: github}}}
  ports: [{number: 9000, protocol: MCP, paths: [/mcp]}, {number: 9001, protocol: Opaque}]
  mcpBaseProtocolMethodsOption: SKIP_BASE_PROTOCOL_METHODS
  mcpLinkedResourcesOption: FILTER_LINKED_RESOURCES
  recordedArguments: {form: Redacted, reveal: [repository]}
  jwt:
    resource: https://tools.example/mcp
    issuers: [{issuer: https://id.example, audiences: [a], jwksUri: https://id.example/keys}]
  rules:
  - name: narrow
    action: Require
    mode: AuditOnly
    source: {spiffe: [spiffe://cluster.local/ns/agents/sa/planner], namespaces: [agents]}
    mcp:
      tools: [create_issue]
      arguments: [{path: repository, in: {values: [a/b, a/c]}}, {path: title, present: true}]
    when: ['source.identity.namespace == "agents"']
    scopes: ["tools:write"]
`

func TestTheSchemaOfPoliciesFitsTheDocumentsThatCheckAccepts(t *testing.T) {
	schema, err := jsonschema.NewCompiler().Compile(policySchema)
	if err != nil {
		t.Fatal(err)
	}
	good := []string{goodPolicy, fullPolicy}
	for _, block := range fenced(t) {
		if strings.Contains(block, "kind: AgentPolicy") {
			good = append(good, block)
		} else if strings.HasPrefix(block, "spec:") && strings.Contains(block, "rules:") {
			good = append(good, "apiVersion: outrigger.dev/v1alpha1\nkind: AgentPolicy\nmetadata: {name: a, namespace: b}\n"+block)
		}
	}
	if len(good) < 4 {
		t.Fatal("the README has no policies")
	}
	for _, text := range good {
		if says, err := checked(t, text); err != nil {
			t.Errorf("check: %v: %s%s", err, says, text)
		}
		if err := judged(t, schema, text); err != nil {
			t.Errorf("schema: %v: %s", err, text)
		}
	}
	for _, change := range [][2]string{
		{"action", "acton"}, {"Allow", "allow"}, {"MCP", "mcp"}, {"namespace: tools", "namespce: tools"}, {", namespace: tools", ""},
		{"kind: AgentPolicy", "kind: AgentPolice"}, {"v1alpha1", "v1"}, {"tools: [", "tolls: ["}, {"number: 9000", "number: web"},
		{"name: tools,", "name: Tools,"}, {"spec:", "specs:"}, {"rules:", "rule:"},
	} {
		text := strings.Replace(goodPolicy, change[0], change[1], 1)
		if _, err := checked(t, text); err == nil || text == goodPolicy {
			t.Errorf("check accepts %s instead of %s", change[1], change[0])
		}
		if judged(t, schema, text) == nil {
			t.Errorf("the schema accepts %s instead of %s", change[1], change[0])
		}
	}
}

func TestTheSchemaOfSettingsFitsTheReadmesFile(t *testing.T) {
	text, err := ConfigSchema()
	if err != nil {
		t.Fatal(err)
	}
	document, err := jsonschema.UnmarshalJSON(strings.NewReader(text))
	if err != nil {
		t.Fatal(err)
	}
	compiler := jsonschema.NewCompiler()
	if err := compiler.AddResource("settings.json", document); err != nil {
		t.Fatal(err)
	}
	schema, err := compiler.Compile("settings.json")
	if err != nil {
		t.Fatal(err)
	}
	found := 0
	for _, block := range fenced(t) {
		if !strings.Contains(block, "tunnels:") {
			continue
		}
		found++
		if says, err := checked(t, block); err != nil {
			t.Errorf("check: %v: %s", err, says)
		}
		if err := judged(t, schema, block); err != nil {
			t.Errorf("schema: %v", err)
		}
		if judged(t, schema, strings.Replace(block, "Timeout: ", "Timeout: 1", 1)+"more: {}\n") == nil {
			t.Error("the schema accepts settings that do not exist")
		}
	}
	if found == 0 {
		t.Fatal("the README shows no settings")
	}
}
