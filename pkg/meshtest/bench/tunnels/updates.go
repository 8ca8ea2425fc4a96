package tunnels

import (
	"context"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/netip"
	"os"
	"runtime"
	"slices"
	"text/tabwriter"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/outrigger-mesh/outrigger/pkg/authority"
	"github.com/outrigger-mesh/outrigger/pkg/control"
	"github.com/outrigger-mesh/outrigger/pkg/meshtest/bench/baseline"
	"github.com/outrigger-mesh/outrigger/pkg/meshtest/bench/updates"
	"github.com/outrigger-mesh/outrigger/pkg/meshtest/scale"
)

const (
	streamPort = 15013
	orderPort  = 15015
	messages   = time.Millisecond // between the starts of two
)

// Where updates go while messages do.
const (
	toNobody  = "no updates"
	toSink    = "to a sink"
	toSidecar = "to the client's sidecar"
)

// A flood is a pair of sidecars, one of which keeps all of a large mesh and is
// told of changes by a plane of its own.
type flood struct {
	*bed
	place place
	pair  *chain
}

func (f *flood) start(ctx context.Context) (err error) {
	p := f.place
	if err := f.control(ctx, p, []workload{clientSide()}, ""); err != nil {
		return err
	}
	if err := f.plane(ctx); err != nil {
		return err
	}
	f.pair = &chain{name: ours, place: p, admin: [2]string{p.at(clientIP, adminPort), p.at(serverIP, adminPort)}}
	if f.pair.server, err = f.sidecar(ctx, p, serverSide(), serverPort); err != nil {
		return err
	}
	if f.pair.client, err = f.sidecar(ctx, p, clientSide(), serverPort, "--forward", p.front()+"="+p.app(),
		"--xds-address", p.at(controlIP, streamPort), "--xds-wildcard", "--ca-address", p.at(controlIP, xdsPort),
		"--ca-root", f.file("mesh-root.pem"), "--ca-name", "istiod.istio-system.svc"); err != nil {
		return err
	}
	app, err := f.group.Launch("app", f.self, "app", p.app())
	if err != nil {
		return err
	}
	return app.Listening(ctx, p.app())
}

// plane starts the plane that streams, and the sink.
func (f *flood) plane(ctx context.Context) error {
	a, err := control.OpenAuthority(f.file(control.StateCA), trustDomain)
	if err != nil {
		return err
	}
	if err := writeServer(a, f.place.ip(controlIP), f.file(baseline.ServerCertFile), f.file(baseline.ServerKeyFile)); err != nil {
		return err
	}
	p := f.place
	args := []string{"updates-plane", p.at(controlIP, streamPort), p.at(controlIP, orderPort), f.dir}
	for _, w := range []workload{clientSide(), serverSide()} {
		args = append(args, w.name, p.ip(w.ip).String())
	}
	plane, err := f.group.Launch("updates", f.self, args...)
	if err != nil {
		return err
	}
	if err := plane.Listening(ctx, p.at(controlIP, streamPort)); err != nil {
		return err
	}
	_, err = f.group.Launch("sink", f.self, "updates-sink", p.at(controlIP, streamPort))
	return err
}

func writeServer(a *authority.Authority, at netip.Addr, certFile, keyFile string) error {
	server, err := a.IssueServer([]string{"istiod.istio-system.svc"}, []netip.Addr{at}, lifetime)
	if err != nil {
		return err
	}
	if err := os.WriteFile(certFile, server.CertPEM, 0o600); err != nil {
		return err
	}
	return os.WriteFile(keyFile, server.KeyPEM, 0o600)
}

// UpdatesPlane is the process that streams updates.
func UpdatesPlane(ctx context.Context, args []string) error {
	if len(args) < 3 || len(args)%2 != 1 {
		return fmt.Errorf("an updates plane takes where to listen for streams and for orders, a directory, and names with addresses, not %q", args)
	}
	c := updates.Config{Listen: args[0], Control: args[1], CertFile: args[2] + "/" + baseline.ServerCertFile, KeyFile: args[2] + "/" + baseline.ServerKeyFile}
	for pair := range slices.Chunk(args[3:], 2) {
		c.Workloads = append(c.Workloads, updates.Own{Name: pair[0], Namespace: "bench", TrustDomain: trustDomain, Address: pair[1]})
	}
	return updates.Run(ctx, c)
}

// RunUpdates measures messages through a pair while updates stream in, and prints
// it. It must be called by a goroutine that is locked to its thread.
func RunUpdates(ctx context.Context, c Config, out io.Writer) error {
	f := &flood{place: place{30}}
	b, err := layWith(ctx, c, func(b *bed) error {
		f.bed = b
		return f.start(ctx)
	})
	if err != nil {
		return err
	}
	defer b.clear()
	fmt.Fprintf(out, "Updates: %d workloads and %d services, %d updates a second; 1 KiB messages through the pair, %d a second; %d rounds, medians; %d CPUs, %s\n",
		scale.Workloads, scale.Services, scale.PerSecond, time.Second/messages, c.Rounds, runtime.NumCPU(), runtime.Version())
	for _, per := range []int{100, 1000, 1} {
		if s := (scenario{group: "updates", name: fmt.Sprintf("%d updates in each response", per)}); c.wants(&s) {
			if err := f.measure(ctx, s.name, per, out); err != nil {
				return err
			}
		}
	}
	return nil
}

// A wave is one round. Updates begin before what is sampled, and end after it.
type wave struct {
	sample
	outcome updates.Outcome
}

// updateRate is how many updates came each second; 0 if none was sent.
func (w *wave) updateRate() float64 {
	if w.outcome.Sending == 0 {
		return 0
	}
	return float64(w.outcome.Updates) / w.outcome.Sending.Seconds()
}

func (f *flood) measure(ctx context.Context, name string, per int, out io.Writer) error {
	if f.config.Spin {
		spinner, err := f.group.Launch("spinner", f.self, "spin")
		if err != nil {
			return err
		}
		defer spinner.Stop()
	}
	all := map[string][]wave{}
	ways := []string{toNobody, toSink, toSidecar}
	for range f.config.Rounds {
		for _, i := range rand.Perm(len(ways)) {
			fmt.Fprint(os.Stderr, ".")
			w, err := f.round(ctx, ways[i], per)
			if err != nil {
				return fmt.Errorf("%s, %s: %w", name, ways[i], err)
			}
			all[ways[i]] = append(all[ways[i]], w)
		}
	}
	fmt.Fprintln(os.Stderr)
	return printWaves(out, name, ways, all)
}

func printWaves(out io.Writer, name string, ways []string, all map[string][]wave) error {
	fmt.Fprintf(out, "\n%s\n", name)
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	fmt.Fprintf(w, "\tmessage p50\tp99\tp99 ÷ %s\tp99 ÷ %s\tupdates/s\tupdate visible p50\tp99\tsidecar CPU/update\t\n", toNobody, toSink)
	cpu := func(w *wave) float64 { return w.client.Total().Seconds() / w.wall.Seconds() }
	for _, way := range ways {
		waves := all[way]
		show := func(value func(w *wave) time.Duration) string {
			return span(over(waves, func(w *wave) float64 { return value(w).Seconds() }))
		}
		rate, perUpdate := over(waves, (*wave).updateRate), 0.0
		if way == toSidecar && rate > 0 {
			perUpdate = (over(waves, cpu) - over(all[toNobody], cpu)) / rate
		}
		fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%s\t%s\t%s\t%s\t%s\t\n", way,
			show(func(w *wave) time.Duration { return w.p50 }), show(func(w *wave) time.Duration { return w.p99 }),
			times(rise(waves, all[toNobody])), times(rise(waves, all[toSink])), number(rate),
			show(func(w *wave) time.Duration { return w.outcome.P50 }), show(func(w *wave) time.Duration { return w.outcome.P99 }),
			span(perUpdate))
	}
	return w.Flush()
}

// over is the median of a value over the rounds; 0 of none.
func over(waves []wave, value func(w *wave) float64) float64 {
	var all []float64
	for i := range waves {
		all = append(all, value(&waves[i]))
	}
	return median(all)
}

// rise is the median over the rounds of the p99 ÷ the other's in the same round.
func rise(waves, others []wave) float64 {
	var all []float64
	for i := range min(len(waves), len(others)) {
		all = append(all, waves[i].p99.Seconds()/others[i].p99.Seconds())
	}
	return median(all)
}

// round sends messages while updates go one way.
func (f *flood) round(ctx context.Context, way string, per int) (w wave, err error) {
	conn, err := f.pair.tunnel(ctx, f.place.front())
	if err != nil {
		return w, err
	}
	defer conn.Close()
	if err := baseline.Ask(conn, baseline.AskEcho, 0); err != nil {
		return w, err
	}
	if _, err := paced(conn, 1<<10, f.config.Echo/4); err != nil { // all is warm
		return w, err
	}
	var streaming errgroup.Group
	if way != toNobody {
		streaming.Go(func() (err error) {
			w.outcome, err = updates.Stream(ctx, f.place.at(controlIP, orderPort), updates.Order{Sink: way == toSink, Per: per, For: f.config.Echo + f.config.Echo/8})
			return err
		})
		time.Sleep(f.config.Echo / 16)
	}
	w.sample = f.pair.take(func() (float64, []time.Duration, error) {
		took, err := paced(conn, 1<<10, f.config.Echo)
		return float64(len(took)), took, err
	})
	if err := streaming.Wait(); err != nil {
		return w, err
	}
	return w, w.failed
}

// paced sends messages over c, each at its time if the one before has come back.
func paced(c net.Conn, size int, d time.Duration) ([]time.Duration, error) {
	message := make([]byte, size)
	var took []time.Duration
	for begin := time.Now(); time.Since(begin) < d; {
		time.Sleep(messages - time.Since(begin)%messages)
		start := time.Now()
		if _, err := c.Write(message); err != nil {
			return nil, err
		}
		if _, err := io.ReadFull(c, message); err != nil {
			return nil, err
		}
		took = append(took, time.Since(start))
	}
	return took, nil
}
