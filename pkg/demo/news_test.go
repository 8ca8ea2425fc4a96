package demo

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// heard is what the news tell of lines that are added to the three logs.
func heard(t *testing.T, control, sidecar, audit string) string {
	t.Helper()
	p := &layout{config: Config{Policy: "my.yaml"}, dir: t.TempDir(), serverPort: 9000, policies: []string{"/my.yaml"},
		control: place{name: "control"}, server: place{name: "github", namespace: "tools", account: "github"}}
	var out strings.Builder
	m := newStage(p)
	if err := os.Mkdir(p.file("logs"), 0o700); err != nil {
		t.Fatal(err)
	}
	m.processes = []*process{{name: "control", log: p.file("logs", "control.log")}}
	for name, text := range map[string]string{"control.log": control, "sidecar-github.log": sidecar, "audit-github.jsonl": audit} {
		if err := os.WriteFile(filepath.Join(p.dir, "logs", name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	for _, n := range m.news(newTelling(&out, false, p)) {
		n.each()
		n.each() // and tells nothing twice
	}
	return out.String()
}

func TestAPolicyThatGovernsAnotherPortOrNamespaceIsTold(t *testing.T) {
	got := heard(t, "", `time=T level=WARN msg="port is closed" port=9000 problem="it speaks MCP"`+"\n", "")
	for _, want := range []string{"/my.yaml", "port 9000", "namespace tools", "app: github", "number: 9000, protocol: MCP", "every call is denied"} {
		if strings.Count(got, "✗") != 1 || !strings.Contains(got, want) {
			t.Errorf("news lack %q: %s", want, got)
		}
	}
	if got := heard(t, "", `time=T level=INFO msg="port is governed by an agent policy again" port=9000`+"\n", ""); !strings.Contains(got, "✓ a policy governs your server again") {
		t.Errorf("told %q", got)
	}
}

func TestADenialIsToldOnceAndWhatIsAllowedIsNot(t *testing.T) {
	denied := `{"event":"call","source":{"identity":"spiffe://cluster.local/ns/agents/sa/planner"},"mcp":{"method":"tools/call","name":"write 100%d"},"decision":{"allowed":false,"reason":"denied because of this"}}`
	allowed := strings.Replace(denied, `"allowed":false`, `"allowed":true`, 1)
	got := heard(t, "", "", strings.Join([]string{denied, allowed, denied, `{"event":"connection","decision":{"allowed":false}}`, "not JSON", ""}, "\n"))
	const want = "✗ \"tools/call write 100%d\" of spiffe://cluster.local/ns/agents/sa/planner: denied because of this\n"
	if got != want {
		t.Errorf("told %q, not %q", got, want)
	}
}

func TestWhatIsWrongWithAWatchedFileIsTold(t *testing.T) {
	bad := `time=T level=ERROR msg="configuration problem" at=/my.yaml:3:1 problem="unknown field"`
	got := heard(t, "level=INFO msg=\"control plane serves\"\n"+bad+"\nlevel=INFO msg=\"configuration is good again\"\n", "", "")
	if want := "✗ " + bad + "\n✓ level=INFO msg=\"configuration is good again\"\n"; got != want {
		t.Errorf("told %q, not %q", got, want)
	}
}
