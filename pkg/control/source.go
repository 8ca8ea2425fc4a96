package control

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/outrigger-mesh/outrigger/pkg/manifest"
	"github.com/outrigger-mesh/outrigger/pkg/watch"
)

const (
	maxFiles  = 10_000
	maxLevels = 8 // of directories below a configured one
	// settle is how long a file must be gone to count as removed: an editor that
	// saves by renaming leaves a gap.
	settle = 300 * time.Millisecond
)

// A source keeps the last good content of every file and gives the whole to
// the cache. A file that is malformed keeps what it said before.
type source struct {
	config *Config
	cache  *cache
	now    func() time.Time

	mu     sync.Mutex // guards what follows
	files  map[string]*file
	failed map[string]error // why paths could not be listed when it was last tried
	build  []error          // what the files contradict each other in
	synced bool             // whether every file has been good at some time
	logged []string         // problems that were logged and stand
}

// A file is one file of configuration.
type file struct {
	digest  [sha256.Size]byte // of what was read last
	objects []*object         // of the last good content
	good    time.Time         // when that was read; zero if never
	err     error             // why the current content is not it
	gone    time.Time         // when it was first missed; zero while it is there
}

// run watches the paths and scans at every change until ctx ends.
func (s *source) run(ctx context.Context) error {
	changed := make(chan struct{}, 1)
	wake := func() {
		select {
		case changed <- struct{}{}:
		default: // a scan is due already
		}
	}
	g, ctx := errgroup.WithContext(ctx)
	for _, path := range s.config.Paths {
		g.Go(func() error {
			if isFile(path) {
				return watch.File(ctx, path, wake)
			}
			return watch.Tree(ctx, path, wake)
		})
	}
	g.Go(func() error {
		for {
			var again <-chan time.Time
			if s.scan() {
				again = time.After(settle)
			}
			select {
			case <-ctx.Done():
				return nil
			case <-changed:
			case <-again:
			}
		}
	})
	return g.Wait()
}

func isFile(path string) bool {
	info, err := os.Stat(path)
	if err == nil {
		return !info.IsDir()
	}
	return isManifest(path)
}

func isManifest(path string) bool {
	switch filepath.Ext(path) {
	case ".yaml", ".yml", ".json":
		return !strings.HasPrefix(filepath.Base(path), ".")
	}
	return false
}

// scan reads what has changed. It tells whether to look again soon.
func (s *source) scan() (again bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	var found []string
	found, s.failed = s.list()
	for _, path := range found {
		f := s.files[path]
		if f == nil {
			f = &file{}
			s.files[path] = f
		}
		f.gone = time.Time{}
		s.load(path, f)
	}
	for path, f := range s.files {
		if slices.Contains(found, path) {
			continue
		}
		again = s.miss(path, f) || again
	}
	var objects []located
	for _, path := range slices.Sorted(maps.Keys(s.files)) {
		for _, o := range s.files[path].objects {
			objects = append(objects, located{path, o})
		}
	}
	tables, problems := build(objects, s.config.RootNamespace)
	s.build = problems
	s.report()
	if !s.synced && !s.complete() {
		return again
	}
	s.synced = true
	s.cache.set(tables)
	return again
}

// complete tells whether every file is good. Until it is for the first time,
// nothing is served: sidecars that know a policy which now stands in a
// malformed file must not be told that it is gone.
func (s *source) complete() bool {
	for _, f := range s.files {
		if f.good.IsZero() {
			return false
		}
	}
	return len(s.failed) == 0
}

// miss decides about a file that is not there. A file that was configured by
// its own name, or whose directory cannot be read, keeps its last content; one
// in a readable directory is removed once it has been gone for a while.
func (s *source) miss(path string, f *file) (again bool) {
	if slices.Contains(s.config.Paths, path) {
		return false
	}
	for root := range s.failed {
		if path == root || strings.HasPrefix(path, strings.TrimSuffix(root, "/")+"/") {
			return false
		}
	}
	if f.gone.IsZero() {
		f.gone = s.now()
	}
	if s.now().Sub(f.gone) < settle {
		return true
	}
	delete(s.files, path)
	s.config.Logger.Info("configuration file removed", "file", path)
	return false
}

// list names the files of the configured paths, and the paths that cannot be read.
func (s *source) list() (found []string, failed map[string]error) {
	failed = map[string]error{}
	for _, path := range s.config.Paths {
		info, err := os.Stat(path)
		if err == nil && info.IsDir() {
			var files []string
			files, err = listDir(path, 0, nil)
			found = append(found, files...)
		} else if err == nil {
			found = append(found, path)
		}
		if err == nil && len(found) > maxFiles {
			err = fmt.Errorf("more than %d files", maxFiles)
		}
		if err != nil {
			failed[path] = err
		}
	}
	slices.Sort(found)
	return slices.Compact(found), failed
}

func listDir(dir string, level int, found []string) ([]string, error) {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return found, err
	}
	if level > maxLevels {
		return found, fmt.Errorf("%s: directories are nested deeper than %d", dir, maxLevels)
	}
	for _, e := range entries {
		path := filepath.Join(dir, e.Name())
		switch {
		case strings.HasPrefix(e.Name(), "."): // what editors and Kubernetes keep for themselves
		case e.IsDir():
			if found, err = listDir(path, level+1, found); err != nil {
				return found, err
			}
		case isManifest(path):
			if info, err := os.Stat(path); err == nil && info.Mode().IsRegular() {
				found = append(found, path)
			}
		}
		if len(found) > maxFiles {
			return found, nil
		}
	}
	return found, nil
}

// load reads a file if it has changed.
func (s *source) load(path string, f *file) {
	data, err := readFile(path, manifest.MaxBytes+1)
	if err != nil {
		f.err = fmt.Errorf("read %s: %w", path, err)
		f.digest = [sha256.Size]byte{}
		return
	}
	digest := sha256.Sum256(data)
	if digest == f.digest {
		return
	}
	f.digest = digest
	documents, err := manifest.Parse(path, data)
	var objects []*object
	if err == nil {
		objects, err = (&reader{s.config}).read(documents)
	}
	if err == nil && len(bytes.TrimSpace(data)) == 0 && len(f.objects) > 0 {
		// An editor that truncates before it writes, or a full disk: not a wish to
		// take every policy back.
		err = &manifest.Error{File: path, Line: 1, Column: 1, Problem: "the file is empty",
			Remedy: "delete it, or leave a comment in it, if nothing of what it said before is meant to stay"}
	}
	f.err = err
	if err == nil {
		f.objects, f.good = objects, s.now()
	}
}

func readFile(path string, limit int64) ([]byte, error) {
	f, err := os.OpenFile(path, os.O_RDONLY|syscall.O_NONBLOCK, 0) // a FIFO must not hold us up
	if err != nil {
		return nil, err
	}
	defer f.Close()
	info, err := f.Stat()
	if err == nil && !info.Mode().IsRegular() {
		err = errors.New("not a regular file")
	}
	if err != nil {
		return nil, err
	}
	return io.ReadAll(io.LimitReader(f, limit))
}
