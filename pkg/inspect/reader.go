package inspect

import (
	"bytes"
	"errors"
	"io"
	"net"
	"os"
	"sync"
	"sync/atomic"
	"time"
)

// A reader buffers what comes from one connection. It owns a buffer only while
// something is buffered or a read is under way.
type reader struct {
	conn  net.Conn
	buf   []byte
	r, w  int   // buf[r:w] is unread
	err   error // of the read that returned the last bytes
	total int64 // bytes read

	until   time.Time                     // the deadline of reads, if this reader set it; zero: not known
	waiter  interface{ willWait() error } // told before each wait; may be nil
	stopped atomic.Bool                   // reads fail as if their time was up
	tip     [16]byte                      // for the first bytes after a long wait
}

var (
	errBareLF = bad("line ends without CR LF")
	errTooBig = errors.New("does not fit the buffer")
)

// Buffers of all sizes, shared by all connections.
var (
	tinyBuffers  = sync.Pool{New: func() any { return new([tinySize]byte) }}
	smallBuffers = sync.Pool{New: func() any { return new([smallSize]byte) }}
	largeBuffers = sync.Pool{New: func() any { return new([bufferSize]byte) }}
	sinkBuffers  = sync.Pool{New: func() any { return new([sinkSize]byte) }}
)

func getBuffer(n int) []byte {
	switch {
	case n <= tinySize:
		return tinyBuffers.Get().(*[tinySize]byte)[:]
	case n <= smallSize:
		return smallBuffers.Get().(*[smallSize]byte)[:]
	case n <= bufferSize:
		return largeBuffers.Get().(*[bufferSize]byte)[:]
	}
	return sinkBuffers.Get().(*[sinkSize]byte)[:]
}

func putBuffer(b []byte) {
	switch cap(b) {
	case tinySize:
		tinyBuffers.Put((*[tinySize]byte)(b[:tinySize]))
	case smallSize:
		smallBuffers.Put((*[smallSize]byte)(b[:smallSize]))
	case bufferSize:
		largeBuffers.Put((*[bufferSize]byte)(b[:bufferSize]))
	case sinkSize:
		sinkBuffers.Put((*[sinkSize]byte)(b[:sinkSize]))
	}
}

// buffered returns how many bytes are unread.
func (r *reader) buffered() int { return r.w - r.r }

// fill reads once, until by. It may move what is buffered.
func (r *reader) fill(by time.Time) error {
	if r.waiter != nil {
		if err := r.waiter.willWait(); err != nil {
			return err
		}
	}
	now := time.Now()
	soon := now.Add(patience)
	if r.buffered() > 0 || !soon.Before(by) {
		return r.readBy(by)
	}
	// A deadline costs more than most reads: one that is good for half the patience stays.
	if r.until.After(soon) || r.until.Sub(now) < patience/2 {
		if err := r.deadline(soon); err != nil {
			return err
		}
	}
	if r.stopped.Load() {
		return os.ErrDeadlineExceeded
	}
	if err := r.read(); !isTimeout(err) {
		return err
	}
	return r.wait(by)
}

// deadline sets the deadline of reads.
func (r *reader) deadline(by time.Time) error {
	r.until = by
	return r.conn.SetReadDeadline(by)
}

// resume allows reads after an interrupt, or on another connection.
func (r *reader) resume() {
	r.until = time.Time{}
	r.stopped.Store(false)
}

// readBy reads once, until by.
func (r *reader) readBy(by time.Time) error {
	if err := r.deadline(by); err != nil {
		return err
	}
	if r.stopped.Load() {
		return os.ErrDeadlineExceeded
	}
	return r.read()
}

// wait waits for the first bytes after a silence, without a buffer.
func (r *reader) wait(by time.Time) error {
	if err := r.deadline(by); err != nil {
		return err
	}
	if r.stopped.Load() {
		return os.ErrDeadlineExceeded
	}
	return r.listen()
}

// listen reads the first bytes after a silence, without a change of the deadline,
// and takes a buffer only for them. Nothing may be buffered.
func (r *reader) listen() error {
	if r.err != nil {
		return r.err
	}
	r.release()
	n, err := r.conn.Read(r.tip[:])
	if n == 0 {
		return err
	}
	r.buf = getBuffer(smallSize)
	r.r, r.w = 0, copy(r.buf, r.tip[:n])
	r.total += int64(n)
	if !isTimeout(err) {
		r.err = err
	}
	return nil
}

// interrupt ends a read that is under way, and those to come.
func (r *reader) interrupt() {
	r.stopped.Store(true)
	r.conn.SetReadDeadline(time.Unix(1, 0))
}

// read reads once, without a change of the deadline.
func (r *reader) read() error {
	if r.err != nil {
		return r.err
	}
	if err := r.room(); err != nil {
		return err
	}
	for range 16 {
		n, err := r.conn.Read(r.buf[r.w:])
		r.w += n
		r.total += int64(n)
		if n > 0 {
			r.err = err
			if isTimeout(err) {
				r.err = nil
			}
			return nil
		}
		if err != nil {
			return err
		}
	}
	return io.ErrNoProgress
}

// room makes room for at least a byte.
func (r *reader) room() error {
	if r.r == r.w {
		r.r, r.w = 0, 0
	}
	switch {
	case r.buf == nil:
		r.buf = getBuffer(smallSize)
	case r.w < len(r.buf):
	case r.r > 0:
		r.w = copy(r.buf, r.buf[r.r:r.w])
		r.r = 0
	case len(r.buf) < bufferSize:
		r.swap()
	default:
		return errTooBig
	}
	return nil
}

// swap moves what is buffered into a large buffer.
func (r *reader) swap() {
	if len(r.buf) == bufferSize {
		return
	}
	b := getBuffer(bufferSize)
	r.w = copy(b, r.buf[r.r:r.w])
	r.r = 0
	putBuffer(r.buf)
	r.buf = b
}

// large sees to it that the next read goes into a large buffer.
func (r *reader) large() {
	if r.buf == nil {
		r.buf = getBuffer(bufferSize)
	}
	r.swap()
}

// release returns the buffer if nothing is in it.
func (r *reader) release() {
	if r.buf != nil && r.r == r.w {
		putBuffer(r.buf)
		r.buf, r.r, r.w = nil, 0, 0
	}
}

// discard forgets what is buffered and returns the buffer.
func (r *reader) discard() {
	r.r = r.w
	r.release()
}

// head reads to the first empty line and returns everything including it, valid
// until the next read. It is errTooBig if that is more than max bytes.
func (r *reader) head(max int, by time.Time) ([]byte, error) {
	line, seen := 0, 0
	for {
		for {
			b := r.buf[r.r:r.w]
			i := bytes.IndexByte(b[seen:], '\n')
			if i < 0 {
				break
			}
			i += seen
			if i == 0 || b[i-1] != '\r' {
				return nil, errBareLF
			}
			seen = i + 1
			if seen > max {
				return nil, errTooBig
			}
			if i-1 == line {
				r.r += seen
				return b[:seen], nil
			}
			line = seen
		}
		if seen = r.buffered(); seen >= max {
			return nil, errTooBig
		}
		if err := r.fill(by); err != nil {
			return nil, err
		}
	}
}

// line reads to the next end of line and returns what is before it, valid until
// the next read.
func (r *reader) line(max int, by func() time.Time) ([]byte, error) {
	for {
		b := r.buf[r.r:r.w]
		if i := bytes.IndexByte(b, '\n'); i >= 0 {
			if i == 0 || b[i-1] != '\r' {
				return nil, errBareLF
			}
			if i > max {
				return nil, errTooBig
			}
			r.r += i + 1
			return b[:i-1], nil
		}
		if len(b) >= max {
			return nil, errTooBig
		}
		if err := r.fill(by()); err != nil {
			return nil, err
		}
	}
}
