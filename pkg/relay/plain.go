package relay

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"sync"
	"syscall"
	"time"
)

// Plain is Copy by Read and Write alone. It is for connections that relay
// better by themselves but cannot for this pair.
func Plain(ctx context.Context, a, b Conn, m Meter) Result {
	p := &pair{a: a, b: b}
	sent, received := &tally{tell: m.Sent}, &tally{tell: m.Received}
	_ = a.SetDeadline(time.Time{}) // fails only on a closed connection
	_ = b.SetDeadline(time.Time{})
	stop := context.AfterFunc(ctx, func() { p.cut(context.Cause(ctx)) })
	defer stop()
	var back sync.WaitGroup
	back.Go(func() { p.direction(a, b, received) })
	p.direction(b, a, sent)
	back.Wait()
	p.mu.Lock()
	p.over = true // a cut that comes now changes nothing
	err := p.err
	p.mu.Unlock()
	if err != nil {
		_, _ = Reset(a), Reset(b) // they are closed whatever this says
	} else {
		a.Close()
		b.Close()
	}
	return Result{Sent: sent.n, Received: received.n, Err: err}
}

// A pair is two connections and how their relay stands.
type pair struct {
	a, b Conn

	mu    sync.Mutex // guards what follows
	ended int        // directions that ended well
	err   error
	over  bool
}

// A tally counts the bytes of one direction.
type tally struct {
	n    int64
	tell func(int64)
}

func (t *tally) add(n int64) {
	t.n += n
	t.tell(n)
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
		// Closing waits for readers, who may be writing to the other one: wake all first.
		Abort(p.a)
		Abort(p.b)
	}
}

// direction carries what src sends to dst, then its end.
func (p *pair) direction(dst, src Conn, n *tally) {
	s, isSocket := newSocket(src)
	var err error
	if isSocket {
		err = s.copyTo(dst, n, p.isReset)
	} else {
		err = copyBuffered(dst, src, n)
	}
	if err != nil {
		p.cut(err)
		return
	}
	if p.end(dst) == 2 {
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

// end passes on an end and tells how many there have been.
func (p *pair) end(dst Conn) int {
	p.mu.Lock()
	defer p.mu.Unlock()
	_ = dst.CloseWrite() // if dst is gone, its other direction says so
	p.ended++
	return p.ended
}

// isReset tells an end from a reset that the other direction was told of: the
// kernel reports it once, and then a read only says that nothing will come. To
// write nothing fails on a socket that was reset, or whose writing we have ended.
func (p *pair) isReset(fd uintptr) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.ended > 0 {
		return false
	}
	_, err := syscall.Write(int(fd), nil)
	return err != nil && err != syscall.EAGAIN && err != syscall.EINTR
}

// wake ends a watch.
func wake(c net.Conn) { _ = c.SetReadDeadline(time.Unix(1, 0)) }

// copyBuffered is for what has no file descriptor.
func copyBuffered(dst io.Writer, src io.Reader, n *tally) error {
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
			n.add(int64(w))
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
	n *tally
}

func (c *counter) Write(p []byte) (int, error) {
	n, err := c.w.Write(p)
	c.n.add(int64(n))
	return n, err
}
