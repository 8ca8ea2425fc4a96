package gate

import "time"

// A Bucket holds tokens, which come back at a steady rate. It is not safe for use by
// several goroutines at once.
type Bucket struct {
	tokens, size, perSecond int
	filled                  time.Time
}

// NewBucket returns a full bucket: size tokens may be spent at once, perSecond for long.
func NewBucket(perSecond, size int) Bucket {
	return Bucket{tokens: size, size: size, perSecond: perSecond, filled: time.Now()}
}

// Spend takes n tokens and tells whether there were as many.
func (b *Bucket) Spend(n int) bool {
	b.fill(time.Now()) // also while there are enough: what has come meanwhile would be had on top of the size
	if b.tokens < n {
		return false
	}
	b.tokens -= n
	return true
}

// fill adds what has come since it was last called. Of a token that has come in part
// the time is kept: who asks often shall not get less.
func (b *Bucket) fill(now time.Time) {
	since := now.Sub(b.filled)
	more := int(since.Seconds() * float64(b.perSecond))
	switch {
	case more <= 0:
	case b.tokens+more >= b.size:
		b.tokens, b.filled = b.size, now
	default:
		b.tokens += more
		b.filled = b.filled.Add(time.Duration(float64(more) / float64(b.perSecond) * float64(time.Second)))
	}
}

// Charge takes n tokens even if there are fewer; what is owed is at most the size.
func (b *Bucket) Charge(n int) {
	b.fill(time.Now())
	b.tokens = max(b.tokens-n, -b.size)
}

// Refund gives a token back.
func (b *Bucket) Refund() { b.tokens = min(b.tokens+1, b.size) }

// Level is how many tokens there are now.
func (b *Bucket) Level() int {
	b.fill(time.Now())
	return b.tokens
}
