package watch

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/fsnotify/fsnotify"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// A witness keeps what a watched thing looked like at each call.
type witness struct {
	t     *testing.T
	calls chan string
}

// observe watches in the background until the test ends. read says what the
// caller of the watch would find.
func observe(t *testing.T, w *watcher, read func() string) *witness {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	v := &witness{t, make(chan string, 1000)}
	done := make(chan error, 1)
	go func() { done <- w.run(ctx, func() { v.calls <- read() }) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Errorf("watch ended with %v", err)
		}
	})
	return v
}

// sees waits until a call found want.
func (v *witness) sees(want string) {
	v.t.Helper()
	limit := time.After(20 * time.Second)
	var last string
	for {
		select {
		case last = <-v.calls:
			if last == want {
				return
			}
		case <-limit:
			v.t.Fatalf("never saw %q; the last call saw %q", want, last)
		}
	}
}

func reader(path string) func() string {
	return func() string {
		data, err := os.ReadFile(path)
		if err != nil {
			return "absent"
		}
		return string(data)
	}
}

func do(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func write(t *testing.T, path, content string) {
	t.Helper()
	do(t, os.MkdirAll(filepath.Dir(path), 0o755))
	do(t, os.WriteFile(path, []byte(content), 0o600))
}

func replace(t *testing.T, path, content string) {
	t.Helper()
	write(t, path+".new", content)
	do(t, os.Rename(path+".new", path))
}

// project does what kubelet does to a volume: a new directory, then ..data is
// renamed to point at it, then the old one is removed.
func project(t *testing.T, volume, version, content string) {
	t.Helper()
	old, _ := os.Readlink(filepath.Join(volume, "..data"))
	write(t, filepath.Join(volume, version, "file"), content)
	do(t, os.Symlink(version, filepath.Join(volume, "..data_tmp")))
	do(t, os.Rename(filepath.Join(volume, "..data_tmp"), filepath.Join(volume, "..data")))
	if old != "" {
		do(t, os.RemoveAll(filepath.Join(volume, old)))
	}
}

// deaf polls so seldom that only the kernel's events can help.
func deaf(t target) *watcher {
	w := newWatcher(t)
	w.slow = time.Hour
	return w
}

func TestFileSeesEveryWayAFileIsReplaced(t *testing.T) {
	for _, c := range []struct {
		name   string
		before func(t *testing.T, dir string)
		change func(t *testing.T, dir string)
		want   string
	}{
		{"written in place", func(t *testing.T, dir string) { write(t, dir+"/file", "1") }, func(t *testing.T, dir string) { write(t, dir+"/file", "2") }, "2"},
		{"renamed over", func(t *testing.T, dir string) { write(t, dir+"/file", "1") }, func(t *testing.T, dir string) { replace(t, dir+"/file", "2") }, "2"},
		{"removed", func(t *testing.T, dir string) { write(t, dir+"/file", "1") }, func(t *testing.T, dir string) { do(t, os.Remove(dir+"/file")) }, "absent"},
		{"created", func(t *testing.T, dir string) {}, func(t *testing.T, dir string) { write(t, dir+"/file", "2") }, "2"},
		{"directory removed and made again", func(t *testing.T, dir string) { write(t, dir+"/file", "1") }, func(t *testing.T, dir string) {
			do(t, os.RemoveAll(dir))
			write(t, dir+"/file", "2")
		}, "2"},
		{"directory renamed away and another in its place", func(t *testing.T, dir string) { write(t, dir+"/file", "1") }, func(t *testing.T, dir string) {
			write(t, dir+"-next/file", "2")
			do(t, os.Rename(dir, dir+"-old"))
			do(t, os.Rename(dir+"-next", dir))
		}, "2"},
		{"link to it re-pointed", func(t *testing.T, dir string) {
			write(t, dir+"/a", "1")
			write(t, dir+"/b", "2")
			do(t, os.Symlink("a", dir+"/file"))
		}, func(t *testing.T, dir string) {
			do(t, os.Symlink("b", dir+"/tmp"))
			do(t, os.Rename(dir+"/tmp", dir+"/file"))
		}, "2"},
		{"written through a link to another directory", func(t *testing.T, dir string) {
			write(t, dir+"-far/real", "1")
			do(t, os.MkdirAll(dir, 0o755))
			do(t, os.Symlink(dir+"-far/real", dir+"/file"))
		}, func(t *testing.T, dir string) { write(t, dir+"-far/real", "2") }, "2"},
		{"its directory is a link that is re-pointed", func(t *testing.T, dir string) {
			write(t, dir+"-v1/file", "1")
			write(t, dir+"-v2/file", "2")
			do(t, os.Symlink(dir+"-v1", dir))
		}, func(t *testing.T, dir string) {
			do(t, os.Symlink(dir+"-v2", dir+"-tmp"))
			do(t, os.Rename(dir+"-tmp", dir))
		}, "2"},
		{"Kubernetes volume", func(t *testing.T, dir string) {
			project(t, dir, "..2026_1", "1")
			do(t, os.Symlink("..data/file", dir+"/file"))
		}, func(t *testing.T, dir string) { project(t, dir, "..2026_2", "2") }, "2"},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			dir := filepath.Join(t.TempDir(), "some", "dir")
			do(t, os.MkdirAll(filepath.Dir(dir), 0o755))
			c.before(t, dir)
			v := observe(t, deaf(&fileTarget{dir + "/file"}), reader(dir+"/file"))
			v.sees(reader(dir + "/file")())
			c.change(t, dir)
			v.sees(c.want)
			replace(t, dir+"/file", "and again") // the watch still stands
			v.sees("and again")
		})
	}
}

func TestFileFindsAChangeThatTheKernelDidNotTell(t *testing.T) {
	path := filepath.Join(t.TempDir(), "file")
	write(t, path, "1")
	w := newWatcher(&fileTarget{path})
	w.blind = 10 * time.Millisecond
	w.open = func() (*fsnotify.Watcher, error) { return nil, errors.New("too many open files") }
	v := observe(t, w, reader(path))
	v.sees("1")
	write(t, path, "two")
	v.sees("two")
	do(t, os.Remove(path))
	v.sees("absent")
}

func TestFileTellsABurstOnceOrSo(t *testing.T) {
	path := filepath.Join(t.TempDir(), "file")
	write(t, path, "0")
	v := observe(t, deaf(&fileTarget{path}), reader(path))
	v.sees("0")
	for range 500 {
		write(t, path, "x")
	}
	write(t, path, "end")
	v.sees("end")
	if n := len(v.calls); n > 1 {
		t.Errorf("%d more calls after the end", n)
	}
}

func TestFileIgnoresItsNeighbours(t *testing.T) {
	dir := t.TempDir()
	write(t, dir+"/file", "1")
	v := observe(t, deaf(&fileTarget{dir + "/file"}), reader(dir+"/file"))
	v.sees("1")
	for range 10 {
		write(t, dir+"/neighbour", "x")
	}
	write(t, dir+"/file", "2")
	v.sees("2")
}

func TestTreeSeesChangesAtAnyDepth(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "policies")
	read := func() string {
		var all []string
		files, _ := filepath.Glob(dir + "/*.yaml")
		deeper, _ := filepath.Glob(dir + "/*/*.yaml")
		for _, f := range append(files, deeper...) {
			all = append(all, filepath.Base(f)+"="+reader(f)())
		}
		return strings.Join(all, " ")
	}
	v := observe(t, deaf(&treeTarget{dir}), read)
	v.sees("") // the directory is absent
	write(t, dir+"/a.yaml", "1")
	v.sees("a.yaml=1")
	write(t, dir+"/sub/b.yaml", "1")
	v.sees("a.yaml=1 b.yaml=1")
	replace(t, dir+"/sub/b.yaml", "2")
	v.sees("a.yaml=1 b.yaml=2")
	do(t, os.RemoveAll(dir+"/sub"))
	v.sees("a.yaml=1")
	do(t, os.RemoveAll(dir))
	v.sees("")
	write(t, dir+"/c.yaml", "3")
	v.sees("c.yaml=3")
}

func TestTreeFindsAChangeThatTheKernelDidNotTell(t *testing.T) {
	dir := t.TempDir()
	w := newWatcher(&treeTarget{dir})
	w.blind = 10 * time.Millisecond
	w.open = func() (*fsnotify.Watcher, error) { return nil, errors.New("too many open files") }
	v := observe(t, w, reader(dir+"/sub/file"))
	v.sees("absent")
	write(t, dir+"/sub/file", "1")
	v.sees("1")
	write(t, dir+"/sub/file", "two")
	v.sees("two")
}

func TestAnEmptyPathIsAnError(t *testing.T) {
	if File(t.Context(), "", func() {}) == nil || Tree(t.Context(), "", func() {}) == nil {
		t.Error("no error")
	}
}

func TestTrailEndsAtALoopOfLinks(t *testing.T) {
	dir := t.TempDir()
	do(t, os.Symlink("b", dir+"/a"))
	do(t, os.Symlink("a", dir+"/b"))
	names, end := trail(dir + "/a")
	if end != "" || len(names) == 0 {
		t.Errorf("names %v, end %q", names, end)
	}
}
