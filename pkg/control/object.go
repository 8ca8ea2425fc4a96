package control

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/go-json-experiment/json/jsontext"
	"google.golang.org/protobuf/proto"

	"github.com/outrigger-mesh/outrigger/pkg/discovery"
	"github.com/outrigger-mesh/outrigger/pkg/manifest"
	"github.com/outrigger-mesh/outrigger/pkg/policy"
	securitypb "github.com/outrigger-mesh/outrigger/proto/istio/security"
	workloadpb "github.com/outrigger-mesh/outrigger/proto/istio/workload"
	policypb "github.com/outrigger-mesh/outrigger/proto/outrigger/policy/v1alpha1"
)

const istioVersion = "security.istio.io/v1"

// An object is one document of a file, read. Exactly one of the messages is set.
type object struct {
	typeURL   string
	key       string // the resource's name
	namespace string
	line      int

	workload      *workloadpb.Workload
	labels        map[string]string // of the workload
	service       *workloadpb.Service
	authorization *securitypb.Authorization
	selector      map[string]string // of the authorization: workloads that list it; nil if it needs none
	agent         *policypb.AgentPolicy
	peer          *peerAuthentication
}

// An envelope is what all documents have in common.
type envelope struct {
	APIVersion string         `json:"apiVersion"`
	Kind       string         `json:"kind"`
	Metadata   heading        `json:"metadata"`
	Spec       jsontext.Value `json:"spec"`
}

type heading struct {
	Name        string            `json:"name"`
	Namespace   string            `json:"namespace"`
	Labels      map[string]string `json:"labels"`
	Annotations map[string]string `json:"annotations"`
}

// A reader turns documents into objects.
type reader struct {
	config *Config
}

// read reads all documents of a file; if any is wrong the file is.
func (r *reader) read(documents []*manifest.Document) ([]*object, error) {
	var objects []*object
	var faults []error
	seen := map[string]int{}
	for _, d := range documents {
		o, err := r.document(d)
		if err != nil {
			faults = append(faults, err)
			continue
		}
		id := o.typeURL + " " + o.key
		if line, ok := seen[id]; ok {
			faults = append(faults, d.Fault(fmt.Sprintf("%s is defined twice, first in line %d", o.key, line), "keep one of them", "metadata", "name"))
			continue
		}
		seen[id] = o.line
		objects = append(objects, o)
	}
	return objects, errors.Join(faults...)
}

func (r *reader) document(d *manifest.Document) (*object, error) {
	var e envelope
	if err := d.Decode(&e); err != nil {
		return nil, err
	}
	if !policy.IsDNSSubdomain(e.Metadata.Name) {
		return nil, d.Fault("metadata.name is not a name", "write lower-case letters, digits, '-' and '.'", "metadata", "name")
	}
	if !policy.IsDNSLabel(e.Metadata.Namespace) {
		return nil, d.Fault("metadata.namespace is not a namespace", "write lower-case letters, digits and '-'", "metadata", "namespace")
	}
	read, err := r.kind(d, &e)
	if err != nil {
		return nil, err
	}
	o, err := read(d, &e)
	if err != nil {
		return nil, err
	}
	o.namespace, o.line = e.Metadata.Namespace, d.Line
	if m := o.message(); m != nil {
		err = discovery.CheckIn(d, m)
	}
	return o, err
}

type readFunc func(*manifest.Document, *envelope) (*object, error)

func (r *reader) kind(d *manifest.Document, e *envelope) (readFunc, error) {
	kinds := map[string]map[string]readFunc{
		discovery.APIVersion: {"Workload": r.workload, "Service": r.service, "Authorization": r.authorization, "AgentPolicy": r.agentPolicy},
		istioVersion:         {"AuthorizationPolicy": r.authorizationPolicy, "PeerAuthentication": r.peerAuthentication},
	}
	known, ok := kinds[e.APIVersion]
	if !ok {
		return nil, d.Fault(fmt.Sprintf("apiVersion %q is not known", e.APIVersion), "known are "+discovery.APIVersion+" and "+istioVersion, "apiVersion")
	}
	read, ok := known[e.Kind]
	if !ok {
		var names []string
		for name := range known {
			names = append(names, name)
		}
		slices.Sort(names)
		return nil, d.Fault(fmt.Sprintf("kind %q is not known in %s", e.Kind, e.APIVersion), "known are "+strings.Join(names, ", "), "kind")
	}
	return read, nil
}

// spec decodes the spec into m, if there is one.
func spec(d *manifest.Document, m proto.Message) error {
	body, ok := d.Child("spec")
	if !ok {
		return d.Fault("spec is missing", "add spec:", "spec")
	}
	return body.DecodeProtoWith(m, discovery.Spelling())
}

// named makes sure that a name inside the spec does not contradict the metadata.
func named(d *manifest.Document, field *string, want, path string) error {
	if *field != "" && *field != want {
		return d.Fault(fmt.Sprintf("spec.%s is %q and metadata says %q", path, *field, want), "remove it from the spec", "spec", path)
	}
	*field = want
	return nil
}

func (r *reader) agentPolicy(d *manifest.Document, e *envelope) (*object, error) {
	p := &policypb.AgentPolicy{Name: e.Metadata.Name, Namespace: e.Metadata.Namespace, Spec: &policypb.AgentPolicySpec{}}
	if err := spec(d, p.Spec); err != nil {
		return nil, err
	}
	digest, err := shortDigest(p.Spec)
	if err != nil {
		return nil, d.Fault(err.Error(), "", "spec")
	}
	p.Version = digest
	return &object{typeURL: AgentPolicyType, key: p.Namespace + "/" + p.Name, agent: p}, nil
}

// shortDigest tells one content from another.
func shortDigest(m proto.Message) (string, error) {
	b, err := proto.MarshalOptions{Deterministic: true}.Marshal(m)
	if err != nil {
		return "", err
	}
	sum := sha256.Sum256(b)
	return hex.EncodeToString(sum[:6]), nil
}

// message is the object's message, nil if it has none of its own.
func (o *object) message() proto.Message {
	switch {
	case o.workload != nil:
		return o.workload
	case o.service != nil:
		return o.service
	case o.authorization != nil:
		return o.authorization
	case o.agent != nil:
		return o.agent
	}
	return nil
}
