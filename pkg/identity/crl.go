package identity

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"sync"
	"time"

	"github.com/outrigger-mesh/outrigger/pkg/watch"
)

const (
	maxCRLFile = 16 << 20
	emptyFor   = 2 * time.Second // how long a file is empty before it is meant to be
)

// CRLConfig configures a CRL.
type CRLConfig struct {
	// Path of a file with any number of PEM-encoded CRLs, or one in DER. Required.
	// A file that is absent or empty at first revokes nothing.
	Path   string
	Logger *slog.Logger // required
}

// A CRL is a file of certificate revocation lists, kept fresh. A new content
// that cannot be read never displaces a good one, nor does the file's absence:
// only an empty file takes revocations back. If there never was a good one,
// every peer is refused. A nil *CRL revokes nothing.
type CRL struct {
	path string
	log  *slog.Logger

	mu      sync.Mutex // guards what follows
	set     *revocations
	digest  [sha256.Size]byte // of the content that set was read from
	alarm   alarm             // why the newest content is not in use
	changed chan struct{}
}

// NewCRL reads the file for the first time.
func NewCRL(c CRLConfig) (*CRL, error) {
	if c.Path == "" || c.Logger == nil {
		return nil, errors.New("CRL: Path and Logger are required")
	}
	crl := &CRL{path: c.Path, log: c.Logger, changed: make(chan struct{})}
	crl.Reload()
	return crl, nil
}

// Run keeps the CRL fresh until ctx ends.
func (c *CRL) Run(ctx context.Context) error {
	return watch.File(ctx, c.path, func() { c.follow(ctx) })
}

// follow reads the file again. A writer that truncates first leaves it empty
// for a moment: that alone takes no revocation back.
func (c *CRL) follow(ctx context.Context) {
	if c.emptied() && !pause(ctx, emptyFor) {
		return
	}
	c.Reload()
}

func (c *CRL) emptied() bool {
	info, err := os.Stat(c.path)
	c.mu.Lock()
	defer c.mu.Unlock()
	return err == nil && info.Size() == 0 && c.set != nil && c.set.count() > 0
}

// Changed is closed when the revocations have changed.
func (c *CRL) Changed() <-chan struct{} {
	if c == nil {
		return nil
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.changed
}

// Err says why the newest content of the file is not in use; nil if it is.
func (c *CRL) Err() error {
	if c == nil {
		return nil
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.alarm.err
}

// FailingSince is since when the newest content of the file has not been in use;
// zero if it is.
func (c *CRL) FailingSince() time.Time {
	if c == nil {
		return time.Time{}
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.alarm.since
}

// Lists is how many lists are in force and when the first of them ends, zero if
// none does; ok is false if there never was a file that could be read, so that
// every peer is refused.
func (c *CRL) Lists() (count int, ends time.Time, ok bool) {
	if c == nil {
		return 0, time.Time{}, true
	}
	set, err := c.current()
	return set.count(), set.ends(time.Time{}), err == nil
}

// current are the revocations to go by. An error means that nobody may pass.
func (c *CRL) current() (*revocations, error) {
	if c == nil {
		return nil, nil
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.set == nil {
		return nil, c.alarm.err
	}
	return c.set, nil
}

// Reload reads the file now; Run does so whenever it has changed.
func (c *CRL) Reload() {
	data, err := readFile(c.path, maxCRLFile)
	absent := errors.Is(err, fs.ErrNotExist)
	var set *revocations
	if err == nil || absent {
		set, err = parseRevocations(data)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	digest := sha256.Sum256(data)
	switch {
	case err != nil:
		c.fail(fmt.Errorf("read CRL file %s: %w: write PEM blocks of type X509 CRL there, or one CRL in DER", c.path, err))
	case absent && c.set != nil && c.set.count() > 0:
		c.fail(fmt.Errorf("CRL file %s is absent; empty it to take its revocations back", c.path))
	case c.set == nil || digest != c.digest:
		c.set, c.digest = set, digest
		c.alarm.clear()
		close(c.changed)
		c.changed = make(chan struct{})
		c.log.Info("CRL loaded", "path", c.path, "lists", set.count())
	default:
		c.alarm.clear()
	}
}

// fail notes why the newest content is not in use, and says so once.
func (c *CRL) fail(err error) {
	if c.alarm.err != nil && c.alarm.err.Error() == err.Error() {
		return
	}
	c.alarm.raise(err)
	c.log.Error("CRL not loaded, the one before stays in force", "path", c.path, "error", err)
}

// parseRevocations reads PEM or DER. Nothing at all is an empty set.
func parseRevocations(data []byte) (*revocations, error) {
	if len(bytes.TrimSpace(data)) == 0 {
		return &revocations{}, nil
	}
	lists, err := parseCRLs(data)
	if err != nil {
		return nil, err
	}
	return newRevocations(lists), nil
}
