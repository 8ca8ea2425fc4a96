package command

import (
	"fmt"
	"os"

	"github.com/spf13/cobra"
	"golang.org/x/term"

	"github.com/outrigger-mesh/outrigger/pkg/demo"
)

func demoCommand() *cobra.Command {
	config := demo.DefaultConfig()
	cmd := &cobra.Command{
		Use:   "demo",
		Short: "Run a small mesh on this machine and show what it does to an agent's calls",
		Long: `Run a control plane, two agents and an MCP server, each behind a sidecar, as processes on loopback
addresses, and show what the mesh does to the agents' calls. The exit status is 0 only if all that
was shown held.

With --server, the mesh is put in front of your own MCP server (plain streamable HTTP on this
machine): call it through the printed URL and watch the audit record. With --policy, your policy
decides; without, everything is allowed and recorded. The policy file is watched: save it, and the
next call obeys.`,
		Example: `  outrigger demo
  outrigger demo --keep --server http://127.0.0.1:9000/mcp --policy my-policy.yaml --listen 127.0.0.1:8080`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			config.Out = cmd.OutOrStdout()
			config.Terminal = config.Out == os.Stdout && term.IsTerminal(int(os.Stdout.Fd()))
			if config.Server != "" && !config.Keep {
				return fmt.Errorf("--server needs --keep: the mesh stays in front of your server until Ctrl-C")
			}
			return demo.Run(cmd.Context(), config)
		},
	}
	f := cmd.Flags()
	f.BoolVar(&config.Keep, "keep", config.Keep, "leave the mesh running until Ctrl-C")
	f.StringVar(&config.Server, "server", config.Server, "URL of your own MCP server, as http://127.0.0.1:9000/mcp")
	f.StringVar(&config.Policy, "policy", config.Policy, "YAML file with your agent policies for it; watched")
	f.StringVar(&config.Listen, "listen", config.Listen, "address that the first agent calls; a free one by default")
	f.StringVar(&config.State, "state", config.State, "directory for endpoints.json, certificates, configuration and logs; a temporary one by default")
	f.StringVar(&config.Network, "network", config.Network, "loopback addresses that the mesh uses")
	f.IntVar(&config.HBONEPort, "hbone-port", config.HBONEPort, "port of the sidecars' tunnels")
	f.IntVar(&config.XDSPort, "xds-port", config.XDSPort, "port of the control plane")
	f.StringVar(&config.Programs, "programs", config.Programs, "directory with outrigger, outrigger-control and outrigger-sample; that of this program by default")
	return cmd
}
