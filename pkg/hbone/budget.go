package hbone

import (
	"errors"
	"math"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/net/http2"

	"github.com/outrigger-mesh/outrigger/pkg/gate"
)

// Limits bound what one peer may cost us. The zero value of each field is its default.
type Limits struct {
	// NoisePerSecond is how many frames that carry nothing one connection may send
	// for long: PING, SETTINGS, PRIORITY, empty DATA, WINDOW_UPDATE beyond ten
	// per DATA frame of ours or of little, unknown ones. 0 means 2000. Five times
	// that may come at once; all connections of an identity may send four times as much.
	NoisePerSecond int
	// ResetsPerSecond is how many streams of one connection may end without use
	// for long: reset by the peer before anything came back, refused, or reset by
	// us for an error of the peer. 0 means 100. Five times that may come at once;
	// all connections of an identity may have four times as many.
	ResetsPerSecond int
	// OpensPerSecond is how many tunnels one peer identity may open for long that
	// come to nothing: those that end well and carried bytes both ways do not
	// count. 0 means 500. As many may come at once.
	OpensPerSecond int
	// TunnelsPerPeer is how many tunnels one peer identity may have open. 0 means 16384.
	TunnelsPerPeer int
	// ConnsPerPeer is how many connections one peer identity may have. 0 means 1024.
	ConnsPerPeer int
	// ConnsPerSecond is how many connections one peer identity, and one address,
	// may make for long. 0 means 100. Twice that may come at once. A connection
	// that carried no tunnel counts as five, and one that was cut for abuse as all
	// of a second.
	ConnsPerSecond int
	// HandshakesPerAddress is how many connections of one address may be in
	// their handshake at once. 0 means 64.
	HandshakesPerAddress int
	// StrangersPerSecond is how many connections all addresses together may make,
	// for long, that have opened no tunnel in ten minutes: a handshake costs most
	// of a millisecond of CPU before anybody is known. Twice that may come at
	// once, and who opens a tunnel does not count. 0 means 100.
	StrangersPerSecond int
	// HalfCloseTimeout is how long a tunnel of which one direction has ended may
	// go on while nothing comes through the other. 0 means an hour.
	HalfCloseTimeout time.Duration
	// StallTimeout is how long a peer may give a tunnel that has something for it
	// no window. 0 means 15 minutes.
	StallTimeout time.Duration
}

func (l Limits) withDefaults() Limits {
	orElse := func(v *int, d int) {
		if *v <= 0 {
			*v = d
		}
	}
	orElse(&l.NoisePerSecond, 2000)
	orElse(&l.ResetsPerSecond, 100)
	orElse(&l.OpensPerSecond, 500)
	orElse(&l.TunnelsPerPeer, 16384)
	orElse(&l.ConnsPerPeer, 1024)
	orElse(&l.ConnsPerSecond, 100)
	orElse(&l.HandshakesPerAddress, 64)
	orElse(&l.StrangersPerSecond, 100)
	l.HalfCloseTimeout = orDuration(l.HalfCloseTimeout, time.Hour)
	l.StallTimeout = orDuration(l.StallTimeout, 15*time.Minute)
	return l
}

const (
	// updatesPerData is how many WINDOW_UPDATE frames are fair for one write of ours; Envoy has the same.
	updatesPerData = 10
	// smallUpdate is a WINDOW_UPDATE that lets us send so little that it is noise, in
	// bytes. Common peers wait until they owe half a window, or 4 KiB.
	smallUpdate = 4 << 10
	// tinyUpdate is one that lets us send next to nothing.
	tinyUpdate = 256
	// costOfLargeHeader is what a header list that is too large costs beside its stream, in frames of noise.
	costOfLargeHeader = 50
	// costOfWake is what a stream costs that a changed setting lets go on, likewise. A
	// peer may still let all of its streams go on twice at once.
	costOfWake = 24
	// wasteAtOnce is how many seconds' worth of noise and of resets may come at once, and
	// ofPeer how much more of them all connections of an identity may send.
	wasteAtOnce, ofPeer = 5, 4
	// opensAtOnce is how many seconds' worth of tunnels may come to nothing at once.
	opensAtOnce = 1
	// costOfUseless is how many connections one counts as that carried no tunnel:
	// its handshake was all that it was for.
	costOfUseless = 5

	// Whoever has spent a quarter of a bucket at once, or an eighth of that of
	// tunnels, is read a little at a time, so that his flood takes turns with what
	// others send. A rest is due after so much haste, of which a frame of noise is 1:
	// about a tenth of a millisecond of work.
	restAfter   = 256
	restTime    = time.Millisecond
	longestRest = 10 // times restTime
	// hasteOfReset and hasteOfOpen are those of a stream that is of no use, and of a new tunnel.
	hasteOfReset = 16
	hasteOfOpen  = 32
)

// A budget is what one connection may still cost. It belongs to the read loop,
// except for what is shared by all connections of a peer.
type budget struct {
	limits Limits
	frames gate.Bucket // that carry nothing
	resets gate.Bucket // of streams that were of no use
	wrote  uint64      // our writes that WINDOW_UPDATEs have been set against
	earned int         // WINDOW_UPDATEs that are free
	haste  int         // what was spent since the last rest, or since there was no need of one
	peer   *peerBudget
}

// newBudget: peer may be nil, for a peer that we have chosen ourselves.
func newBudget(l Limits, peer *peerBudget) *budget {
	return &budget{
		limits: l,
		frames: gate.NewBucket(l.NoisePerSecond, wasteAtOnce*l.NoisePerSecond),
		resets: gate.NewBucket(l.ResetsPerSecond, wasteAtOnce*l.ResetsPerSecond),
		peer:   peer,
	}
}

// calm is the end of a connection whose peer has spent more than a setting allows.
func calm(reason, setting string) error {
	return &connError{http2.ErrCodeEnhanceYourCalm, reason + ": " + raise(setting)}
}

// isAbuse tells whether a connection ended because its peer costs too much.
func isAbuse(err error) bool {
	var ce *connError
	return errors.As(err, &ce) && ce.code == http2.ErrCodeEnhanceYourCalm
}

// noise pays for a frame that carries nothing.
func (b *budget) noise(cost int) error {
	if !b.frames.Spend(cost) || !b.peer.spend(noiseOfPeer, cost) {
		return calm("too many frames that carry nothing", "--tunnel-noise-per-second")
	}
	b.haste += cost
	return nil
}

// stray pays for a frame on a stream that is over. It may have been sent in
// good faith, but as many at once as fit a window of tiny frames may not.
func (b *budget) stray() error { return b.noise(1) }

// windowUpdate pays for a WINDOW_UPDATE of n bytes. Those that answer our DATA are free.
func (b *budget) windowUpdate(wrote uint64, n uint32) error {
	switch {
	case n < tinyUpdate:
		return b.noise(2)
	case n < smallUpdate:
		return b.noise(1)
	}
	if b.earned <= 0 {
		b.earned = int(min(wrote-b.wrote, 1000)) * updatesPerData
		b.wrote = wrote
	}
	if b.earned > 0 {
		b.earned--
		return nil
	}
	return b.noise(1)
}

// wake pays for streams that a changed setting lets go on: each may send as
// little as a byte, and has a goroutine to be woken for it.
func (b *budget) wake(streams int) error { return b.noise(costOfWake * streams) }

// reset pays for a RST_STREAM of the peer on a stream that was of use, or not.
func (b *budget) reset(useful bool) error {
	if useful {
		return b.noise(1)
	}
	return b.refusal()
}

// refusal pays for a stream that we end for the peer's fault: its resets and
// those it makes us send are one.
func (b *budget) refusal() error {
	if !b.resets.Spend(1) || !b.peer.spend(resetsOfPeer, 1) {
		return calm("too many streams that are reset", "--tunnel-resets-per-second")
	}
	b.haste += hasteOfReset
	return nil
}

// open pays for a CONNECT. An error means that there have been too many, or that
// too many tunnels are open.
func (b *budget) open() error {
	if err := b.peer.enter(); err != nil {
		return err
	}
	b.haste += hasteOfOpen
	return nil
}

// rest keeps the read loop waiting if its peer is in too much haste.
func (b *budget) rest() {
	if b.haste < restAfter {
		return
	}
	due := min(b.haste/restAfter, longestRest)
	b.haste = 0
	l := &b.limits
	if b.frames.Level() < 3*wasteAtOnce*l.NoisePerSecond/4 || b.resets.Level() < 3*wasteAtOnce*l.ResetsPerSecond/4 || b.hasty() {
		time.Sleep(time.Duration(due) * restTime)
	}
}

// hasty tells whether the peer has opened many tunnels lately that have come to nothing yet.
func (b *budget) hasty() bool {
	return b.peer.level(opensOfPeer) < (8*opensAtOnce-1)*b.limits.OpensPerSecond/8
}

// leave is the end of a tunnel. The connection's lock is held.
func (b *budget) leave(t *Tunnel) {
	if t.counted {
		b.peer.leave(t.sent.Load() && t.received.Load())
	}
}

// The buckets that the connections of an identity share.
const (
	noiseOfPeer = iota
	resetsOfPeer
	opensOfPeer
	connsOfPeer
	bucketsOfPeer
)

// A peerBudget is shared by the connections of one identity. A nil one has no bounds.
type peerBudget struct {
	limits  Limits
	tunnels atomic.Int64 // open

	mu      sync.Mutex // guards what follows
	buckets [bucketsOfPeer]gate.Bucket
	told    time.Time // of a tunnel that was refused
	conns   int       // guarded by the server's lock
	idle    time.Time // since when there are none; likewise
}

func newPeerBudget(l Limits) *peerBudget {
	return &peerBudget{limits: l, buckets: [bucketsOfPeer]gate.Bucket{
		noiseOfPeer:  gate.NewBucket(ofPeer*l.NoisePerSecond, ofPeer*wasteAtOnce*l.NoisePerSecond),
		resetsOfPeer: gate.NewBucket(ofPeer*l.ResetsPerSecond, ofPeer*wasteAtOnce*l.ResetsPerSecond),
		opensOfPeer:  gate.NewBucket(l.OpensPerSecond, opensAtOnce*l.OpensPerSecond),
		connsOfPeer:  gate.NewBucket(l.ConnsPerSecond, 2*l.ConnsPerSecond),
	}}
}

func (p *peerBudget) spend(which, n int) bool {
	if p == nil {
		return true
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.buckets[which].Spend(n)
}

// level is how many tokens of a bucket are left.
func (p *peerBudget) level(which int) int {
	if p == nil {
		return math.MaxInt
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.buckets[which].Level()
}

// Why an identity may not open a tunnel.
var (
	errTunnels = errors.New("it has too many open: " + raise("--tunnels-per-peer"))
	errOpens   = errors.New("it opens too many a second that come to nothing: " + raise("--tunnel-opens-per-second"))
)

// enter counts a tunnel that is opened. leave is its end.
func (p *peerBudget) enter() error {
	switch {
	case p == nil:
		return nil
	case p.tunnels.Add(1) > int64(p.limits.TunnelsPerPeer):
		p.tunnels.Add(-1)
		return errTunnels
	case !p.spend(opensOfPeer, 1):
		p.tunnels.Add(-1)
		return errOpens
	}
	return nil
}

// tellPause is the least time between two reports of tunnels that an identity may not open.
const tellPause = time.Second

// tells answers whether nobody was told lately of such a tunnel, and takes it that they are now.
func (p *peerBudget) tells() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if now := time.Now(); now.Sub(p.told) >= tellPause {
		p.told = now
		return true
	}
	return false
}

// leave is the end of a tunnel; one that was of use to both ends costs nothing.
func (p *peerBudget) leave(useful bool) {
	if p == nil {
		return
	}
	p.tunnels.Add(-1)
	if useful {
		p.mu.Lock()
		p.buckets[opensOfPeer].Refund()
		p.mu.Unlock()
	}
}

// punish makes a peer pay for what a connection did, as if it had made n more.
func (p *peerBudget) punish(n int) {
	if p == nil {
		return
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.buckets[connsOfPeer].Charge(n)
}
