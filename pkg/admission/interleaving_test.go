package admission_test

import (
	"flag"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"os"
	"runtime"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/outrigger-mesh/outrigger/pkg/admission"
	"github.com/outrigger-mesh/outrigger/pkg/identity"
	"github.com/outrigger-mesh/outrigger/pkg/policy"
	"github.com/outrigger-mesh/outrigger/pkg/store"
)

var interleavings = flag.Int("interleavings", 0, "how many `episodes` TestNoInterleavingLeavesAStaleDecision tries; 0 means as many as fit into a few seconds")

// An episode opens connections while policies, workloads, certificates, roots
// and CRLs change. The code of admission, store, policy and identity is the real
// one, with its goroutines; a seed decides what is done between any two of its
// steps. After each episode every connection that is open must be one that a
// naive model of the newest state admits, and every one that is not must have
// been refused by some state since it began.
type episode struct {
	*stage
	rng   *rand.Rand
	depth int // of steps within steps
	left  int // changes that are still to come
	conns []*connection
}

// A connection is one of an episode, as the sidecar carries it.
type connection struct {
	peer   identity.Peer
	who    *caller
	to     netip.AddrPort
	closed atomic.Bool

	everRefused bool // by a state since it began, says the model
	began       uint64
	entry       *admission.Entry
	refused     string // why it was not admitted
}

func (c *connection) close() { c.closed.Store(true) }

// pause is a place where the world may turn.
func (e *episode) pause() {
	for range e.rng.IntN(3) {
		runtime.Gosched()
	}
	if e.depth >= 3 || e.rng.IntN(3) > 0 {
		return
	}
	e.depth++
	e.step()
	e.depth--
	for range e.rng.IntN(20) { // let those who watch look
		runtime.Gosched()
	}
}

func (e *episode) step() {
	if e.left > 0 && e.rng.IntN(4) > 0 {
		e.left--
		e.change()
		e.note()
		return
	}
	e.open()
}

// note asks the model about every connection, after a change or a beginning.
func (e *episode) note() {
	for _, c := range e.conns {
		c.everRefused = c.everRefused || e.refuses(c.who, c.to) != ""
	}
}

// open takes a connection as hbone and the recipes do: peer first, then policy.
func (e *episode) open() {
	if len(e.conns) >= 4 {
		return
	}
	who := e.callers[e.rng.IntN(len(e.callers))]
	c := &connection{peer: who.peer, who: who, to: e.ports[e.rng.IntN(len(e.ports))], began: e.store.Snapshot().Version()}
	e.conns = append(e.conns, c)
	e.note()
	e.pause()
	if err := e.admitted.Add(&c.peer, func(error) { c.close() }); err != nil {
		c.refused = err.Error()
		c.close()
		return
	}
	e.pause()
	first := true
	c.entry = e.register.Admit(func(s *store.Snapshot) policy.Decision {
		if !first {
			return e.ask(c, s)
		}
		first = false
		e.pause()
		d := e.ask(c, s)
		e.pause()
		return d
	})
	if v := c.entry.Snapshot.Version(); v < c.began {
		e.t.Errorf("decided by version %d, and %d was in force when it began", v, c.began)
	}
	if !c.entry.Decision.Allowed {
		c.refused = c.entry.Decision.Reason
		c.close()
		return
	}
	e.pause()
	c.entry.OnCut(func(policy.Decision) { c.close() })
}

func (e *episode) ask(c *connection, s *store.Snapshot) policy.Decision {
	return s.Policies().Connect(&policy.Connection{Source: c.who.id, SourceAddr: netip.MustParseAddrPort("10.9.9.9:1234"), Destination: c.to})
}

// change makes one change, in the sidecar and in the model.
func (e *episode) change() {
	switch e.rng.IntN(12) {
	default:
		name := e.names[e.rng.IntN(len(e.names))]
		e.inForce[name] = !e.inForce[name]
		c := store.Change{Authorizations: map[string]*policy.Authorization{name: nil}}
		if e.inForce[name] {
			c.Authorizations[name] = e.rules[name].compiled
		}
		e.store.Apply(c)
	case 4:
		e.listing = !e.listing
		e.store.Apply(store.Change{Workloads: e.workload()})
	case 5:
		e.gone = !e.gone && e.rng.IntN(2) == 0
		e.store.Apply(store.Change{Workloads: e.workload()})
	case 6:
		e.world = e.worlds[e.rng.IntN(len(e.worlds))]
		e.source.Set(e.world.svid)
	case 7:
		list := e.lists[e.rng.IntN(len(e.lists))]
		e.revoked = list.revoked
		if err := os.WriteFile(e.link, list.der, 0o600); err != nil {
			e.t.Error(err)
		}
		e.crl.Reload()
	}
}

// refuses is the naive model: why the state of now admits no connection of who
// to a destination; "" if it does.
func (e *episode) refuses(who *caller, to netip.AddrPort) string {
	switch {
	case e.world.expired:
		return "our own certificate has ended"
	case !slices.Contains(e.world.roots, who.root):
		return "its root is not trusted"
	case e.revoked == who:
		return "it is revoked"
	case e.gone:
		return "our workload is gone"
	case e.listing && !e.inForce[selected]:
		return "a listed policy is missing"
	}
	allows, allowed := false, false
	for _, name := range e.names {
		r := e.rules[name]
		if !e.inForce[name] || r.listed && !e.listing {
			continue
		}
		matches := r.matches(who.id, to.Port())
		if matches && !r.allow {
			return name + " denies"
		}
		allows, allowed = allows || r.allow, allowed || r.allow && matches
	}
	if allows && !allowed {
		return "nothing allows it"
	}
	return ""
}

// end lets everything come to rest and compares with the model.
func (e *episode) end() error {
	synctest.Wait()
	var wrong error
	for i, c := range e.conns {
		why := e.refuses(c.who, c.to)
		switch {
		case !c.closed.Load() && why != "":
			wrong = fmt.Errorf("connection %d of %v to %v is open, and the state refuses it: %s", i, c.who.id, c.to, why)
		case c.closed.Load() && !c.everRefused:
			wrong = fmt.Errorf("connection %d of %v to %v was refused by no state, and is closed: %s", i, c.who.id, c.to, c.refused)
		}
		e.admitted.Remove(&c.peer)
		if c.entry != nil {
			c.entry.Release()
		}
	}
	if n := e.register.Open(); n != 0 {
		wrong = fmt.Errorf("%d connections are still registered", n)
	}
	return wrong
}

// TestNoInterleavingLeavesAStaleDecision plays episodes on every core at once.
// Failures name the seed; -run with -interleavings plays the same ones again.
func TestNoInterleavingLeavesAStaleDecision(t *testing.T) {
	var played atomic.Int64
	var players sync.WaitGroup
	begun := time.Now()
	var over atomic.Bool
	defer time.AfterFunc(8*time.Second, func() { over.Store(true) }).Stop() // time stands still where episodes are played
	enough := func() bool {
		if *interleavings > 0 {
			return played.Load() >= int64(*interleavings)
		}
		return over.Load()
	}
	for player := range runtime.GOMAXPROCS(0) {
		players.Go(func() {
			synctest.Test(t, func(t *testing.T) { play(t, newStage(t), uint64(player), &played, enough) })
		})
	}
	players.Wait()
	t.Logf("%d interleavings in %v", played.Load(), time.Since(begun).Round(time.Millisecond))
	if played.Load() < 100 {
		t.Errorf("only %d interleavings were tried", played.Load())
	}
}

// play plays episodes on one stage.
func play(t *testing.T, stage *stage, player uint64, played *atomic.Int64, enough func() bool) {
	for n := uint64(0); !enough(); n++ {
		e := &episode{stage: stage, rng: rand.New(rand.NewPCG(player, n)), left: 1 + int(n%4)}
		stage.now = e
		for e.left > 0 || len(e.conns) == 0 {
			e.step()
		}
		if err := e.end(); err != nil {
			t.Errorf("player %d, episode %d: %v", player, n, err)
			return
		}
		played.Add(1)
	}
}
