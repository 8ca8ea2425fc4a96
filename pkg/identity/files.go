package identity

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"log/slog"
	"sync"

	"github.com/outrigger-mesh/outrigger/pkg/mesh"
	"github.com/outrigger-mesh/outrigger/pkg/watch"
)

// FilesConfig configures Files.
type FilesConfig struct {
	Cert      string            // required: path of the chain in PEM, leaf first
	Key       string            // required: path of its key in PEM
	Bundle    string            // required: path of the roots of our own trust domain in PEM
	Principal mesh.Principal    // whom the certificate must name; zero means anybody
	Federated map[string]string // bundle files of foreign trust domains
	Logger    *slog.Logger      // required
}

// Files is a Source that reads its SVID from files and notices when they are
// replaced, one by one or together. Files that do not fit together, as while
// they are being replaced, do not displace those that did.
type Files struct {
	publisher
	config FilesConfig

	loading sync.Mutex // one load at a time; guards what follows
	digest  [sha256.Size]byte
}

// NewFiles returns a source that has no certificate before Run has read one.
func NewFiles(c FilesConfig) (*Files, error) {
	if c.Cert == "" || c.Key == "" || c.Bundle == "" || c.Logger == nil {
		return nil, errors.New("certificate files: Cert, Key, Bundle and Logger are required")
	}
	federation, err := newFederation(c.Federated, c.Principal, c.Logger)
	if err != nil {
		return nil, fmt.Errorf("certificate files: %w", err)
	}
	return &Files{publisher: publisher{federation: federation}, config: c}, nil
}

// Run keeps the SVID as fresh as the files until ctx ends.
func (f *Files) Run(ctx context.Context) error {
	return f.run(ctx, func(ctx context.Context) {
		var files sync.WaitGroup
		defer files.Wait()
		for _, path := range []string{f.config.Cert, f.config.Key, f.config.Bundle} {
			files.Go(func() { _ = watch.File(ctx, path, f.load) }) // fails on an empty path only
		}
	})
}

func (f *Files) load() {
	f.loading.Lock()
	defer f.loading.Unlock()
	content, err := f.read()
	if err != nil {
		f.fail(err)
		return
	}
	digest := sha256.Sum256(bytes.Join(content[:], []byte{0}))
	if digest == f.digest {
		f.current.well() // what was wrong has been taken back
		return
	}
	svid, err := ParseSVID(content[0], content[1], content[2])
	if err == nil {
		err = errors.Join(svid.expect(f.config.Principal), svid.validNow())
	}
	if err != nil {
		f.fail(fmt.Errorf("%s, %s, %s: %w", f.config.Cert, f.config.Key, f.config.Bundle, err))
		return
	}
	f.digest = digest
	f.publish(svid)
	f.config.Logger.Info("certificate loaded", "identity", svid.Principal.String(), "not_after", svid.NotAfter)
}

func (f *Files) read() (content [3][]byte, err error) {
	for i, path := range []string{f.config.Cert, f.config.Key, f.config.Bundle} {
		if content[i], err = readFile(path, maxPEM); err != nil {
			return content, fmt.Errorf("read certificate files: %w", err)
		}
	}
	return content, nil
}

func (f *Files) fail(err error) {
	f.current.fail(err)
	f.config.Logger.Warn("certificate files not loaded, those before stay in use", "error", err)
}
