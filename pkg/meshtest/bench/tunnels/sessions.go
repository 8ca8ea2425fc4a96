package tunnels

import (
	"context"
	"fmt"
	"io"
	"time"

	"golang.org/x/sync/errgroup"
)

// IdleSessions is what Only names the memory of idle sessions by.
const IdleSessions = "sessions"

// heldSessions is the memory that silent streams of events take of the server's sidecar.
type heldSessions struct {
	sessions, asked int
	kib, goroutines float64 // per session
}

// An agent is a sidecar of a caller, and its sessions.
type agent struct {
	front  string
	visits visits
}

// measureSessions opens sessions, each with a stream of events, from several agents.
func measureSessions(ctx context.Context, c Config) (*heldSessions, error) {
	t, err := found(ctx, c)
	if err != nil {
		return nil, err
	}
	defer t.clear()
	h := &heldSessions{asked: c.Sessions}
	t.pair.fds = 1 // of the server's sidecar, to the app
	c.Idle = c.Sessions
	if h.sessions, err = c.affordable(t.pair); err != nil {
		return nil, err
	}
	agents, err := t.gather(ctx)
	defer func() {
		for _, a := range agents {
			a.visits.close()
		}
	}()
	if err != nil {
		return nil, err
	}
	if err := openSessions(ctx, agents, 1); err != nil { // what is there once, such as the tunnels' connection
		return nil, err
	}
	time.Sleep(rest)
	before, err := t.pair.holds()
	if err != nil {
		return nil, err
	}
	each := h.sessions / len(agents)
	h.sessions = each * len(agents)
	if err := openSessions(ctx, agents, each); err != nil {
		return nil, err
	}
	after, err := t.pair.heldSince(before, h.sessions)
	h.kib, h.goroutines = after.kib[1], after.goroutines[1]
	return h, err
}

// gather starts the agents' sidecars.
func (t *town) gather(ctx context.Context) (all []*agent, err error) {
	for _, w := range agentSides() {
		a := &agent{front: t.place.at(w.ip, frontPort)}
		if _, err := t.sidecar(ctx, t.place, w, serverPort, "--forward", a.front+"="+t.place.mcp()); err != nil {
			return all, err
		}
		all = append(all, a)
	}
	return all, nil
}

// openSessions opens n more sessions of each agent, no faster than a sidecar lets one
// peer open tunnels.
func openSessions(ctx context.Context, agents []*agent, n int) error {
	const batch, pause = 20, 100 * time.Millisecond
	var g errgroup.Group
	for _, a := range agents {
		g.Go(func() error {
			for i := range n {
				v, err := enter(ctx, a.front)
				if err != nil {
					return err
				}
				a.visits = append(a.visits, v)
				if err := v.listen(); err != nil {
					return fmt.Errorf("listen at %s: %w", a.front, err)
				}
				if i%batch == batch-1 {
					time.Sleep(pause)
				}
			}
			return nil
		})
	}
	return g.Wait()
}

func (h *heldSessions) print(out io.Writer) {
	fmt.Fprintf(out, "\nidle sessions, each with a silent stream of events, of %d agents: %d sessions", agentNumber, h.sessions)
	if h.sessions < h.asked {
		fmt.Fprintf(out, " (%d do not fit the limit on descriptors)", h.asked-h.sessions)
	}
	fmt.Fprintf(out, "\n%.1f KiB of PSS and %.1f goroutines of the server's sidecar for each\n", h.kib, h.goroutines)
}
