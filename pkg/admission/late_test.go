package admission

import (
	"testing"

	"github.com/outrigger-mesh/outrigger/pkg/policy"
	"github.com/outrigger-mesh/outrigger/pkg/store"
)

// Who asks about all connections may hold a snapshot that is older than the one by which the
// last of them was admitted.
func TestAnOlderSnapshotCutsNobodyWhomANewerOneAdmitted(t *testing.T) {
	s := store.New(store.Config{})
	r := NewRegister(s)
	old := s.Snapshot()
	s.Apply(store.Change{})
	e := r.Admit(func(snap *store.Snapshot) policy.Decision { return policy.Decision{Allowed: snap != old} })
	defer e.Release()
	if d := e.again(old); !e.Decision.Allowed || !d.Allowed {
		t.Errorf("first %+v, then %+v", e.Decision, d)
	}
	s.Apply(store.Change{})
	if d := e.again(s.Snapshot()); !d.Allowed {
		t.Errorf("by a newer one %+v", d)
	}
}
