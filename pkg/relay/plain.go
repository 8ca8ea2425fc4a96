package relay

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"sync"
	"sync/atomic"
	"time"
)

// Plain is Copy by Read and Write alone. It is for connections that relay
// better by themselves but cannot for this pair.
func Plain(ctx context.Context, a, b Conn) Result {
	p := &pair{a: a, b: b}
	_ = a.SetDeadline(time.Time{}) // fails only on a closed connection
	_ = b.SetDeadline(time.Time{})
	stop := context.AfterFunc(ctx, func() { p.cut(context.Cause(ctx)) })
	defer stop()
	var back sync.WaitGroup
	back.Go(func() { p.direction(a, b, &p.received) })
	p.direction(b, a, &p.sent)
	back.Wait()
	p.mu.Lock()
	p.over = true // a cut that comes now changes nothing
	err := p.err
	p.mu.Unlock()
	a.Close()
	b.Close()
	return Result{Sent: p.sent, Received: p.received, Err: err}
}

// A pair is two connections and how their relay stands.
type pair struct {
	a, b           Conn
	sent, received int64
	ended          atomic.Int32 // directions that ended well

	mu   sync.Mutex // guards what follows
	err  error
	over bool
}

// cut resets both ends; the first reason counts.
func (p *pair) cut(err error) {
	p.mu.Lock()
	first := p.err == nil && !p.over
	if first {
		p.err = err
	}
	p.mu.Unlock()
	if first {
		Reset(p.a)
		Reset(p.b)
	}
}

// direction carries what src sends to dst, then its end.
func (p *pair) direction(dst, src Conn, n *int64) {
	s, isSocket := newSocket(src)
	var err error
	if isSocket {
		err = s.copyTo(dst, n)
	} else {
		err = copyBuffered(dst, src, n)
	}
	if err != nil {
		p.cut(err)
		return
	}
	_ = dst.CloseWrite() // if dst is gone, its other direction says so
	if p.ended.Add(1) == 2 {
		wake(p.a)
		wake(p.b)
		return
	}
	if isSocket {
		if err := s.watch(); err != nil {
			p.cut(fmt.Errorf("after its end: %w", err))
		}
	}
}

// wake ends a watch.
func wake(c net.Conn) { _ = c.SetReadDeadline(time.Unix(1, 0)) }

// copyBuffered is for what has no file descriptor.
func copyBuffered(dst io.Writer, src io.Reader, n *int64) error {
	if w, ok := src.(io.WriterTo); ok {
		c := &counter{w: dst, n: n}
		_, err := w.WriteTo(c)
		return err
	}
	buf := buffers[1].Get().(*[]byte)
	defer buffers[1].Put(buf)
	for {
		r, err := src.Read(*buf)
		if r > 0 {
			w, err := dst.Write((*buf)[:r])
			*n += int64(w)
			if err != nil {
				return fmt.Errorf("write: %w", err)
			}
		}
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return fmt.Errorf("read: %w", err)
		}
	}
}

// A counter counts what it passes on.
type counter struct {
	w io.Writer
	n *int64
}

func (c *counter) Write(p []byte) (int, error) {
	n, err := c.w.Write(p)
	*c.n += int64(n)
	return n, err
}
