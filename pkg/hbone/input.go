package hbone

import (
	"errors"
	"io"
	"net"
	"os"
	"sync/atomic"
	"time"
)

// An input is the reading side of a connection. While nothing comes it holds
// a few bytes, not a whole chunk; trim makes it so after traffic.
type input struct {
	nc       net.Conn
	bufs     *buffers
	small    [512]byte
	chunk    *buffer // nil while idle
	data     []byte  // read and not yet consumed
	until    time.Time
	trimming atomic.Bool
}

// next returns at least one byte and at most n. It is valid until the next call.
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

// skip drops n bytes.
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

// fill reads. The first read of a busy time goes to small; if it fills it,
// there is more, and a chunk is taken.
func (in *input) fill() error {
	for {
		buf := in.small[:]
		if in.chunk != nil {
			buf = in.chunk.b
		}
		n, err := in.nc.Read(buf)
		in.data = buf[:n]
		switch {
		case n > 0: // an error will come again
			if n == len(in.small) && in.chunk == nil {
				in.chunk = in.bufs.get(4 * record)
			}
			return nil
		case errors.Is(err, os.ErrDeadlineExceeded) && in.trimming.Swap(false):
			in.release()
			_ = in.nc.SetReadDeadline(in.until) // fails only on a closed connection
		case err == nil:
			return io.ErrNoProgress
		default:
			return err
		}
	}
}

// limit bounds how long what is read next may take altogether; 0 is no bound.
func (in *input) limit(d time.Duration) {
	in.until = time.Time{}
	if d > 0 {
		in.until = time.Now().Add(d)
	}
	_ = in.nc.SetReadDeadline(in.until) // fails only on a closed connection
}

// trim makes the reader, which waits in another goroutine, give its chunk back.
func (in *input) trim() {
	in.trimming.Store(true)
	_ = in.nc.SetReadDeadline(time.Unix(1, 0)) // fails only on a closed connection
}

// release gives the chunk back. Nothing may be unread.
func (in *input) release() {
	if in.chunk != nil {
		in.bufs.put(in.chunk)
		in.chunk, in.data = nil, nil
	}
}
