package h2

import (
	"context"
	"errors"
	"net"
	"time"

	"golang.org/x/net/http2"
)

// errTooLong means that a header list is longer than the peer takes.
var errTooLong = errors.New("header list is longer than the HTTP/2 peer takes")

var errLate = errors.New("response was sent before the request's content was asked for")

// Open opens a stream of a client with a request, pseudo-header fields first. It
// waits while the peer lets no more be open. What follows comes by Write, unless the
// request ends here; only then it is sent at once. head says that the response has
// no content.
func (c *Conn) Open(ctx context.Context, fields []Field, secret, head, end bool) (*Stream, error) {
	if err := c.awaitSlot(ctx); err != nil {
		return nil, err
	}
	c.w.mu.Lock()
	defer c.w.mu.Unlock()
	s, err := c.register(listSize(fields), head, end)
	if err != nil {
		return nil, err
	}
	c.w.header(s.id, fields, secret, end)
	if end {
		if err := c.w.flush(); err != nil {
			return nil, err // the connection is broken, and the read loop says so
		}
	}
	return s, nil
}

// register gives a stream its number. The writer's lock is held, so that numbers go
// out in order.
func (c *Conn) register(size int, head, end bool) (*Stream, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.opening--
	err := c.closedLocked()
	switch {
	case c.w.err != nil:
		err = c.w.err
	case size > c.w.maxList:
		err = errTooLong
	}
	if err != nil {
		c.slots.Signal()
		return nil, err
	}
	s := c.newStream(c.next)
	s.head, s.sendEnded, s.begun = head, end, true
	c.streams[s.id] = s
	c.next += 2
	return s, nil
}

func (c *Conn) closedLocked() error {
	switch {
	case c.over:
		return errors.Join(ErrRefused, c.err)
	case c.away || c.next >= 1<<31-1:
		return ErrRefused
	}
	return nil
}

// awaitSlot waits until one more stream may be open. Before the peer's SETTINGS are
// here one may.
func (c *Conn) awaitSlot(ctx context.Context) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	var stop func() bool
	for {
		most := c.peerMax
		if !c.settled {
			most = min(most, 1)
		}
		if err := c.closedLocked(); err != nil {
			return err
		}
		if len(c.streams)+c.opening < most {
			c.opening++
			return nil
		}
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		if stop == nil {
			stop = context.AfterFunc(ctx, func() {
				c.mu.Lock()
				c.slots.Broadcast()
				c.mu.Unlock()
			})
			defer stop()
		}
		c.slots.Wait()
	}
}

// WriteHeader sends a header list, pseudo-header fields first. It goes with what
// follows by Write, unless it ends the stream or is to be flushed.
func (s *Stream) WriteHeader(fields []Field, secret, end, flush bool) error {
	w := &s.c.w
	w.mu.Lock()
	defer w.mu.Unlock()
	if err := s.roomLocked(); err != nil {
		return err
	}
	if listSize(fields) > w.maxList {
		return errTooLong
	}
	w.header(s.id, fields, secret, end)
	s.sent(end)
	if end || flush {
		return w.flush()
	}
	return nil
}

// Continue sends "100 Continue", unless the final response has begun.
func (s *Stream) Continue() error {
	w := &s.c.w
	w.mu.Lock()
	defer w.mu.Unlock()
	if err := s.roomLocked(); err != nil {
		return err
	}
	if s.Begun() {
		return errLate
	}
	w.header(s.id, []Field{{":status", "100"}}, false, false)
	return w.flush()
}

// Write sends content, and waits while the peer's window is closed. It returns
// ErrStopped if the peer has answered and wants no more.
func (s *Stream) Write(p []byte, end bool) error {
	w := &s.c.w
	for first := true; first || len(p) > 0; first = false {
		n, err := s.reserve(min(len(p), frameSize))
		if err != nil {
			return err
		}
		last := n == len(p)
		var flags http2.Flags
		if last && end {
			flags = http2.FlagDataEndStream
		}
		w.mu.Lock()
		if err = s.roomLocked(); err == nil {
			w.append(http2.FrameData, flags, s.id, p[:n])
			w.data.Add(1)
			s.sent(last && end)
			if last || len(w.pending) >= maxPending/2 {
				err = w.flush()
			}
		}
		w.mu.Unlock()
		if err != nil {
			return err
		}
		p = p[n:]
	}
	return nil
}

// roomLocked waits until what is pending leaves room for more. The writer's lock is held.
func (s *Stream) roomLocked() error {
	w := &s.c.w
	for len(w.pending) > maxPending && w.err == nil && !s.gone.Load() {
		w.room.Wait()
	}
	switch {
	case w.err != nil:
		return w.err
	case s.gone.Load():
		return s.why()
	}
	return nil
}

// why is why nothing can be sent any more.
func (s *Stream) why() error {
	s.c.mu.Lock()
	defer s.c.mu.Unlock()
	return s.whyLocked()
}

func (s *Stream) whyLocked() error {
	switch {
	case s.err != nil:
		return s.err
	case s.gone.Load():
		return ErrStopped
	case s.sendEnded:
		return net.ErrClosed
	}
	return nil
}

// sent notes that a frame was appended.
func (s *Stream) sent(end bool) {
	s.c.mu.Lock()
	defer s.c.mu.Unlock()
	s.begun = true
	if !end {
		return
	}
	s.sendEnded = true
	if s.recvEnded {
		s.c.removeLocked(s)
	}
}

// reserve takes up to want bytes of the windows and waits until it gets some.
func (s *Stream) reserve(want int) (int, error) {
	c := s.c
	c.mu.Lock()
	defer c.mu.Unlock()
	var by time.Time
	for {
		if err := s.whyLocked(); err != nil {
			return 0, err
		}
		if n := min(int64(want), s.window, c.window); n > 0 || want == 0 {
			n = max(n, 0)
			s.window -= n
			c.window -= n
			return int(n), nil
		}
		if by.IsZero() {
			by = time.Now().Add(c.Write)
			if err := c.flushUnlocked(); err != nil { // what opens the window may be an answer to it
				return 0, err
			}
			continue
		}
		if err := s.await(&s.writeTimer, by); err != nil {
			return 0, err
		}
	}
}

// flushUnlocked writes what is pending. The lock is held, and released meanwhile: the
// writer's comes before it.
func (c *Conn) flushUnlocked() error {
	c.mu.Unlock()
	defer c.mu.Lock()
	c.w.mu.Lock()
	defer c.w.mu.Unlock()
	return c.w.flush()
}

// moreWindow is a WINDOW_UPDATE; s is nil for the connection.
func (c *Conn) moreWindow(s *Stream, n int64) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if s == nil {
		if c.window += n; c.window > maxWindow {
			return &ConnError{http2.ErrCodeFlowControl, "connection window overflow"}
		}
		c.wakeAllLocked()
		return nil
	}
	if s.window += n; s.window > maxWindow {
		return &streamError{s.id, http2.ErrCodeFlowControl, "stream window overflow"}
	}
	s.cond.Broadcast()
	return nil
}

func (c *Conn) wakeAllLocked() {
	for _, s := range c.streams {
		s.cond.Broadcast()
	}
}

// initialWindow is a changed SETTINGS_INITIAL_WINDOW_SIZE.
func (c *Conn) initialWindow(n int64) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	change := n - c.initial
	c.initial = n
	for _, s := range c.streams {
		if s.window += change; s.window > maxWindow {
			return &ConnError{http2.ErrCodeFlowControl, "initial window makes a stream's window overflow"}
		}
	}
	c.wakeAllLocked()
	return nil
}

// goneAway is GOAWAY: streams above last were not looked at.
func (c *Conn) goneAway(last uint32, code http2.ErrCode) {
	var err error = ErrRefused
	if code != http2.ErrCodeNo {
		err = &ConnError{code, "the peer's GOAWAY"} // what upset it once shall not be sent again
	}
	var lost []*Stream
	c.mu.Lock()
	c.away = true
	for id, s := range c.streams {
		if c.Client && id > last {
			lost = append(lost, s)
		}
	}
	for _, s := range lost {
		s.killLocked(err)
	}
	c.slots.Broadcast()
	c.mu.Unlock()
	for _, s := range lost {
		s.ended(err)
	}
}
