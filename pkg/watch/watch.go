// Package watch notices that a file, or something in a directory, has changed.
// It knows how editors, package managers and Kubernetes replace files (rename,
// symlink swap, a directory that goes and comes back) and refuses to know what
// is in them.
package watch

import (
	"context"
	"errors"
	"time"

	"github.com/fsnotify/fsnotify"
)

const (
	quiet     = 50 * time.Millisecond  // how long nothing happens before a change is told
	patience  = 500 * time.Millisecond // after which it is told although things still happen
	slowPoll  = 5 * time.Second        // finds what the kernel did not tell
	blindPoll = time.Second            // the same, when the kernel tells nothing
)

// File calls changed once the watch stands, because what the caller read
// before may be stale by then, and after each change of the file at path: of
// its content, of a symbolic link on the way to it, of its coming and going.
// Changes in quick succession are told once. The file and its directories may
// be absent. Calls do not overlap. A call may be in vain; a change is never
// missed, though it may be told up to 5 s late if the kernel does not tell it.
// File returns nil when ctx ends, and an error only if path is empty.
func File(ctx context.Context, path string, changed func()) error {
	if path == "" {
		return errors.New("watch: no path")
	}
	return newWatcher(&fileTarget{path}).run(ctx, changed)
}

// Tree does the same for the directory dir and all that is in it, at any depth.
// It looks at no more than 10,000 entries of it and follows links to files
// but, below dir, not to directories.
func Tree(ctx context.Context, dir string, changed func()) error {
	if dir == "" {
		return errors.New("watch: no directory")
	}
	return newWatcher(&treeTarget{dir}).run(ctx, changed)
}

// A target is what is watched.
type target interface {
	// place is where events matter now.
	place() place
	// print differs, as a rule, when the target has changed.
	print() string
}

// A place says which directories to listen at and which names in them matter.
type place struct {
	dirs     map[string]struct{}
	relevant func(name string) bool
}

// A watcher tells of the changes of one target.
type watcher struct {
	target    target
	open      func() (*fsnotify.Watcher, error)
	slow      time.Duration
	blind     time.Duration
	place     place
	lastPrint string
}

func newWatcher(t target) *watcher {
	return &watcher{target: t, open: fsnotify.NewWatcher, slow: slowPoll, blind: blindPoll}
}

func (w *watcher) run(ctx context.Context, changed func()) error {
	l, poll := w.listen()
	defer l.close()
	for ctx.Err() == nil {
		// Listen first, look second, tell third: nothing falls between.
		w.place = w.target.place()
		l.at(w.place.dirs)
		w.lastPrint = w.target.print()
		changed()
		if !w.wait(ctx, l, poll) {
			return nil
		}
	}
	return nil
}

func (w *watcher) listen() (*listener, time.Duration) {
	fs, err := w.open()
	if err != nil { // most often the limit of inotify instances
		return &listener{}, w.blind
	}
	return &listener{fs: fs}, w.slow
}

// wait returns true when the target has changed and false when ctx has ended.
func (w *watcher) wait(ctx context.Context, l *listener, poll time.Duration) bool {
	ticker := time.NewTicker(poll)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return false
		case e := <-l.events():
			if w.place.relevant(e.Name) {
				return w.settle(ctx, l)
			}
		case <-l.errors(): // an overflow, as a rule: events were lost
			return w.settle(ctx, l)
		case <-ticker.C:
			if w.target.print() != w.lastPrint {
				return w.settle(ctx, l)
			}
			w.place = w.target.place()
			l.at(w.place.dirs)
		}
	}
}

// settle waits until nothing happens for a moment, but not for ever.
func (w *watcher) settle(ctx context.Context, l *listener) bool {
	still := time.NewTimer(quiet)
	defer still.Stop()
	enough := time.NewTimer(patience)
	defer enough.Stop()
	for {
		select {
		case <-ctx.Done():
			return false
		case e := <-l.events():
			if w.place.relevant(e.Name) {
				still.Reset(quiet)
			}
		case <-l.errors():
		case <-still.C:
			return true
		case <-enough.C:
			return true
		}
	}
}
