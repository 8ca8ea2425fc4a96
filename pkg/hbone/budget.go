package hbone

import (
	"sync"
	"time"

	"golang.org/x/net/http2"
)

// Limits bound what one peer may cost us. The zero value of each field is its default.
type Limits struct {
	// NoisePerSecond is how many frames that carry nothing one connection may send
	// for long: PING, SETTINGS, PRIORITY, empty DATA, WINDOW_UPDATE beyond ten
	// per DATA frame of ours, unknown ones. 0 means 2000. Five times that may come at once.
	NoisePerSecond int
	// ResetsPerSecond is how many streams of one connection, and of one peer
	// identity, may end without use for long: reset before they carried a byte, refused, or
	// reset by us for an error of the peer. 0 means 100. Five times that may come at once.
	ResetsPerSecond int
	// OpensPerSecond is how many CONNECTs one peer identity may send for long.
	// 0 means 2000. Ten times that may come at once.
	OpensPerSecond int
	// ConnsPerPeer is how many connections one peer identity may have. 0 means 4096.
	ConnsPerPeer int
}

func (l Limits) withDefaults() Limits {
	orElse := func(v *int, d int) {
		if *v <= 0 {
			*v = d
		}
	}
	orElse(&l.NoisePerSecond, 2000)
	orElse(&l.ResetsPerSecond, 100)
	orElse(&l.OpensPerSecond, 2000)
	orElse(&l.ConnsPerPeer, 4096)
	return l
}

// updatesPerData is how many WINDOW_UPDATE frames are fair for one write of ours; Envoy has the same.
const updatesPerData = 10

// tinyUpdate is a WINDOW_UPDATE that lets us send next to nothing, in bytes.
const tinyUpdate = 256

// A bucket holds tokens. The clock is read only when it runs dry.
type bucket struct {
	tokens, size, perSecond int
	filled                  time.Time
}

func newBucket(perSecond, size int) bucket {
	return bucket{tokens: size, size: size, perSecond: perSecond, filled: time.Now()}
}

// spend takes n tokens and tells whether there were as many.
func (b *bucket) spend(n int) bool {
	if b.tokens >= n {
		b.tokens -= n
		return true
	}
	now := time.Now()
	if more := int(now.Sub(b.filled).Seconds() * float64(b.perSecond)); more > 0 {
		b.tokens = min(b.tokens+more, b.size)
		b.filled = now
	}
	if b.tokens < n {
		return false
	}
	b.tokens -= n
	return true
}

// A budget is what one connection may still cost. It belongs to the read loop,
// except for what is shared by all connections of a peer.
type budget struct {
	frames bucket // that carry nothing
	resets bucket // of streams that were of no use
	wrote  uint64 // our writes that WINDOW_UPDATEs have been set against
	earned int    // WINDOW_UPDATEs that are free
	peer   *peerBudget
}

func newBudget(l Limits, peer *peerBudget) *budget {
	return &budget{
		frames: newBucket(l.NoisePerSecond, 5*l.NoisePerSecond),
		resets: newBucket(l.ResetsPerSecond, 5*l.ResetsPerSecond),
		peer:   peer,
	}
}

func calm(reason string) error { return &connError{http2.ErrCodeEnhanceYourCalm, reason} }

// noise pays for a frame that carries nothing.
func (b *budget) noise(cost int) error {
	if !b.frames.spend(cost) {
		return calm("too many frames that carry nothing")
	}
	return nil
}

// stray pays for a frame on a stream that is over. It may have been sent in
// good faith, but as many at once as fit a window of tiny frames may not.
func (b *budget) stray() error { return b.noise(1) }

// windowUpdate pays for a WINDOW_UPDATE of n bytes. Those that answer our DATA are free.
func (b *budget) windowUpdate(wrote uint64, n uint32) error {
	if n < tinyUpdate {
		return b.noise(2)
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
	if !b.resets.spend(1) || b.peer != nil && !b.peer.reset() {
		return calm("too many streams that are reset")
	}
	return nil
}

// open pays for a CONNECT; false means that there have been too many.
func (b *budget) open() bool { return b.peer == nil || b.peer.open() }

// A peerBudget is shared by the connections of one identity.
type peerBudget struct {
	mu     sync.Mutex // guards what follows
	resets bucket
	opens  bucket
	conns  int       // guarded by the server's lock
	idle   time.Time // since when there are none; likewise
}

func newPeerBudget(l Limits) *peerBudget {
	return &peerBudget{
		resets: newBucket(4*l.ResetsPerSecond, 20*l.ResetsPerSecond),
		opens:  newBucket(l.OpensPerSecond, 10*l.OpensPerSecond),
	}
}

func (p *peerBudget) reset() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.resets.spend(1)
}

func (p *peerBudget) open() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.opens.spend(1)
}
