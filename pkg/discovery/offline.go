package discovery

import (
	"errors"
	"fmt"
	"maps"
	"slices"

	"github.com/outrigger-mesh/outrigger/pkg/manifest"
)

// Load takes in texts as File does the files of a directory, and returns what is
// wrong with them. They are by the names that errors have for them.
func (d *Discovery) Load(texts map[string][]byte) error {
	const carrier = "memory"
	all := &source{map[string]*content{}, map[string]error{}}
	var problems []error
	for _, name := range slices.Sorted(maps.Keys(texts)) {
		documents, err := manifest.Parse(name, texts[name])
		c := d.compile(name, documents, err)
		if all.files[name] = c; c.err != nil {
			problems = append(problems, fmt.Errorf("%s: %w", name, c.err))
		}
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	d.files[carrier] = all
	d.publish(carrier)
	return errors.Join(problems...)
}

// FilterKind is the kind of Istio's documents that carry agent policies (ECDS).
const FilterKind = "EnvoyFilter"

// ReadFilter reads the agent policies in an EnvoyFilter, as istiod would hand them
// to a sidecar that asks for the extension configurations of the names given.
// Patches that are not of extension configurations are none of ours.
func ReadFilter(d *manifest.Document, names []string) (keys []string, err error) {
	var faults []error
	for _, patch := range d.Items("spec", "configPatches") {
		if to, _ := patch.Field("applyTo"); to != "EXTENSION_CONFIG" {
			continue
		}
		key, err := readPatch(patch, names)
		if err != nil {
			faults = append(faults, err)
		}
		if key != "" {
			keys = append(keys, key)
		}
	}
	return keys, errors.Join(faults...)
}

func readPatch(patch *manifest.Document, names []string) (key string, err error) {
	if operation, _ := patch.Field("patch", "operation"); operation != "ADD" {
		return "", patch.Fault(fmt.Sprintf("the operation is %q", operation), "write operation: ADD, the only one that istiod knows for extension configurations", "patch", "operation")
	}
	name, _ := patch.Field("patch", "value", "name")
	if !slices.Contains(names, name) {
		return "", patch.Fault(fmt.Sprintf("no sidecar asks for an extension configuration named %q", name),
			fmt.Sprintf("write name: %s, or list the name in the sidecars' settings", names[0]), "patch", "value", "name")
	}
	at := []string{"patch", "value", "typed_config"}
	switch kind, _ := patch.Field(append(at, "@type")...); kind {
	case "type.googleapis.com/xds.type.v3.TypedStruct":
		if of, _ := patch.Field(append(at, "type_url")...); of != AgentPolicyType {
			return "", patch.Fault(fmt.Sprintf("the TypedStruct's type_url is %q", of), "write type_url: "+AgentPolicyType, append(at, "type_url")...)
		}
	case "type.googleapis.com/google.protobuf.Struct":
	default:
		return "", patch.Fault(fmt.Sprintf("the extension's @type is %q, which istiod or we do not know", kind),
			`write "@type": type.googleapis.com/xds.type.v3.TypedStruct`, append(at, "@type")...)
	}
	value, ok := patch.Child(append(at, "value")...)
	if !ok {
		return "", patch.Fault("the extension has no value", "write the policy there", at...)
	}
	key, m, err := readStructured(value)
	if err == nil {
		err = CheckIn(value, m)
	}
	return key, err
}
