package outbound

import (
	"context"
)

// rounds is how often more may turn out to be needed: what was dialled, its
// waypoint or gateway, the gateway before that.
const rounds = 4

// learn makes sure that the configuration holds what is needed to decide where
// the departure goes, where it is not there from the beginning.
func (p *Proxy) learn(ctx context.Context, d *departure) error {
	if p.Find == nil {
		return nil
	}
	asked := 0
	for range rounds {
		needs := p.Routes.Needs(p.Store.Snapshot(), d.to)
		if err := p.Find(ctx, needs...); err != nil {
			return err
		}
		if len(needs) <= asked {
			break
		}
		asked = len(needs)
	}
	return nil
}
