package h2

import (
	"errors"
	"io"
	"net"
	"os"
	"sync"
	"sync/atomic"
	"time"
)

const chunkSize = 32 << 10

var chunks = sync.Pool{New: func() any { return new([chunkSize]byte) }}

// An input is the reading side of a connection. While nothing comes it holds a few
// bytes, not a whole chunk.
type input struct {
	nc    net.Conn
	idle  func() bool // asked when nothing came for a while: whether to give up
	pause time.Duration
	data  []byte // read and not yet consumed
	small [256]byte
	chunk *[chunkSize]byte
	by    time.Time // the deadline that is set
	limit time.Time // until which what is begun must be complete; zero means none
	total atomic.Int64
}

// next returns at least one byte and at most n, valid until the next call.
func (in *input) next(n int) ([]byte, error) {
	if len(in.data) == 0 {
		if err := in.fill(); err != nil {
			return nil, err
		}
	}
	n = min(n, len(in.data))
	p := in.data[:n]
	in.data = in.data[n:]
	return p, nil
}

// Read is for the Framer.
func (in *input) Read(p []byte) (int, error) {
	b, err := in.next(len(p))
	return copy(p, b), err
}

func (in *input) skip(n int) error {
	for n > 0 {
		b, err := in.next(n)
		if err != nil {
			return err
		}
		n -= len(b)
	}
	return nil
}

// fill reads. The first bytes after a silence go to small; if they fill it there is
// more, and a chunk is taken until there is silence again.
func (in *input) fill() error {
	for {
		if err := in.deadline(); err != nil {
			return err
		}
		buf := in.small[:]
		if in.chunk != nil {
			buf = in.chunk[:]
		}
		n, err := in.nc.Read(buf)
		if n > 0 {
			in.data = buf[:n]
			in.total.Add(int64(n))
			if n == len(in.small) && in.chunk == nil {
				in.chunk = chunks.Get().(*[chunkSize]byte)
			}
			return nil
		}
		switch {
		case err == nil:
			return io.ErrNoProgress
		case !errors.Is(err, os.ErrDeadlineExceeded):
			return err
		case !in.limit.IsZero() && !time.Now().Before(in.limit):
			return os.ErrDeadlineExceeded
		case in.chunk != nil:
			in.release()
		case in.idle():
			return errIdle
		}
	}
}

// deadline sets when the next read gives up. It is not set anew for every read: half
// of a pause more or less makes no difference.
func (in *input) deadline() error {
	now := time.Now()
	wait := in.pause
	if in.chunk != nil {
		wait = patience
	}
	by := now.Add(wait)
	if !in.limit.IsZero() && in.limit.Before(by) {
		by = in.limit
	} else if in.by.After(now.Add(wait/2)) && !in.by.After(by) {
		return nil
	}
	in.by = by
	return in.nc.SetReadDeadline(by)
}

// within bounds how long what is read until the next call may take; 0 is no bound.
func (in *input) within(d time.Duration) {
	if in.limit = (time.Time{}); d > 0 {
		in.limit = time.Now().Add(d)
	}
}

// release gives the chunk back. Nothing may be unread.
func (in *input) release() {
	if in.chunk != nil {
		chunks.Put(in.chunk)
		in.chunk, in.data = nil, nil
	}
}
