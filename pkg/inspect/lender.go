package inspect

import "io"

// A lender reads a body into memory that is as large as the body comes: a stream that
// is silent most of the time keeps little.
type lender struct {
	src  io.Reader
	buf  []byte
	full bool // the last read filled the buffer: there is more at once
}

// read reads once. What it returns is valid until the next call.
func (l *lender) read() ([]byte, error) {
	size := tinySize
	if l.full {
		size = bufferSize
	}
	if cap(l.buf) != size {
		l.release()
		l.buf = getBuffer(size)
	}
	n, err := l.src.Read(l.buf)
	l.full = n == len(l.buf)
	return l.buf[:n], err
}

func (l *lender) release() {
	if l.buf != nil {
		putBuffer(l.buf)
		l.buf = nil
	}
}
