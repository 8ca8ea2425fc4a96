package process

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"
)

// tick is the unit of the times in /proc/PID/stat: USER_HZ is 100 on every Linux that Go runs on.
const tick = 10 * time.Millisecond

// A Usage is CPU time that a process has spent, all its threads together.
type Usage struct{ User, System time.Duration }

// Total is both together.
func (u Usage) Total() time.Duration { return u.User + u.System }

// Plus is the usage of two processes.
func (u Usage) Plus(o Usage) Usage { return Usage{u.User + o.User, u.System + o.System} }

// A Meter is what a process had spent at one moment.
type Meter struct {
	total time.Duration // to the nanosecond, where the kernel tells; else in ticks
	ticks Usage
}

// Read reads the meter of a process.
func Read(pid int) (Meter, error) {
	data, err := os.ReadFile(filepath.Join("/proc", strconv.Itoa(pid), "stat"))
	if err != nil {
		return Meter{}, err
	}
	ticks, err := parseStat(data)
	if err != nil {
		return Meter{}, fmt.Errorf("/proc/%d/stat: %w", pid, err)
	}
	m := Meter{total: ticks.Total(), ticks: ticks}
	if exact, err := clock(pid); err == nil {
		m.total = exact
	}
	return m, nil
}

// Since is what the process has spent since an earlier reading. The total is
// exact; the kernel tells how it divides only in ticks.
func (m Meter) Since(earlier Meter) Usage {
	total := m.total - earlier.total
	user, system := m.ticks.User-earlier.ticks.User, m.ticks.System-earlier.ticks.System
	if user+system <= 0 {
		return Usage{System: total}
	}
	u := time.Duration(float64(total) * float64(user) / float64(user+system))
	return Usage{u, total - u}
}

// parseStat reads user and system time from a /proc/PID/stat: after the name in
// parentheses, which may hold anything, the 12th and 13th fields (proc(5)).
func parseStat(data []byte) (Usage, error) {
	end := bytes.LastIndexByte(data, ')')
	if end < 0 {
		return Usage{}, errors.New("no name in parentheses")
	}
	fields := strings.Fields(string(data[end+1:]))
	if len(fields) < 13 {
		return Usage{}, fmt.Errorf("%d fields after the name, want at least 13", len(fields))
	}
	var times [2]time.Duration
	for i, f := range fields[11:13] {
		n, err := strconv.ParseUint(f, 10, 48)
		if err != nil {
			return Usage{}, fmt.Errorf("time %q: %w", f, err)
		}
		times[i] = time.Duration(n) * tick
	}
	return Usage{times[0], times[1]}, nil
}

// PSS is the memory of a process in bytes, what it shares divided by who shares it.
func PSS(pid int) (int64, error) {
	path := filepath.Join("/proc", strconv.Itoa(pid), "smaps_rollup")
	data, err := os.ReadFile(path)
	if err != nil {
		return 0, err
	}
	n, err := parseRollup(data)
	if err != nil {
		return 0, fmt.Errorf("%s: %w", path, err)
	}
	return n, nil
}

func parseRollup(data []byte) (int64, error) {
	for line := range strings.Lines(string(data)) {
		text, ok := strings.CutPrefix(line, "Pss:")
		if !ok {
			continue
		}
		fields := strings.Fields(text)
		if len(fields) != 2 || fields[1] != "kB" {
			return 0, fmt.Errorf("line %q is not a size in kB", line)
		}
		n, err := strconv.ParseInt(fields[0], 10, 48)
		if err != nil {
			return 0, fmt.Errorf("size %q: %w", fields[0], err)
		}
		return n << 10, nil
	}
	return 0, errors.New("no line Pss")
}
