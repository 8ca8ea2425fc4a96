package h2

import (
	"io"
	"net"
	"time"

	"golang.org/x/net/http2"
)

// keepLocked appends to what is unread.
func (s *Stream) keepLocked(p []byte) {
	if s.page == nil {
		s.page = pages.Get().(*[]byte)
		s.unread = *s.page
	}
	whole := (*s.page)[:cap(*s.page)]
	if need := len(s.unread) + len(p); need > cap(s.unread) && need <= len(whole) {
		s.unread = whole[:copy(whole, s.unread)] // what was read has left room in front
	}
	before := cap(s.unread)
	s.unread = append(s.unread, p...)
	if cap(s.unread) > before { // it moved
		*s.page = s.unread[:0]
	}
}

// freeLocked forgets what is unread.
func (s *Stream) freeLocked() {
	if s.page != nil {
		givePage(s.page, *s.page)
	}
	s.page, s.unread = nil, nil
}

// Read reads content, and waits for it until by. It returns io.EOF after the last.
func (s *Stream) Read(p []byte, by time.Time) (int, error) {
	s.c.mu.Lock()
	for len(s.unread) == 0 {
		err := s.err
		switch {
		case err != nil:
		case s.deaf:
			err = net.ErrClosed
		case s.recvEnded:
			err = io.EOF
		default:
			err = s.await(&s.readTimer, by)
		}
		if err != nil {
			s.c.mu.Unlock()
			return 0, err
		}
	}
	n := copy(p, s.unread)
	if s.unread = s.unread[n:]; len(s.unread) == 0 {
		s.freeLocked()
	}
	more := s.creditLocked(n)
	s.c.mu.Unlock()
	s.give(more)
	return n, nil
}

// creditLocked returns by how much the peer's window is to be opened after n bytes
// were read: nothing until that is worth a frame.
func (s *Stream) creditLocked(n int) int {
	s.consumed += n
	if s.recvEnded || s.err != nil || s.consumed < window/2 {
		return 0
	}
	n, s.consumed = s.consumed, 0
	s.recvWindow += n
	return n
}

func (s *Stream) give(n int) {
	if n == 0 {
		return
	}
	if err := s.c.w.send(http2.FrameWindowUpdate, 0, s.id, u32(uint32(n))); err != nil {
		s.c.fail(err)
	}
}

// padded gives back what was not content.
func (s *Stream) padded(n int) {
	if n == 0 {
		return
	}
	s.c.mu.Lock()
	s.recvWindow -= n // below zero only until the next line
	more := s.creditLocked(n)
	s.c.mu.Unlock()
	s.give(more)
}

// Response waits for the response until by.
func (s *Stream) Response(by time.Time) (*Header, error) {
	s.c.mu.Lock()
	defer s.c.mu.Unlock()
	for s.response == nil {
		if s.err != nil {
			return nil, s.err
		}
		if err := s.await(&s.readTimer, by); err != nil {
			return nil, err
		}
	}
	return s.response, nil
}
