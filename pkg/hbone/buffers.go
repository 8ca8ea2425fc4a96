package hbone

import (
	"sync"
	"sync/atomic"
)

// frameHeader is the size of an HTTP/2 frame header. Buffers that are filled
// from a socket leave that much room in front, so that a frame is made in place.
const frameHeader = 9

// record is what fits one TLS record. A DATA frame with its header fills whole
// records: a nine-byte record behind every full one would double the system calls.
const record = 16 << 10

// Buffer sizes: messages of 2, 4 and 16 KiB with their frame headers, what a peer
// of ours takes in one frame, and bulk. With the frame header in front a full
// one of the latter is a whole number of records.
var bufferSizes = [...]int{2<<10 + 128, 4<<10 + 512, record + 512, 4 * record, 16 * record}

// A buffer is a piece of memory from buffers.
type buffer struct {
	b          []byte // all of it
	class      int
	start, end int // of what a receive queue has put in it
}

// buffers lends memory. What waits in receive queues counts against limit.
type buffers struct {
	limit int64
	held  atomic.Int64
	pools [len(bufferSizes)]sync.Pool
}

func newBuffers(limit int64) *buffers { return &buffers{limit: limit} }

// get returns a buffer of at least size bytes, or the largest there is.
func (p *buffers) get(size int) *buffer {
	class := 0
	for class < len(bufferSizes)-1 && bufferSizes[class] < size {
		class++
	}
	return p.getClass(class)
}

func (p *buffers) getClass(class int) *buffer {
	if b, ok := p.pools[class].Get().(*buffer); ok {
		b.start, b.end = 0, 0
		return b
	}
	return &buffer{b: make([]byte, bufferSizes[class], bufferSizes[class]+1), class: class} // see overwriter
}

func (p *buffers) put(b *buffer) { p.pools[b.class].Put(b) }

// scarce tells whether receive queues hold more than they should: then who
// holds much gets no more credit.
func (p *buffers) scarce() bool { return p.held.Load() > p.limit }

// exhausted tells whether receive queues hold so much that what cannot be
// passed on at once is dropped with its tunnel.
func (p *buffers) exhausted() bool { return p.held.Load() > 2*p.limit }

// borrow counts a buffer as part of a receive queue of c.
func (c *conn) borrow(b *buffer) {
	c.recv.held.Add(int64(len(b.b)))
	c.bufs.held.Add(int64(len(b.b)))
}

// release is the end of borrow, and of the buffer.
func (c *conn) release(b *buffer) {
	c.recv.held.Add(-int64(len(b.b)))
	c.bufs.held.Add(-int64(len(b.b)))
	c.bufs.put(b)
	if c.recv.owing.Load() {
		c.repay()
	}
}
