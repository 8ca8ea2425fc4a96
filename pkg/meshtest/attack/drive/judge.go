package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"math"
	"os"
	"os/exec"
	"slices"
	"strconv"
	"strings"
	"time"
)

// An outcome is one measurement of one attack.
type outcome struct {
	strikes
	quiet     time.Duration // the client's p99 alone: the larger of before and after
	busy      time.Duration // beside the same attacker, who strikes a sink
	p99       time.Duration // beside the attack
	share     float64       // of a core, beyond what the client costs
	attacker  float64       // what of a core the attacker cost
	sunk      float64       // and the attacker with the sink
	disturbed bool          // the quiet windows differ too much
	shared    bool          // the machine is not ours alone
}

// ratio is what the sidecar's part in the attack made of the client's p99.
func (o *outcome) ratio() float64 { return float64(o.p99) / float64(max(o.quiet, o.busy)) }

// bounds are what an attack may make of the client's p99, and cost of a core.
func (o *outcome) bounds() (ratio, share float64) {
	if o.shared {
		return sharedRatio, sharedShare
	}
	return mostRatio, mostShare
}

// stopped tells whether the attack was cut soon, or costs little.
func (o *outcome) stopped() bool {
	_, share := o.bounds()
	return o.cuts > 0 && o.longest <= mostLife || o.share <= share
}

func (o *outcome) held() bool {
	ratio, _ := o.bounds()
	return o.stopped() && o.ratio() <= ratio
}

// A verdict is what came of all measurements of one attack.
type verdict struct {
	outcome
	tries int
	blind bool // the client's p99 is not judged
}

func (v *verdict) ok() bool { return v.held() || v.blind && v.stopped() }

func (v *verdict) String() string {
	switch {
	case !v.ok():
		return "OUT OF BOUNDS"
	case v.blind:
		return "held; p99 not judged"
	}
	return "held"
}

// judge takes the measurement that is the median by what it did to the client, and
// those of a disturbed machine only if there is no other. On a machine that others
// use there is no other: all they do is make the client wait longer, so that the best
// measurement of several is the nearest to what the sidecar did.
func judge(all []outcome) *verdict {
	v := &verdict{tries: len(all)}
	calm := slices.DeleteFunc(slices.Clone(all), func(o outcome) bool { return o.disturbed && !o.shared })
	if v.blind = len(calm) == 0; v.blind {
		calm = slices.Clone(all)
	}
	slices.SortFunc(calm, func(a, b outcome) int { return cmp.Compare(a.ratio(), b.ratio()) })
	v.outcome = calm[(len(calm)-1)/2]
	if i := slices.IndexFunc(calm, func(o outcome) bool { return o.shared && o.held() }); i >= 0 {
		v.outcome = calm[i]
	}
	return v
}

// A round drives attacks, one after the other.
type round struct {
	*bed
	config
	self   string
	number int           // of the next attacker
	alone  time.Duration // the client's p99 in the last quiet window
	usual  float64       // what of a core the client cost there
}

// all measures every attack and prints a table, row by row.
func (b *bed) all(ctx context.Context, c config) error {
	const row = "%-38s %6v %8v %5v %9v %6v %6v %6v %9v %9v %9v %6v %6v %5v  %v\n"
	r := &round{bed: b, config: c}
	var err error
	if r.self, err = os.Executable(); err != nil {
		return err
	}
	if err := r.quietly(ctx); err != nil {
		return err
	}
	fmt.Printf(row, "attack", "conns", "kept out", "cut", "life", "core", "theirs", "sunk", "p99 quiet", "p99 sink", "p99 then", "/quiet", "ratio", "tries", "verdict")
	var bad []string
	driven, blind, passed, until := 0, 0, 0, time.Now().Add(c.again)
	for _, name := range names() {
		if !strings.Contains(name, c.only) {
			continue
		}
		v, err := r.measure(ctx, name, until)
		if err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
		if v == nil {
			passed++
			fmt.Printf("%-38s the machine had no time for the attacker\n", name)
			continue
		}
		core, p99 := func(f float64) string { return fmt.Sprintf("%.3f", f) }, func(d time.Duration) time.Duration { return d.Round(10 * time.Microsecond) }
		fmt.Printf(row, name, v.connected, v.refused, v.cuts, v.longest.Round(time.Millisecond), core(v.share), core(v.attacker), core(v.sunk),
			p99(v.quiet), p99(v.busy), p99(v.p99), fmt.Sprintf("%.2f", float64(v.p99)/float64(v.quiet)), fmt.Sprintf("%.2f", v.ratio()), v.tries, v)
		driven++
		if v.blind {
			blind++
		}
		if !v.ok() {
			bad = append(bad, name)
		}
	}
	fmt.Printf("%d attacks, %d out of bounds; of %d nothing more is judged than that they are cut or cheap\n", driven, len(bad), blind)
	if len(bad) > 0 {
		return fmt.Errorf("out of bounds: %s", strings.Join(bad, ", "))
	}
	return enough(driven, passed, c.only)
}

// enough tells whether so many attacks were driven that the round says something.
func enough(driven, passed int, only string) error {
	if driven+passed == 0 {
		return fmt.Errorf("no attack has %q in its name", only)
	}
	if passed*passable > driven+passed {
		return fmt.Errorf("%d of %d attackers never got in: the machine is too busy to tell; try again when it is less so", passed, driven+passed)
	}
	return nil
}

// measure drives one attack, and again if it is not held at once. On a machine that
// others use it always is driven as often as it takes.
func (r *round) measure(ctx context.Context, name string, until time.Time) (*verdict, error) {
	var all []outcome
	for n := 0; n < tries && (len(all) == 0 || r.tell || time.Now().Before(until)); n++ {
		o, err := r.try(ctx, name)
		if err != nil {
			return nil, err
		}
		if o.connected == 0 {
			continue // the machine had no time for it
		}
		o.shared = r.tell
		all = append(all, o)
		if o.held() && (r.tell || n == 0 && !o.disturbed) {
			break
		}
	}
	switch {
	case len(all) == 0 && r.tell:
		return nil, nil
	case len(all) == 0:
		return nil, errors.New("the attacker never got in")
	}
	return judge(all), nil
}

// quietly measures the client alone.
func (r *round) quietly(ctx context.Context) (err error) {
	r.alone, r.usual, err = r.client(ctx, r.quiet)
	return err
}

// try measures the client beside an attack, then alone, as it was before, and then
// beside the same attacker at a sink.
func (r *round) try(ctx context.Context, name string) (o outcome, err error) {
	before, usual := r.alone, r.usual
	r.number++
	core, err := r.beside(ctx, &o, name)
	if err != nil {
		return o, err
	}
	if err := r.quietly(ctx); err != nil {
		return o, err
	}
	o.quiet, o.share = max(before, r.alone), max(core-(usual+r.usual)/2, 0)
	o.disturbed = float64(o.quiet) > mostDrift*float64(min(before, r.alone))
	if o.connected == 0 {
		return o, nil
	}
	each := int64(math.MaxInt64)
	if o.cuts > 0 && o.wrote > 0 {
		each = o.wrote / int64(o.connected)
	}
	sunk := outcome{}
	_, err = r.beside(ctx, &sunk, name, "--taken", strconv.Itoa(o.connected), "--each", strconv.FormatInt(each, 10))
	o.busy, o.sunk = sunk.p99, sunk.attacker
	return o, err
}

// beside measures the client while an attacker is at work, and returns what of a core the sidecar took.
func (r *round) beside(ctx context.Context, o *outcome, name string, more ...string) (core float64, err error) {
	args := append([]string{"-n", "19", r.self, "--strike", name, "--number", strconv.Itoa(r.number), "--state", r.State, "--attack", r.attack.String()}, more...)
	cmd := exec.CommandContext(ctx, "nice", args...)
	var out strings.Builder
	cmd.Stdout, cmd.Stderr, cmd.Env = &out, os.Stderr, append(os.Environ(), "GOMAXPROCS=1")
	began := time.Now()
	if err := cmd.Start(); err != nil {
		return 0, err
	}
	o.p99, core, err = r.client(ctx, r.attack)
	if err := errors.Join(err, cmd.Wait()); err != nil {
		return 0, err
	}
	used := cmd.ProcessState.UserTime() + cmd.ProcessState.SystemTime()
	o.attacker = used.Seconds() / time.Since(began).Seconds()
	_, err = fmt.Sscan(out.String(), &o.connected, &o.refused, &o.cuts, (*int64)(&o.longest), &o.wrote)
	return core, err
}
