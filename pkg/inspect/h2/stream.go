package h2

import (
	"os"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/net/http2"
)

// A Stream is one request and its response. Its reads and its writes may be done by
// two goroutines; Reset by any.
type Stream struct {
	Header *Header // of the request, on a stream that the peer opened

	c    *Conn
	id   uint32
	head bool        // client: the response has no content, whatever its length says
	gone atomic.Bool // nothing may be sent any more

	interim int // client: 1xx responses; of the read loop

	// What follows is guarded by c.mu.
	cond       sync.Cond
	response   *Header
	unread     []byte  // received content
	page       *[]byte // that unread is in
	recvWindow int     // that the peer may still send
	consumed   int     // read and not yet given back to the window
	remaining  int64   // content-length not yet received; -1 if unknown
	recvEnded  bool    // END_STREAM received
	deaf       bool    // Interrupt was called
	window     int64   // that we may still send
	sendEnded  bool    // END_STREAM sent
	begun      bool    // a header list was sent, other than of an interim response
	err        error   // why it was cut
	onEnd      func(error)
	readTimer  *time.Timer
	writeTimer *time.Timer
}

// newStream makes a stream that is not yet registered. The lock is held.
func (c *Conn) newStream(id uint32) *Stream {
	s := &Stream{c: c, id: id, recvWindow: window, remaining: -1, window: c.initial}
	s.cond.L = &c.mu
	return s
}

// OnEnd has f called once with the reason when the stream is cut: by either side or
// with its connection, not because it has come to its end.
func (s *Stream) OnEnd(f func(error)) {
	s.c.mu.Lock()
	err := s.err
	if err == nil {
		s.onEnd = f
	}
	s.c.mu.Unlock()
	if err != nil {
		f(err)
	}
}

// ended tells who waits for it that the stream was cut. No lock is held.
func (s *Stream) ended(err error) {
	s.c.mu.Lock()
	f := s.onEnd
	s.onEnd = nil
	s.c.mu.Unlock()
	if f != nil {
		f(err)
	}
}

// killLocked ends the stream both ways and removes it.
func (s *Stream) killLocked(err error) {
	if s.err == nil {
		s.err = err
	}
	s.gone.Store(true)
	s.freeLocked()
	s.c.removeLocked(s)
	s.cond.Broadcast()
}

func (c *Conn) removeLocked(s *Stream) {
	if c.streams[s.id] != s {
		return
	}
	delete(c.streams, s.id)
	if len(c.streams) == 0 {
		c.idleSince = time.Now()
	}
	if c.Client {
		c.slots.Signal()
	}
}

// noteReset remembers a stream that we reset. The lock is held.
func (c *Conn) noteReset(id uint32) {
	c.resets[c.resetAt%len(c.resets)] = id
	c.resetAt++
}

// Reset ends the stream with RST_STREAM, unless it has ended. A Read that waits fails.
func (s *Stream) Reset(code http2.ErrCode, reason string) {
	c := s.c
	c.mu.Lock()
	if c.streams[s.id] != s {
		c.mu.Unlock()
		return
	}
	err := &ResetError{Code: code, Reason: reason}
	c.noteReset(s.id)
	s.killLocked(err)
	c.mu.Unlock()
	s.ended(err)
	if err := c.w.send(http2.FrameRSTStream, 0, s.id, u32(uint32(code))); err != nil {
		c.fail(err)
	}
}

// resetByPeer tells whether the stream had been of use, and whether the peer only
// wants no more because it has answered (RFC 9113 §8.1).
func (s *Stream) resetByPeer(code http2.ErrCode) (useful, stopped bool) {
	c := s.c
	c.mu.Lock()
	useful = s.begun || s.response != nil
	stopped = c.Client && s.recvEnded && code == http2.ErrCodeNo
	var err error = &ResetError{Code: code, Remote: true}
	switch {
	case stopped:
		err = ErrStopped
		s.gone.Store(true)
		c.removeLocked(s)
		s.sendEnded = true
		s.cond.Broadcast()
	case c.Client && code == http2.ErrCodeRefusedStream && s.response == nil:
		err = ErrRefused
		s.killLocked(err)
	default:
		s.killLocked(err)
	}
	c.mu.Unlock()
	if !stopped {
		s.ended(err)
	}
	return useful, stopped
}

// Done ends the stream of a server once it is answered, or cannot be.
func (s *Stream) Done() {
	s.c.mu.Lock()
	answered, whole := s.sendEnded, s.wholeLocked()
	s.c.working--
	s.c.mu.Unlock()
	switch {
	case !answered:
		s.Reset(http2.ErrCodeInternal, "not answered")
	case !whole:
		s.Reset(http2.ErrCodeNo, "answered") // RFC 9113 §8.1
	}
}

// Leave ends the use of a stream of a client: it is reset unless request and response
// are complete.
func (s *Stream) Leave() {
	s.c.mu.Lock()
	whole := s.sendEnded && s.response != nil && s.wholeLocked()
	s.c.mu.Unlock()
	if !whole {
		s.Reset(http2.ErrCodeCancel, "not wanted to its end")
	}
}

// wholeLocked tells whether all content was received and read; END_STREAM may still
// be on its way.
func (s *Stream) wholeLocked() bool {
	return len(s.unread) == 0 && (s.recvEnded || s.remaining == 0)
}

// Interrupt ends a Read that is under way, and those to come. The stream goes on.
func (s *Stream) Interrupt() {
	s.c.mu.Lock()
	s.deaf = true
	s.cond.Broadcast()
	s.c.mu.Unlock()
}

// IsHead tells whether the response has no content, whatever its length says.
func (s *Stream) IsHead() bool { return s.head }

// Begun tells whether the header list of a final response was sent.
func (s *Stream) Begun() bool {
	s.c.mu.Lock()
	defer s.c.mu.Unlock()
	return s.begun
}

func (s *Stream) hasEnded() bool {
	s.c.mu.Lock()
	defer s.c.mu.Unlock()
	return s.recvEnded
}

func (s *Stream) answered() bool {
	s.c.mu.Lock()
	defer s.c.mu.Unlock()
	return s.response != nil
}

// answer takes the final response.
func (s *Stream) answer(r *Header) error {
	s.c.mu.Lock()
	s.response = r
	if s.remaining = r.Length; s.head || r.Status == 204 || r.Status == 304 {
		s.remaining = 0
		if r.End {
			s.remaining = -1
		}
	}
	s.cond.Broadcast()
	s.c.mu.Unlock()
	if r.End {
		return s.receivedAll()
	}
	return nil
}

// receivedAll is END_STREAM.
func (s *Stream) receivedAll() error {
	s.c.mu.Lock()
	defer s.c.mu.Unlock()
	if s.remaining > 0 {
		return &streamError{s.id, http2.ErrCodeProtocol, "less than content-length"}
	}
	s.recvEnded = true
	if s.sendEnded {
		s.c.removeLocked(s)
	}
	s.cond.Broadcast()
	return nil
}

// deliver takes a piece of DATA from the read loop. It never waits.
func (s *Stream) deliver(p []byte) error {
	s.c.mu.Lock()
	defer s.c.mu.Unlock()
	if s.recvWindow -= len(p); s.recvWindow < 0 {
		return &streamError{s.id, http2.ErrCodeFlowControl, "more than the stream's window"}
	}
	if s.remaining >= 0 {
		if s.remaining -= int64(len(p)); s.remaining < 0 {
			return &streamError{s.id, http2.ErrCodeProtocol, "more than content-length"}
		}
	}
	if s.c.Client && s.response == nil {
		return &streamError{s.id, http2.ErrCodeProtocol, "DATA before the response"}
	}
	if s.err != nil {
		return nil
	}
	s.keepLocked(p)
	s.cond.Broadcast()
	return nil
}

// await waits until something changes, or until by. The lock is held.
func (s *Stream) await(timer **time.Timer, by time.Time) error {
	d := time.Until(by)
	if d <= 0 {
		return os.ErrDeadlineExceeded
	}
	if *timer == nil {
		*timer = time.AfterFunc(d, s.wake)
	} else {
		(*timer).Reset(d)
	}
	s.cond.Wait()
	(*timer).Stop()
	return nil
}

func (s *Stream) wake() {
	s.c.mu.Lock()
	s.cond.Broadcast()
	s.c.mu.Unlock()
}
