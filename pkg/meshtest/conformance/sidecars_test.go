//go:build conformance

package conformance

import (
	"testing"

	"github.com/outrigger-mesh/outrigger/pkg/meshtest/front"
)

func TestSuiteFindsTheSameThroughTheSidecars(t *testing.T) {
	programs := front.Build(t)
	for _, revision := range revisions() {
		t.Run(revision, func(t *testing.T) {
			server := "http://" + everything(t, revision) + "/"
			mesh := front.Start(t, programs, server, "127.0.115.0/24", "")
			equal(t, revision, server, mesh.Agents[0].URL)
		})
	}
}
