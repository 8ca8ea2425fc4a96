package xds

import (
	"math/rand/v2"
	"time"
)

const (
	backoffMin = 100 * time.Millisecond
	backoffMax = 30 * time.Second
	// healthyAfter is how long a stream that delivered must have lived for the
	// back-off to start over: a control plane that falls over at every push is
	// not to be stormed.
	healthyAfter = 5 * time.Second
)

// pauses space the attempts to connect. Each wait is drawn between the
// minimum and three times the one before, so that sidecars that lost their
// control plane together do not come back together.
type pauses struct{ last time.Duration }

func (b *pauses) reset() { b.last = 0 }

func (b *pauses) next() time.Duration {
	upper := min(3*max(b.last, backoffMin), backoffMax)
	b.last = backoffMin + rand.N(upper-backoffMin+1)
	return b.last
}
