package watch

import (
	"crypto/sha256"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
)

const (
	maxLinks   = 40 // as Linux follows
	maxEntries = 10_000
)

type fileTarget struct{ path string }

func (t *fileTarget) place() place {
	names, _ := trail(t.path)
	return place{parents(names), in(names)}
}

func (t *fileTarget) print() string {
	var b strings.Builder
	printEntry(&b, t.path)
	return b.String()
}

type treeTarget struct{ dir string }

func (t *treeTarget) place() place {
	names, end := trail(t.dir)
	dirs := parents(names)
	if end == "" {
		return place{dirs, in(names)}
	}
	walk(end, func(path string, e fs.DirEntry) {
		if e.IsDir() {
			dirs[path] = struct{}{}
		}
	})
	trailing, inside := in(names), end+string(filepath.Separator)
	return place{dirs, func(name string) bool { return trailing(name) || strings.HasPrefix(name, inside) }}
}

func (t *treeTarget) print() string {
	h := sha256.New()
	printEntry(h, t.dir)
	if _, end := trail(t.dir); end != "" {
		walk(end, func(path string, e fs.DirEntry) {
			if !e.IsDir() {
				printEntry(h, path)
			}
		})
	}
	return string(h.Sum(nil))
}

// walk visits dir and what is in it, in order, as far as it can be read.
func walk(dir string, visit func(path string, e fs.DirEntry)) {
	seen := 0
	_ = filepath.WalkDir(dir, func(path string, e fs.DirEntry, err error) error {
		if err != nil {
			return nil // what cannot be read has nothing to show
		}
		if seen++; seen > maxEntries {
			return fs.SkipAll
		}
		visit(path, e)
		return nil
	})
}

// printEntry writes what tells one state of the file at path from another
// without reading it: which file it is, its size, mode and time.
func printEntry(w io.Writer, path string) {
	real, _ := filepath.EvalSymlinks(path)
	info, err := os.Stat(path)
	if err != nil {
		fmt.Fprintf(w, "%q %q absent\n", path, real)
		return
	}
	size := info.Size()
	if info.IsDir() {
		size = 0 // says nothing
	}
	fmt.Fprintf(w, "%q %q %d %v %v\n", path, real, size, info.Mode(), info.ModTime().UnixNano())
}

// trail follows path and names every entry that decides where it leads: each
// directory and symbolic link on the way, down to the last one or the first that
// is absent. end is where it leads, "" if nowhere.
func trail(path string) (names map[string]struct{}, end string) {
	names = map[string]struct{}{}
	abs, err := filepath.Abs(path)
	if err != nil {
		return names, ""
	}
	rest := split(abs)
	at := string(filepath.Separator)
	for links := 0; len(rest) > 0; {
		next := filepath.Join(at, rest[0])
		rest = rest[1:]
		names[next] = struct{}{}
		info, err := os.Lstat(next)
		if err != nil {
			return names, ""
		}
		if info.Mode()&fs.ModeSymlink == 0 {
			at = next
			continue
		}
		to, err := os.Readlink(next)
		if links++; err != nil || links > maxLinks {
			return names, ""
		}
		if filepath.IsAbs(to) {
			at = string(filepath.Separator)
		}
		// Not cleaned as text: ".." after a link is the parent of its target.
		rest = append(split(to), rest...)
	}
	return names, at
}

func split(path string) []string {
	return strings.FieldsFunc(path, func(r rune) bool { return r == filepath.Separator })
}

func in(names map[string]struct{}) func(string) bool {
	return func(name string) bool { _, ok := names[name]; return ok }
}

func parents(names map[string]struct{}) map[string]struct{} {
	dirs := map[string]struct{}{}
	for name := range names {
		dirs[filepath.Dir(name)] = struct{}{}
	}
	return dirs
}
