package identity

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"

	"github.com/spiffe/go-spiffe/v2/svid/x509svid"
	"github.com/spiffe/go-spiffe/v2/workloadapi"

	"github.com/outrigger-mesh/outrigger/pkg/mesh"
)

// WorkloadAPIConfig configures a WorkloadAPI.
type WorkloadAPIConfig struct {
	Address   string         // as unix:///run/spire/agent.sock; "" means $SPIFFE_ENDPOINT_SOCKET
	Principal mesh.Principal // which of the SVIDs offered to use; zero means the first
	Logger    *slog.Logger   // required
}

// A WorkloadAPI is a Source that gets its SVID and the roots, federated ones
// too, from a SPIFFE Workload API such as SPIRE agent's. If the socket vanishes
// the SVID stays in use until its own end, and the socket is looked for again
// every few seconds.
type WorkloadAPI struct {
	publisher
	config WorkloadAPIConfig
}

// NewWorkloadAPI returns a source that has no certificate before Run has got one.
func NewWorkloadAPI(c WorkloadAPIConfig) (*WorkloadAPI, error) {
	if c.Logger == nil {
		return nil, errors.New("workload API: Logger is required")
	}
	if c.Address == "" {
		c.Address, _ = workloadapi.GetDefaultAddress()
	}
	if c.Address == "" {
		return nil, errors.New("workload API: Address or $SPIFFE_ENDPOINT_SOCKET is required")
	}
	if err := workloadapi.ValidateAddress(c.Address); err != nil {
		return nil, fmt.Errorf("workload API: address %q: %w", c.Address, err)
	}
	return &WorkloadAPI{config: c}, nil
}

// Run takes the SVIDs that the API sends until ctx ends.
func (w *WorkloadAPI) Run(ctx context.Context) error {
	return w.run(ctx, func(ctx context.Context) {
		var r retry
		for {
			err := w.watch(ctx, &r)
			if ctx.Err() != nil {
				return
			}
			wait := r.failed(0) // the socket is near: look often
			w.fail(fmt.Errorf("workload API %s: %w", w.config.Address, adviseWorkload(err, w.config.Principal)))
			if !pause(ctx, wait) {
				return
			}
		}
	})
}

// watch connects and takes what comes until the first error. go-spiffe would
// go on by itself, but gives up on some errors, and its channel waits up to two
// minutes before it looks for the socket again.
func (w *WorkloadAPI) watch(ctx context.Context, r *retry) error {
	client, err := workloadapi.New(ctx, workloadapi.WithAddr(w.config.Address))
	if err != nil {
		return err
	}
	defer client.Close()
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	_ = client.WatchX509Context(ctx, &taker{w, r, cancel})
	return context.Cause(ctx)
}

// take publishes what the API sent.
func (w *WorkloadAPI) take(c *workloadapi.X509Context) error {
	chosen, err := w.choose(c.SVIDs)
	if err != nil {
		return err
	}
	own := chosen.ID.TrustDomain().Name()
	var der [][]byte
	for _, cert := range chosen.Certificates {
		der = append(der, cert.Raw)
	}
	var roots []*x509.Certificate
	foreign := map[string]*x509.CertPool{}
	for _, b := range c.Bundles.Bundles() {
		domain := b.TrustDomain().Name()
		if domain == own {
			roots = b.X509Authorities()
			continue
		}
		pool, err := newPool(b.X509Authorities())
		if err != nil { // of no concern to the other trust domains
			w.config.Logger.Error("federated bundle refused", "trust_domain", domain, "error", err)
			continue
		}
		foreign[domain] = pool
	}
	svid, err := newSVID(der, chosen.PrivateKey, roots)
	if err == nil {
		err = errors.Join(svid.expect(w.config.Principal), svid.validNow())
	}
	if err != nil {
		return err
	}
	w.publish(svid.with(foreign))
	w.config.Logger.Info("certificate received", "identity", svid.Principal.String(), "not_after", svid.NotAfter, "federated", len(foreign))
	return nil
}

func (w *WorkloadAPI) choose(offered []*x509svid.SVID) (*x509svid.SVID, error) {
	for _, s := range offered {
		if w.config.Principal.IsZero() || s.ID.String() == w.config.Principal.String() {
			return s, nil
		}
	}
	return nil, fmt.Errorf("%d SVIDs are offered, none of them %v: register an entry with it whose selectors match this workload", len(offered), w.config.Principal)
}

func (w *WorkloadAPI) fail(err error) {
	w.current.fail(err)
	w.config.Logger.Warn("certificate not received", "error", err)
}

// A taker hands what go-spiffe receives to a WorkloadAPI and ends the watch at
// the first error of the stream.
type taker struct {
	to    *WorkloadAPI
	retry *retry
	end   context.CancelCauseFunc
}

func (t *taker) OnX509ContextUpdate(c *workloadapi.X509Context) {
	t.retry.succeeded()
	if err := t.to.take(c); err != nil {
		t.to.fail(err)
	}
}

func (t *taker) OnX509ContextWatchError(err error) { t.end(err) }
