package inspect

import (
	"errors"
	"io"
	"time"
)

// A body reads the body of one message off a reader.
type body struct {
	in      *reader
	owner   bodyOwner
	framing framing
	left    int64 // of the body, or of the chunk
	chunk   bool  // in a chunk: CR LF is due after left bytes
	extra   int   // bytes of chunk extensions seen
	begun   bool
	err     error // sticky; io.EOF once it is complete

	pace
}

// A bodyOwner is told of a body's first read and of its complete end.
type bodyOwner interface {
	bodyBegins() error
	bodyEnds()
}

// Read reads the body's bytes.
func (b *body) Read(p []byte) (int, error) {
	if len(p) == 0 {
		return 0, nil
	}
	data, err := b.next(len(p))
	n := copy(p, data)
	if b.framing == framingLength && b.left == 0 && err == nil {
		b.end() // here the bytes are ours already, and a reader may stop at the length
	}
	return n, err
}

// next returns the next bytes of the body, at least one and at most max, valid
// until the next call; or io.EOF, or why there are no more.
func (b *body) next(max int) ([]byte, error) {
	if b.err != nil {
		return nil, b.err
	}
	if !b.begun {
		b.begun = true
		if err := b.owner.bodyBegins(); err != nil {
			b.err = err
			return nil, err
		}
	}
	if b.framing == framingChunked && b.left == 0 {
		if err := b.nextChunk(); err != nil {
			return nil, b.fail(err)
		}
	}
	if b.framing != framingClose && b.left == 0 {
		b.end()
		return nil, io.EOF
	}
	if b.in.buffered() == 0 {
		if b.left > smallSize {
			b.in.large()
		}
		if err := b.in.fill(b.deadline()); err != nil {
			return nil, b.fail(err)
		}
	}
	n := b.in.buffered()
	if n > max {
		n = max
	}
	if b.framing != framingClose {
		n = int(min(int64(n), b.left))
		b.left -= int64(n)
	}
	p := b.in.buf[b.in.r : b.in.r+n]
	b.in.r += n
	b.got += int64(n)
	return p, nil
}

func (b *body) end() {
	b.err = io.EOF
	b.owner.bodyEnds()
}

// fail keeps why the body cannot be read further.
func (b *body) fail(err error) error {
	if errors.Is(err, io.EOF) {
		if b.framing == framingClose {
			b.end()
			return io.EOF
		}
		err = io.ErrUnexpectedEOF
	}
	if errors.Is(err, errTooBig) {
		err = bad("chunk line or trailer is too long")
	}
	b.err = err
	return err
}

// complete tells whether all of it was read.
func (b *body) complete() bool { return b.err == io.EOF || b.framing == framingNone }

// A pace is how fast a body must come.
type pace struct {
	idle  time.Duration // without a byte
	rate  int           // bytes per second once idle has passed; 0: none
	since time.Time
	got   int64
}

// deadline is when the next byte must be there.
func (p *pace) deadline() time.Time {
	now := time.Now()
	by := now.Add(p.idle)
	if p.rate > 0 {
		if p.since.IsZero() {
			p.since = now
		}
		earned := time.Duration(p.got) * (time.Second / time.Duration(p.rate))
		if cap := p.since.Add(p.idle + earned); cap.Before(by) {
			by = cap
		}
	}
	return by
}

// nextChunk reads up to the data of the next chunk. It leaves left at 0 after the
// last one.
func (b *body) nextChunk() error {
	if b.chunk {
		rest, err := b.in.line(2, b.deadline)
		if err != nil {
			return err
		}
		if len(rest) > 0 {
			return bad("chunk is longer than its size")
		}
	}
	line, err := b.in.line(maxChunkLine, b.deadline)
	if err != nil {
		return err
	}
	size, extension, err := parseChunkLine(line)
	if err != nil {
		return err
	}
	if b.extra += extension; b.extra > maxExtensions {
		return bad("too many chunk extensions")
	}
	if size == 0 {
		return b.trailer()
	}
	b.left, b.chunk = size, true
	return nil
}

// trailer reads and forgets the trailer section. RFC 9110 §6.5.1: fields of
// framing, routing and authentication must not be in it, the others may be dropped.
func (b *body) trailer() error {
	for total := 0; ; {
		line, err := b.in.line(maxTrailer, b.deadline)
		if err != nil {
			return err
		}
		if len(line) == 0 {
			return nil
		}
		if total += len(line) + 2; total > maxTrailer {
			return errTooBig
		}
		var field [1]Field
		h, err := parseFields(string(line)+"\r\n\r\n", 1, field[:0])
		if err != nil {
			return err
		}
		if !mayTrail(h[0].Name) {
			return bad("field that is not allowed in a trailer")
		}
	}
}

// mayTrail tells whether a field may be in a trailer section.
func mayTrail(name string) bool {
	if kind, err := kindOf(name); err != nil || kind != fieldOther {
		return false
	}
	for _, no := range [...]string{"authorization", "content-encoding", "content-type", "content-range", "cookie", "set-cookie", "cache-control", "origin"} {
		if equalFold(name, no) {
			return false
		}
	}
	return true
}

// parseChunkLine reads a chunk's size and returns how many bytes of the line are
// extensions. Those are checked and ignored (RFC 9112 §7.1.1).
func parseChunkLine(line []byte) (size int64, extension int, err error) {
	i := 0
	for i < len(line) && class[line[i]]&isHex != 0 {
		size = size<<4 | int64(unhex(line[i]))
		i++
	}
	if i == 0 || i > 8 {
		return 0, 0, bad("chunk size is not a hexadecimal number of at most 8 digits")
	}
	if i < len(line) && !validExtensions(string(line[i:])) {
		return 0, 0, bad("malformed chunk extension")
	}
	return size, len(line) - i, nil
}

// validExtensions checks *( ";" token [ "=" ( token / quoted-string ) ] ), without
// white space and escapes.
func validExtensions(s string) bool {
	for s != "" {
		if s[0] != ';' {
			return false
		}
		n := 1 + tokenLength(s[1:])
		if n == 1 {
			return false
		}
		if s = s[n:]; s == "" || s[0] != '=' {
			continue
		}
		s = s[1:]
		if n = tokenLength(s); n == 0 {
			if n = quotedLength(s); n == 0 {
				return false
			}
		}
		s = s[n:]
	}
	return true
}

func tokenLength(s string) (n int) {
	for n < len(s) && class[s[n]]&isToken != 0 {
		n++
	}
	return n
}

func quotedLength(s string) int {
	if s == "" || s[0] != '"' {
		return 0
	}
	n := 1
	for n < len(s) && class[s[n]]&isQuoted != 0 {
		n++
	}
	if n == len(s) || s[n] != '"' {
		return 0
	}
	return n + 1
}
