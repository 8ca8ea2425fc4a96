package discovery

import (
	"errors"
	"fmt"
	"strings"

	typedv3 "github.com/cncf/xds/go/xds/type/v3"
	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/anypb"
	"google.golang.org/protobuf/types/known/structpb"

	"github.com/outrigger-mesh/outrigger/pkg/manifest"
	"github.com/outrigger-mesh/outrigger/pkg/policy"
	"github.com/outrigger-mesh/outrigger/pkg/xds"
	policypb "github.com/outrigger-mesh/outrigger/proto/outrigger/policy/v1alpha1"
)

// ExtensionType is how istiod carries agent policies (ECDS): in an EnvoyFilter
// whose patch applies to EXTENSION_CONFIG. It is to be subscribed to by fixed
// names, with responses that are complete and may repeat a name.
const ExtensionType = "type.googleapis.com/envoy.config.core.v3.TypedExtensionConfig"

// maxExtension bounds one policy by ECDS, in bytes.
const maxExtension = 1 << 20

// extensions is what became of the last response, by policy.
type extensions map[string]bool

// extensionConfigs takes in all extension configurations that there are. One
// EnvoyFilter makes one, those of one name come in the order root namespace,
// namespace, workload, and each holds one policy. All apply together, as agent
// policies do. If two hold different policies of one name the first is obeyed
// and the second, which nobody would miss, denies what it would govern.
//
// What cannot even be told the name of may be the new version of a policy that
// is missing, which then stays; if none is missing, everything is denied.
func (b *batch) extensionConfigs(updated []xds.Resource, removed []string) {
	for _, name := range removed {
		b.note(b.carrier, name, nil)
	}
	for _, r := range updated {
		b.note(b.carrier, r.Name, nil)
	}
	next, said := extensions{}, map[string]*policypb.AgentPolicy{}
	var nameless []xds.Resource
	var why []error
	for _, r := range updated {
		key, m, err := readExtension(r)
		if key == "" {
			nameless, why = append(nameless, r), append(why, err)
			continue
		}
		if first, twice := said[key]; twice && (m == nil || !proto.Equal(first, m)) {
			err = errors.Join(err, fmt.Errorf("policy %s is in two EnvoyFilters; rename one of them", key))
			b.second(r.Name, key, m, err)
			next[key+secondName] = true
			continue
		}
		said[key], next[key] = m, true
		b.extension(r.Name, key, b.agentPolicy(CarrierECDS, key, "", m, err))
	}
	missing := b.missing(next)
	for i, r := range nameless {
		b.reject(r.Name, why[i])
		if len(missing) == 0 {
			key := "/" + r.Name
			b.carry(CarrierECDS, key, policy.QuarantineAgent(r.Name, "", why[i], nil))
			next[key] = true
		}
	}
	for _, key := range missing {
		if len(nameless) > 0 {
			next[key] = true
			continue
		}
		b.extension("", key, nil)
		b.carry(CarrierECDS, key, nil)
	}
	b.Discovery.extensions = next
}

// secondName tells a policy of a name that another has from that one.
const secondName = "#2"

// second denies what a policy would govern whose name another has.
func (b *batch) second(resource, key string, m *policypb.AgentPolicy, err error) {
	var partial *policy.AgentSpec
	if m != nil {
		spec := agentSpec(m, "")
		partial = &spec
	}
	namespace, name, _ := strings.Cut(key, "/")
	b.carry(CarrierECDS, key+secondName, policy.QuarantineAgent(name, namespace, err, partial))
	b.extension(resource, key+secondName, err)
}

// missing are the policies that were there and are not in next. Those that only
// stood for something unreadable are gone by now.
func (b *batch) missing(next extensions) (keys []string) {
	for key := range b.extensions {
		switch {
		case next[key]:
		case strings.HasPrefix(key, "/"):
			b.carry(CarrierECDS, key, nil)
		default:
			keys = append(keys, key)
		}
	}
	return keys
}

// extension notes what became of a policy: the control plane knows it by the
// resource's name, people by its own.
func (b *batch) extension(resource, key string, err error) {
	if err != nil {
		b.rejections = append(b.rejections, xds.Rejection{Name: resource, Err: fmt.Errorf("policy %s: %w", key, err)})
	}
	b.note(b.carrier, key, err)
}

// readExtension reads the agent policy in an extension configuration: our own
// message, or an xds.type.v3.TypedStruct or google.protobuf.Struct that holds
// the message or the document that people write, as JSON. key is set if it could
// be read, even if something else is wrong.
func readExtension(r xds.Resource) (key string, m *policypb.AgentPolicy, err error) {
	config := &corev3.TypedExtensionConfig{}
	if err := unpack(r, config); err != nil {
		return "", nil, err
	}
	if n := len(config.GetTypedConfig().GetValue()); n > maxExtension {
		return "", nil, fmt.Errorf("extension has %d bytes, at most %d are read; split the policy", n, maxExtension)
	}
	content, err := structure(config.GetTypedConfig())
	if err != nil {
		return "", nil, err
	}
	if content == nil {
		m := &policypb.AgentPolicy{}
		err := unpack(xds.Resource{Body: config.GetTypedConfig()}, m)
		key := nameOf(m.GetNamespace(), m.GetName())
		if err == nil && key == "" {
			err = errNameless
		}
		return key, m, err
	}
	text, err := protojson.MarshalOptions{Multiline: true}.Marshal(content)
	if err != nil {
		return "", nil, fmt.Errorf("read the extension's structure: %w", err)
	}
	documents, err := manifest.Parse("extension "+r.Name, text)
	if err != nil {
		return "", nil, err
	}
	if len(documents) != 1 {
		return "", nil, errors.New("the extension is empty; write the policy as its value")
	}
	return readStructured(documents[0])
}

// structure is the structure in an extension, nil if it holds a message of ours.
func structure(body *anypb.Any) (*structpb.Struct, error) {
	switch body.MessageName() {
	case "xds.type.v3.TypedStruct":
		typed := &typedv3.TypedStruct{}
		if err := unpack(xds.Resource{Body: body}, typed); err != nil {
			return nil, err
		}
		if typed.GetTypeUrl() != AgentPolicyType {
			return nil, fmt.Errorf("the TypedStruct's type_url is %.100q; write %s", typed.GetTypeUrl(), AgentPolicyType)
		}
		if typed.GetValue() == nil {
			return nil, errors.New("the TypedStruct has no value; write the policy there")
		}
		return typed.GetValue(), nil
	case "google.protobuf.Struct":
		content := &structpb.Struct{}
		err := unpack(xds.Resource{Body: body}, content)
		return content, err
	case "outrigger.policy.v1alpha1.AgentPolicy":
		return nil, nil
	}
	return nil, fmt.Errorf("the extension is a %.100q; write an xds.type.v3.TypedStruct with type_url %s", body.GetTypeUrl(), AgentPolicyType)
}

var errNameless = errors.New("the extension has no name and namespace; write apiVersion, kind and metadata as in a file, or name and namespace beside spec")

// readStructured reads either form of a policy.
func readStructured(d *manifest.Document) (key string, m *policypb.AgentPolicy, err error) {
	if _, document := d.Field("apiVersion"); document {
		doc, err := Read(d)
		m, ok := doc.Message.(*policypb.AgentPolicy)
		if err == nil && !ok {
			return "", nil, fmt.Errorf("the extension holds a %s, not an %s", doc.Kind, kindAgentPolicy)
		}
		return doc.Name, m, err
	}
	name, _ := d.Field("name")
	namespace, _ := d.Field("namespace")
	m = &policypb.AgentPolicy{}
	if err := d.DecodeProtoWith(m, Spelling()); err != nil {
		return nameOf(namespace, name), nil, err
	}
	if key = nameOf(namespace, name); key == "" {
		err = errNameless
	}
	return key, m, err
}

func nameOf(namespace, name string) string {
	if namespace == "" || name == "" {
		return ""
	}
	return namespace + "/" + name
}
