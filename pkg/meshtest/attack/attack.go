// Package attack is a client that speaks HBONE to hurt: it writes whatever frames
// it likes, and it knows the floods that HTTP/2 servers have fallen to. It knows
// nothing of the server.
package attack

import (
	"errors"
	"fmt"
	"io"
	"net"
	"sync/atomic"
	"syscall"
	"time"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"
)

// batch is how many bytes of frames go out at once, so that an attack costs the
// attacker as little as it can.
const batch = 16 << 10

// A Client attacks over one connection. Its peer's frames are read and counted,
// unless it was told not to.
type Client struct {
	// Authority is what its CONNECTs ask for.
	Authority string
	// Next is the number of its next stream.
	Next uint32
	// Framer writes to the batch.
	Framer *http2.Framer

	c      net.Conn
	window uint32 // that it has set last
	out    []byte // not yet written
	enc    *hpack.Encoder
	block  []byte
	code   atomic.Int64 // of the GOAWAY that came; -1 before
	count  [256]atomic.Int64
	bytes  atomic.Int64 // of DATA
	wrote  int64        // bytes that the peer's side of the connection has taken
	ended  chan struct{}
}

// New begins HTTP/2 on c, which it takes over. Without read the client never
// reads what its peer sends.
func New(c net.Conn, authority string, read bool) *Client {
	a := &Client{Authority: authority, Next: 1, c: c, ended: make(chan struct{})}
	a.code.Store(-1)
	a.Framer = http2.NewFramer(collector{a}, c)
	a.Framer.AllowIllegalWrites = true
	a.enc = hpack.NewEncoder(blockWriter{a})
	a.out = append(a.out, http2.ClientPreface...)
	_ = a.Framer.WriteSettings() // to memory
	if read {
		go a.read()
	} else {
		close(a.ended)
	}
	return a
}

// Close ends the connection and waits for the reader.
func (a *Client) Close() {
	a.c.Close()
	<-a.ended
}

type blockWriter struct{ a *Client }

func (w blockWriter) Write(p []byte) (int, error) {
	w.a.block = append(w.a.block, p...)
	return len(p), nil
}

// A collector keeps frames until there are enough of them. What a full batch
// meets is seen by the next Flush: a Framer's errors are not looked at.
type collector struct{ a *Client }

func (w collector) Write(p []byte) (int, error) {
	w.a.out = append(w.a.out, p...)
	if len(w.a.out) < batch {
		return len(p), nil
	}
	return len(p), w.a.Flush()
}

// Flush writes what was collected.
func (a *Client) Flush() error {
	_ = a.c.SetWriteDeadline(time.Now().Add(10 * time.Second)) // fails only on a closed connection
	n, err := a.c.Write(a.out)
	a.wrote += int64(n)
	a.out = a.out[:0]
	return err
}

func (a *Client) read() {
	defer close(a.ended)
	for {
		f, err := a.Framer.ReadFrame()
		if err != nil {
			return
		}
		a.count[f.Header().Type].Add(1)
		switch f := f.(type) {
		case *http2.GoAwayFrame:
			a.code.Store(int64(f.ErrCode))
		case *http2.DataFrame:
			a.bytes.Add(int64(len(f.Data())))
		}
	}
}

// Frames is how many frames of a type have come.
func (a *Client) Frames(t http2.FrameType) int { return int(a.count[t].Load()) }

// Bytes is how much has come through its tunnels.
func (a *Client) Bytes() int64 { return a.bytes.Load() }

// Wrote is how many bytes of frames went out.
func (a *Client) Wrote() int64 { return a.wrote }

// NoGoAway is the code of a connection that ended without GOAWAY.
const NoGoAway = ^http2.ErrCode(0)

// Ended waits until the peer has closed the connection, and returns the code of
// the last GOAWAY; over is false if the connection is open still.
func (a *Client) Ended(within time.Duration) (code http2.ErrCode, over bool) {
	select {
	case <-a.ended:
	case <-time.After(within):
		return NoGoAway, false
	}
	if code := a.code.Load(); code >= 0 {
		return http2.ErrCode(code), true
	}
	return NoGoAway, true
}

// Fields encodes a header block; it is valid until the next call.
func (a *Client) Fields(kv ...string) []byte {
	a.block = a.block[:0]
	for i := 0; i < len(kv); i += 2 {
		_ = a.enc.WriteField(hpack.HeaderField{Name: kv[i], Value: kv[i+1]}) // to memory
	}
	return a.block
}

// Headers opens a stream with a block of fields and returns its number.
func (a *Client) Headers(end bool, block []byte) uint32 {
	id := a.Next
	a.Next += 2
	_ = a.Framer.WriteHeaders(http2.HeadersFrameParam{StreamID: id, EndHeaders: true, EndStream: end, BlockFragment: block})
	return id
}

// Last is the number of the stream that was opened last.
func (a *Client) Last() uint32 { return a.Next - 2 }

// Connect opens a tunnel and returns its stream's number.
func (a *Client) Connect() uint32 {
	return a.Headers(false, a.Fields(":method", "CONNECT", ":authority", a.Authority))
}

// Run runs rounds of a flood until the connection is closed, and tells how many
// it took. The error is nil if the peer took all of them, or cut the connection.
func (a *Client) Run(f *Flood) (rounds int, err error) {
	if f.Prepare != nil {
		f.Prepare(a)
	}
	for n := range f.Rounds {
		f.Round(a)
		if n%64 != 63 {
			continue
		}
		if err := a.Flush(); err != nil {
			return n, cut(err)
		}
	}
	return f.Rounds, cut(a.Flush())
}

// cut is nil for the errors of a connection that the peer has closed.
func cut(err error) error {
	if err == nil || errors.Is(err, syscall.EPIPE) || errors.Is(err, syscall.ECONNRESET) || errors.Is(err, net.ErrClosed) || errors.Is(err, io.ErrClosedPipe) {
		return nil
	}
	return fmt.Errorf("write flood: %w", err)
}
