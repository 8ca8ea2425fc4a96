package jsonrpc

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"slices"
	"strconv"
	"sync"
)

// ErrEventTooLarge means that an event, or a comment, is longer than allowed.
var ErrEventTooLarge = errors.New("event too large")

// An Event is one block of a stream of server-sent events, or one comment.
type Event struct {
	Type    string // "" means "message"
	Data    []byte // lines joined by LF
	HasData bool   // there was a data line; an event without is not dispatched, but its ID and Retry count
	ID      string
	HasID   bool
	Retry   int64 // milliseconds; -1: none
	Comment bool  // Data is the text of a comment line
}

// Dispatched tells whether a client that follows the specification sees an event.
func (e *Event) Dispatched() bool { return !e.Comment && e.HasData }

// An EventReader reads server-sent events as WHATWG HTML §9.2.6 parses them,
// however the bytes are split. It buffers at most one event.
type EventReader struct {
	r   io.Reader
	max int

	buf        []byte // unread input
	start, end int
	busy       bool   // the last read filled buf: there is more at once
	silent     []byte // the small one, while buf is a large one
	begun      bool   // the byte order mark was looked for
	afterCR    bool   // an LF that comes next belongs to the last line end
	line       []byte
	data       []byte // what event.Data began in
	event      Event
	size       int  // bytes of the block so far
	fields     bool // the block has a field that counts
	finished   bool // the block was returned
	err        error
}

// NewEventReader reads from r events of at most max bytes; 0 means 4 MiB.
func NewEventReader(r io.Reader, max int) *EventReader {
	return &EventReader{r: r, max: orDefault(max, 4<<20), finished: true}
}

const (
	eventBuffer   = 4096
	silentBuffer  = 512 // while it waits for what comes next
	maxKeptLine   = 32 << 10
	maxPooledLine = 4 << 20
)

// Reset makes the reader read another stream, with the memory it has.
func (r *EventReader) Reset(from io.Reader) {
	r.busy = false
	r.resize()
	*r = EventReader{r: from, max: r.max, buf: r.buf, line: giveBack(r.line), data: giveBack(r.data), finished: true}
}

// Next returns the next block that has a data, id or retry field, or the next
// comment, as soon as its last byte is there. Its Data is valid until the next
// call. The end of the stream is io.EOF; a block without its blank line is
// discarded, as the specification demands.
func (r *EventReader) Next() (Event, error) {
	if r.finished {
		r.clear()
	}
	for {
		line, err := r.readLine()
		if err != nil {
			return Event{}, err
		}
		switch {
		case len(line) == 0:
			if r.fields {
				r.finished = true
				return r.event, nil
			}
			r.clear()
		case line[0] == ':':
			if !r.fields { // a comment inside a block counts with the block
				r.size = 0
			}
			return Event{Comment: true, Data: line[1:], Retry: -1}, nil
		default:
			r.field(line)
		}
	}
}

func (r *EventReader) clear() {
	r.event = Event{Retry: -1}
	r.data, r.line = giveBack(r.data), giveBack(r.line)
	r.size, r.fields, r.finished = 0, false, false
}

// field handles one "name: value" line; unknown names are ignored.
func (r *EventReader) field(line []byte) {
	name, value, _ := bytes.Cut(line, []byte{':'})
	value = bytes.TrimPrefix(value, []byte{' '})
	switch string(name) {
	case "data":
		if r.event.HasData {
			r.event.Data = append(append(r.event.Data, '\n'), value...)
		} else { // the buffers change places: the first line is not copied
			r.event.Data, r.event.HasData, r.fields = value, true, true
			r.line, r.data = r.data, r.line
		}
	case "event":
		r.event.Type = validText(value)
	case "id":
		if bytes.IndexByte(value, 0) < 0 {
			r.event.ID, r.event.HasID, r.fields = validText(value), true, true
		}
	case "retry":
		if n, ok := retry(value); ok {
			r.event.Retry, r.fields = n, true
		}
	}
}

func validText(b []byte) string { return string(bytes.ToValidUTF8(b, []byte("\uFFFD"))) }

func retry(value []byte) (int64, bool) {
	for _, c := range value {
		if c < '0' || c > '9' {
			return 0, false
		}
	}
	n, err := strconv.ParseInt(string(value), 10, 64)
	return n, err == nil
}

// readLine returns the next line without its end: LF, CR or CRLF. After a CR
// it does not wait for what comes next.
func (r *EventReader) readLine() ([]byte, error) {
	r.line = r.line[:0]
	for {
		if r.start == r.end {
			if err := r.fill(); err != nil {
				return nil, err
			}
		}
		if r.afterCR {
			r.afterCR = false
			if r.buf[r.start] == '\n' {
				r.start++
				continue
			}
		}
		chunk := r.buf[r.start:r.end]
		i := bytes.IndexAny(chunk, "\r\n")
		if i < 0 {
			if err := r.keep(chunk); err != nil {
				return nil, err
			}
			r.start = r.end
			continue
		}
		err := r.keep(chunk[:i])
		r.start += i + 1
		r.afterCR = chunk[i] == '\r'
		r.size++
		return r.line, err
	}
}

func (r *EventReader) keep(part []byte) error {
	r.size += len(part)
	if r.size > r.max {
		r.err = fmt.Errorf("read event of more than %d bytes: %w", r.max, ErrEventTooLarge)
		return r.err
	}
	if len(r.line)+len(part) > cap(r.line) {
		r.grow(len(part))
	}
	r.line = append(r.line, part...)
	return nil
}

// longLines are buffers that long lines were read into: an idle stream does not keep
// what one event needed, and the next long event does not allocate it again.
var longLines sync.Pool // of *[]byte

// giveBack is buf, unless it is large: then others may have it.
func giveBack(buf []byte) []byte {
	if cap(buf) <= maxKeptLine {
		return buf
	}
	if cap(buf) <= maxPooledLine {
		long := buf[:0]
		longLines.Put(&long)
	}
	return nil
}

// grow makes room for n more bytes of the line.
func (r *EventReader) grow(n int) {
	if need := len(r.line) + n; need > maxKeptLine {
		if long, ok := longLines.Get().(*[]byte); ok && cap(*long) >= need {
			old := r.line
			r.line = append((*long)[:0], old...)
			giveBack(old)
			return
		}
	}
	r.line = slices.Grow(r.line, max(n, cap(r.line)))
}

// fill reads at least one byte, past a byte order mark at the very start.
func (r *EventReader) fill() error {
	if r.err != nil {
		return r.err
	}
	r.resize()
	r.start, r.end = 0, 0
	if !r.begun {
		r.begun = true
		r.skipMark()
		if r.start < r.end {
			return nil
		}
	}
	for tries := 0; r.err == nil && r.end == 0; tries++ {
		r.end, r.err = r.r.Read(r.buf)
		if tries == 100 {
			r.err = io.ErrNoProgress
		}
	}
	if r.end == 0 {
		return r.err
	}
	r.busy = r.end == len(r.buf)
	return nil
}

// eventBuffers are for streams that have more to read at once than a silent one keeps
// room for.
var eventBuffers = sync.Pool{New: func() any { return new([eventBuffer]byte) }}

// resize makes the buffer as large as what comes is likely to be. Nothing is in it.
func (r *EventReader) resize() {
	switch {
	case r.buf == nil && !r.busy:
		r.buf = make([]byte, silentBuffer)
	case r.busy && len(r.buf) < eventBuffer:
		r.silent, r.buf = r.buf, eventBuffers.Get().(*[eventBuffer]byte)[:]
	case !r.busy && len(r.buf) == eventBuffer:
		eventBuffers.Put((*[eventBuffer]byte)(r.buf))
		r.buf = r.silent
	}
}

// skipMark drops U+FEFF if the stream starts with it. It waits for more bytes
// only while those that are there could become one.
func (r *EventReader) skipMark() {
	const mark = "\xef\xbb\xbf"
	for tries := 0; r.end < len(mark) && r.err == nil && tries < 100; tries++ {
		var n int
		n, r.err = r.r.Read(r.buf[r.end:])
		r.end += n
		if got := string(r.buf[:min(r.end, len(mark))]); got != mark[:len(got)] {
			return
		}
	}
	if r.end >= len(mark) && string(r.buf[:len(mark)]) == mark {
		r.start = len(mark)
	}
}

// AppendEvent appends e as a block of its own that every client reads alike.
func AppendEvent(dst []byte, e *Event) []byte {
	if e.Comment {
		return append(append(append(dst, ':'), e.Data...), '\n', '\n')
	}
	if e.Type != "" {
		dst = appendField(dst, "event: ", e.Type)
	}
	if e.HasID {
		dst = appendField(dst, "id: ", e.ID)
	}
	if e.Retry >= 0 {
		dst = append(strconv.AppendInt(append(dst, "retry: "...), e.Retry, 10), '\n')
	}
	if e.HasData {
		data := e.Data
		for more := true; more; {
			var line []byte
			line, data, more = bytes.Cut(data, []byte{'\n'})
			dst = append(append(append(dst, "data: "...), line...), '\n')
		}
	}
	return append(dst, '\n')
}

func appendField(dst []byte, name, value string) []byte {
	return append(append(append(dst, name...), value...), '\n')
}
