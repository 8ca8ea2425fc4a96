package hbone

import (
	"errors"
	"fmt"
	"io"

	"golang.org/x/net/http2"
)

// readLoop reads frames until the connection ends. It never writes and never
// waits for anything but the peer.
func (c *conn) readLoop() error {
	c.in.limit(c.t.preface)
	if !c.client {
		if err := c.preface(); err != nil {
			return err
		}
	}
	first := true
	for {
		h, err := c.fr.ReadFrameHeader()
		c.reads.Add(1)
		if err == nil && first && (h.Type != http2.FrameSettings || h.Flags.Has(http2.FlagSettingsAck)) {
			err = &connError{http2.ErrCodeProtocol, "first frame is not SETTINGS"}
		}
		if err == nil {
			err = c.frame(h)
			if first {
				first = false
				c.in.limit(0)
			}
		}
		if err = c.streamLevel(err); err != nil {
			return err
		}
		c.budget.rest()
	}
}

// preface reads what a client begins with.
func (c *conn) preface() error {
	var p [len(http2.ClientPreface)]byte
	if _, err := io.ReadFull(&c.in, p[:]); err != nil {
		return err
	}
	if string(p[:]) != http2.ClientPreface {
		return &connError{http2.ErrCodeProtocol, "bad preface"}
	}
	return nil
}

// streamLevel sends what concerns one stream only, and passes on the rest.
func (c *conn) streamLevel(err error) error {
	if err == nil {
		return nil // before the variables that errors.As makes escape
	}
	var ours *streamError
	var theirs http2.StreamError
	switch {
	case errors.As(err, &ours):
	case errors.As(err, &theirs):
		ours = &streamError{theirs.StreamID, theirs.Code, "framing"}
	default:
		return err
	}
	if err := c.budget.refusal(); err != nil {
		return err
	}
	if t, _ := c.find(ours.id); t != nil {
		cut := &ResetError{Code: ours.code}
		c.reset(t, ours.code, cut)
		t.finish(cut)
		return nil
	}
	c.mu.Lock()
	c.remember(ours.id)
	c.mu.Unlock()
	c.resetFrame(ours.id, ours.code)
	return nil
}

// frame handles one frame.
func (c *conn) frame(h http2.FrameHeader) error {
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
		return &connError{http2.ErrCodeProtocol, "PUSH_PROMISE"}
	}
	// RFC 9113 §4.1: unknown types are ignored.
	if err := c.budget.noise(1); err != nil {
		return err
	}
	return c.in.skip(int(h.Length))
}

// small reads the payload of a frame that has exactly n bytes.
func (c *conn) small(h http2.FrameHeader, p []byte) error {
	if int(h.Length) != len(p) {
		return &connError{http2.ErrCodeFrameSize, fmt.Sprintf("%v of %d bytes", h.Type, h.Length)}
	}
	_, err := io.ReadFull(&c.in, p)
	return err
}

// onData passes DATA on as it comes; a frame is never kept whole.
func (c *conn) onData(h http2.FrameHeader) error {
	if h.StreamID == 0 {
		return &connError{http2.ErrCodeProtocol, "DATA on stream 0"}
	}
	if err := c.recv.take(h.Length); err != nil {
		return err
	}
	defer c.repay()
	end := h.Flags.Has(http2.FlagDataEndStream)
	t, known := c.find(h.StreamID)
	if t == nil || t.recvEnded {
		return c.strayData(h, known)
	}
	data, pad, err := c.padding(h)
	if err != nil {
		return err
	}
	if data == 0 && !end { // nothing, or nothing but padding
		if err := c.budget.noise(1); err != nil {
			return err
		}
	}
	if c.client && t.status == 0 {
		return c.afterSkip(&streamError{t.id, http2.ErrCodeProtocol, "DATA before the answer"}, data+pad)
	}
	if data > 0 && !t.received.Load() {
		t.received.Store(true)
	}
	c.path.received(c, int(h.Length))
	c.moved.Add(int64(h.Length))
	if err := c.payload(t, data); err != nil {
		return c.afterSkip(err, pad)
	}
	if err := c.in.skip(pad); err != nil {
		return err
	}
	if extra := int(h.Length) - data; extra > 0 {
		t.padded(extra)
	}
	if end {
		return c.endOfStream(t)
	}
	return nil
}

// strayData is DATA for a stream that is not open on the peer's side.
func (c *conn) strayData(h http2.FrameHeader, known bool) error {
	if !known {
		return &connError{http2.ErrCodeProtocol, "DATA on idle stream"}
	}
	if err := c.in.skip(int(h.Length)); err != nil {
		return err
	}
	if c.forgotten(h.StreamID) {
		return c.budget.stray()
	}
	return &streamError{h.StreamID, http2.ErrCodeStreamClosed, "DATA on closed stream"}
}

// padding tells how much of a DATA frame is payload.
func (c *conn) padding(h http2.FrameHeader) (data, pad int, err error) {
	data = int(h.Length)
	if !h.Flags.Has(http2.FlagDataPadded) {
		return data, 0, nil
	}
	if data == 0 {
		return 0, 0, &connError{http2.ErrCodeFrameSize, "padded DATA without pad length"}
	}
	b, err := c.in.next(1)
	if err != nil {
		return 0, 0, err
	}
	pad = int(b[0])
	if data -= 1 + pad; data < 0 {
		return 0, 0, &connError{http2.ErrCodeProtocol, "more padding than frame"}
	}
	return data, pad, nil
}

// payload delivers n bytes to t. On a stream error all of them are consumed.
func (c *conn) payload(t *Tunnel, n int) error {
	for n > 0 {
		pieces, m, err := c.in.gather(n)
		if err != nil {
			return err
		}
		n -= m
		if t.refused {
			err = t.countRefused(m)
		} else {
			err = t.deliver(pieces, m)
		}
		if err != nil {
			return c.afterSkip(err, n)
		}
	}
	return nil
}

// afterSkip returns err once n more bytes are consumed.
func (c *conn) afterSkip(err error, n int) error {
	if e := c.in.skip(n); e != nil {
		return e
	}
	return err
}

// endOfStream is END_STREAM.
func (c *conn) endOfStream(t *Tunnel) error {
	if t.refused && t.remaining > 0 {
		return &streamError{t.id, http2.ErrCodeProtocol, "less than content-length"}
	}
	c.endRecv(t)
	t.finish(io.EOF)
	return nil
}
