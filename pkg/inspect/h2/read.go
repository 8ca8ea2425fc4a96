package h2

import (
	"errors"
	"fmt"
	"io"

	"golang.org/x/net/http2"
)

// readLoop reads frames until the connection ends. It never writes and never waits
// for anything but the peer.
func (c *Conn) readLoop() error {
	c.in.within(c.Begin)
	if !c.Client {
		var p [len(Preface)]byte
		if _, err := io.ReadFull(&c.in, p[:]); err != nil {
			return err
		}
		if string(p[:]) != Preface {
			return protocol("bad preface")
		}
	}
	for first := true; ; first = false {
		h, err := c.fr.ReadFrameHeader()
		if err == nil && first && (h.Type != http2.FrameSettings || h.Flags.Has(http2.FlagSettingsAck)) {
			err = protocol("first frame is not SETTINGS")
		}
		if err == nil {
			err = c.frame(h)
		}
		if first {
			c.in.within(0)
		}
		if err != nil {
			if err = c.streamLevel(err); err != nil {
				return err
			}
		}
	}
}

// streamLevel resets the stream that an error concerns, and passes on the others.
func (c *Conn) streamLevel(err error) error {
	ours, ok := errors.AsType[*streamError](err)
	if !ok {
		var theirs http2.StreamError
		if !errors.As(err, &theirs) {
			return err
		}
		ours = &streamError{theirs.StreamID, theirs.Code, "framing"}
	}
	if err := c.budget.waste(); err != nil {
		return err
	}
	if s, _ := c.find(ours.id); s != nil {
		s.Reset(ours.code, ours.reason)
		return nil
	}
	c.mu.Lock()
	c.noteReset(ours.id)
	c.mu.Unlock()
	return c.w.send(http2.FrameRSTStream, 0, ours.id, u32(uint32(ours.code)))
}

func (c *Conn) frame(h http2.FrameHeader) error {
	switch h.Type {
	case http2.FrameData:
		return c.onData(h)
	case http2.FrameHeaders:
		return c.onHeaders(h)
	case http2.FrameWindowUpdate:
		return c.onWindowUpdate(h)
	case http2.FrameRSTStream:
		return c.onReset(h)
	case http2.FrameSettings:
		return c.onSettings(h)
	case http2.FramePing:
		return c.onPing(h)
	case http2.FrameGoAway:
		return c.onGoAway(h)
	case http2.FramePriority:
		return c.onPriority(h)
	case http2.FramePushPromise:
		return protocol("PUSH_PROMISE")
	}
	// RFC 9113 §4.1: unknown types are ignored.
	if err := c.budget.noise(1); err != nil {
		return err
	}
	return c.in.skip(int(h.Length))
}

// onData passes DATA on as it comes; a frame is never kept whole.
func (c *Conn) onData(h http2.FrameHeader) error {
	if h.StreamID == 0 {
		return protocol("DATA on stream 0")
	}
	if err := c.receive(int64(h.Length)); err != nil {
		return err
	}
	s, known := c.find(h.StreamID)
	if s == nil || s.hasEnded() {
		return c.strayData(h, known)
	}
	data, pad, err := c.padding(h)
	if err != nil {
		return err
	}
	end := h.Flags.Has(http2.FlagDataEndStream)
	if data == 0 && !end { // nothing, or nothing but padding
		if err := c.budget.noise(1); err != nil {
			return err
		}
	}
	rest := data + pad
	for n := data; n > 0; {
		p, err := c.in.next(n)
		if err != nil {
			return err
		}
		n, rest = n-len(p), rest-len(p)
		if err := s.deliver(p); err != nil {
			return c.afterSkip(err, rest)
		}
	}
	if err := c.in.skip(pad); err != nil {
		return err
	}
	s.padded(int(h.Length) - data)
	if end {
		return s.receivedAll()
	}
	return nil
}

// receive accounts for DATA on the connection's window, which is given back at once:
// what a stream may make us keep is bounded by its own, and one that nobody reads
// must not stop the others.
func (c *Conn) receive(n int64) error {
	if c.received -= n; c.received < 0 {
		return &ConnError{http2.ErrCodeFlowControl, "more than the connection's window"}
	}
	if c.owed += n; c.owed < connWindow/2 {
		return nil
	}
	owed := c.owed
	c.received, c.owed = c.received+owed, 0
	return c.w.send(http2.FrameWindowUpdate, 0, 0, u32(uint32(owed)))
}

// strayData is DATA for a stream that is not open on the peer's side.
func (c *Conn) strayData(h http2.FrameHeader, known bool) error {
	if !known {
		return protocol("DATA on idle stream")
	}
	if err := c.in.skip(int(h.Length)); err != nil {
		return err
	}
	if c.wasReset(h.StreamID) {
		return c.budget.noise(1)
	}
	return &streamError{h.StreamID, http2.ErrCodeStreamClosed, "DATA on closed stream"}
}

// padding tells how much of a DATA frame is content.
func (c *Conn) padding(h http2.FrameHeader) (data, pad int, err error) {
	data = int(h.Length)
	if !h.Flags.Has(http2.FlagDataPadded) {
		return data, 0, nil
	}
	if data == 0 {
		return 0, 0, &ConnError{http2.ErrCodeFrameSize, "padded DATA without pad length"}
	}
	b, err := c.in.next(1)
	if err != nil {
		return 0, 0, err
	}
	pad = int(b[0])
	if data -= 1 + pad; data < 0 {
		return 0, 0, protocol("more padding than frame")
	}
	return data, pad, nil
}

// afterSkip returns err once n more bytes are consumed.
func (c *Conn) afterSkip(err error, n int) error {
	if e := c.in.skip(n); e != nil {
		return e
	}
	return err
}

// payload reads the payload of a frame that has exactly n bytes.
func (c *Conn) payload(h http2.FrameHeader, p []byte) error {
	if int(h.Length) != len(p) {
		return &ConnError{http2.ErrCodeFrameSize, fmt.Sprintf("%v of %d bytes", h.Type, h.Length)}
	}
	_, err := io.ReadFull(&c.in, p)
	return err
}
