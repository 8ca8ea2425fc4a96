package hbone

import (
	"encoding/binary"
	"errors"
	"io"
	"net"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"

	"github.com/outrigger-mesh/outrigger/pkg/identity"
)

// What we tell peers, and bounds on what they tell us.
const (
	initialRecvWindow = 256 << 10 // of a stream; grows with what the path can carry
	maxRecvWindow     = 4 << 20
	connRecvWindow    = 16 << 20 // four times the largest: one stalled stream leaves room for others
	maxRecvFrame      = 4 * record
	maxHeaderBlock    = 16 << 10 // encoded, and decoded as RFC 9113 §10.5.1 counts
	maxHeaderFrames   = 8        // HEADERS and CONTINUATION of one block
	maxHeaderFields   = 100

	lingerTime  = 200 * time.Millisecond
	lingerBytes = 256 << 10
)

// A conn is one HTTP/2 connection, in either role.
type conn struct {
	nc     net.Conn
	peer   identity.Peer
	self   *identity.SVID
	fresh  time.Time // dialer: until when new tunnels may use it
	client bool
	t      timing
	bufs   *buffers
	w      *writer
	budget *budget
	accept func(*Tunnel, *request) // server: starts a handler, in a goroutine of its own
	max    int                     // server: streams, and handlers, the peer may have
	verify func() error            // whether the peer would be admitted now
	local  netip.AddrPort
	remote netip.AddrPort

	handlers sync.WaitGroup

	// Of the read loop alone.
	in    input
	fr    *http2.Framer
	dec   *hpack.Decoder
	block []byte
	path  path

	tight   atomic.Bool  // see pinch
	target  atomic.Int64 // what a stream's receive window should be
	reads   atomic.Uint64
	moved   atomic.Int64              // bytes of DATA, both ways
	running atomic.Int64              // handlers
	closing chan struct{}             // closed when the connection is to end
	done    chan struct{}             // closed when it has ended and its goroutines are gone
	doomed  atomic.Pointer[connError] // the control goroutine ends the connection for it
	linger  atomic.Bool               // the peer should get to read why
	over    atomic.Bool               // the control goroutine ends the connection, since it is done

	recv recvFlow

	mu         sync.Mutex // guards what follows
	streams    map[uint32]*Tunnel
	send       sendFlow
	lastPeerID uint32 // server: the highest stream the peer opened
	nextID     uint32 // client: of the next stream
	peerMax    int    // client: streams the peer lets us open
	settled    bool   // the peer's SETTINGS are here
	err        error  // why it ended
	ended      bool   // closing is closed
	away       bool   // we sent GOAWAY
	refusing   uint32 // server: streams above are refused, if away is final
	final      bool
	peerAway   bool // the peer sent GOAWAY
	recent     [256]uint32
	recentAt   int
	idleSince  time.Time
	onChange   func() // pool: streams ended, limits changed, connection over; no locks held
	keeper     keeper
}

// timing bounds everything a connection waits for.
type timing struct {
	ping     time.Duration // silence before a PING
	pingWait time.Duration // silence before the connection is dead
	preface  time.Duration // for the peer's preface and SETTINGS
	header   time.Duration // for a header block to be complete
	idle     time.Duration // without streams
	flush    time.Duration // for the last frames of a connection
}

func newConn(nc net.Conn, client bool, t timing, bufs *buffers) *conn {
	c := &conn{
		nc: nc, client: client, t: t, bufs: bufs,
		closing:   make(chan struct{}),
		done:      make(chan struct{}),
		streams:   make(map[uint32]*Tunnel),
		nextID:    1,
		peerMax:   1, // until SETTINGS: a peer may be one that closes connections over its limit
		idleSince: time.Now(),
	}
	c.w = newWriter(nc, &c.moved)
	c.send.window, c.send.initial = 65535, 65535 // RFC 9113 §6.9.2
	c.target.Store(initialRecvWindow)
	c.in.nc, c.in.bufs = nc, bufs
	if id, ok := nc.(*identity.Conn); ok {
		c.in.records, _ = id.Secured.(records)
		c.w.over, _ = id.Secured.(overwriter)
	}
	c.recv.window = connRecvWindow
	c.fr = http2.NewFramer(io.Discard, &c.in)
	c.fr.SetMaxReadFrameSize(maxRecvFrame)
	c.dec = hpack.NewDecoder(4096, nil)
	c.dec.SetMaxStringLength(maxHeaderBlock)
	return c
}

// run serves the connection until it has ended. It takes over nc.
func (c *conn) run() {
	defer close(c.done)
	var control sync.WaitGroup
	control.Go(c.control)
	c.startKeeper()
	err := c.readLoop()
	var ours *connError
	c.linger.Store(errors.As(err, &ours) || codeOf(err) == http2.ErrCodeFrameSize)
	c.fail(err)
	control.Wait()
	if c.linger.Load() {
		c.discard()
	}
	c.nc.Close()
	c.stopKeeper()
	c.in.release()
	c.changed()
}

// hello begins with our SETTINGS and opens the connection's window. It comes before any stream.
func (c *conn) hello() {
	c.w.mu.Lock()
	defer c.w.mu.Unlock()
	settings := []http2.Setting{
		{ID: http2.SettingInitialWindowSize, Val: initialRecvWindow},
		{ID: http2.SettingMaxFrameSize, Val: maxRecvFrame},
		{ID: http2.SettingMaxHeaderListSize, Val: maxHeaderBlock},
	}
	if c.client {
		c.w.pending = append(c.w.pending, http2.ClientPreface...)
		settings = append(settings, http2.Setting{ID: http2.SettingEnablePush, Val: 0})
	} else {
		settings = append(settings, http2.Setting{ID: http2.SettingMaxConcurrentStreams, Val: uint32(c.max)})
	}
	var p []byte
	for _, s := range settings {
		p = binary.BigEndian.AppendUint16(p, uint16(s.ID))
		p = binary.BigEndian.AppendUint32(p, s.Val)
	}
	c.w.append(http2.FrameSettings, 0, 0, p)
	var inc [4]byte
	binary.BigEndian.PutUint32(inc[:], connRecvWindow-65535)
	c.w.append(http2.FrameWindowUpdate, 0, 0, inc[:])
	c.path.settingsAt = time.Now()
	c.w.nudge()
}

// control sends what the read loop has to say, and closes the connection.
func (c *conn) control() {
	for {
		select {
		case <-c.w.wake:
			if err := c.doomed.Load(); err != nil {
				c.fail(err)
			} else if c.over.Load() {
				c.fail(nil)
			} else if err := c.w.flush(); err != nil {
				c.fail(err)
			}
		case <-c.closing:
			c.last()
			return
		}
	}
}

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
	c.w.stop(&brokenError{err})
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

// later sends a control frame; the caller may hold the lock of a Tunnel and is not kept waiting.
func (c *conn) later(typ http2.FrameType, flags http2.Flags, id uint32, payload []byte) {
	c.hold(c.w.later(typ, flags, id, payload))
}

// hold keeps a connection error for the control goroutine.
func (c *conn) hold(err error) {
	var ce *connError
	if errors.As(err, &ce) && c.doomed.CompareAndSwap(nil, ce) {
		c.w.nudge()
	}
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
		broken = &brokenError{err}
	}
	streams := make([]*Tunnel, 0, len(c.streams))
	for _, t := range c.streams {
		streams = append(streams, t)
	}
	var ends []func(error)
	for _, t := range streams {
		if end := c.kill(t, broken); end != nil {
			ends = append(ends, end)
		}
	}
	lastID := c.lastPeerIDLocked()
	c.mu.Unlock()
	for _, end := range ends {
		end(broken)
	}
	for _, t := range streams {
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
		c.reset(t, codeBroken, &brokenError{err})
		t.finish(&brokenError{err})
	}
	c.fail(&connError{http2.ErrCodeNo, err.Error()})
}

func (c *conn) changed() {
	c.mu.Lock()
	f := c.onChange
	c.mu.Unlock()
	if f != nil {
		f()
	}
}

// windowTarget is what a stream's receive window should be: no more than at the
// beginning while memory is scarce.
func (c *conn) windowTarget() int {
	if c.bufs.scarce() {
		return initialRecvWindow
	}
	return int(c.target.Load())
}
