//go:build conformance

package conformance

import (
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/outrigger-mesh/outrigger/pkg/meshtest/free"
	"github.com/outrigger-mesh/outrigger/pkg/meshtest/front"
)

func TestSuiteFindsTheSameThroughTheSidecars(t *testing.T) {
	programs := front.Build(t)
	for _, revision := range revisions() {
		t.Run(revision, func(t *testing.T) {
			server := "http://" + everything(t, revision) + "/"
			mesh := front.Start(t, programs, server, free.Network(), "")
			enough(t, equal(t, revision, server, mesh.Agents[0].URL), fewest)
		})
	}
}

// deniedTool is called by no scenario but tools-call-image.
const deniedTool = "test_image_content"

const denyOne = `apiVersion: outrigger.dev/v1alpha1
kind: AgentPolicy
metadata: {name: all-but-one, namespace: tools}
spec:
  direction: Inbound
  ports: [{number: %s, protocol: MCP}]
  rules:
  - name: everybody
    action: Allow
    mcp: {methods: ["*"]}
  - name: not-this-one
    action: Deny
    mcp: {tools: [%s]}
`

func TestSuiteLosesThroughTheSidecarsOnlyWhatPolicyDenies(t *testing.T) {
	programs := front.Build(t)
	for _, revision := range revisions() {
		t.Run(revision, func(t *testing.T) {
			addr := everything(t, revision)
			_, port, err := net.SplitHostPort(addr)
			if err != nil {
				t.Fatal(err)
			}
			file := filepath.Join(t.TempDir(), "policy.yaml")
			if err := os.WriteFile(file, fmt.Appendf(nil, denyOne, port, deniedTool), 0o600); err != nil {
				t.Fatal(err)
			}
			mesh := front.Start(t, programs, "http://"+addr+"/", free.Network(), file)
			c, err := Cached(cached(t)).CompareServers(t.Context(), revision, "http://"+addr+"/", mesh.Agents[0].URL)
			if err != nil {
				t.Fatal(err)
			}
			enough(t, c, fewest)
			lost := 0
			for _, d := range c.Differences {
				if !strings.HasPrefix(d.Check, "tools-call-image/") {
					t.Error(d)
				}
				lost++
			}
			if lost == 0 {
				t.Error("the denied tool's checks did not change")
			}
			t.Logf("%d checks changed, all of the denied tool's scenario", lost)
		})
	}
}
