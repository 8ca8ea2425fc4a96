// Package plane is what people type to run the control plane. It is apart from
// package command so that the sidecar's binary does not link the control plane.
package plane

import (
	"fmt"
	"log/slog"
	"time"

	"github.com/spf13/cobra"

	"github.com/outrigger-mesh/outrigger/pkg/command"
	"github.com/outrigger-mesh/outrigger/pkg/control"
	"github.com/outrigger-mesh/outrigger/pkg/mesh"
)

// Control is the command tree of the control plane's binary.
func Control() *cobra.Command {
	root := &cobra.Command{
		Use:   "outrigger-control",
		Short: "An istiod-like control plane for Outrigger sidecars",
		Long: `outrigger-control serves workloads, L4 authorizations and agent policies by delta xDS from YAML files
that it watches, and signs SPIFFE certificates for the workloads that can prove who they are.
Sidecars talk to it with the same client that they use against istiod.`,
		SilenceUsage: true, SilenceErrors: true,
	}
	root.AddCommand(runCommand(), issueCommand(), command.VersionCommand())
	return root
}

func runCommand() *cobra.Command {
	config := control.Config{}
	cmd := &cobra.Command{
		Use:   "run",
		Short: "Serve workloads, authorizations, agent policies and certificates",
		Long: `Serve what the YAML files under --config-path say, and go on serving the last good content of a file
that is malformed. Sign certificates for workloads that present the token in
<tokens>/<namespace>/<service account>.`,
		Example: `  outrigger-control run --config-path mesh/ --tokens tokens/ --ca-dir ca/`,
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			config.Logger = slog.New(slog.NewTextHandler(cmd.ErrOrStderr(), nil))
			plane, err := control.New(config)
			if err != nil {
				return err
			}
			return plane.Run(cmd.Context())
		},
	}
	f := cmd.Flags()
	f.StringVar(&config.Listen, "listen", "127.0.0.1:15012", "address of xDS and of the certificate service, over TLS")
	f.StringVar(&config.Status, "status-listen", "127.0.0.1:15014", "address of /healthz/ready and /status")
	f.StringSliceVar(&config.Paths, "config-path", nil, "YAML file, or directory of them, to watch and serve; may be repeated")
	f.StringVar(&config.CADir, "ca-dir", "", "directory of the certificate authority; made if there is none")
	f.StringVar(&config.Tokens, "tokens", "", "directory of <namespace>/<service account> files with the workloads' tokens")
	f.StringVar(&config.TrustDomain, "trust-domain", "", "trust domain; cluster.local by default, or the authority's")
	f.StringSliceVar(&config.ServerNames, "server-name", nil, "further names and addresses for the server's certificate")
	f.StringVar(&config.RootNamespace, "root-namespace", "istio-system", "namespace of mesh-wide policies")
	f.StringVar(&config.ClusterID, "cluster-id", "Kubernetes", "cluster that the workloads are in")
	f.DurationVar(&config.MaxTTL, "max-certificate-ttl", 24*time.Hour, "longer certificate lifetimes are shortened to this")
	return cmd
}

func issueCommand() *cobra.Command {
	var state, identity, out string
	var ttl time.Duration
	cmd := &cobra.Command{
		Use:   "issue",
		Short: "Write a certificate, key and bundle for an identity of the mesh",
		Long: `Write cert.pem (the chain, leaf first), key.pem and bundle.pem (the roots) for a SPIFFE ID, signed by the
authority in a state directory, so that any other HBONE peer (curl, Envoy, ztunnel, a test) can join the mesh.`,
		Example: `  outrigger-control issue --state DIR --identity spiffe://cluster.local/ns/agents/sa/planner --out certs`,
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			principal, err := mesh.ParsePrincipal(identity)
			if err != nil {
				return fmt.Errorf("--identity: %w", err)
			}
			if err := control.Issue(state, principal, ttl, out); err != nil {
				return err
			}
			_, err = fmt.Fprintf(cmd.OutOrStdout(), "%s: cert.pem, key.pem and bundle.pem are in %s\n", principal, out)
			return err
		},
	}
	f := cmd.Flags()
	f.StringVar(&state, "state", "", "state directory of a demo, or any directory whose ca/ holds the authority")
	f.StringVar(&identity, "identity", "", "SPIFFE ID to certify")
	f.StringVar(&out, "out", "", "directory to write to")
	f.DurationVar(&ttl, "ttl", 24*time.Hour, "lifetime of the certificate")
	for _, required := range []string{"state", "identity", "out"} {
		cmd.MarkFlagRequired(required)
	}
	return cmd
}
