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
	tell   func(error)             // server: of a tunnel that the peer may not open
	blame  func(error)             // server: told at once when the peer is cut for abuse
	local  netip.AddrPort
	remote netip.AddrPort

	handlers sync.WaitGroup

	// Of the read loop alone.
	in    input
	fr    *http2.Framer
	dec   *hpack.Decoder
	block []byte
	path  path

	welcomed bool // server: its address was, for this connection

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
