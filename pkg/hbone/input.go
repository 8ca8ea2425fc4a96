package hbone

import (
	"errors"
	"io"
	"net"
	"os"
	"sync/atomic"
	"time"
)

// maxPieces is how many records are passed on with one system call.
const maxPieces = 8

// records is a connection that gives what came where it was decrypted.
type records interface {
	Next() ([]byte, error)     // waits for data, which is valid until it is called again
	Buffered() ([]byte, error) // data that came with it, or nil
}

// An input is the reading side of a connection. While nothing comes it holds
// a few bytes, not a whole chunk; trim makes it so after traffic.
type input struct {
	nc       net.Conn
	records  records // nc, if it is one: then it keeps what was read
	pieces   [maxPieces][]byte
	bufs     *buffers
	small    [512]byte
	chunk    *buffer // nil while idle
	data     []byte  // read and not yet consumed
	until    time.Time
	trimming atomic.Bool
	waits    func() // called before it may wait for the peer; nil for a client
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

// gather returns at least one byte and at most n, in pieces, and how much it
// is. It waits only for the first. They are valid until the next call.
func (in *input) gather(n int) (pieces [][]byte, sum int, err error) {
	p, err := in.next(n)
	if err != nil {
		return nil, 0, err
	}
	pieces, sum = append(in.pieces[:0], p), len(p)
	for in.records != nil && sum < n && len(pieces) < maxPieces {
		if in.data, err = in.records.Buffered(); err != nil || len(in.data) == 0 {
			break // an error comes again
		}
		p = in.data[:min(n-sum, len(in.data))]
		in.data = in.data[len(p):]
		pieces, sum = append(pieces, p), sum+len(p)
	}
	return pieces, sum, nil
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
func (in *input) fill() (err error) {
	if in.waits != nil {
		in.waits()
	}
	if in.records != nil {
		in.data, err = in.records.Next()
		return err
	}
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

// trim makes the reader, which waits in another goroutine, give its chunk back. A
// connection of records holds none while it waits.
func (in *input) trim() {
	if in.records != nil {
		return
	}
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
