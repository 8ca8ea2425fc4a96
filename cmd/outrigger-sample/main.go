// Command outrigger-sample is an MCP server and an MCP client to try the mesh
// with: `outrigger-sample server --listen 127.0.0.1:9000` and
// `outrigger-sample agent --url http://127.0.0.1:8080/mcp`, which reads commands
// such as {"list":true} and {"call":"echo","arguments":{"text":"hi"}} from
// standard input.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"net"
	"os"
	"os/signal"
	"strings"
	"syscall"

	"github.com/outrigger-mesh/outrigger/pkg/sample"
)

const usage = `An MCP server and an MCP client on the official SDK, to try the mesh with.

  outrigger-sample server --listen 127.0.0.1:9000
  echo '{"list":true}' | outrigger-sample agent --url http://127.0.0.1:8080/mcp

The agent reads a command a line from standard input, {"list":true} or
{"call":"echo","arguments":{"text":"hi"}}, and answers each with a line of JSON.

`

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := run(ctx, os.Args[1:]); err != nil && ctx.Err() == nil {
		fmt.Fprintln(os.Stderr, "outrigger-sample:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, args []string) error {
	flags := flag.NewFlagSet("outrigger-sample", flag.ContinueOnError)
	listen := flags.String("listen", "127.0.0.1:9000", "server: address to serve MCP on")
	stateless := flags.Bool("stateless", false, "server: serve revision 2026-07-28, without sessions")
	url := flags.String("url", "http://127.0.0.1:8080/mcp", "agent: URL of the MCP server")
	protocol := flags.String("protocol", "", "agent: MCP revision to offer; the newest by default")
	flags.Usage = func() {
		fmt.Fprint(flags.Output(), usage)
		flags.PrintDefaults()
	}
	if len(args) == 0 {
		return errors.New("say server or agent first; --help tells more")
	}
	rest := args[1:]
	if strings.HasPrefix(args[0], "-") {
		rest = args
	}
	if err := flags.Parse(rest); err != nil {
		if errors.Is(err, flag.ErrHelp) {
			return nil
		}
		return err
	}
	switch args[0] {
	case "server":
		ln, err := net.Listen("tcp", *listen)
		if err != nil {
			return err
		}
		return (&sample.Server{Stateless: *stateless}).Serve(ctx, ln)
	case "agent":
		return sample.RunAgent(ctx, *url, *protocol, os.Stdin, os.Stdout)
	}
	return fmt.Errorf("%q is neither server nor agent", args[0])
}
