package inspect

import (
	"cmp"
	"time"
)

// Limits are what a conversation may cost. Zero fields take the defaults.
type Limits struct {
	Head   int // bytes of a request or response head, at most 32 KiB; 0 means 32 KiB
	Fields int // lines of a header; 0 means 128
	Drain  int // bytes of an unread request body that are read to keep the connection; 0 means 256 KiB

	// KeepAlive is how long an event stream may be silent before a comment is written
	// into it, between two events; 0 means 30s, less than 0 never.
	KeepAlive time.Duration
	Streams   int // of one HTTP/2 connection at a time; 0 means 100

	Idle     time.Duration // from one exchange to the first byte of the next; 0 means 5m
	HeadTime time.Duration // from the first byte of a request head to its last; 0 means 10s
	Body     time.Duration // without a byte of a request body; 0 means 30s
	BodyRate int           // bytes per second a request body must reach on the average once Body has passed; 0 means 1024
	Write    time.Duration // for one write, of at most 256 KiB; 0 means 1m
	Response time.Duration // from a request to the head of the app's response; 0 means 15m
	Stream   time.Duration // without a byte of the app's response body; 0 means 1h
}

func (l Limits) withDefaults() Limits {
	l.Head = min(cmp.Or(l.Head, bufferSize), bufferSize)
	l.Fields = cmp.Or(l.Fields, 128)
	l.Drain = cmp.Or(l.Drain, 256<<10)
	l.KeepAlive = cmp.Or(l.KeepAlive, 30*time.Second)
	l.Streams = cmp.Or(l.Streams, 100)
	l.Idle = cmp.Or(l.Idle, 5*time.Minute)
	l.HeadTime = cmp.Or(l.HeadTime, 10*time.Second)
	l.Body = cmp.Or(l.Body, 30*time.Second)
	l.BodyRate = cmp.Or(l.BodyRate, 1024)
	l.Write = cmp.Or(l.Write, time.Minute)
	l.Response = cmp.Or(l.Response, 15*time.Minute)
	l.Stream = cmp.Or(l.Stream, time.Hour)
	return l
}

const (
	tinySize   = 1 << 10         // of the buffer that a stream keeps while it is silent
	smallSize  = 4 << 10         // of the buffer that most heads fit into
	bufferSize = 32 << 10        // of the buffer for larger heads and for bodies
	sinkSize   = bufferSize + 64 // of the buffer for writes: a full read, framed as a chunk

	// watchAfter is how long an exchange may take before we listen whether the
	// downstream is still there, and how long an upstream connection may be unused
	// before we listen whether it ends. Shorter ones need no second goroutine.
	watchAfter = 50 * time.Millisecond

	// patience is how long a read waits with a buffer at hand.
	patience = 500 * time.Millisecond

	sendGrace = 100 * time.Millisecond // for the last of a request's body, once the response has ended

	drainTime   = 5 * time.Second // without a byte of a body that nobody wants
	lingerTime  = time.Second     // to let a peer read the last response before we close
	lingerBytes = 1 << 20

	maxInterim     = 8         // 1xx responses before the final one
	maxExtensions  = 4 << 10   // bytes of chunk extensions in one body
	maxChunkLine   = 300       // bytes of a chunk's first line
	maxTrailer     = 8 << 10   // bytes of a trailer section
	maxTarget      = 8 << 10   // bytes of a request target
	maxWrite       = 256 << 10 // bytes that are written at once, within the time of one write
	maxInlineWrite = 16 << 10  // bytes of a request body that are sent together with its head
)
