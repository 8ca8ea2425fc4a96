package identity

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/outrigger-mesh/outrigger/pkg/mesh"
)

const (
	defaultTTL = 24 * time.Hour
	callTime   = 10 * time.Second
)

// CAConfig configures a CA.
type CAConfig struct {
	ControlPlane ControlPlane      // required: where the CA is
	Principal    mesh.Principal    // required: whom the certificate must name
	TTL          time.Duration     // asked for, in whole seconds; 0 means 24 h
	Federated    map[string]string // bundle files of foreign trust domains
	Logger       *slog.Logger      // required
}

// A CA is a Source that asks the mesh CA (istiod's call) to sign its
// certificate. Keys are P-256, new with each certificate, and never leave memory.
type CA struct {
	publisher
	log   *slog.Logger
	fetch func(ctx context.Context, connect time.Duration) (*SVID, error)
}

// NewCA returns a source that has no certificate before Run has got one.
func NewCA(c CAConfig) (*CA, error) {
	if c.TTL == 0 {
		c.TTL = defaultTTL
	}
	switch {
	case c.Logger == nil:
		return nil, errors.New("CA: Logger is required")
	case c.Principal.IsZero():
		return nil, errors.New("CA: Principal is required")
	case c.TTL < time.Second:
		return nil, fmt.Errorf("CA: lifetime %v is under a second", c.TTL)
	}
	if _, err := mesh.ParsePrincipal(c.Principal.String()); err != nil {
		return nil, fmt.Errorf("CA: %w", err)
	}
	if err := c.ControlPlane.validate(); err != nil {
		return nil, fmt.Errorf("CA: %w", err)
	}
	federation, err := newFederation(c.Federated, c.Principal, c.Logger)
	if err != nil {
		return nil, fmt.Errorf("CA: %w", err)
	}
	client := &caClient{plane: c.ControlPlane, principal: c.Principal, ttl: c.TTL}
	return &CA{publisher: publisher{federation: federation}, log: c.Logger, fetch: client.fetch}, nil
}

// Run gets a certificate and renews it when half its life is over, until ctx
// ends. What was got stays in use until its own end, however long the CA is
// away; after that SVID answers ErrNoIdentity until the CA is back.
func (c *CA) Run(ctx context.Context) error { return c.run(ctx, c.keep) }

func (c *CA) keep(ctx context.Context) {
	var r retry
	for {
		wait := c.renew(ctx, &r)
		if !pause(ctx, wait) {
			return
		}
	}
}

// renew asks once and answers how long to wait before asking again.
func (c *CA) renew(ctx context.Context, r *retry) time.Duration {
	// Without a certificate a CA that swallows packets must not hold us long:
	// it may be back the next moment.
	connect := callTime / 2
	if c.remains() <= 0 {
		connect = bareRetry
	}
	svid, err := c.fetch(ctx, connect)
	if err == nil {
		r.succeeded()
		c.publish(svid)
		c.log.Info("certificate issued", "identity", svid.Principal.String(), "not_after", svid.NotAfter)
		return renewal(time.Until(svid.NotAfter))
	}
	wait := r.failed(c.remains())
	if ctx.Err() == nil {
		c.current.fail(err)
		c.log.Warn("certificate not issued", "error", err, "retry_in", wait)
	}
	return wait
}
