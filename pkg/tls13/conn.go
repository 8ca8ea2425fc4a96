package tls13

import (
	"net"
	"sync"
	"sync/atomic"
	"syscall"
	"time"
)

// Sizes of records (RFC 8446 §5).
const (
	headerSize = 5
	tagSize    = 16
	// MaxPlaintext is the most data one record carries.
	MaxPlaintext = 16 << 10
	maxInner     = MaxPlaintext + 1 // with the type of the content
	maxBody      = MaxPlaintext + 256
	overhead     = headerSize + 1 + tagSize
)

// Types of content.
const (
	typeAlert       = 21
	typeHandshake   = 22
	typeApplication = 23
)

// alertTime is how long the last alert may take on its way out.
const alertTime = time.Second

// A Conn is the data phase of a TLS 1.3 connection. Reading and writing are
// independent; each is for one goroutine at a time, but Close may come at any time.
type Conn struct {
	net.Conn                 // raw
	rc       syscall.RawConn // of raw; nil if it has no socket
	client   bool
	in       in
	out      out

	owed atomic.Bool // the peer asked for new keys of ours
}

func newConn(raw net.Conn, client bool) *Conn {
	c := &Conn{Conn: raw, client: client}
	c.out.limit = maxRecords
	c.in.try, c.out.try = c.in.readOnce, c.out.writeOnce
	switch raw := raw.(type) {
	case *net.TCPConn:
		c.rc, _ = raw.SyscallConn() // nil if it is closed: reading will say so
	case *net.UnixConn:
		c.rc, _ = raw.SyscallConn()
	}
	return c
}

// NetConn is the connection that carries the records.
func (c *Conn) NetConn() net.Conn { return c.Conn }

// Close tells the peer that this is the end, if nobody is writing, and closes.
func (c *Conn) Close() error {
	if c.out.mu.TryLock() {
		_ = c.Conn.SetWriteDeadline(time.Now().Add(alertTime)) // it fails only on a closed connection
		c.endLocked()
		c.out.mu.Unlock()
	}
	return c.Conn.Close()
}

// CloseWrite tells the peer that no more data comes. The raw connection stays as it is.
func (c *Conn) CloseWrite() error {
	c.out.mu.Lock()
	defer c.out.mu.Unlock()
	return c.endLocked()
}

// sizes are those of buffers: a few messages, a record and a piece of the next,
// what is written at once, and what comes at once in bulk.
var sizes = [...]int{4 << 10, 34 << 10, 72 << 10, 256 << 10}

// buffers are lent for the time of a read or write. They hold nothing between
// two uses, so that sharing them cannot be noticed.
var buffers = [...]*sync.Pool{newPool(sizes[0]), newPool(sizes[1]), newPool(sizes[2]), newPool(sizes[3])}

func newPool(size int) *sync.Pool {
	return &sync.Pool{New: func() any { b := make([]byte, size); return &b }}
}

// lend returns a buffer of at least size bytes, or the largest there is, and its class.
func lend(size int) (b *[]byte, class int) {
	for class < len(sizes)-1 && sizes[class] < size {
		class++
	}
	return buffers[class].Get().(*[]byte), class
}
