package control

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/go-json-experiment/json/jsontext"

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
		return nil, notNamed(d, "name", e.Metadata.Name, "is not a name", "write lower-case letters, digits, '-' and '.'")
	}
	if !policy.IsDNSLabel(e.Metadata.Namespace) {
		return nil, notNamed(d, "namespace", e.Metadata.Namespace, "is not a namespace", "write lower-case letters, digits and '-'")
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
	return o, nil
}

// notNamed is what is wrong with a member of metadata: that it is missing, or what is written.
func notNamed(d *manifest.Document, field, value, problem, remedy string) error {
	if value == "" {
		return d.Fault("metadata."+field+" is missing", remedy, "metadata")
	}
	return d.Fault("metadata."+field+" "+problem, remedy, "metadata", field)
}

type readFunc func(*manifest.Document, *envelope) (*object, error)

func (r *reader) kind(d *manifest.Document, e *envelope) (readFunc, error) {
	kinds := map[string]map[string]readFunc{
		discovery.APIVersion: {"Workload": r.own, "Service": r.own, "Authorization": r.own, "AgentPolicy": r.own},
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
