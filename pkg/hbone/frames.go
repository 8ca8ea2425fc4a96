package hbone

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"

	"golang.org/x/net/http2"
)

// maxSettings is how many settings one frame may have; there are fewer than ten.
const maxSettings = 32

func (c *conn) onWindowUpdate(h http2.FrameHeader) error {
	var p [4]byte
	if err := c.small(h, p[:]); err != nil {
		return err
	}
	n := binary.BigEndian.Uint32(p[:]) & maxWindow
	if err := c.budget.windowUpdate(c.w.wrote.Load(), n); err != nil {
		return err
	}
	if h.StreamID == 0 {
		if n == 0 {
			return &connError{http2.ErrCodeProtocol, "WINDOW_UPDATE of 0"}
		}
		return c.moreWindow(0, nil, n)
	}
	t, known := c.find(h.StreamID)
	switch {
	case !known:
		return &connError{http2.ErrCodeProtocol, "WINDOW_UPDATE on idle stream"}
	case t == nil:
		return nil
	case n == 0:
		return &streamError{h.StreamID, http2.ErrCodeProtocol, "WINDOW_UPDATE of 0"}
	}
	return c.moreWindow(h.StreamID, t, n)
}

func (c *conn) onReset(h http2.FrameHeader) error {
	var p [4]byte
	if err := c.small(h, p[:]); err != nil {
		return err
	}
	if h.StreamID == 0 {
		return &connError{http2.ErrCodeProtocol, "RST_STREAM on stream 0"}
	}
	t, known := c.find(h.StreamID)
	if !known {
		return &connError{http2.ErrCodeProtocol, "RST_STREAM on idle stream"}
	}
	if t == nil {
		return c.budget.stray()
	}
	if err := c.budget.reset(t.useful()); err != nil {
		return err
	}
	code := http2.ErrCode(binary.BigEndian.Uint32(p[:]))
	c.mu.Lock()
	ended := t.recvEnded
	c.mu.Unlock()
	if ended && code == http2.ErrCodeNo {
		// RFC 9113 §8.1, and what Envoy does when its app has closed: only our direction ends.
		c.stopSend(t)
		t.stopped()
		return nil
	}
	err := &ResetError{Code: code, Remote: true}
	c.mu.Lock()
	end := c.kill(t, err)
	c.mu.Unlock()
	if end != nil {
		end(err)
	}
	t.finish(err)
	c.ifDone()
	return nil
}

func (c *conn) onSettings(h http2.FrameHeader) error {
	if err := c.budget.noise(5); err != nil {
		return err
	}
	if h.Length > maxSettings*6 {
		return &connError{http2.ErrCodeEnhanceYourCalm, "too many settings"}
	}
	f, err := c.fr.ReadFrameForHeader(h)
	if err != nil {
		return err
	}
	s, ok := f.(*http2.SettingsFrame)
	if !ok {
		return &connError{http2.ErrCodeInternal, "not SETTINGS"}
	}
	if s.IsAck() {
		c.path.acknowledged()
		return nil
	}
	if err := s.ForeachSetting(c.setting); err != nil {
		return err
	}
	c.settle()
	c.later(http2.FrameSettings, http2.FlagSettingsAck, 0, nil)
	return nil
}

func (c *conn) setting(s http2.Setting) error {
	if err := s.Valid(); err != nil {
		return err
	}
	switch s.ID {
	case http2.SettingInitialWindowSize:
		return c.initialWindow(s.Val)
	case http2.SettingMaxFrameSize, http2.SettingHeaderTableSize, http2.SettingMaxHeaderListSize:
		c.w.peerSettings(s)
	case http2.SettingMaxConcurrentStreams:
		c.mu.Lock()
		c.peerMax = int(min(s.Val, 1<<20))
		c.settled = true
		c.mu.Unlock()
	case http2.SettingEnablePush:
		if c.client && s.Val != 0 {
			return &connError{http2.ErrCodeProtocol, "server enables push"}
		}
	}
	return nil
}

// settle notes that the peer's first SETTINGS are applied.
func (c *conn) settle() {
	c.mu.Lock()
	if !c.settled {
		c.settled = true
		c.peerMax = 1 << 20 // it named no limit
	}
	c.mu.Unlock()
	if c.client {
		c.changed()
	}
}

func (c *conn) onPing(h http2.FrameHeader) error {
	if h.StreamID != 0 {
		return &connError{http2.ErrCodeProtocol, "PING on a stream"}
	}
	var p [8]byte
	if err := c.small(h, p[:]); err != nil {
		return err
	}
	if h.Flags.Has(http2.FlagPingAck) {
		return c.pong(p)
	}
	if err := c.budget.noise(2); err != nil {
		return err
	}
	c.later(http2.FramePing, http2.FlagPingAck, 0, p[:])
	return nil
}

func (c *conn) onPriority(h http2.FrameHeader) error {
	if err := c.budget.noise(1); err != nil {
		return err
	}
	if h.StreamID == 0 {
		return &connError{http2.ErrCodeProtocol, "PRIORITY on stream 0"}
	}
	var p [5]byte
	if err := c.small(h, p[:]); err != nil {
		return err
	}
	if binary.BigEndian.Uint32(p[:])&maxWindow == h.StreamID {
		return &streamError{h.StreamID, http2.ErrCodeProtocol, "stream depends on itself"}
	}
	return nil // deprecated, RFC 9113 §5.3.2
}

// errRefused means that the peer has not looked at the CONNECT: it may be sent again.
var errRefused = errors.New("peer refused the tunnel before it looked at it")

func (c *conn) onGoAway(h http2.FrameHeader) error {
	if err := c.budget.noise(20); err != nil {
		return err
	}
	if h.StreamID != 0 {
		return &connError{http2.ErrCodeProtocol, "GOAWAY on a stream"}
	}
	if h.Length < 8 {
		return &connError{http2.ErrCodeFrameSize, "short GOAWAY"}
	}
	var p [8]byte
	if _, err := io.ReadFull(&c.in, p[:]); err != nil {
		return err
	}
	if err := c.in.skip(int(h.Length) - len(p)); err != nil {
		return err
	}
	last := binary.BigEndian.Uint32(p[:]) & maxWindow
	unseen := errRefused
	if code := http2.ErrCode(binary.BigEndian.Uint32(p[4:])); code != http2.ErrCodeNo {
		unseen = &brokenError{cause: fmt.Errorf("peer sent GOAWAY %v", code)} // what upset it once shall not be sent again
	}
	var lost []*Tunnel
	var ends []func(error)
	c.mu.Lock()
	c.peerAway = true
	if c.client {
		for id, t := range c.streams {
			if id > last {
				lost = append(lost, t)
				if end := c.kill(t, unseen); end != nil {
					ends = append(ends, end)
				}
			}
		}
	}
	c.mu.Unlock()
	for _, end := range ends {
		end(unseen)
	}
	for _, t := range lost {
		t.finish(unseen)
	}
	c.changed()
	c.ifDone()
	return nil
}
