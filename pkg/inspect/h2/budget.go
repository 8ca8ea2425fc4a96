package h2

import "github.com/outrigger-mesh/outrigger/pkg/gate"

// A budget is what one connection may still cost. It belongs to the read loop.
type budget struct {
	frames gate.Bucket // that carry nothing
	resets gate.Bucket // of streams that were of no use
	wrote  uint64      // our DATA frames that WINDOW_UPDATEs have been set against
	earned int         // WINDOW_UPDATEs that are free
}

func newBudget(c *Config) budget {
	return budget{frames: gate.NewBucket(c.Noise, 5*c.Noise), resets: gate.NewBucket(c.Resets, 5*c.Resets)}
}

// noise pays for a frame that carries nothing.
func (b *budget) noise(cost int) error {
	if !b.frames.Spend(cost) {
		return calm("too many frames that carry nothing")
	}
	return nil
}

// windowUpdate pays for a WINDOW_UPDATE of n bytes. Those that answer our DATA, of
// which there were wrote frames, are free.
func (b *budget) windowUpdate(wrote uint64, n uint32) error {
	if n < tinyUpdate {
		return b.noise(2)
	}
	if b.earned <= 0 {
		b.earned = int(min(wrote-b.wrote, 1000)) * updatesFree
		b.wrote = wrote
	}
	if b.earned > 0 {
		b.earned--
		return nil
	}
	return b.noise(1)
}

// waste pays for a stream that was of no use. Resets by the peer and those it makes
// us send are one: rapid reset and "MadeYouReset" are the same attack.
func (b *budget) waste() error {
	if !b.resets.Spend(1) {
		return calm("too many streams that are reset")
	}
	return nil
}
