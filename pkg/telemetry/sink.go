package telemetry

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

const (
	// flushDelay is how long the first line of a batch waits for others. It
	// bounds how often a busy data path has to wake the writer.
	flushDelay = 20 * time.Millisecond
	// batchSize is how many bytes are worth a write at once.
	batchSize = 64 << 10
	// complaintInterval is how often a sink that loses lines says so.
	complaintInterval = 10 * time.Second
	// closePatience is how long Close waits for a writer.
	closePatience = 5 * time.Second
)

// ErrStuck means that a log's writer did not return; what waited for it is lost.
var ErrStuck = errors.New("the writer did not return within 5s")

// Why a line was dropped, as the label of outrigger_records_dropped_total.
const (
	droppedFull   = "full"   // the queue had no room
	droppedWrite  = "write"  // the writer returned an error
	droppedClosed = "closed" // the recorder was closed before the record was
)

type sinkConfig struct {
	Name    string
	Writer  io.Writer
	Queue   int  // bytes
	Block   bool // wait for room instead of dropping
	Dropped *prometheus.CounterVec
	Logger  *slog.Logger
}

// A sink writes lines from a goroutine of its own, in batches, in order.
type sink struct {
	sinkConfig
	buffers sync.Pool     // of *[]byte, one line each
	wake    chan struct{} // holds one token while lines wait for the writer
	done    chan struct{} // closed when the writer has ended

	mu      sync.Mutex // guards what follows
	room    sync.Cond  // signalled when lines were taken or the sink was closed
	pending []byte
	spare   []byte // the writer's buffer, while it is not writing
	lines   int    // in pending
	lost    int    // lines since the last complaint
	closed  bool

	// of the writer
	torn       bool // the last write ended inside a line
	complained time.Time
	err        error // what the last write said
}

// startSink starts the writer; close ends it.
func startSink(c sinkConfig) *sink {
	s := &sink{sinkConfig: c, wake: make(chan struct{}, 1), done: make(chan struct{})}
	s.room.L = &s.mu
	go s.run()
	return s
}

// line encodes a line and queues it.
func (s *sink) line(encode func(b []byte) []byte) {
	p, ok := s.buffers.Get().(*[]byte)
	if !ok {
		p = new([]byte)
	}
	*p = append(encode((*p)[:0]), '\n')
	s.add(*p)
	s.buffers.Put(p)
}

// add queues a line, which must end in a newline and be the only one. It copies the line.
func (s *sink) add(line []byte) {
	s.mu.Lock()
	for s.Block && !s.closed && !s.fits(line) {
		s.room.Wait()
	}
	if s.closed || !s.fits(line) {
		reason := droppedFull
		if s.closed {
			reason = droppedClosed
		}
		s.lost++
		s.mu.Unlock()
		s.Dropped.WithLabelValues(s.Name, reason).Inc()
		return
	}
	before := s.enough()
	s.pending = append(s.pending, line...)
	s.lines++
	wake := s.lines == 1 || !before && s.enough()
	s.mu.Unlock()
	if wake {
		s.signal()
	}
}

// fits tells whether there is room. A line longer than the queue fits an empty one.
func (s *sink) fits(line []byte) bool {
	return s.lines == 0 || len(s.pending)+len(line) <= s.Queue
}

// enough tells whether the batch should not wait for more lines.
func (s *sink) enough() bool {
	return s.closed || len(s.pending) > min(batchSize, s.Queue/2)
}

func (s *sink) signal() {
	select {
	case s.wake <- struct{}{}:
	default: // it is about to look anyway
	}
}

// close writes what waits, ends the writer and waits for it, but not for ever:
// a stuck standard output must not keep a process from ending.
func (s *sink) close() error {
	if s == nil {
		return nil
	}
	s.mu.Lock()
	s.closed = true
	s.room.Broadcast()
	s.mu.Unlock()
	s.signal()
	patience := time.NewTimer(closePatience)
	defer patience.Stop()
	select {
	case <-s.done:
		return s.err
	case <-patience.C:
		return fmt.Errorf("close %s log: %w", s.Name, ErrStuck)
	}
}

func (s *sink) run() {
	defer close(s.done)
	delay := time.NewTimer(0)
	defer delay.Stop()
	for {
		<-s.wake
		delay.Reset(flushDelay)
		for waiting := true; waiting && !s.urgent(); {
			select {
			case <-delay.C:
				waiting = false
			case <-s.wake:
			}
		}
		batch, lines, closed := s.take()
		s.write(batch, lines)
		s.give(batch)
		if closed {
			return
		}
	}
}

func (s *sink) urgent() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.enough()
}

func (s *sink) take() (batch []byte, lines int, closed bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	batch, lines = s.pending, s.lines
	s.pending, s.spare, s.lines = s.spare[:0], nil, 0
	s.room.Broadcast()
	return batch, lines, s.closed
}

// give returns the writer's buffer, unless a burst that is over has made it large.
func (s *sink) give(batch []byte) {
	const keep = 4 * batchSize
	s.mu.Lock()
	defer s.mu.Unlock()
	if cap(batch) <= keep || len(batch) > cap(batch)/4 {
		s.spare = batch
	}
}

// write writes a batch. What could not be written is lost: a log that cannot be
// written now must not grow in memory until it can.
func (s *sink) write(batch []byte, lines int) {
	if len(batch) > 0 {
		if s.torn {
			_, s.err = s.Writer.Write([]byte{'\n'})
			s.torn = s.err != nil
		}
		n := 0
		if !s.torn {
			n, s.err = s.Writer.Write(batch)
			s.torn = n > 0 && batch[n-1] != '\n'
		}
		if s.err != nil {
			missing := lines - bytes.Count(batch[:n], []byte{'\n'})
			s.Dropped.WithLabelValues(s.Name, droppedWrite).Add(float64(missing))
			s.mu.Lock()
			s.lost += missing
			s.mu.Unlock()
		}
	}
	s.complain()
}

// complain says, now and then, that lines are being lost.
func (s *sink) complain() {
	now := time.Now()
	if !s.complained.IsZero() && now.Sub(s.complained) < complaintInterval {
		return
	}
	s.mu.Lock()
	lost := s.lost
	s.lost = 0
	s.mu.Unlock()
	if lost == 0 {
		return
	}
	s.complained = now
	s.Logger.Warn("records were dropped", "sink", s.Name, "records", lost, "error", s.err)
}
