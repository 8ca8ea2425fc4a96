package hbone

import (
	"bytes"
	"encoding/binary"
	"io"
	"sync"
	"sync/atomic"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"
)

const (
	// smallData is the largest payload that is copied to go out together with
	// others. Copying more costs more than the system call it saves.
	smallData = 8 << 10
	// maxPending is how many bytes of small frames may wait; then their
	// writers wait too.
	maxPending = 64 << 10
	// maxControl is how many control frames may wait for a peer that does not
	// read. A peer that makes us want to say more is cut.
	maxControl = 1000
	// maxRounds is how often one goroutine writes what others left before
	// the control goroutine takes over.
	maxRounds = 8
	// keptPending is the largest buffer that stays with a busy connection.
	keptPending = 2 * maxPending
)

// A writer puts frames on a connection. There is no goroutine that owns it:
// whoever has a frame appends it and, unless somebody is writing, writes all
// that is pending. Who comes meanwhile leaves its small frames and goes; large
// ones wait for their turn, so that they are never copied. The read loop only
// appends: it must not wait for a peer that may be waiting for us to read.
type writer struct {
	w     io.Writer
	over  overwriter    // w, if it is one
	wake  chan struct{} // capacity 1; read by the control goroutine
	moved *atomic.Int64 // bytes
	wrote atomic.Uint64 // writes that began or ended; odd while one is under way

	mu      sync.Mutex // guards what follows
	turn    sync.Cond  // a large writer may go
	room    sync.Cond  // pending has been taken
	busy    bool       // somebody writes, without the lock
	waiting int        // large writers
	pending []byte     // frames to write, in order
	spare   []byte     // the other buffer
	control int        // control frames in pending
	err     error      // why nothing can be written any more

	enc      *hpack.Encoder
	block    bytes.Buffer // of enc; a header list within maxList fits one frame
	list     int          // its size, as RFC 9113 §10.5.1 counts
	maxList  int          // the peer's SETTINGS_MAX_HEADER_LIST_SIZE, or ours
	maxFrame int          // the peer's SETTINGS_MAX_FRAME_SIZE
}

// An overwriter encrypts what it writes without copying it first. Meanwhile it
// changes it, and the byte after it, for which there must be room.
type overwriter interface {
	WriteOver(p []byte) (int, error)
}

func newWriter(w io.Writer, moved *atomic.Int64) *writer {
	wr := &writer{w: w, moved: moved, wake: make(chan struct{}, 1), maxFrame: record, maxList: maxHeaderBlock}
	wr.turn.L, wr.room.L = &wr.mu, &wr.mu
	wr.enc = hpack.NewEncoder(&wr.block)
	return wr
}

// append adds a frame to what is pending. The lock is held.
func (w *writer) append(typ http2.FrameType, flags http2.Flags, id uint32, payload []byte) {
	w.pending = appendFrame(w.pending, typ, flags, id, payload)
}

func appendFrame(dst []byte, typ http2.FrameType, flags http2.Flags, id uint32, payload []byte) []byte {
	dst = append(dst, 0, 0, 0, 0, 0, 0, 0, 0, 0)
	putFrameHeader(dst[len(dst)-frameHeader:], len(payload), typ, flags, id)
	return append(dst, payload...)
}

func putFrameHeader(dst []byte, n int, typ http2.FrameType, flags http2.Flags, id uint32) {
	dst[0], dst[1], dst[2] = byte(n>>16), byte(n>>8), byte(n)
	dst[3], dst[4] = byte(typ), byte(flags)
	binary.BigEndian.PutUint32(dst[5:frameHeader], id)
}

// later appends a control frame without ever waiting.
func (w *writer) later(typ http2.FrameType, flags http2.Flags, id uint32, payload []byte) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.err != nil {
		return w.err
	}
	if w.control++; w.control > maxControl {
		return &connError{http2.ErrCodeEnhanceYourCalm, "peer does not read what it makes us send"}
	}
	w.append(typ, flags, id, payload)
	if !w.busy {
		w.nudge()
	}
	return nil
}

// nudge makes the control goroutine flush.
func (w *writer) nudge() {
	select {
	case w.wake <- struct{}{}:
	default:
	}
}

// flush writes what is pending unless somebody else does.
func (w *writer) flush() error {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.flushLocked()
}

// flushLocked writes what is pending, and what comes meanwhile, unless
// somebody is writing, who will then do it.
func (w *writer) flushLocked() error {
	if w.busy {
		return w.err
	}
	w.busy = true
	for round := 0; len(w.pending) > 0 && w.err == nil && w.waiting == 0; round++ {
		if round == maxRounds {
			w.nudge()
			break
		}
		w.writePending()
	}
	w.yield()
	return w.err
}

// yield ends our turn.
func (w *writer) yield() {
	w.busy = false
	w.room.Broadcast()
	switch {
	case w.waiting > 0:
		w.turn.Signal()
	case len(w.pending) > 0:
		w.nudge()
	}
}

// writePending writes what is pending now. The lock is held and released meanwhile; it is our turn.
func (w *writer) writePending() {
	out := w.pending
	w.pending, w.spare, w.control = w.spare[:0], nil, 0
	w.room.Broadcast()
	w.mu.Unlock()
	err := w.write(out)
	w.mu.Lock()
	if cap(out) <= keptPending {
		w.spare = out[:0]
	}
	if err != nil {
		w.failLocked(err)
	}
}

func (w *writer) write(p []byte) error {
	w.moved.Add(int64(len(p)))
	w.wrote.Add(1)
	var err error
	if w.over != nil && cap(p) > len(p) {
		_, err = w.over.WriteOver(p)
	} else {
		_, err = w.w.Write(p)
	}
	w.wrote.Add(1)
	return err
}

// stop makes every later write fail with err.
func (w *writer) stop(err error) {
	w.mu.Lock()
	w.failLocked(err)
	w.mu.Unlock()
}

func (w *writer) failLocked(err error) {
	if w.err == nil {
		w.err = err
	}
	w.turn.Broadcast()
	w.room.Broadcast()
}

// trim gives up the buffers of a connection that is quiet.
func (w *writer) trim() {
	w.mu.Lock()
	if !w.busy && len(w.pending) == 0 {
		w.pending, w.spare = nil, nil
	}
	w.mu.Unlock()
}

// data sends b[frameHeader:frameHeader+n] on t. It may overwrite all of b. The
// flow-control window was taken before. Unless it fails, all of it is on its
// way when it returns, and b is the caller's again.
func (w *writer) data(t *Tunnel, b []byte, n int) error {
	if !t.sent.Load() {
		t.sent.Store(true)
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	if n <= smallData {
		return w.smallLocked(t, b[frameHeader:frameHeader+n])
	}
	w.waiting++
	for w.busy && w.err == nil {
		w.turn.Wait()
	}
	w.waiting--
	if w.err != nil {
		return w.err
	}
	w.busy = true
	if len(w.pending) > 0 {
		w.writePending()
	}
	if t.gone.Load() { // a RST_STREAM is pending or gone: nothing may follow it
		w.yield()
		return t.sendError()
	}
	largest := payloadFor(w.maxFrame)
	if w.err == nil {
		w.mu.Unlock()
		err := w.frames(t.id, b, n, largest)
		w.mu.Lock()
		if err != nil {
			w.failLocked(err)
		}
	}
	w.busy = false
	return w.flushLocked()
}

// smallLocked leaves a copy of p and sees to it that somebody writes it.
func (w *writer) smallLocked(t *Tunnel, p []byte) error {
	for len(w.pending) > maxPending && w.err == nil {
		w.room.Wait()
	}
	switch {
	case w.err != nil:
		return w.err
	case t.gone.Load():
		return t.sendError()
	}
	w.append(http2.FrameData, 0, t.id, p)
	return w.flushLocked()
}

// frames writes payload as DATA frames. Each header goes where the payload of
// the frame before it was, which has been sent.
func (w *writer) frames(id uint32, b []byte, n, largest int) error {
	for off := 0; off < n; off += largest {
		size := min(n-off, largest)
		putFrameHeader(b[off:], size, http2.FrameData, 0, id)
		if err := w.write(b[off : off+frameHeader+size]); err != nil {
			return err
		}
	}
	return nil
}

// payloadFor is the largest payload whose frame is a whole number of TLS
// records and fits the peer's maximum.
func payloadFor(maxFrame int) int {
	return (maxFrame+frameHeader)/record*record - frameHeader
}
