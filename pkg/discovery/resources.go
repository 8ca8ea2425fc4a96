package discovery

import (
	"fmt"
	"strings"

	"google.golang.org/protobuf/proto"

	"github.com/outrigger-mesh/outrigger/pkg/mesh"
	"github.com/outrigger-mesh/outrigger/pkg/policy"
	"github.com/outrigger-mesh/outrigger/pkg/xds"
	securitypb "github.com/outrigger-mesh/outrigger/proto/istio/security"
	workloadpb "github.com/outrigger-mesh/outrigger/proto/istio/workload"
	policypb "github.com/outrigger-mesh/outrigger/proto/outrigger/policy/v1alpha1"
)

type (
	authorization = policy.Authorization
	agent         = policy.Agent
)

func (b *batch) addresses(updated []xds.Resource, removed []string) {
	for _, name := range removed {
		b.note(b.carrier, name, nil)
		if b.snap.WorkloadByUID(name) != nil {
			b.Workloads[name] = b.local.Workloads[name]
		} else if namespace, hostname, ok := strings.Cut(name, "/"); ok {
			key := mesh.Name{Namespace: namespace, Hostname: hostname}
			b.Services[key] = b.local.Services[key]
		}
	}
	b.pace.Begin()
	for _, r := range updated {
		err := b.address(r)
		if err != nil {
			b.reject(r.Name, err)
		} else {
			b.note(b.carrier, r.Name, nil)
		}
		b.giveWay()
	}
}

// giveWay lets the data path have its turn. While nothing is allowed yet, there is none.
func (b *batch) giveWay() {
	if b.snap.Policies() != nil {
		b.pace.Step()
	}
}

// address takes in a workload or service.
func (b *batch) address(r xds.Resource) error {
	if r.Err == nil && r.Body.GetTypeUrl() == AddressType {
		if w := b.plain.read(r.Name, r.Body.GetValue()); w != nil {
			b.Workloads[w.UID] = w
			return nil
		}
	}
	m := &workloadpb.Address{}
	if err := unpack(r, m); err != nil {
		return err
	}
	w, svc, ignored, err := readAddress(m, b.cluster, b.names.intern)
	switch {
	case err != nil:
		return err
	case w != nil && w.UID != r.Name:
		return fmt.Errorf("the resource is named %q and its uid is %q", r.Name, w.UID)
	case svc != nil && svc.Key().String() != r.Name:
		return fmt.Errorf("the resource is named %q and is service %q", r.Name, svc.Key())
	case w != nil:
		b.Workloads[w.UID] = w
	default:
		b.Services[svc.Key()] = svc
	}
	for _, field := range ignored {
		// Fields in lists and maps are told once, not once per entry.
		b.once("the control plane sends workloads or services with a field that is not known here and is ignored: " + withoutIndexes(field))
	}
	return nil
}

// readAddress reads the one or the other. ignored are the fields that are not
// known and, as they are no policy, do no harm.
func readAddress(m *workloadpb.Address, cluster string, intern func(string) string) (w *mesh.Workload, svc *mesh.Service, ignored []string, err error) {
	c := &checker{intern: intern}
	var parts unknowns
	switch t := m.GetType().(type) {
	case *workloadpb.Address_Workload:
		parts = unknown(t.Workload.ProtoReflect())
		c.enums(parts.values)
		w = c.workload(t.Workload, cluster)
	case *workloadpb.Address_Service:
		parts = unknown(t.Service.ProtoReflect())
		c.enums(parts.values)
		svc = c.service(t.Service)
	default:
		c.add("type", "set workload or service", "is neither a workload nor a service")
	}
	if err := c.err(); err != nil {
		return nil, nil, nil, err
	}
	return w, svc, parts.fields, nil
}

// withoutIndexes shortens ports[3].field 9 to ports.field 9.
func withoutIndexes(path string) string {
	var out strings.Builder
	depth := 0
	for _, r := range path {
		switch {
		case r == '[':
			depth++
		case r == ']':
			depth--
		case depth == 0:
			out.WriteRune(r)
		}
	}
	return out.String()
}

// unpack decodes a resource's body, which must be of m's type.
func unpack(r xds.Resource, m proto.Message) error {
	if r.Err != nil {
		return r.Err
	}
	want := m.ProtoReflect().Descriptor().FullName()
	if r.Body.MessageName() != want {
		return fmt.Errorf("is a %q, not a %s", r.Body.GetTypeUrl(), want)
	}
	if err := proto.Unmarshal(r.Body.GetValue(), m); err != nil {
		return fmt.Errorf("decode %s: %w", want, err)
	}
	return nil
}

func (b *batch) authorizations(updated []xds.Resource, removed []string) {
	for _, name := range removed {
		b.note(b.carrier, name, nil)
		delete(b.provisional, name)
		b.Authorizations[name] = b.local.Authorizations[name]
	}
	for _, r := range updated {
		m := &securitypb.Authorization{}
		err := unpack(r, m)
		if err != nil {
			m = nil
		}
		b.authorization(r, m, err)
	}
}

// authorization takes in an L4 policy, or err if it could not be decoded. One in
// which something is unknown is rejected, and is applied all the same, in its
// strictest reading, if there is none with its name that was understood.
func (b *batch) authorization(r xds.Resource, m *securitypb.Authorization, err error) {
	a, scope, err := compileAuthorization(r.Name, r.Version, m, err)
	if err == nil {
		b.Authorizations[r.Name] = a
		delete(b.provisional, r.Name)
		b.note(b.carrier, r.Name, nil)
		return
	}
	b.reject(r.Name, err)
	if good := b.snap.Authorization(r.Name); good != nil && good.Quarantined() == nil && !b.provisional[r.Name] {
		return
	}
	if a == nil {
		namespace, name, _ := strings.Cut(r.Name, "/")
		b.Authorizations[r.Name] = policy.QuarantineAuthorization(name, namespace, scope, err)
		delete(b.provisional, r.Name)
		return
	}
	b.Authorizations[r.Name] = a
	b.provisional[r.Name] = true
}

// compileAuthorization compiles m, which is called resource. With an error the
// policy, if there is one, is what could be understood in its strictest reading.
func compileAuthorization(resource, version string, m *securitypb.Authorization, err error) (*authorization, policy.Scope, error) {
	if err != nil {
		return nil, policy.ScopeUnknown, err
	}
	spec := authorizationSpec(m, version)
	if err := sameName(resource, spec.Namespace, spec.Name); err != nil {
		return nil, spec.Scope, err
	}
	a, err := policy.CompileAuthorization(spec)
	if parts := unknownParts(&spec); err == nil && len(parts) > 0 {
		err = fmt.Errorf("has parts that are not understood: %s; remove them, or upgrade to a version that knows them", strings.Join(parts, ", "))
	}
	return a, spec.Scope, err
}

// unknownParts says where in a policy something is not understood.
func unknownParts(s *policy.AuthorizationSpec) (parts []string) {
	at := func(where, what string) {
		if what != "" && len(parts) < maxProblems {
			parts = append(parts, strings.TrimPrefix(where+": "+what, ": "))
		}
	}
	at("", s.Unknown)
	for i, g := range s.Groups {
		at(fmt.Sprintf("groups[%d]", i), g.Unknown)
		for j, r := range g.Rules {
			at(fmt.Sprintf("groups[%d].rules[%d]", i, j), r.Unknown)
			for k, m := range r.Matches {
				at(fmt.Sprintf("groups[%d].rules[%d].matches[%d]", i, j, k), m.Unknown)
			}
		}
	}
	return parts
}

// sameName makes sure that a policy is what its resource is called, so that it
// can be removed by that name.
func sameName(resource, namespace, name string) error {
	if got := namespace + "/" + name; got != resource {
		return fmt.Errorf("the resource is named %q and is policy %q", resource, got)
	}
	return nil
}

func (b *batch) agentPolicies(by Carrier, updated []xds.Resource, removed []string) {
	for _, name := range removed {
		b.note(b.carrier, name, nil)
		b.carry(by, name, nil)
	}
	for _, r := range updated {
		m := &policypb.AgentPolicy{}
		err := unpack(r, m)
		if err != nil {
			m = nil
		}
		if err := b.agentPolicy(by, r.Name, r.Version, m, err); err != nil {
			b.reject(r.Name, err)
		} else {
			b.note(b.carrier, r.Name, nil)
		}
	}
}

// agentPolicy takes in an agent policy that is called key, or err if it could
// not be decoded. An error says that this version is not in effect.
func (b *batch) agentPolicy(by Carrier, key, version string, m *policypb.AgentPolicy, err error) error {
	p, partial, err := compileAgent(key, version, m, err)
	if err == nil {
		b.carry(by, key, p)
		return nil
	}
	if last := b.policies[by][key]; last == nil || last.Quarantined() != nil {
		namespace, name, _ := strings.Cut(key, "/")
		b.carry(by, key, policy.QuarantineAgent(name, namespace, err, partial))
	}
	return err
}

// compileAgent compiles m, which is called resource. partial is as much of the
// policy as could be read.
func compileAgent(resource, version string, m *policypb.AgentPolicy, err error) (_ *agent, partial *policy.AgentSpec, _ error) {
	if err != nil {
		return nil, nil, err
	}
	spec := agentSpec(m, version)
	if err := sameName(resource, spec.Namespace, spec.Name); err != nil {
		return nil, &spec, err
	}
	p, err := policy.CompileAgent(spec)
	return p, &spec, err
}
