package tls13

import (
	"crypto/tls"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"
	"syscall"

	"github.com/outrigger-mesh/outrigger/pkg/nowait"
)

// What a peer may send that carries no data, between two records that do.
const (
	maxIdle   = 32       // records
	maxTicket = 64 << 10 // bytes of session tickets, which we do not use
)

// To derive keys costs as much as to open some ten records. A KeyUpdate has to be earned by
// records with data; so many come on credit.
const (
	costOfUpdate   = 64 // records
	updatesAtFirst = 32
)

// in is the reading side of a Conn.
type in struct {
	keys    keys
	buf     *[]byte // lent; nil while nothing is unread
	held    int     // class of buf
	class   int     // that the next buffer should have
	r, w    int     // what was read and is not decrypted yet
	data    []byte  // of Read: decrypted
	idle    int     // records without data in a row
	owes    int     // records with data that are to come for the KeyUpdates that have come
	skip    int     // bytes of a session ticket that are still to come
	partial []byte  // of the header of a handshake message
	err     error   // for good

	try   func(fd uintptr) bool // readOnce, made once
	n     int                   // its result
	errno error
}

// Read is for who does not use Next.
func (c *Conn) Read(p []byte) (int, error) {
	for len(c.in.data) == 0 {
		data, err := c.Next()
		if err != nil {
			return 0, err
		}
		c.in.data = data
	}
	n := copy(p, c.in.data)
	c.in.data = c.in.data[n:]
	return n, nil
}

// Next waits for a record with data and returns its data, which is valid until
// Next is called again. io.EOF is the peer's orderly end, or that of the raw connection.
func (c *Conn) Next() ([]byte, error) {
	for {
		data, err := c.Buffered()
		if data != nil || err != nil {
			return data, err
		}
		if err := c.fill(); err != nil {
			return nil, err
		}
	}
}

// Buffered returns the data of the next record if all of it was read already,
// else nil. What Next and Buffered returned before stays valid.
func (c *Conn) Buffered() ([]byte, error) {
	for {
		record, err := c.in.record()
		if record == nil || err != nil {
			return nil, c.refuse(err)
		}
		data, err := c.open(record)
		if len(data) > 0 || err != nil {
			return data, c.refuse(err)
		}
		if c.in.idle++; c.in.idle > maxIdle {
			return nil, c.refuse(&recordError{alertUnexpected, "too many records without data"})
		}
	}
}

// record takes the next record out of the buffer, nil if it is not complete.
func (in *in) record() ([]byte, error) {
	if in.err != nil {
		return nil, in.err
	}
	if in.w-in.r < headerSize {
		return nil, nil
	}
	p := (*in.buf)[in.r:in.w]
	n := int(binary.BigEndian.Uint16(p[3:]))
	switch {
	case p[0] != typeApplication:
		return nil, &recordError{alertUnexpected, fmt.Sprintf("record of type %d after the handshake", p[0])}
	case n > maxBody:
		return nil, &recordError{alertOverflow, fmt.Sprintf("record of %d bytes", n)}
	case len(p) < headerSize+n:
		return nil, nil
	}
	in.r += headerSize + n
	return p[:headerSize+n], nil
}

// open decrypts a record in place and returns its data; what else it carries is dealt with.
func (c *Conn) open(record []byte) ([]byte, error) {
	k := &c.in.keys
	body := record[headerSize:]
	inner, err := k.aead.Open(body[:0], k.next(), body, record[:headerSize])
	if err != nil {
		return nil, &recordError{alertBadMAC, "record does not verify"}
	}
	if len(inner) > maxInner {
		return nil, &recordError{alertOverflow, "more than 16 KiB in a record"}
	}
	n := len(inner) - 1
	for n >= 0 && inner[n] == 0 { // padding
		n--
	}
	if n < 0 {
		return nil, &recordError{alertUnexpected, "record of padding only"}
	}
	data, typ := inner[:n], inner[n]
	if typ != typeHandshake && (c.in.skip > 0 || len(c.in.partial) > 0) {
		return nil, &recordError{alertUnexpected, "handshake message broke off"}
	}
	switch typ {
	case typeApplication:
		if n > 0 {
			c.in.idle = 0
			c.in.owes = max(c.in.owes-1, 0)
		}
		return data, nil
	case typeAlert:
		return nil, alerted(data)
	case typeHandshake:
		return nil, c.handshake(data)
	}
	return nil, &recordError{alertUnexpected, fmt.Sprintf("content of type %d", typ)}
}

// alerted is what an alert means for who reads.
func alerted(data []byte) error {
	const closeNotify, userCanceled = 0, 90
	switch {
	case len(data) != 2:
		return &recordError{alertDecode, "alert that is none"}
	case data[1] == closeNotify:
		return io.EOF
	case data[1] == userCanceled:
		return nil // RFC 8446 §6.1: the end follows
	}
	return &peerError{tls.AlertError(data[1])}
}

// Types of handshake messages that may come after the handshake.
const (
	newSessionTicket = 4
	keyUpdate        = 24
)

// handshake takes a piece of the messages that may follow a handshake.
func (c *Conn) handshake(data []byte) error {
	in := &c.in
	if len(data) == 0 {
		return &recordError{alertUnexpected, "empty handshake record"}
	}
	for len(data) > 0 {
		if in.skip > 0 {
			n := min(in.skip, len(data))
			in.skip -= n
			data = data[n:]
			continue
		}
		n := min(4-len(in.partial), len(data))
		in.partial = append(in.partial, data[:n]...)
		data = data[n:]
		if len(in.partial) < 4 {
			break
		}
		size := int(binary.BigEndian.Uint32(in.partial) & (1<<24 - 1))
		typ := in.partial[0]
		in.partial = in.partial[:0]
		switch {
		case typ == newSessionTicket && c.client && size <= maxTicket:
			in.skip = size
		case typ == keyUpdate && size == 1 && len(data) == 1: // nothing may follow it in the old keys
			return c.newKeys(data[0])
		default:
			return &recordError{alertUnexpected, fmt.Sprintf("handshake message %d of %d bytes", typ, size)}
		}
	}
	return nil
}

// newKeys is a KeyUpdate (RFC 8446 §4.6.3). Our own goes out with what is written next.
func (c *Conn) newKeys(request byte) error {
	if request > 1 {
		return &recordError{alertIllegal, "KeyUpdate that is none"}
	}
	if c.in.owes += costOfUpdate; c.in.owes > updatesAtFirst*costOfUpdate {
		return &recordError{alertUnexpected, "too many KeyUpdates"}
	}
	if request == 1 {
		c.owed.Store(true)
	}
	return c.in.keys.update()
}

// refuse keeps an error for good, and tells the peer of its mistake.
func (c *Conn) refuse(err error) error {
	if err == nil || c.in.err != nil {
		return err
	}
	c.in.err = err
	var mistake *recordError
	if errors.As(err, &mistake) {
		c.alert(mistake.alert)
	}
	return err
}

// fill reads at least one byte.
func (c *Conn) fill() error {
	if c.in.err != nil {
		return c.in.err
	}
	c.in.makeRoom()
	var n int
	var err error
	if c.rc == nil {
		c.in.borrow()
		n, err = c.Conn.Read((*c.in.buf)[c.in.w:])
	} else {
		n, err = c.readSocket()
	}
	switch {
	case n > 0:
		c.in.took(n)
		return nil
	case err == nil || err == io.EOF:
		if err = io.EOF; c.in.r < c.in.w {
			err = io.ErrUnexpectedEOF
		}
		return c.refuse(err)
	}
	return err
}

// readSocket reads as soon as there is something, and lends no buffer before.
func (c *Conn) readSocket() (n int, err error) {
	if err := c.rc.Read(c.in.try); err != nil {
		return 0, err
	}
	if c.in.errno != nil {
		return 0, os.NewSyscallError("read", c.in.errno)
	}
	return c.in.n, nil
}

// readOnce is false if there is nothing yet.
func (in *in) readOnce(fd uintptr) bool {
	in.borrow()
	if in.n, in.errno = nowait.Read(fd, (*in.buf)[in.w:]); in.errno == syscall.EAGAIN {
		in.release()
		return false
	}
	return true
}

// borrow sees to it that there is a buffer.
func (in *in) borrow() {
	if in.buf == nil {
		in.buf, in.held = buffers[in.class].Get().(*[]byte), in.class
	}
}

// release gives the buffer back if nothing in it is needed.
func (in *in) release() {
	if in.buf != nil && in.r == in.w {
		buffers[in.held].Put(in.buf)
		in.buf, in.r, in.w = nil, 0, 0
	}
}

// took notes what a read gave, and chooses the next buffer by it: a larger one
// after one that was filled, a smaller one after one with little in it.
func (in *in) took(n int) {
	in.w += n
	size := len(*in.buf)
	in.class = in.held
	switch {
	case in.w == size && in.held < len(buffers)-1:
		in.class++
	case in.w < size/16 && in.held > 0:
		in.class--
	}
}

// makeRoom moves what is left of a record to the front of a buffer with room for the rest.
func (in *in) makeRoom() {
	if in.buf == nil {
		return
	}
	old, rest := in.buf, (*in.buf)[in.r:in.w]
	if in.class > in.held || len(rest) == 0 {
		held := in.held
		in.buf = nil
		in.borrow()
		in.r, in.w = 0, copy(*in.buf, rest)
		buffers[held].Put(old)
		return
	}
	in.r, in.w = 0, copy(*old, rest)
}
