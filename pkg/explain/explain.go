// Package explain answers, from a configuration dump alone, where a connection would
// go, who would refuse it, and how a recorded call was decided. It asks the same code
// that the sidecar asks, about a snapshot that it makes again from the dump.
package explain

import (
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"

	"github.com/outrigger-mesh/outrigger/pkg/admin"
	"github.com/outrigger-mesh/outrigger/pkg/discovery"
	"github.com/outrigger-mesh/outrigger/pkg/mesh"
	"github.com/outrigger-mesh/outrigger/pkg/policy"
	"github.com/outrigger-mesh/outrigger/pkg/route"
	"github.com/outrigger-mesh/outrigger/pkg/sidecar"
	"github.com/outrigger-mesh/outrigger/pkg/store"
)

// MaxDump is the largest dump that is read, in bytes.
const MaxDump = 512 << 20

// A World is what a sidecar knew when its dump was made.
type World struct {
	self   mesh.Self
	config sidecar.Config
	snap   *store.Snapshot
	alone  []admin.Ejection // what was left alone then
	routes *route.Resolver

	// Pending is what had not been delivered to the sidecar: while there is any, it
	// denies everything. We go on as if it had come.
	Pending []string
	// Problems are what of the dump could not be read, and is left out or denies.
	Problems []error
}

// dump is admin.Dump with the configuration in its own form.
type dump struct {
	Workloads     []admin.Workload `json:"workloads"`
	Services      []admin.Service  `json:"services"`
	Policies      []admin.Policy   `json:"policies"`
	AgentPolicies []admin.Policy   `json:"agentPolicies"`
	Pending       []string         `json:"pending"`
	Ejections     []admin.Ejection `json:"ejections"`
	Config        jsontext.Value   `json:"config"`
}

// Load reads what /config_dump of a sidecar's admin port answers.
func Load(r io.Reader) (*World, error) {
	var d dump
	all := &io.LimitedReader{R: r, N: MaxDump + 1}
	if err := json.UnmarshalRead(all, &d); err != nil {
		if all.N <= 0 {
			return nil, fmt.Errorf("the configuration dump is longer than %d MiB, the most that is read", MaxDump>>20)
		}
		return nil, fmt.Errorf("read the configuration dump: %w; get one with: curl -s localhost:15000/config_dump", err)
	}
	w := &World{Pending: d.Pending}
	if len(d.Config) == 0 {
		return nil, errors.New("the dump has no config: it is not one of outrigger's /config_dump")
	}
	if err := json.Unmarshal(d.Config, &w.config); err != nil {
		return nil, fmt.Errorf("read the configuration in the dump: %w", err)
	}
	var err error
	if w.self, err = w.config.Self(); err != nil {
		return nil, fmt.Errorf("read the configuration in the dump: %w", err)
	}
	if err := w.restore(&d); err != nil {
		return nil, err
	}
	w.alone = d.Ejections
	balancer := route.NewBalancer(route.BalancerConfig{Failures: 1, Ejection: 24 * time.Hour, MaxKnown: len(w.alone) + 1})
	for _, e := range w.alone {
		balancer.Report(e.WorkloadUID, errors.New(e.Problem))
	}
	w.routes, err = route.New(route.Config{Self: &w.self, HBONEPort: w.config.HBONEPort(), AllowUnknown: w.config.Outbound.PassthroughUnknown, Balancer: balancer})
	return w, err
}

// restore makes the snapshot again.
func (w *World) restore(d *dump) error {
	s := store.New(store.Config{Self: w.self})
	change := store.Change{Workloads: map[string]*mesh.Workload{}, Services: map[mesh.Name]*mesh.Service{}}
	for i := range d.Workloads {
		one, err := d.Workloads[i].Restore()
		if err != nil {
			w.Problems = append(w.Problems, err)
			continue
		}
		change.Workloads[one.UID] = one
	}
	for i := range d.Services {
		one, err := d.Services[i].Restore()
		if err != nil {
			w.Problems = append(w.Problems, err)
			continue
		}
		change.Services[one.Key()] = one
	}
	s.Apply(change)
	if err := w.restorePolicies(s, d); err != nil {
		return err
	}
	w.snap = s.Snapshot()
	return nil
}

// A document is a policy as people write it.
type document struct {
	APIVersion string            `json:"apiVersion"`
	Kind       string            `json:"kind"`
	Metadata   map[string]string `json:"metadata"`
	Spec       any               `json:"spec"`
}

// restorePolicies has the policies read as those of policy files are.
func (w *World) restorePolicies(s *store.Store, d *dump) error {
	reader, err := discovery.New(discovery.Config{Store: s, Self: w.self})
	if err != nil {
		return err
	}
	texts := map[string][]byte{}
	for kind, policies := range map[string][]admin.Policy{"Authorization": d.Policies, "AgentPolicy": d.AgentPolicies} {
		for _, p := range policies {
			name := fmt.Sprintf("%s %s/%s", kind, p.Namespace, p.Name)
			if p.Spec == nil {
				w.Problems = append(w.Problems, fmt.Errorf("%s is not in the dump: %s", name, p.Problem))
				continue
			}
			if texts[name], err = json.Marshal(document{discovery.APIVersion, kind, map[string]string{"name": p.Name, "namespace": p.Namespace}, p.Spec}); err != nil {
				return err
			}
		}
	}
	if err := reader.Load(texts); err != nil {
		w.Problems = append(w.Problems, err)
	}
	return nil
}

// receiver compiles the policies of another workload, as far as we know them.
func (w *World) receiver(of *mesh.Workload) *policy.Policies {
	var all []*policy.Authorization
	for _, a := range w.snap.Authorizations() {
		all = append(all, a)
	}
	self := w.self
	self.Principal, self.Name, self.Namespace, self.Addresses = of.Principal(), of.Name, of.Namespace, of.Addresses
	return policy.New(&self, of, all, nil)
}
