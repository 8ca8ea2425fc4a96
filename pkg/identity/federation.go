package identity

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/outrigger-mesh/outrigger/pkg/mesh"
	"github.com/outrigger-mesh/outrigger/pkg/watch"
)

// A federation keeps the roots of foreign trust domains, each read from a file.
// A domain is trusted once its file could be read; what cannot be read later
// does not displace what could.
type federation struct {
	files map[string]string // by trust domain
	log   *slog.Logger

	mu     sync.Mutex // guards what follows
	pools  map[string]*x509.CertPool
	alarms map[string]*alarm // of the domains whose newest bundle is not in use
}

func newFederation(files map[string]string, own mesh.Principal, log *slog.Logger) (*federation, error) {
	for domain, path := range files {
		if _, err := mesh.ParsePrincipal("spiffe://" + domain + "/x"); err != nil {
			return nil, fmt.Errorf("federated trust domain %q: %w", domain, err)
		}
		if path == "" {
			return nil, fmt.Errorf("federated trust domain %q has no bundle file", domain)
		}
		if domain == own.TrustDomain() {
			return nil, fmt.Errorf("trust domain %q is our own and cannot be federated", domain)
		}
	}
	return &federation{files: files, log: log, pools: map[string]*x509.CertPool{}, alarms: map[string]*alarm{}}, nil
}

func (f *federation) roots() map[string]*x509.CertPool {
	f.mu.Lock()
	defer f.mu.Unlock()
	return maps.Clone(f.pools)
}

func (f *federation) raise(domain string, err error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.alarms[domain] == nil {
		f.alarms[domain] = &alarm{}
	}
	f.alarms[domain].raise(err)
}

// trouble is which bundles are not in use and since when, by name of the domain.
func (f *federation) trouble() (since time.Time, err error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, domain := range slices.Sorted(maps.Keys(f.alarms)) {
		a := f.alarms[domain]
		since, err = older(since, a.since), errors.Join(err, a.err)
	}
	return since, err
}

// run keeps the roots fresh until ctx ends.
func (f *federation) run(ctx context.Context, changed func()) {
	var files sync.WaitGroup
	defer files.Wait()
	for domain, path := range f.files {
		files.Go(func() {
			_ = watch.File(ctx, path, func() { f.load(domain, path, changed) }) // fails on an empty path only
		})
	}
}

func (f *federation) load(domain, path string, changed func()) {
	pool, err := readPool(path)
	if err != nil {
		f.log.Error("federated bundle not loaded, the one before stays in force", "trust_domain", domain, "path", path, "error", err)
		f.raise(domain, fmt.Errorf("roots of federated trust domain %q: read %s: %w", domain, path, err))
		return
	}
	f.mu.Lock()
	delete(f.alarms, domain)
	same := pool.Equal(f.pools[domain])
	if !same {
		f.pools[domain] = pool
	}
	f.mu.Unlock()
	if !same {
		changed()
	}
}

func readPool(path string) (*x509.CertPool, error) {
	data, err := readFile(path, maxPEM)
	if err != nil {
		return nil, err
	}
	roots, err := parseCertificates(data)
	if err != nil {
		return nil, err
	}
	return newPool(roots)
}
