package mcp

import (
	"context"
	"time"
)

// A pace bounds how many events a stream brings for long. It does not drop what is
// too much: it is read later, and the server has to wait.
type pace struct {
	perSecond int
	left      float64   // events that may still pass at once
	counted   time.Time // when left was right
}

// take waits until another event may pass, or for ctx to end.
func (p *pace) take(ctx context.Context) error {
	p.left--
	if p.left >= 0 {
		return nil
	}
	now := time.Now()
	burst := float64(p.perSecond)
	if p.counted.IsZero() {
		p.left += burst
	} else {
		p.left = min(burst, p.left+now.Sub(p.counted).Seconds()*burst)
	}
	p.counted = now
	if p.left >= 0 {
		return nil
	}
	// Some at once are cheaper than each by itself.
	wait(ctx, time.Duration(float64(time.Second)*(1-p.left+burst/50)/burst), nil)
	return ctx.Err()
}
