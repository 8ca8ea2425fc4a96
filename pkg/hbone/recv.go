package hbone

import (
	"encoding/binary"
	"io"
	"net"
	"os"
	"sync"

	"golang.org/x/net/http2"
)

// recv is what a Tunnel receives.
type recv struct {
	mu       sync.Mutex // guards the rest
	recvCond sync.Cond
	queue    []*buffer // received, not yet read
	recvErr  error     // after the queue: io.EOF after END_STREAM, or why it was cut
	into     []byte    // of the Read that waits
	got      int       // bytes put there
	reading  bool      // a Read is in progress

	window   int    // what the peer may still send
	target   int    // what the window should be
	consumed int    // bytes that have left and were not yet credited
	arrived  uint32 // how often something came; it may wrap
	noCredit bool   // no more credit: the peer has ended, or is being dropped

	sink     *socketRelay // takes what is received, if set
	draining bool         // the sink's goroutine writes the queue

	rdeadline deadline
}

// Read reads what the peer sent; io.EOF means that it ended its direction.
func (t *Tunnel) Read(p []byte) (int, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if len(p) == 0 {
		return 0, nil
	}
	for t.reading { // Reads take turns
		t.recvCond.Wait()
	}
	t.reading = true
	n, err := t.readLocked(p)
	t.reading = false
	t.recvCond.Signal()
	return n, err
}

func (t *Tunnel) readLocked(p []byte) (int, error) {
	for {
		switch {
		case t.rdeadline.passed():
			return 0, os.ErrDeadlineExceeded
		case len(t.queue) > 0:
			n := t.takeQueued(p)
			t.creditLocked(n)
			return n, nil
		case t.recvErr != nil:
			return 0, t.recvErr
		}
		t.into, t.got = p, 0
		t.recvCond.Wait()
		t.into = nil
		if n := t.got; n > 0 {
			t.creditLocked(n)
			return n, nil
		}
	}
}

// takeQueued moves queued bytes to p.
func (t *Tunnel) takeQueued(p []byte) int {
	n := 0
	for n < len(p) && len(t.queue) > 0 {
		b := t.queue[0]
		m := copy(p[n:], b.b[b.start:b.end])
		n += m
		if b.start += m; b.start == b.end {
			t.shift()
			t.c.release(b)
		}
	}
	return n
}

// shift removes the first buffer of the queue.
func (t *Tunnel) shift() {
	t.queue[0] = nil
	t.queue = t.queue[1:]
	if len(t.queue) == 0 {
		t.queue = nil
	}
}

// WriteTo writes what is received to w, until the end.
func (t *Tunnel) WriteTo(w io.Writer) (int64, error) {
	var sum int64
	for {
		b, err := t.nextBuffer()
		if err == io.EOF {
			return sum, nil
		}
		if err != nil {
			return sum, err
		}
		n, err := w.Write(b.b[b.start:b.end])
		sum += int64(n)
		t.c.release(b)
		if err != nil {
			return sum, err
		}
		t.mu.Lock()
		t.creditLocked(n)
		t.mu.Unlock()
	}
}

// nextBuffer waits for a queued buffer; it is the caller's to release.
func (t *Tunnel) nextBuffer() (*buffer, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for {
		switch {
		case t.rdeadline.passed():
			return nil, os.ErrDeadlineExceeded
		case len(t.queue) > 0:
			b := t.queue[0]
			t.shift()
			return b, nil
		case t.recvErr != nil:
			return nil, t.recvErr
		}
		t.recvCond.Wait()
	}
}

// deliver takes n bytes of DATA from the read loop. It never waits.
func (t *Tunnel) deliver(pieces [][]byte, n int) error {
	t.mu.Lock()
	defer t.mu.Unlock()
	if n > t.window {
		return &streamError{t.id, http2.ErrCodeFlowControl, "more than the window"}
	}
	t.window -= n
	t.arrived++
	if t.recvErr != nil {
		return nil // cut or closed on our side
	}
	if t.sink != nil && !t.draining && len(t.queue) == 0 {
		return t.pass(pieces, n)
	}
	if t.into != nil && t.got == 0 && len(t.queue) == 0 {
		t.got = copy(t.into, pieces[0])
		pieces = without(pieces, t.got)
	}
	t.recvCond.Broadcast()
	return t.enqueue(pieces)
}

// pass gives n bytes to the sink, and queues what it does not take.
func (t *Tunnel) pass(pieces [][]byte, n int) error {
	took, err := t.sink.try(pieces)
	t.creditLocked(took)
	if err != nil {
		t.sink.failed(err)
		return nil
	}
	if took < n {
		if err := t.enqueue(without(pieces, took)); err != nil {
			return err
		}
		t.startDrain()
	}
	return nil
}

// without drops the first n bytes.
func without(pieces [][]byte, n int) [][]byte {
	for len(pieces) > 0 && n >= len(pieces[0]) {
		n -= len(pieces[0])
		pieces = pieces[1:]
	}
	if n > 0 {
		pieces[0] = pieces[0][n:]
	}
	return pieces
}

func (t *Tunnel) startDrain() {
	t.draining = true
	go t.sink.drain()
}

func (t *Tunnel) enqueue(pieces [][]byte) error {
	for _, p := range pieces {
		if err := t.enqueuePiece(p); err != nil {
			return err
		}
	}
	return nil
}

// enqueuePiece keeps a copy of p in buffers of its size: a slow reader holds
// what it has not read, not more.
func (t *Tunnel) enqueuePiece(p []byte) error {
	if n := len(t.queue); n > 0 {
		last := t.queue[n-1]
		m := copy(last.b[last.end:], p)
		last.end += m
		p = p[m:]
	}
	for len(p) > 0 {
		if t.c.bufs.exhausted() {
			return &streamError{t.id, http2.ErrCodeEnhanceYourCalm, "receive queues are full"}
		}
		b := t.c.bufs.get(len(p))
		t.c.borrow(b)
		b.end = copy(b.b, p)
		p = p[b.end:]
		t.queue = append(t.queue, b)
	}
	return nil
}

// creditLocked lets the peer send n more bytes. Credit goes out when it is
// worth a frame: a quarter of the window.
func (t *Tunnel) creditLocked(n int) {
	t.consumed += n
	if t.noCredit || t.consumed < t.target/4 {
		return
	}
	t.target = t.c.windowTarget() // if it has shrunk, what was credited before is used up first
	n = t.target - t.window - t.queued()
	if n <= 0 {
		return
	}
	t.consumed = 0
	t.window += n
	var inc [4]byte
	binary.BigEndian.PutUint32(inc[:], uint32(n))
	t.c.later(http2.FrameWindowUpdate, 0, t.id, inc[:])
}

// queued is how many bytes wait to be read.
func (t *Tunnel) queued() int {
	n := 0
	for _, b := range t.queue {
		n += b.end - b.start
	}
	return n
}

// finish ends what is received: io.EOF after END_STREAM, after what is
// queued; anything else at once.
func (t *Tunnel) finish(err error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.noCredit = true
	if t.recvErr != nil && t.recvErr != io.EOF {
		return
	}
	if err == io.EOF && t.recvErr == nil {
		t.recvErr = io.EOF
		if t.sink != nil && !t.draining {
			t.sink.ended()
		}
	} else if err != io.EOF {
		t.recvErr = err
		t.dropQueue()
		if t.sink != nil {
			t.sink.failed(err)
		}
	}
	t.recvCond.Broadcast()
}

// closeRead makes Read fail, as after Close.
func (t *Tunnel) closeRead() { t.finish(net.ErrClosed) }

func (t *Tunnel) dropQueue() {
	for _, b := range t.queue {
		t.c.release(b)
	}
	t.queue = nil
}
