package command

import (
	"reflect"

	"github.com/google/jsonschema-go/jsonschema"

	"github.com/outrigger-mesh/outrigger/pkg/sidecar"
)

// schemaTypes are the settings that are written as text of a form of their own.
func schemaTypes() map[reflect.Type]*jsonschema.Schema {
	return map[reflect.Type]*jsonschema.Schema{
		reflect.TypeFor[sidecar.Duration](): {
			Type: "string", Pattern: `^([0-9]+(\.[0-9]+)?(ns|us|ms|s|m|h))+$`, Examples: []any{"24h", "5s"},
		},
		reflect.TypeFor[sidecar.Count](): {
			Type: "integer", Minimum: jsonschema.Ptr(0.0), Maximum: jsonschema.Ptr(1e6), Examples: []any{500},
		},
		reflect.TypeFor[sidecar.Forward](): {
			Type: "string", Pattern: `^.+:[0-9]+=.+:[0-9]+$`, Examples: []any{"127.0.0.1:8080=github.tools.svc.cluster.local:80"},
		},
	}
}
