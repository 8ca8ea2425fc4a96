package demo

import (
	"bytes"
	"io"
	"os"
	"strings"
)

// A follower reads the lines that are added to a log.
type follower struct {
	path    string
	offset  int64
	started bool
}

// each calls f for every whole line that was added since the last time; the
// first time it only notes where the file ends.
func (w *follower) each(f func(line string)) {
	file, err := os.Open(w.path)
	if err != nil {
		return // the log is gone with the state directory
	}
	defer file.Close()
	if !w.started {
		w.started = true
		w.offset, _ = file.Seek(0, io.SeekEnd)
		return
	}
	added, err := io.ReadAll(io.LimitReader(io.NewSectionReader(file, w.offset, 1<<20), 1<<20))
	if err != nil {
		return
	}
	whole := added[:bytes.LastIndexByte(added, '\n')+1]
	w.offset += int64(len(whole))
	for line := range strings.Lines(string(whole)) {
		f(strings.TrimSpace(line))
	}
}
