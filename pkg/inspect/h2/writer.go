package h2

import (
	"bytes"
	"encoding/binary"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"
)

// A writer puts frames on a connection. No goroutine owns it: whoever has a frame
// appends it and, unless somebody is writing, writes all that is pending. The read
// loop only appends, since it must not wait for a peer that may be waiting for us
// to read.
type writer struct {
	nc      net.Conn
	timeout time.Duration
	later   func(func()) // starts what writes for the read loop
	total   atomic.Int64 // bytes
	data    atomic.Uint64

	mu       sync.Mutex // guards what follows; never held during a write
	room     sync.Cond  // pending has been taken
	pending  []byte     // frames to write, in order
	page     *[]byte    // that pending is in
	busy     bool       // somebody writes, or is about to
	control  int        // control frames in pending
	err      error      // why nothing can be written any more
	enc      *hpack.Encoder
	block    bytes.Buffer // of enc
	maxList  int          // the peer's SETTINGS_MAX_HEADER_LIST_SIZE
	maxFrame int          // the peer's SETTINGS_MAX_FRAME_SIZE, or ours
}

// pages lends memory that grows.
var pages = sync.Pool{New: func() any { b := make([]byte, 0, 4<<10); return &b }}

// givePage gives a page back that b has grown from, unless it has grown too much.
func givePage(page *[]byte, b []byte) {
	if cap(b) <= maxPending {
		*page = b[:0]
		pages.Put(page)
	}
}

func (w *writer) init(nc net.Conn, timeout time.Duration, later func(func())) {
	w.nc, w.timeout, w.later = nc, timeout, later
	w.room.L = &w.mu
	w.enc = hpack.NewEncoder(&w.block)
	w.maxList, w.maxFrame = 1<<20, frameSize
}

// append adds a frame to what is pending. The lock is held.
func (w *writer) append(typ http2.FrameType, flags http2.Flags, id uint32, payload []byte) {
	if w.pending == nil {
		w.page = pages.Get().(*[]byte)
		w.pending = *w.page
	}
	n := len(payload)
	w.pending = append(w.pending, byte(n>>16), byte(n>>8), byte(n), byte(typ), byte(flags), byte(id>>24), byte(id>>16), byte(id>>8), byte(id))
	w.pending = append(w.pending, payload...)
}

// send appends a control frame without ever waiting. Too many are refused, except
// for the GOAWAY that says so.
func (w *writer) send(typ http2.FrameType, flags http2.Flags, id uint32, payload []byte) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.err != nil {
		return nil // the connection is ending for that reason
	}
	if w.control++; w.control > maxControl && typ != http2.FrameGoAway {
		return calm("peer does not read what it makes us send")
	}
	w.append(typ, flags, id, payload)
	if !w.busy {
		w.busy = true
		w.later(w.flushLater)
	}
	return nil
}

func (w *writer) flushLater() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.write(1 << 30)
}

// flush writes what is pending unless somebody else does. The lock is held.
func (w *writer) flush() error {
	if !w.busy {
		w.busy = true
		w.write(maxRounds)
	}
	return w.err
}

// write writes what is pending, and what comes meanwhile. It is the caller's turn.
func (w *writer) write(rounds int) {
	for ; len(w.pending) > 0 && w.err == nil; rounds-- {
		if rounds == 0 {
			w.later(w.flushLater)
			return
		}
		out, page := w.pending, w.page
		w.pending, w.page, w.control = nil, nil, 0
		w.room.Broadcast()
		w.mu.Unlock()
		err := w.nc.SetWriteDeadline(time.Now().Add(w.timeout))
		if err == nil {
			_, err = w.nc.Write(out)
			w.total.Add(int64(len(out)))
		}
		if page != nil {
			givePage(page, out)
		}
		w.mu.Lock()
		if err != nil && w.err == nil {
			w.err = err
		}
	}
	w.busy = false
	w.room.Broadcast()
}

// stop makes every later write fail with err, once all that is pending is written or
// until by.
func (w *writer) stop(err error, by time.Time) {
	timer := time.AfterFunc(time.Until(by), func() {
		_ = w.nc.SetWriteDeadline(time.Unix(1, 0)) // fails only on a closed connection
	})
	defer timer.Stop()
	w.mu.Lock()
	defer w.mu.Unlock()
	for (w.busy || len(w.pending) > 0) && w.err == nil && time.Now().Before(by) {
		if !w.busy {
			w.flush() // its error is w.err
			continue
		}
		w.room.Wait()
	}
	if w.err == nil {
		w.err = err
	}
	w.pending = nil
	w.room.Broadcast()
}

// header appends a header block. fields fit maxList. The lock is held.
func (w *writer) header(id uint32, fields []Field, secret, end bool) {
	w.block.Reset()
	for _, f := range fields {
		// RFC 7541 §7.1.3: what must not be indexed stays so. Only well-known fields go
		// into the table: the others are mostly ids and tokens.
		hf := hpack.HeaderField{Name: f.Name, Value: f.Value, Sensitive: secret || !indexed(f.Name)}
		_ = w.enc.WriteField(hf) // to memory
	}
	block := w.block.Bytes()
	typ, flags := http2.FrameHeaders, http2.Flags(0)
	if end {
		flags = http2.FlagHeadersEndStream
	}
	for {
		n := min(len(block), w.maxFrame)
		if n == len(block) {
			flags |= http2.FlagHeadersEndHeaders
		}
		w.append(typ, flags, id, block[:n])
		if block = block[n:]; len(block) == 0 {
			break
		}
		typ, flags = http2.FrameContinuation, 0
	}
	if w.block.Cap() > 4<<10 {
		w.block = bytes.Buffer{}
	}
}

func indexed(name string) bool {
	switch name {
	case ":method", ":scheme", ":authority", ":path", ":status", "accept", "accept-encoding", "cache-control",
		"content-length", "content-type", "mcp-protocol-version", "server", "user-agent", "x-accel-buffering":
		return true
	}
	return false
}

// listSize is what RFC 9113 §10.5.1 counts.
func listSize(fields []Field) (n int) {
	for i := range fields {
		n += len(fields[i].Name) + len(fields[i].Value) + 32
	}
	return n
}

func u32(n uint32) []byte { return binary.BigEndian.AppendUint32(make([]byte, 0, 4), n) }
