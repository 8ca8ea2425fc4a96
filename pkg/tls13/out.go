package tls13

import (
	"encoding/binary"
	"errors"
	"net"
	"os"
	"sync"
	"syscall"
	"time"

	"github.com/outrigger-mesh/outrigger/pkg/nowait"
)

// maxBatch is how many records go out with one system call.
const maxBatch = 8

// maxRecords is how many records are written with one key: RFC 8446 §5.5
// allows AES-GCM 2^24.5.
const maxRecords = 1 << 23

// out is the writing side of a Conn.
type out struct {
	mu    sync.Mutex // guards what follows
	keys  keys
	limit uint64 // records to one key
	end   bool   // close_notify or another alert was sent
	err   error  // for good

	try   func(fd uintptr) bool // writeOnce, made once
	left  []byte                // that it has not written yet
	errno error
}

// Write sends p, which it leaves as it is.
func (c *Conn) Write(p []byte) (int, error) {
	c.out.mu.Lock()
	defer c.out.mu.Unlock()
	return c.write(p, false)
}

// WriteOver sends p without a copy. Meanwhile it changes p and the byte after
// it, for which there must be room in p's array. Both are as before when it returns.
func (c *Conn) WriteOver(p []byte) (int, error) {
	c.out.mu.Lock()
	defer c.out.mu.Unlock()
	return c.write(p, true)
}

func (c *Conn) write(p []byte, over bool) (int, error) {
	o := &c.out
	sent := 0
	for sent < len(p) {
		if o.err != nil {
			return sent, o.err
		}
		if o.end {
			return sent, net.ErrClosed
		}
		n := min(len(p)-sent, maxBatch*MaxPlaintext)
		records := (n + MaxPlaintext - 1) / MaxPlaintext
		buf, class := lend(n + records*overhead + keyUpdateSize)
		b, err := c.refresh((*buf)[:0])
		for off := 0; off < n && err == nil; off += MaxPlaintext {
			piece := p[sent+off : sent+min(off+MaxPlaintext, n)]
			if over {
				b = o.sealOver(b, piece)
			} else {
				b = o.seal(b, piece, typeApplication)
			}
		}
		if err == nil {
			err = c.writeSocket(b)
		}
		buffers[class].Put(buf)
		if err != nil {
			o.err = err // what has gone out of a record cannot be taken back
			return sent, err
		}
		sent += n
	}
	return sent, nil
}

// writeSocket writes all of b.
func (c *Conn) writeSocket(b []byte) error {
	if c.rc == nil {
		_, err := c.Conn.Write(b)
		return err
	}
	o := &c.out
	o.left, o.errno = b, nil
	err := c.rc.Write(o.try)
	o.left = nil
	if err == nil && o.errno != nil {
		err = os.NewSyscallError("write", o.errno)
	}
	return err
}

// writeOnce is false while there is no room for the rest.
func (o *out) writeOnce(fd uintptr) bool {
	for len(o.left) > 0 {
		n, err := nowait.Write(fd, o.left)
		switch {
		case err == syscall.EAGAIN:
			return false
		case err != nil:
			o.errno = err
			return true
		}
		o.left = o.left[n:]
	}
	return true
}

// seal appends a record with a copy of data.
func (o *out) seal(b, data []byte, typ byte) []byte {
	b = appendHeader(b, len(data))
	header, start := b[len(b)-headerSize:], len(b)
	b = append(b, data...)
	b = append(b, typ)
	return o.keys.aead.Seal(b[:start], o.keys.next(), b[start:], header)
}

// sealOver appends a record with data, using the byte after it.
func (o *out) sealOver(b, data []byte) []byte {
	inner := data[:len(data)+1]
	kept := inner[len(data)]
	inner[len(data)] = typeApplication
	b = appendHeader(b, len(data))
	header := b[len(b)-headerSize:]
	b = o.keys.aead.Seal(b, o.keys.next(), inner, header)
	inner[len(data)] = kept
	return b
}

func appendHeader(b []byte, n int) []byte {
	b = append(b, typeApplication, 3, 3)
	return binary.BigEndian.AppendUint16(b, uint16(n+1+tagSize))
}

// keyUpdateSize is that of a KeyUpdate's record.
const keyUpdateSize = overhead + 5

// refresh appends a KeyUpdate when it is due (RFC 8446 §4.6.3): the peer
// asked for it, or the key has protected enough.
func (c *Conn) refresh(b []byte) ([]byte, error) {
	o := &c.out
	if !c.owed.Load() && o.keys.seq < o.limit {
		return b, nil
	}
	c.owed.Store(false)
	b = o.seal(b, []byte{keyUpdate, 0, 0, 1, 0}, typeHandshake)
	return b, o.keys.update()
}

// alert tells the peer of a mistake, unless somebody is writing: who reads must not wait for the peer to read.
func (c *Conn) alert(code byte) {
	if !c.out.mu.TryLock() {
		return
	}
	defer c.out.mu.Unlock()
	_ = c.Conn.SetWriteDeadline(time.Now().Add(alertTime)) // the connection is over
	_ = c.alertLocked(code)
}

func (c *Conn) endLocked() error { return c.alertLocked(0) }

func (c *Conn) alertLocked(code byte) error {
	o := &c.out
	if o.end || o.err != nil {
		return o.err
	}
	o.end = true
	const warning, fatal = 1, 2
	level := byte(fatal)
	if code == 0 {
		level = warning
	}
	_, err := c.Conn.Write(o.seal(nil, []byte{level, code}, typeAlert))
	if err != nil && !errors.Is(err, net.ErrClosed) {
		o.err = err
	}
	return err
}
