package command

import (
	"fmt"
	"strings"

	"github.com/google/jsonschema-go/jsonschema"
	"github.com/spf13/cobra"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"

	"github.com/outrigger-mesh/outrigger/pkg/sidecar"
)

func runCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "run",
		Short: "Run the sidecar of one pod",
		Long: `Run the sidecar of one pod until it is told to stop (SIGTERM or Ctrl-C), then drain.

Settings come from defaults, the YAML file (--config), the environment and flags; what comes later
in that list wins. The environment has ztunnel's and Istio's names where they exist. In a pod,
POD_NAME, POD_NAMESPACE, SERVICE_ACCOUNT and INSTANCE_IP come from the downward API.`,
		Example: `  # beside istiod
  POD_NAME=github-0 POD_NAMESPACE=tools SERVICE_ACCOUNT=github INSTANCE_IP=10.1.2.3 outrigger run --policy-carrier ecds

  # without redirection: the agent calls http://127.0.0.1:8080, which leads to a service of the mesh
  outrigger run -c sidecar.yaml --forward 127.0.0.1:8080=github.tools.svc.cluster.local:80`,
		Args: cobra.NoArgs,
	}
	loader := bind(cmd.Flags(), sidecar.DefaultConfig())
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		config := sidecar.DefaultConfig()
		if err := loader.load(&config, lookupEnv); err != nil {
			return err
		}
		s, err := sidecar.New(config, sidecar.Options{Version: Version(), Log: cmd.ErrOrStderr()})
		if err != nil {
			return loader.locate(err)
		}
		return s.Run(cmd.Context())
	}
	return cmd
}

func schemaCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "config-schema",
		Short: "Print the JSON Schema of the file that `run --config` reads",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			text, err := ConfigSchema()
			if err != nil {
				return err
			}
			_, err = fmt.Fprintf(cmd.OutOrStdout(), "%s\n", text)
			return err
		},
	}
}

// ConfigSchema is the JSON Schema of the sidecar's configuration file, made
// from the configuration's own types.
func ConfigSchema() (string, error) {
	options := &jsonschema.ForOptions{TypeSchemas: schemaTypes()}
	schema, err := jsonschema.For[sidecar.Config](options)
	if err != nil {
		return "", fmt.Errorf("make JSON Schema of the configuration: %w", err)
	}
	schema.Schema = "https://json-schema.org/draft/2020-12/schema"
	schema.Title = "Outrigger sidecar configuration"
	text, err := json.Marshal(schema, json.Deterministic(true), jsontext.WithIndent("  "))
	return strings.TrimSpace(string(text)), err
}
