package h2

import (
	"encoding/binary"

	"golang.org/x/net/http2"
)

func (c *Conn) onHeaders(h http2.FrameHeader) error {
	r, err := c.block(h)
	if err != nil {
		return err
	}
	if c.Client {
		return c.onResponse(h.StreamID, r)
	}
	if h.StreamID%2 == 0 {
		return protocol("even stream from a client")
	}
	if s, known := c.find(h.StreamID); known {
		return c.onTrailer(h.StreamID, s, r)
	}
	return c.onRequest(h.StreamID, r)
}

// onRequest opens a stream of the peer's.
func (c *Conn) onRequest(id uint32, r *Header) error {
	malformed := r.checkRequest()
	c.mu.Lock()
	c.lastPeer = id
	full := len(c.streams) >= c.Streams || c.working >= c.Streams || c.over
	if full || malformed != "" {
		c.mu.Unlock()
		if full {
			return &streamError{id, http2.ErrCodeRefusedStream, "too many streams"}
		}
		return &streamError{id, http2.ErrCodeProtocol, "malformed request: " + malformed}
	}
	s := c.newStream(id)
	s.Header, s.remaining, s.recvEnded = r, r.Length, r.End
	c.streams[id] = s
	c.working++
	c.mu.Unlock()
	c.Accept(s)
	return nil
}

// onResponse is the answer on a stream of ours.
func (c *Conn) onResponse(id uint32, r *Header) error {
	s, known := c.find(id)
	if !known {
		return protocol("HEADERS on idle stream")
	}
	if s == nil || s.hasEnded() || s.answered() {
		return c.onTrailer(id, s, r)
	}
	switch {
	case r.malformed != "" || r.TooLarge || r.seen != seenStatus || r.Status == 0:
		return &streamError{id, http2.ErrCodeProtocol, "malformed response: " + r.malformed}
	case r.Status >= 200:
		return s.answer(r)
	case r.End || r.Status == 101 || s.interim >= maxInterim:
		return &streamError{id, http2.ErrCodeProtocol, "interim response that ends, switches protocols or is one too many"}
	}
	s.interim++
	return c.budget.noise(1)
}

// onTrailer is a second header list on a stream.
func (c *Conn) onTrailer(id uint32, s *Stream, r *Header) error {
	switch {
	case s == nil && c.wasReset(id):
		return c.budget.noise(1)
	case s == nil:
		return &ConnError{http2.ErrCodeStreamClosed, "HEADERS on closed stream"}
	case s.hasEnded():
		return &streamError{id, http2.ErrCodeStreamClosed, "HEADERS after the end"}
	}
	if problem := r.checkTrailer(c.Trailer); problem != "" {
		return &streamError{id, http2.ErrCodeProtocol, problem}
	}
	return s.receivedAll()
}

func (c *Conn) onWindowUpdate(h http2.FrameHeader) error {
	var p [4]byte
	if err := c.payload(h, p[:]); err != nil {
		return err
	}
	n := binary.BigEndian.Uint32(p[:]) & maxWindow
	if err := c.budget.windowUpdate(c.w.data.Load(), n); err != nil {
		return err
	}
	s, known := c.find(h.StreamID)
	switch {
	case h.StreamID == 0 && n == 0:
		return protocol("WINDOW_UPDATE of 0")
	case h.StreamID == 0:
		return c.moreWindow(nil, int64(n))
	case !known:
		return protocol("WINDOW_UPDATE on idle stream")
	case s == nil:
		return nil
	case n == 0:
		return &streamError{h.StreamID, http2.ErrCodeProtocol, "WINDOW_UPDATE of 0"}
	}
	return c.moreWindow(s, int64(n))
}

func (c *Conn) onReset(h http2.FrameHeader) error {
	var p [4]byte
	if err := c.payload(h, p[:]); err != nil {
		return err
	}
	s, known := c.find(h.StreamID)
	switch {
	case !known: // stream 0 too
		return protocol("RST_STREAM on idle stream")
	case s == nil:
		return c.budget.noise(1)
	}
	useful, stopped := s.resetByPeer(http2.ErrCode(binary.BigEndian.Uint32(p[:])))
	if useful || stopped {
		return c.budget.noise(1)
	}
	return c.budget.waste()
}

func (c *Conn) onSettings(h http2.FrameHeader) error {
	if err := c.budget.noise(5); err != nil {
		return err
	}
	if h.Length > maxSettings*6 {
		return calm("too many settings")
	}
	f, err := c.fr.ReadFrameForHeader(h)
	if err != nil {
		return err
	}
	s, ok := f.(*http2.SettingsFrame)
	if !ok {
		return protocol("not SETTINGS")
	}
	if s.IsAck() {
		return nil
	}
	if err := s.ForeachSetting(c.setting); err != nil {
		return err
	}
	c.mu.Lock()
	c.settled = true
	c.slots.Broadcast()
	c.mu.Unlock()
	return c.w.send(http2.FrameSettings, http2.FlagSettingsAck, 0, nil)
}

func (c *Conn) setting(s http2.Setting) error {
	if err := s.Valid(); err != nil {
		return err
	}
	switch s.ID {
	case http2.SettingInitialWindowSize:
		return c.initialWindow(int64(s.Val))
	case http2.SettingMaxConcurrentStreams:
		c.mu.Lock()
		c.peerMax = int(min(s.Val, uint32(c.Streams)))
		c.mu.Unlock()
	case http2.SettingEnablePush:
		if c.Client && s.Val != 0 {
			return protocol("server enables push")
		}
	case http2.SettingMaxHeaderListSize, http2.SettingHeaderTableSize:
		c.w.mu.Lock()
		defer c.w.mu.Unlock()
		if s.ID == http2.SettingHeaderTableSize {
			c.w.enc.SetMaxDynamicTableSizeLimit(min(s.Val, 4096))
		} else {
			c.w.maxList = int(min(s.Val, 1<<20))
		}
	}
	return nil // frames larger than the least that a peer must take are not sent
}

func (c *Conn) onPing(h http2.FrameHeader) error {
	if h.StreamID != 0 {
		return protocol("PING on a stream")
	}
	var p [8]byte
	if err := c.payload(h, p[:]); err != nil {
		return err
	}
	if err := c.budget.noise(2); err != nil || h.Flags.Has(http2.FlagPingAck) {
		return err
	}
	return c.w.send(http2.FramePing, http2.FlagPingAck, 0, p[:])
}

func (c *Conn) onPriority(h http2.FrameHeader) error {
	if err := c.budget.noise(1); err != nil {
		return err
	}
	if h.StreamID == 0 {
		return protocol("PRIORITY on stream 0")
	}
	var p [5]byte
	if h.Length != 5 {
		return c.afterSkip(&streamError{h.StreamID, http2.ErrCodeFrameSize, "PRIORITY of another size than 5"}, int(h.Length))
	}
	if err := c.payload(h, p[:]); err != nil {
		return err
	}
	if binary.BigEndian.Uint32(p[:])&maxWindow == h.StreamID {
		return &streamError{h.StreamID, http2.ErrCodeProtocol, "stream depends on itself"}
	}
	return nil // deprecated, RFC 9113 §5.3.2
}

func (c *Conn) onGoAway(h http2.FrameHeader) error {
	if err := c.budget.noise(20); err != nil {
		return err
	}
	if h.StreamID != 0 {
		return protocol("GOAWAY on a stream")
	}
	if h.Length < 8 {
		return &ConnError{http2.ErrCodeFrameSize, "short GOAWAY"}
	}
	p, err := c.readGoAway(h)
	if err != nil {
		return err
	}
	c.goneAway(binary.BigEndian.Uint32(p[:])&maxWindow, http2.ErrCode(binary.BigEndian.Uint32(p[4:])))
	return nil
}

func (c *Conn) readGoAway(h http2.FrameHeader) (p [8]byte, err error) {
	first := h
	first.Length = 8
	if err = c.payload(first, p[:]); err == nil {
		err = c.in.skip(int(h.Length) - 8)
	}
	return p, err
}
