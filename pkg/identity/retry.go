package identity

import (
	"context"
	"math/rand/v2"
	"time"
)

const (
	firstRetry = time.Second
	lastRetry  = 150 * time.Second
	// bareRetry bounds the wait while we have no valid certificate. With the
	// time a connection takes it keeps recovery within 5 s.
	bareRetry   = 2 * time.Second
	soonRenewal = 100 * time.Millisecond
	spread      = 0.2 // of a wait, more or less
)

// A retry counts failures in a row. Its zero value has seen none.
type retry struct{ failures int }

func (r *retry) succeeded() { r.failures = 0 }

// failed is how long to wait after another failure: 1 s, doubled each time up
// to 150 s, ±20 %. As the certificate's end comes near, waits are half of what
// remains, so that a source that comes back in time is found in time; without
// a certificate they are short.
func (r *retry) failed(remains time.Duration) time.Duration {
	wait := lastRetry
	if r.failures < 8 { // 2^8 s is over the bound already
		wait = min(firstRetry<<r.failures, lastRetry)
		r.failures++
	}
	if remains <= 0 {
		return jitter(min(wait, bareRetry))
	}
	return min(jitter(wait), lastRetry, max(remains/2, firstRetry), remains)
}

// renewal is how long after now a certificate is renewed: when half of what
// remains has passed, give or take a tenth, so that workloads which started
// together do not come together.
func renewal(remains time.Duration) time.Duration {
	return max(jitter(remains/2)/2+remains/4, soonRenewal)
}

// jitter spreads d by ±20 %.
func jitter(d time.Duration) time.Duration {
	return time.Duration(float64(d) * (1 - spread + 2*spread*rand.Float64()))
}

// pause waits for d and tells whether ctx lasted so long.
func pause(ctx context.Context, d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-t.C:
		return true
	}
}
