package identity

import (
	"context"
	"crypto/x509"
	"fmt"
	"log/slog"
	"maps"
	"sync"

	"github.com/outrigger-mesh/outrigger/pkg/mesh"
	"github.com/outrigger-mesh/outrigger/pkg/watch"
)

// A federation keeps the roots of foreign trust domains, each read from a file.
// A domain is trusted once its file could be read; what cannot be read later
// does not displace what could.
type federation struct {
	files map[string]string // by trust domain
	log   *slog.Logger

	mu    sync.Mutex // guards what follows
	pools map[string]*x509.CertPool
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
	return &federation{files: files, log: log, pools: map[string]*x509.CertPool{}}, nil
}

func (f *federation) roots() map[string]*x509.CertPool {
	f.mu.Lock()
	defer f.mu.Unlock()
	return maps.Clone(f.pools)
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
		return
	}
	f.mu.Lock()
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
