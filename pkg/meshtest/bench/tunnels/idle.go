package tunnels

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strconv"
	"strings"
	"syscall"
	"text/tabwriter"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/outrigger-mesh/outrigger/pkg/meshtest/bench/process"
)

const (
	idleGroup  = "idle"
	spareFiles = 600             // descriptors that a process needs besides those of tunnels
	rest       = 2 * time.Second // before memory is read
	idleChunk  = 16 << 10
	idleChunks = 16 // that each tunnel carries to and fro before it idles again
)

// A holding is what both sides of a chain hold for a tunnel.
type holding struct {
	kib        [2]float64 // PSS of client and server
	goroutines [2]float64 // -1: not known
}

// An idleness is the memory that idle tunnels take of one chain.
type idleness struct {
	chain        *chain
	tunnels      int
	fresh, after holding
	failed       error
}

// measureIdle measures memory, on processes that have done nothing before.
func measureIdle(ctx context.Context, c Config, envoy string) ([]idleness, error) {
	b, err := lay(ctx, c, envoy)
	if err != nil {
		return nil, err
	}
	defer b.clear()
	var all []idleness
	for _, ch := range b.chains {
		i := idleness{chain: ch}
		if i.tunnels, i.failed = c.affordable(ch); i.failed == nil {
			i.failed = i.measure(ctx)
		}
		if ctx.Err() != nil {
			return all, context.Cause(ctx)
		}
		all = append(all, i)
	}
	return all, nil
}

// affordable is how many tunnels the limit on descriptors allows.
func (c *Config) affordable(ch *chain) (int, error) {
	var limit syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &limit); err != nil {
		return 0, err
	}
	files := int(min(limit.Max, 1<<30))
	n := min(c.Idle, (files-spareFiles)/ch.fds)
	if n <= 0 {
		return 0, fmt.Errorf("%d descriptors are too few", files)
	}
	return n, nil
}

func (i *idleness) measure(ctx context.Context) error {
	c := i.chain
	few, err := c.open(ctx, 1) // what is there once, such as the connection
	if err != nil {
		return err
	}
	defer few.close()
	time.Sleep(rest)
	before, err := c.holds()
	if err != nil {
		return err
	}
	all, err := c.openGently(ctx, i.tunnels)
	defer all.close()
	if err != nil {
		return err
	}
	if i.fresh, err = c.heldSince(before, i.tunnels); err != nil {
		return err
	}
	if err := all.askEcho(); err != nil {
		return err
	}
	if err := all.carry(); err != nil {
		return err
	}
	i.after, err = c.heldSince(before, i.tunnels)
	return err
}

// openGently opens n tunnels no faster than a sidecar lets one peer open those
// that have not ended well yet.
func (c *chain) openGently(ctx context.Context, n int) (all conns, err error) {
	const batch, pause = 40, 100 * time.Millisecond
	tick := time.NewTicker(pause)
	defer tick.Stop()
	for len(all) < n {
		more, err := c.open(ctx, min(batch, n-len(all)))
		if err != nil {
			return all, err
		}
		all = append(all, more...)
		<-tick.C
	}
	return all, nil
}

// carry sends some data to and fro in every tunnel.
func (all conns) carry() error {
	var g errgroup.Group
	g.SetLimit(32)
	for _, c := range all {
		g.Go(func() error { return carryOn(c) })
	}
	return g.Wait()
}

func carryOn(c net.Conn) error {
	_ = c.SetDeadline(time.Now().Add(patience)) // fails only on a closed connection
	buf := make([]byte, idleChunk)
	for range idleChunks {
		if _, err := c.Write(buf); err != nil {
			return err
		}
		if _, err := io.ReadFull(c, buf); err != nil {
			return err
		}
	}
	return nil
}

// holds is the memory of both sides in KiB, and their goroutines.
func (c *chain) holds() (h holding, err error) {
	for i, p := range []*process.Process{c.client, c.server} {
		bytes, err := process.PSS(p.PID)
		if err != nil {
			return h, err
		}
		h.kib[i] = float64(bytes) / 1024
		if h.goroutines[i], err = goroutines(c.admin[i]); err != nil {
			return h, err
		}
	}
	return h, nil
}

// heldSince is what has been added for each of n tunnels.
func (c *chain) heldSince(before holding, n int) (holding, error) {
	time.Sleep(rest)
	now, err := c.holds()
	if err != nil {
		return now, err
	}
	for i := range now.kib {
		now.kib[i] = (now.kib[i] - before.kib[i]) / float64(n)
		if now.goroutines[i] >= 0 {
			now.goroutines[i] = (now.goroutines[i] - before.goroutines[i]) / float64(n)
		}
	}
	return now, nil
}

// goroutines asks the profiles of a Go program; -1 if there are none.
func goroutines(admin string) (float64, error) {
	if admin == "" {
		return -1, nil
	}
	client := &http.Client{Timeout: 10 * time.Second, Transport: &http.Transport{DisableKeepAlives: true}}
	res, err := client.Get("http://" + admin + "/debug/pprof/goroutine?debug=1")
	if err != nil {
		return 0, err
	}
	defer res.Body.Close()
	line, err := bufio.NewReader(io.LimitReader(res.Body, 1024)).ReadString('\n')
	if err != nil {
		return 0, err
	}
	return parseGoroutines(line)
}

// parseGoroutines reads the first line of a goroutine profile.
func parseGoroutines(line string) (float64, error) {
	text, ok := strings.CutPrefix(strings.TrimSpace(line), "goroutine profile: total ")
	if !ok {
		return 0, fmt.Errorf("%q is not the head of a goroutine profile", line)
	}
	n, err := strconv.Atoi(text)
	if err != nil || n < 0 {
		return 0, errors.Join(fmt.Errorf("%q is not a number of goroutines", text), err)
	}
	return float64(n), nil
}

func printIdle(out io.Writer, all []idleness) error {
	fmt.Fprintf(out, "\nidle tunnels, on processes that did nothing before: KiB of PSS and goroutines per tunnel, client / server\n")
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	fmt.Fprintf(w, "\ttunnels\tfresh\tafter %d KiB to and fro\tgoroutines\t\n", idleChunk*idleChunks>>10)
	for _, i := range all {
		if i.failed != nil {
			fmt.Fprintf(w, "%s\t%d\tfailed: %v\n", i.chain.name, i.tunnels, i.failed)
			continue
		}
		fmt.Fprintf(w, "%s\t%d\t%.1f / %.1f\t%.1f / %.1f\t%s\t\n", i.chain.name, i.tunnels,
			i.fresh.kib[0], i.fresh.kib[1], i.after.kib[0], i.after.kib[1], perTunnel(i.after.goroutines))
	}
	return w.Flush()
}

func perTunnel(goroutines [2]float64) string {
	if goroutines[0] < 0 {
		return "-"
	}
	return fmt.Sprintf("%.1f / %.1f", goroutines[0], goroutines[1])
}
