// Package command is what people type: the commands of outrigger, their flags
// and their help. It decides nothing.
package command

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"runtime"
	"runtime/debug"
	"strings"
	"syscall"

	"github.com/spf13/cobra"
)

// Main runs a command until it is done or the process is told to stop (by a
// signal or a closed terminal), and returns the exit status. A second signal ends the process at once.
func Main(root *cobra.Command) int {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM, syscall.SIGHUP)
	defer stop()
	context.AfterFunc(ctx, stop)
	if err := root.ExecuteContext(ctx); err != nil && !errors.Is(err, context.Canceled) {
		fmt.Fprintf(os.Stderr, "%s: %v\n", root.Name(), err)
		return 1
	}
	return 0
}

// Outrigger is the command tree of the sidecar's binary.
func Outrigger() *cobra.Command {
	root := &cobra.Command{
		Use:   "outrigger",
		Short: "A sidecar for AI-agent traffic in an Istio ambient mesh",
		Long: `Outrigger sits in the pod of an agent or of an MCP server. It carries the pod's traffic through
HBONE tunnels (HTTP/2 CONNECT over SPIFFE mutual TLS) as ztunnel does, obeys istiod or
outrigger-control, and inspects MCP inside the tunnels: who may see and call which tool.

See it work:                outrigger demo
Put it before your server:  outrigger demo --keep --server http://127.0.0.1:9000/mcp --policy my-policy.yaml`,
		SilenceUsage: true, SilenceErrors: true, Version: Version(),
	}
	root.AddCommand(runCommand(), demoCommand(), VersionCommand(), schemaCommand(), checkCommand(), explainCommand())
	return root
}

// VersionCommand tells what the binary was built from.
func VersionCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "version",
		Short: "Print what this binary was built from",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return printVersion(cmd.OutOrStdout(), cmd.Root().Name())
		},
	}
}

func printVersion(w io.Writer, name string) error {
	_, err := fmt.Fprintf(w, "%s %s %s %s/%s\n", name, Version(), runtime.Version(), runtime.GOOS, runtime.GOARCH)
	return err
}

// built is set by the linker (make build) to the commit.
var built string

// Version is the module version or the commit this binary was built from, or
// "unknown" where the build kept neither.
func Version() string {
	if built != "" {
		return built
	}
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return "unknown"
	}
	if v := info.Main.Version; v != "" && v != "(devel)" {
		return v
	}
	var revision, dirty string
	for _, s := range info.Settings {
		switch {
		case s.Key == "vcs.revision":
			revision = s.Value[:min(12, len(s.Value))]
		case s.Key == "vcs.modified" && s.Value == "true":
			dirty = "-dirty"
		}
	}
	if revision == "" {
		return "unknown"
	}
	return strings.TrimSpace(revision + dirty)
}
