package watch

import (
	"io/fs"
	"os"
	"slices"

	"github.com/fsnotify/fsnotify"
)

// A listener hears of what happens in a set of directories. Its zero value hears nothing.
type listener struct {
	fs   *fsnotify.Watcher
	dirs map[string]fs.FileInfo // what stood there when we began to listen
}

// at listens in exactly these directories. One that was replaced by another of
// the same name is listened to anew: inotify would follow the old one.
func (l *listener) at(dirs map[string]struct{}) {
	if l.fs == nil {
		return
	}
	heard := l.fs.WatchList() // without what has gone
	for dir, before := range l.dirs {
		_, wanted := dirs[dir]
		now, err := os.Stat(dir)
		if !wanted || err != nil || !os.SameFile(before, now) || !slices.Contains(heard, dir) {
			l.drop(dir)
		}
	}
	for dir := range dirs {
		now, err := os.Stat(dir)
		if _, ok := l.dirs[dir]; !ok && err == nil {
			l.add(dir, now)
		}
	}
}

// add remembers what stood there before it listened: if that was replaced in
// between, the next at sees the difference.
func (l *listener) add(dir string, now fs.FileInfo) {
	if l.fs.Add(dir) != nil {
		return // gone, or the limit of inotify watches; the poll goes on
	}
	if l.dirs == nil {
		l.dirs = map[string]fs.FileInfo{}
	}
	l.dirs[dir] = now
}

func (l *listener) drop(dir string) {
	_ = l.fs.Remove(dir) // an error means that it had gone already
	delete(l.dirs, dir)
}

func (l *listener) events() <-chan fsnotify.Event {
	if l.fs == nil {
		return nil
	}
	return l.fs.Events
}

func (l *listener) errors() <-chan error {
	if l.fs == nil {
		return nil
	}
	return l.fs.Errors
}

func (l *listener) close() {
	if l.fs != nil {
		l.fs.Close()
	}
}
