package h2

import "time"

// A bucket holds tokens. The clock is read only when it runs dry.
type bucket struct {
	tokens, size, perSecond int
	filled                  time.Time
}

func newBucket(perSecond int) bucket {
	return bucket{tokens: 5 * perSecond, size: 5 * perSecond, perSecond: perSecond, filled: time.Now()}
}

// spend takes n tokens and tells whether there were as many.
func (b *bucket) spend(n int) bool {
	if b.tokens < n {
		now := time.Now()
		if more := int(now.Sub(b.filled).Seconds() * float64(b.perSecond)); more > 0 {
			b.tokens = min(b.tokens+more, b.size)
			b.filled = now
		}
	}
	if b.tokens < n {
		return false
	}
	b.tokens -= n
	return true
}

// A budget is what one connection may still cost. It belongs to the read loop.
type budget struct {
	frames bucket // that carry nothing
	resets bucket // of streams that were of no use
	wrote  uint64 // our DATA frames that WINDOW_UPDATEs have been set against
	earned int    // WINDOW_UPDATEs that are free
}

func newBudget(c *Config) budget {
	return budget{frames: newBucket(c.Noise), resets: newBucket(c.Resets)}
}

// noise pays for a frame that carries nothing.
func (b *budget) noise(cost int) error {
	if !b.frames.spend(cost) {
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
	if !b.resets.spend(1) {
		return calm("too many streams that are reset")
	}
	return nil
}
