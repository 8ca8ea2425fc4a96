// Package discovery makes store changes of what carriers bring: resources of a
// control plane by xDS, and YAML files. There is one decoder for all carriers.
// It validates, compiles, and rejects by name what is wrong. A rejected resource
// never displaces a good one; a policy that was never good is put in quarantine,
// where it denies what it would govern.
//
// Carriers rank: what xDS says of a name goes before what a file says of it, and
// comes back to that when xDS removes it. Agent policies have several carriers,
// ranked as Carrier lists them. Policies of different names apply together,
// whoever carries them.
package discovery

import (
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"sync"

	"github.com/outrigger-mesh/outrigger/pkg/mesh"
	"github.com/outrigger-mesh/outrigger/pkg/pace"
	"github.com/outrigger-mesh/outrigger/pkg/store"
	"github.com/outrigger-mesh/outrigger/pkg/xds"
)

// The type URLs of the resources that Discovery understands.
const (
	AddressType       = "type.googleapis.com/istio.workload.Address"
	AuthorizationType = "type.googleapis.com/istio.security.Authorization"
	AgentPolicyType   = "type.googleapis.com/outrigger.policy.v1alpha1.AgentPolicy"
)

// Config says where changes go.
type Config struct {
	Store  *store.Store // required
	Self   mesh.Self    // a workload that names no cluster is of ours
	Logger *slog.Logger // nil: discards
}

// Discovery is an xds.Handler and a reader of files. Its methods may be called
// from any goroutine.
type Discovery struct {
	store   *store.Store
	log     *slog.Logger
	cluster string

	mu          sync.Mutex // guards what follows, and makes one change at a time
	names       interner
	plain       plainReader
	local       store.Change        // what the files say, all together; of agent policies see policies
	policies    carried             // agent policies, by carrier
	extensions  extensions          // what ECDS said last
	demand      *Demand             // who asked for workloads and services; nil if all come
	files       map[string]*source  // by path given to File
	provisional map[string]bool     // authorizations by xDS that are applied although something in them is unknown
	rejected    map[string]Rejected // by carrier and name
	told        map[string]bool     // surprises that were logged, once each
	pace        pace.Pace
}

// Rejected is a resource whose latest version is not in effect.
type Rejected struct {
	Carrier string // a type URL, or the file's path
	Name    string
	Err     error
}

// maxRejected bounds what Rejected remembers, and what is logged once.
const maxRejected = 1000

// New returns a Discovery, or says what is missing in c.
func New(c Config) (*Discovery, error) {
	if c.Store == nil {
		return nil, errors.New("discovery: Config.Store is missing")
	}
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
	d := &Discovery{
		store: c.Store, log: c.Logger, cluster: or(c.Self.ClusterID, defaultCluster),
		files: map[string]*source{}, provisional: map[string]bool{}, rejected: map[string]Rejected{}, told: map[string]bool{},
	}
	d.plain = plainReader{names: &d.names, cluster: d.cluster}
	return d, nil
}

// Rejected lists the resources whose latest version is not in effect, by
// carrier and name; at most 1000 of them.
func (d *Discovery) Rejected() []Rejected {
	d.mu.Lock()
	defer d.mu.Unlock()
	var all []Rejected
	for _, key := range slices.Sorted(maps.Keys(d.rejected)) {
		all = append(all, d.rejected[key])
	}
	return all
}

// Apply makes one change of the store out of one response.
func (d *Discovery) Apply(typeURL string, updated []xds.Resource, removed []string, first bool) []xds.Rejection {
	d.mu.Lock()
	defer d.mu.Unlock()
	b := d.batch(typeURL)
	switch typeURL {
	case AddressType:
		b.addresses(updated, removed)
		b.synced(first, store.KindWorkloads)
	case AuthorizationType:
		b.authorizations(updated, removed)
		b.synced(first, store.KindAuthorizations)
	case AgentPolicyType:
		b.agentPolicies(CarrierMesh, updated, removed)
		b.synced(first, CarrierMesh.Kind())
	case ExtensionType:
		b.extensionConfigs(updated, removed)
		b.synced(first, CarrierECDS.Kind())
	default:
		for _, r := range updated {
			b.reject(r.Name, fmt.Errorf("resources of type %s are not understood", typeURL))
		}
		return b.rejections
	}
	d.store.Apply(b.Change)
	if d.demand != nil && typeURL == AddressType {
		d.demand.answered(b, updated, removed)
	}
	return b.rejections
}

func emptyChange() store.Change {
	return store.Change{
		Workloads:      map[string]*mesh.Workload{},
		Services:       map[mesh.Name]*mesh.Service{},
		Authorizations: map[string]*authorization{},
		AgentPolicies:  map[string]*agent{},
	}
}

// A batch is one response on its way into the store.
type batch struct {
	*Discovery
	store.Change
	carrier    string
	snap       *store.Snapshot // before the batch
	rejections []xds.Rejection
}

func (d *Discovery) batch(carrier string) *batch {
	return &batch{Discovery: d, carrier: carrier, snap: d.store.Snapshot(), Change: emptyChange()}
}

func (b *batch) synced(first bool, kind string) {
	if first {
		b.Synced = append(b.Synced, kind)
	}
}

func (b *batch) reject(name string, err error) {
	b.rejections = append(b.rejections, xds.Rejection{Name: name, Err: err})
	b.note(b.carrier, name, err)
}

// note remembers why a resource is not in effect, or forgets it.
func (d *Discovery) note(carrier, name string, err error) {
	if err == nil && len(d.rejected) == 0 {
		return
	}
	key := carrier + " " + name
	if err == nil {
		delete(d.rejected, key)
		return
	}
	if _, known := d.rejected[key]; known || len(d.rejected) < maxRejected {
		d.rejected[key] = Rejected{carrier, name, err}
	}
}

// once logs a surprise the first time.
func (d *Discovery) once(surprise string, args ...any) {
	if d.told[surprise] || len(d.told) >= maxRejected {
		return
	}
	d.told[surprise] = true
	d.log.Warn(surprise, args...)
}

// An interner keeps one copy of the strings that many workloads share.
type interner struct{ known map[string]string }

const maxInterned = 1 << 16

func (i *interner) intern(s string) string {
	if s == "" {
		return ""
	}
	if kept, ok := i.known[s]; ok {
		return kept
	}
	if i.known == nil || len(i.known) >= maxInterned {
		i.known = map[string]string{}
	}
	i.known[s] = s
	return s
}
