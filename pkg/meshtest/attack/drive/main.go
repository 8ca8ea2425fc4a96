// Command drive attacks a sidecar with a valid identity, and measures in the same
// run what that costs the sidecar and a well-behaved client beside it. Each attack
// must be cut within a second or held under a tenth of a core, and must leave the
// client's p99 within twice its quiet value.
//
// Attacker, sidecar and client share a machine. What the attacker itself costs is not
// the sidecar's doing, so it runs at the lowest priority, as do the apps it has the
// sidecar connect to, on one processor; and each attack is driven twice: at the sidecar,
// and at a sink, which takes as many connections and as many bytes and does nothing with
// them. The client, who talks to the sidecar both times, is judged by the ratio of the
// two p99s, or of that beside the attack to the quiet one where that is larger than the
// sink's. The table has all three, and what of a core the attacker took in both ("theirs",
// "sunk"; with the sink's own share).
//
// Windows with and without an attack alternate; an attack that is out of bounds is
// measured again, and the median counts. Where the quiet windows themselves differ too
// much, the machine is too disturbed to tell anything of the client, and is said to be.
// With --tell, on a machine that others use, the best of several measurements counts, and
// the bounds are wider.
//
//	go run ./pkg/meshtest/attack/drive --programs bin
package main

import (
	"context"
	"flag"
	"fmt"
	"net/netip"
	"os"
	"os/signal"
	"slices"
	"syscall"
	"time"

	"github.com/outrigger-mesh/outrigger/pkg/meshtest/bench/process"
)

// What an attack may cost.
const (
	mostLife  = time.Second // until it is cut, or
	mostShare = 0.1         // of a core
	mostRatio = 2.0         // of the client's p99 to its quiet one
	// The same on a machine that others use: their work makes all take longer, and the
	// client wait.
	sharedShare = 5 * mostShare
	sharedRatio = 5.0
	// passable is of how many attacks one may be passed over there, because the
	// machine had no time for the attacker.
	passable = 20
	// mostDrift is how much the quiet p99 before and after an attack may differ:
	// more, and what is between them tells nothing of the attack.
	mostDrift = 1.6
	tries     = 5 // of an attack that is out of bounds at first
	pause     = time.Millisecond
)

type config struct {
	programs string
	only     string
	quiet    time.Duration
	attack   time.Duration
	again    time.Duration
	tell     bool
	strike   string // internal: be the attacker
	apps     string // likewise: be the apps that are attacked, at this address
	number   int    // likewise: which attacker of many
	taken    int    // likewise: strike a sink that takes so many connections,
	each     int64  // and so many bytes of each
	state    string // likewise: where the mesh is described
}

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := run(ctx, os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "attack:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, args []string) error {
	var c config
	flags := flag.NewFlagSet("attack", flag.ContinueOnError)
	flags.StringVar(&c.programs, "programs", "bin", "directory with the built programs")
	flags.StringVar(&c.only, "only", "", "only attacks whose name contains this")
	flags.DurationVar(&c.quiet, "quiet", 800*time.Millisecond, "how long the client is measured alone, between two attacks")
	flags.DurationVar(&c.attack, "attack", 1100*time.Millisecond, "how long each attack lasts")
	flags.DurationVar(&c.again, "again", 2*time.Minute, "until when attacks that are out of bounds are measured again")
	flags.BoolVar(&c.tell, "tell", false, "on a machine that is not ours alone: take the best of five measurements, let an attack make the client's p99 five times as long and, if it is not cut, take half a core, and pass over one in 20 whose attacker never got in")
	flags.StringVar(&c.strike, "strike", "", "internal: be the attacker with this attack")
	flags.StringVar(&c.apps, "apps", "", "internal: be the apps that are attacked, at this address")
	flags.IntVar(&c.number, "number", 0, "internal: which attacker of many")
	flags.IntVar(&c.taken, "taken", 0, "internal: strike a sink that takes so many connections")
	flags.Int64Var(&c.each, "each", 0, "internal: and so many bytes of each")
	flags.StringVar(&c.state, "state", "", "internal: the mesh's state directory")
	if err := flags.Parse(args); err != nil {
		return err
	}
	if c.strike != "" {
		return strike(ctx, c)
	}
	if c.apps != "" {
		on, err := netip.ParseAddr(c.apps)
		if err != nil {
			return err
		}
		return serveApps(ctx, on)
	}
	b, err := start(ctx, c.programs)
	if err != nil {
		return err
	}
	defer b.stop()
	return b.all(ctx, c)
}

// client opens tunnels, one after the other, and sends a word through each. It
// returns the p99 of that and how much of a core the sidecar took.
func (b *bed) client(ctx context.Context, d time.Duration) (time.Duration, float64, error) {
	from, err := process.Read(b.sidecar)
	if err != nil {
		return 0, 0, err
	}
	var all []time.Duration
	start := time.Now()
	for time.Since(start) < d {
		began := time.Now()
		if err := b.echo(ctx); err != nil {
			return 0, 0, fmt.Errorf("the well-behaved client: %w", err)
		}
		all = append(all, time.Since(began))
		time.Sleep(pause)
	}
	to, err := process.Read(b.sidecar)
	if err != nil {
		return 0, 0, err
	}
	slices.Sort(all)
	return all[len(all)*99/100], to.Since(from).Total().Seconds() / time.Since(start).Seconds(), nil
}
