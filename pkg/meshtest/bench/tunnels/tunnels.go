package tunnels

import (
	"context"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"runtime"
	"slices"
	"strings"
	"time"

	"github.com/outrigger-mesh/outrigger/pkg/meshtest/bench/process"
)

// Config says how much is measured.
type Config struct {
	Programs    string   // directory of the built programs
	Against     string   // directory of another build's, to measure beside them; none is ""
	Only        []string // groups of scenarios, or parts of their names; none means all
	Chains      []string // parts of the names of chains; none means all
	Rounds      int
	Bytes       int64         // of each bulk transfer, all streams together
	Echo        time.Duration // of each round of messages
	Tunnels     int           // opened in each round
	Idle        int           // tunnels whose memory is measured
	Connections int           // shaken hands for in each round
	Envoy       string        // program; "" means the cached one
	Install     bool          // put Envoy into the cache if it is not there
	Direct      bool          // add an x/net pair without a pipe
	Sessions    int           // of MCP, idle, whose memory is measured
	Spin        bool          // keep the CPUs from sleeping where latency is measured
}

// Full is what is printed when nothing else is asked for: up to ten minutes.
func Full() Config {
	return Config{Rounds: 4, Bytes: 512 << 20, Echo: 500 * time.Millisecond, Tunnels: 2000, Idle: 10000, Sessions: 10000, Connections: 200, Install: true, Spin: true}
}

// Quick is within a minute, and good for telling that all of it works.
func Quick() Config {
	return Config{Rounds: 2, Bytes: 64 << 20, Echo: 100 * time.Millisecond, Tunnels: 200, Idle: 1000, Sessions: 500, Connections: 20, Spin: true}
}

// Groups are what Only may name.
func Groups() []string {
	return []string{"bulk", "echo", "beside", "tunnels", "connections", idleGroup}
}

// Run measures and prints. It must be called by a goroutine that is locked to its thread.
func Run(ctx context.Context, c Config, out io.Writer) error {
	envoy, noEnvoy := findEnvoy(ctx, c.Envoy, c.Install)
	results, err := c.measureScenarios(ctx, out, envoy, noEnvoy)
	if err != nil {
		return err
	}
	var idle []idleness
	if c.wants(&scenario{group: idleGroup, name: idleGroup}) {
		if idle, err = measureIdle(ctx, c, envoy); err != nil {
			return err
		}
		if err := printIdle(out, idle); err != nil {
			return err
		}
	}
	return printGoals(out, results, idle)
}

func (c *Config) measureScenarios(ctx context.Context, out io.Writer, envoy string, noEnvoy error) (map[string]result, error) {
	b, err := lay(ctx, *c, envoy)
	if err != nil {
		return nil, err
	}
	defer b.clear()
	fmt.Fprintf(out, "HBONE tunnels: %d rounds, the chains take turns in a shuffled order, medians; %d CPUs, %s\n", c.Rounds, runtime.NumCPU(), runtime.Version())
	for _, ch := range b.chains {
		fmt.Fprintf(out, "  %-12s %s\n", ch.name, ch.note)
	}
	if noEnvoy != nil {
		fmt.Fprintf(out, "  %-12s left out: %v\n", envoyTwo, noEnvoy)
	}
	results := make(map[string]result)
	for _, s := range c.scenarios() {
		if !c.wants(&s) {
			continue
		}
		r, err := b.measure(ctx, s)
		if err != nil {
			return nil, err
		}
		results[s.name] = r
		if err := r.print(out); err != nil {
			return nil, err
		}
	}
	return results, nil
}

// wants tells whether a scenario was asked for.
func (c *Config) wants(s *scenario) bool {
	return len(c.Only) == 0 || slices.ContainsFunc(c.Only, func(o string) bool { return o == s.group || strings.Contains(s.name, o) })
}

// measures tells whether a chain was asked for.
func (c *Config) measures(name string) bool {
	return len(c.Chains) == 0 || slices.ContainsFunc(c.Chains, func(part string) bool { return strings.Contains(name, part) })
}

// A result is what all chains did in one scenario.
type result struct {
	scenario
	chains []*chain
	series map[string]series // by chain
}

// measure runs the rounds of one scenario. In each, the chains take turns in another order.
func (b *bed) measure(ctx context.Context, s scenario) (r result, err error) {
	r = result{scenario: s, series: make(map[string]series)}
	r.chains = slices.DeleteFunc(slices.Clone(b.chains), func(c *chain) bool { return c.name == s.without })
	if s.spin && b.config.Spin {
		var spinner *process.Process
		if spinner, err = b.group.Launch("spinner", b.self, "spin"); err != nil {
			return r, err
		}
		defer spinner.Stop()
	}
	for range b.config.Rounds {
		for _, i := range rand.Perm(len(r.chains)) {
			if ctx.Err() != nil {
				return r, context.Cause(ctx)
			}
			c := r.chains[i]
			fmt.Fprint(os.Stderr, ".")
			r.series[c.name] = append(r.series[c.name], s.run(ctx, c))
		}
	}
	fmt.Fprintln(os.Stderr)
	return r, nil
}
