package demo

import (
	"bytes"
	"io"
	"os"
	"strings"
)

// A follower reads the lines that are added to a log, from its first one.
type follower struct {
	path   string
	tell   func(line string)
	offset int64
}

// each tells every whole line that was added since the last time.
func (w *follower) each() {
	file, err := os.Open(w.path)
	if err != nil {
		return // the log is gone with the state directory
	}
	defer file.Close()
	added, err := io.ReadAll(io.LimitReader(io.NewSectionReader(file, w.offset, 1<<20), 1<<20))
	if err != nil {
		return
	}
	whole := added[:bytes.LastIndexByte(added, '\n')+1]
	w.offset += int64(len(whole))
	for line := range strings.Lines(string(whole)) {
		w.tell(strings.TrimSpace(line))
	}
}
