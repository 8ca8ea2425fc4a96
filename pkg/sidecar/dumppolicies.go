package sidecar

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/go-json-experiment/json/jsontext"

	"github.com/outrigger-mesh/outrigger/pkg/admin"
	"github.com/outrigger-mesh/outrigger/pkg/discovery"
	"github.com/outrigger-mesh/outrigger/pkg/policy"
	"github.com/outrigger-mesh/outrigger/pkg/store"
	"github.com/outrigger-mesh/outrigger/pkg/xds"
)

// dumped is what both kinds of policies show.
func dumped(key, version string, quarantined error, spec jsontext.Value, specErr error) admin.Policy {
	d := admin.Policy{Version: version}
	d.Namespace, d.Name, _ = strings.Cut(key, "/")
	if err := cmp.Or(quarantined, specErr); err != nil {
		d.Problem = err.Error()
	}
	if spec != nil {
		d.Spec = spec
	}
	return d
}

func sorted(list []admin.Policy) []admin.Policy {
	slices.SortFunc(list, func(a, b admin.Policy) int {
		return cmp.Or(strings.Compare(a.Namespace, b.Namespace), strings.Compare(a.Name, b.Name))
	})
	return list
}

func authorizations(snap *store.Snapshot) []admin.Policy {
	list := []admin.Policy{}
	for key, a := range snap.Authorizations() {
		spec, err := discovery.AuthorizationSpec(a)
		d := dumped(key, a.Version(), a.Quarantined(), spec, err)
		// As ztunnel writes them.
		d.Scope = map[policy.Scope]string{policy.ScopeGlobal: "Global", policy.ScopeNamespace: "Namespace", policy.ScopeWorkload: "WorkloadSelector"}[a.Scope()]
		d.Action = map[policy.Action]string{policy.ActionAllow: "Allow", policy.ActionDeny: "Deny"}[a.Action()]
		list = append(list, d)
	}
	return sorted(list)
}

func (s *Sidecar) agentPolicies(snap *store.Snapshot) []admin.Policy {
	list := []admin.Policy{}
	for key, p := range snap.AgentPolicies() {
		spec, err := discovery.AgentSpec(p)
		d := dumped(key, p.Version(), p.Quarantined(), spec, err)
		for _, by := range s.changes.CarriedBy(key) {
			d.Carriers = append(d.Carriers, by.String())
		}
		list = append(list, d)
	}
	return sorted(list)
}

// carriers are how all that brings configuration stands.
func (s *Sidecar) carriers(snap *store.Snapshot) []admin.Carrier {
	list := []admin.Carrier{}
	add := func(name, kind string, client *xds.Client) {
		c := admin.Carrier{Name: name, Delivered: !slices.Contains(snap.Pending(), kind)}
		if !c.Delivered {
			c.Pending = kind
		}
		if client != nil {
			describe(&c, client.Status())
		}
		list = append(list, c)
	}
	add("workloads", store.KindWorkloads, s.xds)
	add("authorizations", store.KindAuthorizations, s.xds)
	for by, client := range map[discovery.Carrier]*xds.Client{discovery.CarrierMesh: s.xds, discovery.CarrierPlane: s.policies, discovery.CarrierECDS: s.xds} {
		if s.config.carries(by) {
			add(by.String(), by.Kind(), client)
		}
	}
	for _, path := range s.config.Discovery.PolicyFiles {
		add(fmt.Sprintf("%v %s", discovery.CarrierFile, path), discovery.FileKind(path), nil)
	}
	slices.SortFunc(list, func(a, b admin.Carrier) int { return strings.Compare(a.Name, b.Name) })
	return list
}

func describe(c *admin.Carrier, st xds.Status) {
	c.Target, c.Connected, c.Since, c.Attempts, c.Error = st.Target, st.Connected, moment(st.Since), st.Attempts, st.Error
	for _, t := range st.Types {
		c.Types = append(c.Types, admin.CarrierType{
			URL: t.URL, Delivered: t.Synced, Resources: t.Resources, LastACK: moment(t.LastACK), LastNACK: moment(t.LastNACK), NACK: t.NACK,
		})
	}
}

func moment(t time.Time) string {
	if t.IsZero() {
		return ""
	}
	return stamp(t)
}

func (s *Sidecar) rejected() []admin.Rejected {
	list := []admin.Rejected{}
	for _, r := range s.changes.Rejected() {
		list = append(list, admin.Rejected{Carrier: r.Carrier, Name: r.Name, Problem: r.Err.Error()})
	}
	return list
}
