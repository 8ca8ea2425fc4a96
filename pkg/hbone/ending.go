package hbone

import (
	"encoding/binary"
	"errors"
	"io"
	"net"
	"time"

	"golang.org/x/net/http2"
)

// last flushes the last frames, for a short while, and closes.
func (c *conn) last() {
	c.w.mu.Lock()
	for c.w.busy && c.w.err == nil {
		c.w.room.Wait()
	}
	if !c.w.busy && c.w.err == nil && len(c.w.pending) > 0 {
		c.w.busy = true
		c.w.writePending()
		c.w.busy = false
	}
	c.w.mu.Unlock()
	c.mu.Lock()
	err := c.err
	c.mu.Unlock()
	if err == nil {
		err = net.ErrClosed
	}
	c.w.stop(&brokenError{cause: err})
	if !c.linger.Load() {
		c.nc.Close()
	}
}

// discard reads a little of what a peer at fault still sends: closing with
// unread bytes would take our GOAWAY, which tells it why, out of the network.
func (c *conn) discard() {
	if w, ok := c.nc.(interface{ CloseWrite() error }); ok {
		_ = w.CloseWrite() // if it fails, so will the read
	}
	_ = c.nc.SetReadDeadline(time.Now().Add(lingerTime)) // likewise
	_, _ = io.CopyN(io.Discard, c.nc, lingerBytes)
}

// fail ends the connection at once, for a reason; nil means because it is done.
// The caller holds no lock.
func (c *conn) fail(err error) {
	c.mu.Lock()
	if c.ended {
		c.mu.Unlock()
		return
	}
	c.ended = true
	c.err = err
	var broken error = net.ErrClosed
	if err != nil {
		broken = &brokenError{cause: err}
	}
	streams := make([]*Tunnel, 0, len(c.streams))
	for _, t := range c.streams {
		streams = append(streams, t)
	}
	ends := make([]func(error), 0, len(streams))
	for _, t := range streams {
		ends = append(ends, c.kill(t, broken))
	}
	lastID := c.lastPeerIDLocked()
	c.mu.Unlock()
	abuse := isAbuse(err)
	if abuse && c.blame != nil {
		c.blame(err)
	}
	for i, t := range streams {
		if abuse && i%volley == volley-1 {
			time.Sleep(restTime) // all his handlers at once would keep others waiting
		}
		if ends[i] != nil {
			ends[i](broken)
		}
		t.finish(broken)
	}
	c.goAway(lastID, codeOf(err))
	_ = c.nc.SetWriteDeadline(time.Now().Add(c.t.flush)) // whoever is writing ends then; it fails only on a closed connection
	close(c.closing)
}

// codeOf is the one place where an error becomes a code of GOAWAY.
func codeOf(err error) http2.ErrCode {
	var ce *connError
	var h2 http2.ConnectionError
	switch {
	case err == nil, errors.Is(err, io.EOF):
		return http2.ErrCodeNo
	case errors.As(err, &ce):
		return ce.code
	case errors.As(err, &h2):
		return http2.ErrCode(h2)
	case errors.Is(err, http2.ErrFrameTooLarge):
		return http2.ErrCodeFrameSize
	case errors.Is(err, io.ErrUnexpectedEOF):
		return http2.ErrCodeProtocol
	}
	return http2.ErrCodeInternal
}

// goAway sends GOAWAY, whatever else is pending.
func (c *conn) goAway(last uint32, code http2.ErrCode) {
	var p [8]byte
	binary.BigEndian.PutUint32(p[:4], last)
	binary.BigEndian.PutUint32(p[4:], uint32(code))
	c.w.mu.Lock()
	c.w.append(http2.FrameGoAway, 0, 0, p[:])
	if !c.w.busy {
		c.w.nudge()
	}
	c.w.mu.Unlock()
}

// abort resets every stream, so that no peer takes a broken tunnel for a
// finished one, and ends the connection.
func (c *conn) abort(err error) {
	c.mu.Lock()
	streams := make([]*Tunnel, 0, len(c.streams))
	for _, t := range c.streams {
		streams = append(streams, t)
	}
	c.mu.Unlock()
	for _, t := range streams {
		c.reset(t, codeBroken, &brokenError{cause: err, cut: true})
		t.finish(&brokenError{cause: err, cut: true})
	}
	c.fail(&connError{http2.ErrCodeNo, err.Error()})
}
