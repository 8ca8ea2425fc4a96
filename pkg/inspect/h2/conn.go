package h2

import (
	"encoding/binary"
	"errors"
	"io"
	"net"
	"sync"
	"time"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"
)

// A Conn is one HTTP/2 connection, in either role.
type Conn struct {
	Config
	in input
	w  writer

	// Of the read loop alone.
	fr       *http2.Framer
	dec      *hpack.Decoder
	reading  *Header
	budget   budget
	received int64 // that the peer may still send, of all streams together
	owed     int64 // of it: received and not yet given back

	writes sync.WaitGroup // goroutines that write for the read loop
	ended  chan struct{}  // closed when no stream can be opened any more

	mu        sync.Mutex // guards what follows; the writer's may be held when it is taken
	streams   map[uint32]*Stream
	window    int64 // that the peer gives all streams together
	initial   int64 // the peer's SETTINGS_INITIAL_WINDOW_SIZE
	peerMax   int   // client: streams the peer lets us have
	settled   bool  // the peer's SETTINGS are here
	opening   int   // client: streams that have a slot and no number yet
	slots     sync.Cond
	lastPeer  uint32 // server: the highest stream the peer opened
	next      uint32 // client: of the next stream
	working   int    // server: streams accepted whose Done was not called
	away      bool   // the peer sent GOAWAY
	err       error  // why it ended
	over      bool
	idleSince time.Time
	resets    [maxUnanswers]uint32 // the latest that we reset
	resetAt   int
}

// New returns a connection that speaks on nc, of which the bytes of read have been
// read already. Run serves it.
func New(nc net.Conn, read []byte, config Config) *Conn {
	c := &Conn{Config: config.withDefaults(), streams: make(map[uint32]*Stream), ended: make(chan struct{})}
	c.in.nc, c.in.data, c.in.pause, c.in.idle = nc, read, c.Idle, c.isIdle
	c.w.init(nc, c.Write, func(f func()) { c.writes.Go(f) })
	c.fr = http2.NewFramer(io.Discard, &c.in)
	c.fr.SetMaxReadFrameSize(frameSize)
	c.dec = hpack.NewDecoder(4096, c.emit)
	c.dec.SetMaxStringLength(c.Header)
	c.budget = newBudget(&c.Config)
	c.received = connWindow
	c.window, c.initial = 65535, 65535 // RFC 9113 §6.9.2
	c.peerMax, c.next = c.Streams, 1
	c.slots.L = &c.mu
	c.idleSince = time.Now()
	c.hello()
	return c
}

// Run serves the connection until it has ended, and returns why: nil if it came to
// its end. It takes over nc. Close ends it.
func (c *Conn) Run() error {
	c.greet()
	err := c.readLoop()
	var ours *ConnError
	atFault := errors.As(err, &ours) || codeOf(err) == http2.ErrCodeFrameSize || codeOf(err) == http2.ErrCodeProtocol
	c.fail(err)
	c.w.stop(net.ErrClosed, time.Now().Add(lingerTime))
	if atFault {
		c.linger()
	}
	c.in.nc.Close()
	c.writes.Wait()
	c.in.release()
	c.mu.Lock()
	defer c.mu.Unlock()
	if errors.Is(c.err, io.EOF) || errors.Is(c.err, errIdle) {
		return nil
	}
	return c.err
}

// Close cuts the connection: its streams fail with err.
func (c *Conn) Close(err error) {
	c.fail(err)
	c.in.nc.Close()
}

// Received and Sent are how many bytes came and went.
func (c *Conn) Received() int64 { return c.in.total.Load() }
func (c *Conn) Sent() int64     { return c.w.total.Load() }

// Usable tells whether a client may open another stream, now or later.
func (c *Conn) Usable() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return !c.over && !c.away && c.next < 1<<31-1
}

// hello begins with our SETTINGS and opens the connection's window. It is sent with
// the first stream of a client, or by greet.
func (c *Conn) hello() {
	settings := []http2.Setting{{ID: http2.SettingMaxHeaderListSize, Val: uint32(c.Header)}}
	if c.Client {
		c.w.pending = append(c.w.pending, Preface...)
		settings = append(settings, http2.Setting{ID: http2.SettingEnablePush, Val: 0})
	} else {
		settings = append(settings, http2.Setting{ID: http2.SettingMaxConcurrentStreams, Val: uint32(c.Streams)})
	}
	var p []byte
	for _, s := range settings {
		p = binary.BigEndian.AppendUint16(p, uint16(s.ID))
		p = binary.BigEndian.AppendUint32(p, s.Val)
	}
	c.w.append(http2.FrameSettings, 0, 0, p)
	c.w.append(http2.FrameWindowUpdate, 0, 0, u32(connWindow-65535))
}

func (c *Conn) greet() {
	c.w.mu.Lock()
	defer c.w.mu.Unlock()
	if !c.w.busy && len(c.w.pending) > 0 {
		c.w.busy = true
		c.w.later(c.w.flushLater)
	}
}

// isIdle tells whether there has been no stream for too long.
func (c *Conn) isIdle() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return len(c.streams) == 0 && time.Since(c.idleSince) >= c.Idle
}

// fail ends the connection; the first reason counts. What is pending still goes.
func (c *Conn) fail(err error) {
	if err == nil {
		err = net.ErrClosed
	}
	c.mu.Lock()
	if c.over {
		c.mu.Unlock()
		return
	}
	c.over, c.err = true, err
	close(c.ended)
	last := c.lastPeer
	var cut []*Stream
	for _, s := range c.streams {
		cut = append(cut, s)
	}
	for _, s := range cut {
		s.killLocked(err)
	}
	c.slots.Broadcast()
	c.mu.Unlock()
	for _, s := range cut {
		s.ended(err)
	}
	if !errors.Is(err, io.EOF) {
		p := append(u32(last), u32(uint32(codeOf(err)))...)
		_ = c.w.send(http2.FrameGoAway, 0, 0, p) // no GOAWAY is refused
	}
}

// linger reads a little of what a peer at fault still sends: closing with unread
// bytes would take our GOAWAY, which tells it why, out of the network.
func (c *Conn) linger() {
	if w, ok := c.in.nc.(interface{ CloseWrite() error }); ok {
		_ = w.CloseWrite() // if it fails, so will the read
	}
	_ = c.in.nc.SetReadDeadline(time.Now().Add(lingerTime)) // likewise
	_, _ = io.CopyN(io.Discard, c.in.nc, lingerBytes)
}

// find returns an open stream. known tells that the stream is or was open.
func (c *Conn) find(id uint32) (s *Stream, known bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	s = c.streams[id]
	if c.Client {
		return s, s != nil || id%2 == 1 && id < c.next
	}
	return s, s != nil || id%2 == 1 && id <= c.lastPeer
}

// wasReset tells whether we reset the stream lately: what still comes for it was
// sent in good faith (RFC 9113 §5.4.2).
func (c *Conn) wasReset(id uint32) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, r := range c.resets {
		if r == id {
			return true
		}
	}
	return false
}
