package discovery

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/go-json-experiment/json/jsontext"
	"google.golang.org/protobuf/proto"

	"github.com/outrigger-mesh/outrigger/pkg/manifest"
	"github.com/outrigger-mesh/outrigger/pkg/policy"
	securitypb "github.com/outrigger-mesh/outrigger/proto/istio/security"
	workloadpb "github.com/outrigger-mesh/outrigger/proto/istio/workload"
	policypb "github.com/outrigger-mesh/outrigger/proto/outrigger/policy/v1alpha1"
)

// APIVersion is what documents that people write begin with.
const APIVersion = "outrigger.dev/v1alpha1"

// The kinds of documents.
const (
	kindAgentPolicy   = "AgentPolicy"
	kindAuthorization = "Authorization"
	kindWorkload      = "Workload"
	kindService       = "Service"
)

// A Document is what one YAML document says, in the form in which xDS carries it.
type Document struct {
	Kind    string
	TypeURL string        // what xDS calls resources of the kind
	Name    string        // what xDS calls the resource
	Message proto.Message // *policypb.AgentPolicy, *securitypb.Authorization or *workloadpb.Address
}

// Surprise is what of a document that is good may not be what its author meant; "" is nothing.
func (doc *Document) Surprise() string {
	p, ok := doc.Message.(*policypb.AgentPolicy)
	if !ok || !speaksMCP(p.GetSpec()) {
		return ""
	}
	for _, r := range p.GetSpec().GetRules() {
		if r.GetAction() == policypb.Rule_Allow && r.GetMode() != policypb.Rule_AuditOnly {
			return ""
		}
	}
	return "no rule of it allows anything: on its MCP ports every call is denied that no other policy allows"
}

func speaksMCP(spec *policypb.AgentPolicySpec) bool {
	return spec.GetAllMcpPorts() || slices.ContainsFunc(spec.GetPorts(), func(p *policypb.Port) bool { return p.GetProtocol() == policypb.Port_MCP })
}

// Read reads one document and checks it. The error is a join of
// manifest.Errors, with all that is wrong; what of TypeURL and Name could be
// read is then set, and Message is nil.
//
// A document has apiVersion, kind, metadata with name and namespace, and as spec
// the proto message of its kind without name and namespace. Addresses are
// written as text, also with a network ("east/10.0.0.1") or as a range
// ("10.0.0.0/8"), and a gateway as "namespace/hostname". A workload without uid
// is taken for a pod, a service without hostname for one of Kubernetes.
func Read(d *manifest.Document) (Document, error) { return ReadIn(d, defaultCluster) }

// ReadIn is Read where a workload that names no cluster is in the one given.
func ReadIn(d *manifest.Document, cluster string) (Document, error) {
	doc, m, err := readHead(d)
	if err != nil {
		return doc, err
	}
	spec, ok := d.Child("spec")
	if !ok {
		return doc, d.Fault("spec is missing", "write what the "+doc.Kind+" says under spec:")
	}
	name, _ := d.Field("metadata", "name")
	namespace, _ := d.Field("metadata", "namespace")
	body := doc.body(m)
	if err := spec.DecodeProtoWith(body, Spelling()); err != nil {
		return doc, err
	}
	if err := doc.complete(d, m, body, heading{name, namespace, cluster}); err != nil {
		return doc, err
	}
	if err := checkWritten(d, body); err != nil {
		return doc, err
	}
	if err := CheckIn(d, m); err != nil {
		return doc, err
	}
	doc.Message = m
	return doc, nil
}

// readHead reads what is not spec, and makes an empty message of the kind.
func readHead(d *manifest.Document) (doc Document, m proto.Message, err error) {
	if version, _ := d.Field("apiVersion"); version != APIVersion {
		return doc, nil, d.Fault(fmt.Sprintf("apiVersion is %q", version), "write apiVersion: "+APIVersion, "apiVersion")
	}
	doc.Kind, _ = d.Field("kind")
	name, _ := d.Field("metadata", "name")
	namespace, _ := d.Field("metadata", "namespace")
	if name != "" && namespace != "" {
		doc.Name = namespace + "/" + name
	}
	switch doc.Kind {
	case kindAgentPolicy:
		doc.TypeURL, m = AgentPolicyType, &policypb.AgentPolicy{}
	case kindAuthorization:
		doc.TypeURL, m = AuthorizationType, &securitypb.Authorization{}
	case kindWorkload, kindService:
		doc.TypeURL, m = AddressType, &workloadpb.Address{}
	default:
		return doc, nil, d.Fault(fmt.Sprintf("kind is %q", doc.Kind),
			"known kinds are "+strings.Join([]string{kindAgentPolicy, kindAuthorization, kindService, kindWorkload}, ", "), "kind")
	}
	for _, field := range []string{"name", "namespace"} {
		if value, _ := d.Field("metadata", field); value == "" {
			err = errors.Join(err, d.Fault("metadata."+field+" is missing", "write metadata: {name: ..., namespace: ...}; a policy is for workloads of its namespace", "metadata"))
		}
	}
	var head struct {
		APIVersion string         `json:"apiVersion"`
		Kind       string         `json:"kind"`
		Metadata   map[string]any `json:"metadata"` // may hold whatever Kubernetes adds
		Spec       jsontext.Value `json:"spec"`
		Status     jsontext.Value `json:"status"` // is not read
	}
	return doc, m, errors.Join(err, d.Decode(&head))
}

// body is the message that spec holds.
func (doc *Document) body(m proto.Message) proto.Message {
	switch m := m.(type) {
	case *policypb.AgentPolicy:
		m.Spec = &policypb.AgentPolicySpec{}
		return m.Spec
	case *workloadpb.Address:
		if doc.Kind == kindService {
			svc := &workloadpb.Service{}
			m.Type = &workloadpb.Address_Service{Service: svc}
			return svc
		}
		w := &workloadpb.Workload{}
		m.Type = &workloadpb.Address_Workload{Workload: w}
		return w
	}
	return m
}

// A heading is what of a document spec may leave out.
type heading struct{ name, namespace, cluster string }

// complete fills in what metadata says, and what spec may leave out.
func (doc *Document) complete(d *manifest.Document, m, body proto.Message, h heading) error {
	switch b := body.(type) {
	case *policypb.AgentPolicySpec:
		p := m.(*policypb.AgentPolicy)
		p.Name, p.Namespace = h.name, h.namespace
		return nil
	case *securitypb.Authorization:
		return h.fill(d, &b.Name, &b.Namespace)
	case *workloadpb.Service:
		b.Hostname = or(b.Hostname, h.name+"."+h.namespace+".svc.cluster.local")
		doc.Name = h.namespace + "/" + b.Hostname
		return h.fill(d, &b.Name, &b.Namespace)
	case *workloadpb.Workload:
		b.ClusterId = or(b.ClusterId, h.cluster)
		b.Uid = or(b.Uid, b.ClusterId+"//Pod/"+h.namespace+"/"+h.name)
		doc.Name = b.Uid
		return h.fill(d, &b.Name, &b.Namespace)
	}
	return nil
}

// fill makes sure that a name inside the spec does not contradict the metadata.
func (h *heading) fill(d *manifest.Document, name, namespace *string) error {
	for _, one := range []struct {
		field string
		got   *string
		of    string
	}{{"name", name, h.name}, {"namespace", namespace, h.namespace}} {
		if *one.got != "" && *one.got != one.of {
			return d.Fault(fmt.Sprintf("spec.%s is %q and metadata.%s is %q", one.field, *one.got, one.field, one.of), "remove it from spec: metadata says it", "spec", one.field)
		}
		*one.got = one.of
	}
	return nil
}

// CheckIn is Check of what d says, and says in which lines the fields are that are
// wrong. The error is a join of manifest.Errors.
func CheckIn(d *manifest.Document, m proto.Message) error {
	err := Check(m)
	if err == nil {
		return nil
	}
	var all []error
	for _, p := range policy.Problems(err) {
		field := p.Field
		if _, whole := m.(*policypb.AgentPolicy); !whole { // of the others, the message is the spec
			field = "spec." + field
		}
		all = append(all, d.Fault(field+" "+p.Problem, p.Remedy, fieldPath(field)...))
	}
	if len(all) == 0 {
		return d.Fault(err.Error(), "")
	}
	return errors.Join(all...)
}

// fieldPath takes a field as in spec.services[a/b.c].ports[0] apart.
func fieldPath(field string) (path []string) {
	for field != "" {
		if rest, ok := strings.CutPrefix(field, "["); ok {
			key, after, _ := strings.Cut(rest, "]")
			path, field = append(path, key), strings.TrimPrefix(after, ".")
			continue
		}
		end := strings.IndexAny(field, ".[")
		if end < 0 {
			return append(path, field)
		}
		path, field = append(path, field[:end]), strings.TrimPrefix(field[end:], ".")
	}
	return path
}
