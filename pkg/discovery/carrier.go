package discovery

import (
	"github.com/outrigger-mesh/outrigger/pkg/store"
	"github.com/outrigger-mesh/outrigger/pkg/xds"
)

// A Carrier brings agent policies. Of several that bring a policy of one name
// the one that is listed first here is obeyed, except that a policy that was
// never valid gives way to one that is. When a carrier removes its policy, the
// next one's comes into effect.
type Carrier uint8

const (
	CarrierMesh  Carrier = iota // our own type, over the xDS connection to the mesh's control plane
	CarrierPlane                // our own type, over an xDS connection of its own
	CarrierECDS                 // extension configurations over the mesh's connection, as istiod serves them
	CarrierFile                 // files and directories
	carriers                    // how many there are
)

// String is the carrier's name in settings.
func (c Carrier) String() string {
	return [...]string{"mesh", "xds", "ecds", "file"}[c]
}

// Kind is what the carrier delivers, for store.Config.Expect: until it has
// delivered once nothing is allowed, and records and readiness show this text.
// Of files see FileKind.
func (c Carrier) Kind() string {
	const kind = store.KindAgentPolicies + " by carrier "
	switch c {
	case CarrierMesh:
		return kind + "mesh (the control plane must serve our type, as outrigger-control does; a stock istiod does not: use --policy-carrier ecds)"
	case CarrierPlane:
		return kind + "xds (check --policy-xds-address and what is served there)"
	case CarrierECDS:
		return kind + "ecds (the control plane must be an istiod, which answers even if no EnvoyFilter selects the pod)"
	}
	return kind + c.String()
}

// FileKind is what a file source delivers, for store.Config.Expect: until path
// could be read once, nothing is allowed.
func FileKind(path string) string {
	return store.KindAgentPolicies + " by carrier file (" + path + " must exist and be readable)"
}

// carried are the agent policies that each carrier brings, by "namespace/name".
type carried [carriers]map[string]*agent

// carry takes note of what a carrier says of a policy, nil if it removed it, and
// changes what is in effect.
func (b *batch) carry(by Carrier, key string, p *agent) {
	if p == nil {
		delete(b.policies[by], key)
	} else {
		if b.policies[by] == nil {
			b.policies[by] = map[string]*agent{}
		}
		b.policies[by][key] = p
	}
	b.AgentPolicies[key] = b.policies.inEffect(key)
}

// inEffect is the first valid version of a policy, else the first.
func (c *carried) inEffect(key string) (first *agent) {
	for _, policies := range c {
		switch p := policies[key]; {
		case p == nil:
		case p.Quarantined() == nil:
			return p
		case first == nil:
			first = p
		}
	}
	return first
}

// CarriedBy names the carriers that bring a policy, in order of their rank.
func (d *Discovery) CarriedBy(key string) (all []Carrier) {
	d.mu.Lock()
	defer d.mu.Unlock()
	for c := range carriers {
		if d.policies[c][key] != nil {
			all = append(all, c)
		}
	}
	return all
}

// Plane is the handler of an xDS connection that carries nothing but agent
// policies of our own type.
func (d *Discovery) Plane() xds.Handler { return plane{d} }

type plane struct{ *Discovery }

func (p plane) Apply(typeURL string, updated []xds.Resource, removed []string, first bool) []xds.Rejection {
	p.mu.Lock()
	defer p.mu.Unlock()
	b := p.batch("policy xDS " + typeURL)
	b.agentPolicies(CarrierPlane, updated, removed)
	b.synced(first, CarrierPlane.Kind())
	p.store.Apply(b.Change)
	return b.rejections
}
