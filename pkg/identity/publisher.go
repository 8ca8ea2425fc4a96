package identity

import (
	"context"
	"errors"
	"sync"
	"time"
)

// A publisher is what the sources have in common: the SVID that was fetched
// last, joined with the roots of federated trust domains.
type publisher struct {
	current    Memory
	federation *federation // nil if the source brings foreign roots itself

	mu   sync.Mutex // guards what follows
	base *SVID      // as fetched
}

// SVID is the current one, or an error that wraps ErrNoIdentity and says why.
func (p *publisher) SVID() (*SVID, error) { return p.current.SVID() }

// Changed is closed when SVID would next answer differently.
func (p *publisher) Changed() <-chan struct{} { return p.current.Changed() }

// Err says why there is no SVID, why it could not be renewed, or which federated
// bundle could not be read; nil if all is well.
func (p *publisher) Err() error {
	if p.federation == nil {
		return p.current.Err()
	}
	_, foreign := p.federation.trouble()
	return errors.Join(p.current.Err(), foreign)
}

// FailingSince is when the oldest of the troubles that Err tells of began; zero
// if there is none.
func (p *publisher) FailingSince() time.Time {
	since := p.current.FailingSince()
	if p.federation != nil {
		foreign, _ := p.federation.trouble()
		since = older(since, foreign)
	}
	return since
}

// publish takes over svid, which nobody has seen yet.
func (p *publisher) publish(svid *SVID) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.base != nil {
		// The same roots stay the same pool, so that what was verified by them stays verified.
		for domain, before := range p.base.Bundles {
			if svid.Bundles[domain].Equal(before) {
				svid.Bundles[domain] = before
			}
		}
	}
	p.base = svid
	p.announce()
}

// refresh publishes the SVID again, with the foreign roots of now.
func (p *publisher) refresh() {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.base != nil {
		p.announce()
	}
}

func (p *publisher) announce() {
	svid := p.base
	if p.federation != nil {
		svid = svid.with(p.federation.roots())
	}
	p.current.Set(svid)
}

// remains is how long the current SVID is still valid; 0 or less if it is not.
func (p *publisher) remains() time.Duration {
	svid, err := p.current.SVID()
	if err != nil {
		return 0
	}
	return time.Until(svid.NotAfter)
}

// run does f and what keeps the published SVID true, until ctx ends.
func (p *publisher) run(ctx context.Context, f func(context.Context)) error {
	var work sync.WaitGroup
	defer work.Wait()
	work.Go(func() { _ = p.current.Run(ctx) }) // ends with ctx, without an error
	if p.federation != nil {
		work.Go(func() { p.federation.run(ctx, p.refresh) })
	}
	f(ctx)
	return nil
}
