package hbone

import (
	"fmt"
	"strconv"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"
)

// request sends the CONNECT that opens t. start gives t its number, under the
// lock, so that streams open in the order of their numbers.
func (w *writer) request(authority string, h *Header, start func() (uint32, error)) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.err != nil {
		return w.err
	}
	// The block is made first: a header that cannot be sent must not use up a number.
	w.block.Reset()
	w.list = 0
	w.field(":method", "CONNECT", true)
	w.field(":authority", authority, true)
	h.encode(w.field)
	if w.list > w.maxList {
		return w.tooLong()
	}
	id, err := start()
	if err != nil {
		// What the encoder has put in its table was never sent: the two ends
		// would disagree from here on.
		w.resetEncoder()
		return err
	}
	w.append(http2.FrameHeaders, http2.FlagHeadersEndHeaders, id, w.block.Bytes())
	return w.flushLocked()
}

// response sends the answer to t.
func (w *writer) response(t *Tunnel, status int, h *Header, end bool) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	switch {
	case w.err != nil:
		return w.err
	case t.gone.Load():
		return t.sendError()
	}
	w.encodeResponse(status, h)
	if w.list > w.maxList {
		return w.tooLong()
	}
	w.append(http2.FrameHeaders, responseFlags(end), t.id, w.block.Bytes())
	return w.flushLocked()
}

// refuse is response for the read loop: it never waits.
func (w *writer) refuse(id uint32, status int) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.err != nil {
		return w.err
	}
	if w.control++; w.control > maxControl {
		return &connError{http2.ErrCodeEnhanceYourCalm, "peer does not read what it makes us send"}
	}
	w.encodeResponse(status, &Header{})
	w.append(http2.FrameHeaders, responseFlags(true), id, w.block.Bytes())
	if !w.busy {
		w.nudge()
	}
	return nil
}

func responseFlags(end bool) http2.Flags {
	if end {
		return http2.FlagHeadersEndHeaders | http2.FlagHeadersEndStream
	}
	return http2.FlagHeadersEndHeaders
}

func (w *writer) encodeResponse(status int, h *Header) {
	w.block.Reset()
	w.list = 0
	w.field(":status", strconv.Itoa(status), true)
	h.encode(w.field)
}

// field encodes one field. What is different every time is kept out of the
// dynamic table, where it would only push out what is not.
func (w *writer) field(name, value string, index bool) {
	w.list += len(name) + len(value) + 32
	if index {
		_ = w.enc.WriteField(hpack.HeaderField{Name: name, Value: value}) // to memory
		return
	}
	// RFC 7541 §6.2.2: literal without indexing, new name.
	w.block.WriteByte(0)
	w.literal(name)
	w.literal(value)
}

// literal: RFC 7541 §5.2, without Huffman coding.
func (w *writer) literal(s string) {
	n := len(s)
	if n < 127 {
		w.block.WriteByte(byte(n))
	} else {
		w.block.WriteByte(127)
		for n -= 127; n >= 128; n >>= 7 {
			w.block.WriteByte(byte(n) | 128)
		}
		w.block.WriteByte(byte(n))
	}
	w.block.WriteString(s)
}

func (w *writer) tooLong() error {
	w.resetEncoder()
	return fmt.Errorf("%w: %d bytes of header list, the peer takes %d", errBadHeader, w.list, w.maxList)
}

// resetEncoder empties the dynamic table, and tells the peer with the next block.
func (w *writer) resetEncoder() {
	limit := w.enc.MaxDynamicTableSize()
	w.enc.SetMaxDynamicTableSize(0)
	w.enc.SetMaxDynamicTableSize(limit)
}

// peerSettings applies what the peer said about what we send.
func (w *writer) peerSettings(s http2.Setting) {
	w.mu.Lock()
	defer w.mu.Unlock()
	switch s.ID {
	case http2.SettingMaxFrameSize:
		w.maxFrame = int(min(s.Val, 1<<20))
	case http2.SettingMaxHeaderListSize:
		w.maxList = int(min(s.Val, maxHeaderBlock))
	case http2.SettingHeaderTableSize:
		w.enc.SetMaxDynamicTableSizeLimit(min(s.Val, 4096))
	}
}
