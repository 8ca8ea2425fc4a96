package control

import (
	"crypto/sha256"
	"encoding/hex"

	"google.golang.org/protobuf/proto"

	"github.com/outrigger-mesh/outrigger/pkg/discovery"
	"github.com/outrigger-mesh/outrigger/pkg/manifest"
	securitypb "github.com/outrigger-mesh/outrigger/proto/istio/security"
	workloadpb "github.com/outrigger-mesh/outrigger/proto/istio/workload"
	policypb "github.com/outrigger-mesh/outrigger/proto/outrigger/policy/v1alpha1"
)

// own reads a document of our own kinds as a sidecar reads it from a file, and
// adds what only a control plane knows.
func (r *reader) own(d *manifest.Document, e *envelope) (*object, error) {
	doc, err := discovery.ReadIn(d, r.config.ClusterID)
	if err != nil {
		return nil, err
	}
	o := &object{typeURL: doc.TypeURL, key: doc.Name}
	switch m := doc.Message.(type) {
	case *securitypb.Authorization:
		o.authorization = m
	case *policypb.AgentPolicy:
		if m.Version, err = shortDigest(m.Spec); err != nil {
			return nil, d.Fault(err.Error(), "", "spec")
		}
		o.agent = m
	case *workloadpb.Address:
		o.service = m.GetService()
		if o.workload = m.GetWorkload(); o.workload != nil {
			r.complete(o.workload)
			o.labels = e.Metadata.Labels
		}
	}
	return o, nil
}

// complete says what istiod says of every workload.
func (r *reader) complete(w *workloadpb.Workload) {
	setDefault(&w.TrustDomain, r.config.TrustDomain)
	setDefault(&w.ServiceAccount, "default")
	setDefault(&w.CanonicalName, w.Name)
	setDefault(&w.WorkloadName, w.Name)
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
