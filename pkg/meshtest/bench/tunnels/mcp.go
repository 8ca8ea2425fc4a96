package tunnels

import (
	"context"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"os"
	"runtime"
	"slices"
	"time"

	"github.com/outrigger-mesh/outrigger/pkg/meshtest/bench/baseline"
	"github.com/outrigger-mesh/outrigger/pkg/meshtest/bench/process"
)

// The ways to the MCP app.
const (
	straight = "direct"
	opaque   = "opaque"
	relayed  = "opaque HTTP"
	governed = "governed"
	proxied  = "HTTP proxies"
)

// A town is a pair of sidecars with one MCP app, which they reach in three ways.
type town struct {
	*bed
	place place
	pair  *chain
	ways  []way
}

// A way leads to the MCP app.
type way struct {
	name, address, note string
	through             *chain // whose cost is that of the way; it idles beside the direct one
}

// agentNumber is how many agents hold idle sessions: a caller may have 1024.
const agentNumber = 10

func agentSides() (all []workload) {
	for i := range byte(agentNumber) {
		all = append(all, workload{fmt.Sprintf("agent-%d", i), 100 + i})
	}
	return all
}

// policies govern the MCP port: allow rules, one of them with a condition on
// arguments, and a deny rule.
const policies = `---
apiVersion: outrigger.dev/v1alpha1
kind: AgentPolicy
metadata: {name: tools, namespace: bench}
spec:
  target: {selector: {matchLabels: {app: server}}}
  direction: Inbound
  ports: [{number: %d, protocol: MCP, paths: [/mcp]}, {number: %d, protocol: HTTP}]
  rules:
  - name: nobody-deletes
    action: Deny
    mcp: {tools: ["` + baseline.HiddenTools + `*"]}
  - name: bench-reads
    action: Allow
    source: {namespaces: [bench]}
    mcp: {tools: ["get_*", "list_*", "search_code"]}
  - name: bench-searches-a-little
    action: Allow
    source: {namespaces: [bench]}
    mcp: {tools: [search_issues]}
    when: ["mcp.tool.arguments.limit <= 100.0 && mcp.tool.arguments.query.size() > 0"]
`

// found starts the town, of processes that did nothing before.
func found(ctx context.Context, c Config) (*town, error) {
	t := &town{place: place{20}}
	b, err := layWith(ctx, c, func(b *bed) error {
		t.bed = b
		return t.start(ctx)
	})
	t.bed = b
	return t, err
}

func (t *town) start(ctx context.Context) (err error) {
	p := t.place
	if err := t.control(ctx, p, append(agentSides(), clientSide()), fmt.Sprintf(policies, mcpPort, httpPort)); err != nil {
		return err
	}
	app, err := t.group.Launch("app", t.self, "mcp-app", p.app(), p.mcp(), p.http())
	if err != nil {
		return err
	}
	if err := app.Listening(ctx, p.mcp()); err != nil {
		return err
	}
	t.pair = &chain{name: ours, place: p, admin: [2]string{p.at(clientIP, adminPort), p.at(serverIP, adminPort)}}
	if t.pair.server, err = t.sidecar(ctx, p, serverSide(), serverPort, "--label", "app=server", "--audit-log", t.file("audit.jsonl")); err != nil {
		return err
	}
	const second, third = frontPort + 1, frontPort + 2
	t.pair.client, err = t.sidecar(ctx, p, clientSide(), serverPort,
		"--forward", p.front()+"="+p.app(), "--forward", p.at(clientIP, second)+"="+p.mcp(), "--forward", p.at(clientIP, third)+"="+p.http())
	if err != nil {
		return err
	}
	proxies, err := t.bed.pair(ctx, baseline.HTTP, chain{name: proxied, place: place{p.number + 1}, to: p.app()})
	if err != nil {
		return err
	}
	all := []way{
		{straight, p.app(), "an app that answers at once, with as many bytes as it was asked in", t.pair},
		{opaque, p.front(), "through the pair, on a port that no agent policy governs", t.pair},
		{relayed, p.at(clientIP, third), "through the pair, on a port that a policy declares as HTTP: read strictly, written anew, no body looked at", t.pair},
		{governed, p.at(clientIP, second), "through the pair, on a port governed by allow rules, a condition on arguments and a deny rule; access log and audit record", t.pair},
		{proxied, proxies.place.front(), "through two httputil.ReverseProxy instead, on plain TCP: no TLS, no identity, no policy, no records", proxies},
	}
	t.ways = slices.DeleteFunc(all, func(w way) bool { return !t.config.measures(w.name) })
	return nil
}

// RunMCP measures what it costs to govern MCP, and prints it. It must be called by a
// goroutine that is locked to its thread.
func RunMCP(ctx context.Context, c Config, out io.Writer) error {
	results, err := c.measureMCP(ctx, out)
	if err != nil {
		return err
	}
	var held *heldSessions
	if c.wants(&scenario{group: IdleSessions, name: IdleSessions}) {
		if held, err = measureSessions(ctx, c); err != nil {
			return err
		}
		held.print(out)
	}
	return printMCPGoals(out, results, held)
}

func (c *Config) measureMCP(ctx context.Context, out io.Writer) ([]mcpResult, error) {
	t, err := found(ctx, *c)
	if err != nil {
		return nil, err
	}
	defer t.clear()
	fmt.Fprintf(out, "MCP: %d rounds, the ways take turns in a shuffled order, medians; %d CPUs, %s\n", c.Rounds, runtime.NumCPU(), runtime.Version())
	for _, w := range t.ways {
		fmt.Fprintf(out, "  %-12s %s\n", w.name, w.note)
	}
	var results []mcpResult
	for _, s := range mcpScenarios() {
		if !c.wants(&scenario{group: "requests", name: s.name}) {
			continue
		}
		r, err := t.measure(ctx, s)
		if err != nil {
			return nil, err
		}
		results = append(results, r)
		if err := r.print(out); err != nil {
			return nil, err
		}
	}
	return results, nil
}

// An mcpScenario is requests of one kind.
type mcpScenario struct {
	name    string
	size    int // of the body of a call; 0: the list is asked for
	callers int
}

func mcpScenarios() []mcpScenario {
	var all []mcpScenario
	for _, callers := range []int{1, 16} {
		for _, size := range []int{1 << 10, 4 << 10} {
			all = append(all, mcpScenario{fmt.Sprintf("tools/call %s c=%d", sizeName(size), callers), size, callers})
		}
	}
	return append(all, mcpScenario{"tools/list 1 MB c=1", 0, 1})
}

// An mcpResult is what all ways did in one scenario.
type mcpResult struct {
	mcpScenario
	ways   []way
	series map[string]series // by way
}

func (t *town) measure(ctx context.Context, s mcpScenario) (r mcpResult, err error) {
	r = mcpResult{mcpScenario: s, ways: t.ways, series: make(map[string]series)}
	if s.size == 0 { // ReverseProxy breaks off so long an answer of the app: calls compare it
		r.ways = slices.DeleteFunc(slices.Clone(t.ways), func(w way) bool { return w.name == proxied })
	}
	if t.config.Spin {
		spinner, err := t.group.Launch("spinner", t.self, "spin")
		if err != nil {
			return r, err
		}
		defer spinner.Stop()
	}
	for range t.config.Rounds {
		for _, i := range rand.Perm(len(r.ways)) {
			if ctx.Err() != nil {
				return r, context.Cause(ctx)
			}
			w := r.ways[i]
			fmt.Fprint(os.Stderr, ".")
			one, err := t.round(ctx, w, s)
			if err != nil {
				return r, fmt.Errorf("%s, %s: %w", s.name, w.name, err)
			}
			r.series[w.name] = append(r.series[w.name], one)
		}
	}
	fmt.Fprintln(os.Stderr)
	return r, nil
}

// round is one sample: each caller has a session, on a connection of its own.
func (t *town) round(ctx context.Context, w way, s mcpScenario) (one sample, err error) {
	var all visits
	defer func() { all.close() }()
	for range s.callers {
		v, err := enter(ctx, w.address)
		if err != nil {
			return one, err
		}
		all = append(all, v)
	}
	if _, err := all.ask(s.size, t.config.Echo/10); err != nil { // buffers grow
		return one, err
	}
	one = w.through.take(func() (float64, []time.Duration, error) {
		took, err := all.ask(s.size, t.config.Echo)
		return float64(len(took)), took, err
	})
	if w.name == straight {
		one.client, one.server = process.Usage{}, process.Usage{} // they idled beside it
	}
	return one, one.failed
}

// ask makes calls of a size, or asks for the list, in all sessions at once.
func (all visits) ask(size int, d time.Duration) ([]time.Duration, error) {
	took := make([][]time.Duration, len(all))
	conns := make(conns, len(all))
	for i, v := range all {
		conns[i] = v.conn
	}
	end := time.Now().Add(d)
	err := conns.each(func(i int, _ net.Conn) (err error) {
		took[i], err = all[i].repeat(size, end)
		return err
	})
	return slices.Concat(took...), err
}
