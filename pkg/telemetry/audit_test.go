package telemetry

import (
	"strings"
	"testing"

	"github.com/santhosh-tekuri/jsonschema/v6"
)

// validateAudit checks records against the schema that is our promise.
func validateAudit(t *testing.T, records []string) {
	t.Helper()
	schema, err := jsonschema.NewCompiler().Compile("testdata/audit.schema.json")
	if err != nil {
		t.Fatal(err)
	}
	for _, r := range records {
		v, err := jsonschema.UnmarshalJSON(strings.NewReader(r))
		if err != nil {
			t.Fatal(err)
		}
		if err := schema.Validate(v); err != nil {
			t.Errorf("%v\n%s", err, r)
		}
	}
}

func TestSchemaRejectsWhatIsNoRecord(t *testing.T) {
	schema, err := jsonschema.NewCompiler().Compile("testdata/audit.schema.json")
	if err != nil {
		t.Fatal(err)
	}
	for _, r := range []string{`{}`, `{"event":"call"}`, `[]`} {
		v, err := jsonschema.UnmarshalJSON(strings.NewReader(r))
		if err != nil {
			t.Fatal(err)
		}
		if schema.Validate(v) == nil {
			t.Errorf("%s passes", r)
		}
	}
}
