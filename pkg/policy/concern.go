package policy

import (
	"slices"

	"github.com/outrigger-mesh/outrigger/pkg/mesh"
)

// Concerns tells whether New makes anything of the policy for the workload w
// that self names. A nil w is concerned by none.
func (a *Authorization) Concerns(self *mesh.Self, w *mesh.Workload) bool {
	return w != nil && a.applies(self, w, slices.Contains(w.AuthorizationPolicies, a.Key()))
}

// Concerns tells whether New makes anything of the policy for the workload that
// self names, whatever the mesh tells of it.
func (a *Agent) Concerns(self *mesh.Self) bool {
	selected, _ := a.selects(self)
	return selected
}
