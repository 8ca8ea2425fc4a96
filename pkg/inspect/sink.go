package inspect

import (
	"errors"
	"fmt"
	"io"
	"net"
	"strconv"
	"sync"
	"time"
)

// A sink writes messages to one connection. What is written gathers in its buffer
// until it is full, until flush, or until the source of a body would block.
type sink struct {
	conn    net.Conn
	timeout time.Duration // of one write
	until   time.Time     // the deadline of writes

	mu    sync.Mutex // guards what follows against a "100 Continue" beside a response
	buf   []byte
	begun bool  // the final response has begun
	total int64 // bytes written

	framed bodyWriter // of the body that is being written
	pulse  *pulse     // of it, if it is an event stream
}

// continues writes "100 Continue", unless the final response has begun.
func (s *sink) continues() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.begun {
		return errors.New("response was sent before the body was asked for")
	}
	return s.write([]byte("HTTP/1.1 100 Continue\r\n\r\n"))
}

// begin starts a message and returns the buffer to append its head to.
func (s *sink) begin() []byte {
	s.mu.Lock()
	s.begun = true
	s.mu.Unlock()
	if s.buf == nil {
		s.buf = getBuffer(sinkSize)[:0]
	}
	return s.buf
}

// head takes the buffer back with the head in it, or why there is none.
func (s *sink) head(b []byte, err error) error {
	if err != nil {
		return err
	}
	if cap(b) == cap(s.buf) {
		s.buf = b
		return nil
	}
	s.release() // layers made the head larger than the buffer
	return s.write(b)
}

// write writes at once, in parts that each have their time.
func (s *sink) write(p []byte) error {
	for len(p) > maxWrite {
		if err := s.writePart(p[:maxWrite]); err != nil {
			return err
		}
		p = p[maxWrite:]
	}
	return s.writePart(p)
}

// writePart writes at once. The deadline is set only where seven eighths of the timeout
// are not left: it costs as much as the write of a small message.
func (s *sink) writePart(p []byte) error {
	if now := time.Now(); s.until.Sub(now) < s.timeout-s.timeout/8 {
		s.until = now.Add(s.timeout)
		if err := s.conn.SetWriteDeadline(s.until); err != nil {
			return err
		}
	}
	n, err := s.conn.Write(p)
	s.total += int64(n)
	return err
}

// flush writes what has gathered.
func (s *sink) flush() error {
	if len(s.buf) == 0 {
		return nil
	}
	err := s.write(s.buf)
	s.buf = s.buf[:0]
	return err
}

// idle flushes and returns the buffer, because the next bytes may be long in coming.
func (s *sink) idle() error {
	err := s.flush()
	s.release()
	return err
}

// drop forgets what has gathered.
func (s *sink) drop() {
	s.buf = s.buf[:0]
	s.release()
}

// release returns the buffer, which is empty.
func (s *sink) release() {
	if s.buf != nil {
		putBuffer(s.buf)
		s.buf = nil
	}
}

// end ends a message and allows the next.
func (s *sink) end() error {
	err := s.idle()
	s.mu.Lock()
	s.begun = false
	s.mu.Unlock()
	return err
}

// add adds p; what does not fit is written through.
func (s *sink) add(p []byte) error {
	if s.buf == nil {
		s.buf = getBuffer(sinkSize)[:0]
	}
	if len(s.buf)+len(p) > cap(s.buf) {
		if err := s.flush(); err != nil {
			return err
		}
		if len(p) > cap(s.buf)/2 {
			return s.write(p)
		}
	}
	s.buf = append(s.buf, p...)
	return nil
}

// chunk adds p as a chunk.
func (s *sink) chunk(p []byte) error {
	var line [18]byte
	size := strconv.AppendInt(line[:0], int64(len(p)), 16)
	if err := s.add(append(size, "\r\n"...)); err != nil {
		return err
	}
	if err := s.add(p); err != nil {
		return err
	}
	return s.add([]byte("\r\n"))
}

// inline adds a body of n bytes, all of it or nothing.
func (s *sink) inline(src io.Reader, n int) error {
	if len(s.buf)+n > cap(s.buf) {
		if err := s.flush(); err != nil {
			return err
		}
	}
	if s.buf == nil { // the head was larger than the buffer
		s.buf = getBuffer(sinkSize)[:0]
	}
	at := len(s.buf)
	if _, err := io.ReadFull(src, s.buf[at:at+n]); err != nil {
		s.buf = s.buf[:0]
		return &sourceError{err}
	}
	s.buf = s.buf[:at+n]
	return nil
}

// A sourceError is a failure to read the body that was being written, as opposed
// to one to write it.
type sourceError struct{ err error }

func (e *sourceError) Error() string { return fmt.Sprintf("read the body: %v", e.err) }
func (e *sourceError) Unwrap() error { return e.err }

func isSource(err error) bool {
	_, ok := errors.AsType[*sourceError](err)
	return ok
}

// body writes a body: of that length, or chunked if it is negative, or if raw up
// to the end of src. Whatever src has is sent before src is waited for.
func (s *sink) body(src io.Reader, length int64, raw bool) error {
	s.framed = bodyWriter{sink: s, length: length, left: length, raw: raw}
	w := &s.framed
	var err error
	switch src := src.(type) {
	case *body:
		err = w.own(src)
	case *responseBody:
		src.mu.Lock()
		err = w.own(&src.body)
		src.mu.Unlock()
	case io.WriterTo:
		if length < 0 {
			err = s.idle()
		}
		if err == nil {
			_, err = src.WriteTo(w)
		}
	default:
		err = w.foreign(src)
	}
	switch {
	case w.err != nil:
		return w.err
	case err != nil:
		return &sourceError{err}
	case w.left > 0:
		return &sourceError{io.ErrUnexpectedEOF}
	case length < 0 && !raw:
		return s.add([]byte("0\r\n\r\n"))
	}
	return nil
}

// A bodyWriter frames the bytes of one body.
type bodyWriter struct {
	*sink
	length, left int64
	raw          bool
	err          error // of the sink, not of the source
}

// Write writes p and flushes it, unless more is sure to follow or p completes the
// body: then the end of the message does.
func (w *bodyWriter) Write(p []byte) (int, error) {
	if err := w.put(p); err != nil {
		return 0, err
	}
	if w.left != 0 {
		if w.err = w.idle(); w.err != nil {
			return 0, w.err
		}
	}
	return len(p), nil
}

func (w *bodyWriter) put(p []byte) error {
	if len(p) == 0 {
		return nil
	}
	if w.length >= 0 {
		if w.left -= int64(len(p)); w.left < 0 {
			return errors.New("body is longer than its length")
		}
	}
	switch {
	case w.length < 0 && !w.raw:
		w.err = w.chunk(p)
	case len(p) >= bufferSize/2 && len(w.buf) == 0:
		w.err = w.write(p)
	default:
		w.err = w.add(p)
	}
	return w.err
}

// own writes a body that we read off a connection: what has gathered is flushed
// exactly when that connection has to be waited for.
func (w *bodyWriter) own(src *body) error {
	src.in.waiter = w
	defer func() { src.in.waiter = nil }()
	for {
		p, err := src.next(bufferSize)
		w.pulse.resume()
		w.pulse.wrote(p)
		if err == io.EOF {
			return nil
		}
		if err != nil {
			return err
		}
		if err := w.put(p); err != nil {
			return err
		}
	}
}

// willWait flushes what has gathered, because the source will have to be waited for.
func (w *bodyWriter) willWait() error {
	if w.err = w.idle(); w.err == nil {
		w.pulse.wait()
	}
	return w.err
}

// foreign writes any other body: what has been read is flushed before the next
// read, and so is the head if the body is a stream.
func (w *bodyWriter) foreign(src io.Reader) error {
	from := lender{src: src, full: w.length > tinySize}
	defer from.release()
	for first := true; ; first = false {
		if !first || w.length < 0 {
			if w.err = w.idle(); w.err != nil {
				return w.err
			}
		}
		w.pulse.wait()
		b, err := from.read()
		w.pulse.resume()
		w.pulse.wrote(b)
		if err := w.put(b); err != nil {
			return err
		}
		if err == io.EOF {
			return nil
		}
		if err != nil {
			return err
		}
	}
}
