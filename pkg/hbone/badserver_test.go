package hbone

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"syscall"
	"testing"
	"time"

	"golang.org/x/net/http2"
)

// plainClient runs the client role on a connection without TLS.
func plainClient(t testing.TB, nc net.Conn) *conn {
	c := newConn(nc, true, defaultTiming(time.Minute), newBuffers(1<<20))
	c.budget = newBudget(Limits{}.withDefaults(), nil)
	c.hello()
	go c.run()
	t.Cleanup(func() {
		c.abort(errDialerClosed)
		<-c.done
	})
	return c
}

// frame makes a frame by hand.
func frame(typ, flags byte, id uint32, payload string) string {
	var h [frameHeader]byte
	putFrameHeader(h[:], len(payload), http2.FrameType(typ), http2.Flags(flags), id)
	return string(h[:]) + payload
}

var (
	ok200  = frame(1, 4, 1, "\x88")
	ok200E = frame(1, 5, 1, "\x88")
	no503  = frame(1, 5, 1, "\x48\x03503")
)

// badServers are what a server may do to a client that has sent one CONNECT as
// stream 1, and what that must do to the tunnel.
var badServers = []struct {
	name   string
	script string
	dial   any // error wanted of connect: error value, *StatusError, or nil for a tunnel
	read   any // error wanted of Read after that
	cut    bool
}{
	{name: "200 and end", script: emptySettings + ok200E, read: io.EOF},
	{name: "503", script: emptySettings + no503, dial: 503},
	{name: "503, body and reset, as Envoy does", script: emptySettings + frame(1, 4, 1, "\x48\x03503") + frame(0, 1, 1, "no") + frame(3, 0, 1, "\x00\x00\x00\x0a"), dial: 503},
	{name: "400", script: emptySettings + frame(1, 5, 1, "\x48\x03400"), dial: 400},
	{name: "401", script: emptySettings + frame(1, 5, 1, "\x48\x03401"), dial: 401},
	{name: "204", script: emptySettings + frame(1, 5, 1, "\x48\x03204"), dial: 204},
	{name: "201", script: emptySettings + frame(1, 4, 1, "\x48\x03201"), dial: 201},
	{name: "100 before 200", script: emptySettings + frame(1, 4, 1, "\x48\x03100") + ok200E, read: io.EOF},
	{name: "101 and end", script: emptySettings + frame(1, 5, 1, "\x48\x03101"), dial: syscall.ECONNRESET},
	{name: "no status", script: emptySettings + frame(1, 4, 1, "\x00\x01a\x01b"), dial: syscall.ECONNRESET},
	{name: "two statuses", script: emptySettings + frame(1, 4, 1, "\x88\x88"), dial: syscall.ECONNRESET},
	{name: "status of four digits", script: emptySettings + frame(1, 4, 1, "\x48\x042000"), dial: syscall.ECONNRESET},
	{name: "status in words", script: emptySettings + frame(1, 4, 1, "\x48\x03abc"), dial: syscall.ECONNRESET},
	{name: "upper-case field", script: emptySettings + frame(1, 4, 1, "\x88\x00\x01A\x01b"), dial: syscall.ECONNRESET},
	{name: "refused", script: emptySettings + frame(3, 0, 1, "\x00\x00\x00\x07"), dial: syscall.ECONNRESET},
	{name: "DATA before the answer", script: emptySettings + frame(0, 0, 1, "x"), dial: syscall.ECONNRESET},
	{name: "end before the answer", script: emptySettings + frame(0, 1, 1, ""), dial: syscall.ECONNRESET},
	{name: "second 200", script: emptySettings + ok200 + ok200, read: syscall.ECONNRESET},
	{name: "trailers", script: emptySettings + ok200 + frame(1, 5, 1, "\x00\x01a\x01b"), read: syscall.ECONNRESET},
	{name: "reset", script: emptySettings + ok200 + frame(3, 0, 1, "\x00\x00\x00\x08"), read: syscall.ECONNRESET},
	{name: "end and NO_ERROR", script: emptySettings + ok200 + frame(0, 1, 1, "") + frame(3, 0, 1, "\x00\x00\x00\x00"), read: io.EOF},
	{name: "GOAWAY that names it unseen", script: emptySettings + frame(7, 0, 0, "\x00\x00\x00\x00\x00\x00\x00\x00"), dial: errRefused, cut: true},
	{name: "GOAWAY with an error", script: emptySettings + frame(7, 0, 0, "\x00\x00\x00\x00\x00\x00\x00\x0b"), dial: syscall.ECONNRESET, cut: true},
	{name: "GOAWAY after 200", script: emptySettings + ok200 + frame(7, 0, 0, "\x00\x00\x00\x01\x00\x00\x00\x00") + frame(0, 1, 1, ""), read: io.EOF},
	{name: "nothing but an end", script: "", dial: syscall.ECONNRESET, cut: true},
	{name: "not SETTINGS first", script: ok200, dial: syscall.ECONNRESET, cut: true},
	{name: "HTTP/1.1", script: "HTTP/1.1 400 Bad Request\r\nConnection: close\r\n\r\n", dial: syscall.ECONNRESET, cut: true},
	{name: "push", script: emptySettings + frame(5, 4, 1, "\x00\x00\x00\x02\x82"), dial: syscall.ECONNRESET, cut: true},
	{name: "stream of its own", script: emptySettings + frame(1, 4, 2, "\x88"), dial: syscall.ECONNRESET, cut: true},
	{name: "answer to nothing", script: emptySettings + frame(1, 4, 3, "\x88"), dial: syscall.ECONNRESET, cut: true},
	{name: "DATA for nothing", script: emptySettings + ok200 + frame(0, 0, 5, "x"), read: syscall.ECONNRESET, cut: true},
	{name: "WINDOW_UPDATE for nothing", script: emptySettings + ok200 + frame(8, 0, 5, "\x00\x00\x00\x01"), read: syscall.ECONNRESET, cut: true},
	{name: "WINDOW_UPDATE of 0", script: emptySettings + ok200 + frame(8, 0, 0, "\x00\x00\x00\x00"), read: syscall.ECONNRESET, cut: true},
	{name: "WINDOW_UPDATE of 0 for the stream", script: emptySettings + ok200 + frame(8, 0, 1, "\x00\x00\x00\x00"), read: syscall.ECONNRESET},
	{name: "window overflow", script: emptySettings + ok200 + frame(8, 0, 0, "\x7f\xff\xff\xff"), read: syscall.ECONNRESET, cut: true},
	{name: "window overflow of the stream", script: emptySettings + ok200 + frame(8, 0, 1, "\x7f\xff\xff\xff"), read: syscall.ECONNRESET},
	{name: "max frame size 0", script: frame(4, 0, 0, "\x00\x05\x00\x00\x00\x00"), dial: syscall.ECONNRESET, cut: true},
	{name: "max frame size too large", script: frame(4, 0, 0, "\x00\x05\x01\x00\x00\x00"), dial: syscall.ECONNRESET, cut: true},
	{name: "initial window too large", script: frame(4, 0, 0, "\x00\x04\x80\x00\x00\x00"), dial: syscall.ECONNRESET, cut: true},
	{name: "server enables push", script: frame(4, 0, 0, "\x00\x02\x00\x00\x00\x01"), dial: syscall.ECONNRESET, cut: true},
	{name: "SETTINGS of 7 bytes", script: frame(4, 0, 0, "1234567"), dial: syscall.ECONNRESET, cut: true},
	{name: "SETTINGS on a stream", script: emptySettings + frame(4, 0, 1, ""), dial: syscall.ECONNRESET, cut: true},
	{name: "PING of 7 bytes", script: emptySettings + frame(6, 0, 0, "1234567"), dial: syscall.ECONNRESET, cut: true},
	{name: "RST_STREAM of 3 bytes", script: emptySettings + frame(3, 0, 1, "123"), dial: syscall.ECONNRESET, cut: true},
	{name: "RST_STREAM on idle stream", script: emptySettings + frame(3, 0, 9, "1234"), dial: syscall.ECONNRESET, cut: true},
	{name: "frame too large", script: emptySettings + "\x01\x00\x01\x00\x00\x00\x00\x00\x01", dial: syscall.ECONNRESET, cut: true},
	{name: "CONTINUATION alone", script: emptySettings + frame(9, 4, 1, "\x88"), dial: syscall.ECONNRESET, cut: true},
	{name: "broken HPACK", script: emptySettings + frame(1, 4, 1, "\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff"), dial: syscall.ECONNRESET, cut: true},
	{name: "padding larger than frame", script: emptySettings + ok200 + frame(0, 8, 1, "\x09x"), read: syscall.ECONNRESET, cut: true},
	{name: "padded DATA", script: emptySettings + ok200 + frame(0, 9, 1, "\x02\x00\x00"), read: io.EOF},
	{name: "unknown frame and setting", script: frame(4, 0, 0, "\xab\xcd\x00\x00\x00\x01") + frame(0xcc, 0xff, 1, "what") + ok200E, read: io.EOF},
	{name: "connection lost in a frame", script: emptySettings + ok200 + "\x00\x00\x05\x00\x01\x00\x00\x00\x01ab", read: syscall.ECONNRESET, cut: true},
}

func TestABadServerHurtsOnlyItsOwnTunnels(t *testing.T) {
	for _, s := range badServers {
		t.Run(s.name, func(t *testing.T) {
			ours, theirs := tcpPair(t)
			defer theirs.Close()
			c := plainClient(t, ours)
			go func() {
				// Only when the CONNECT is here may it be answered.
				fr := http2.NewFramer(io.Discard, theirs)
				_, _ = io.ReadFull(theirs, make([]byte, len(http2.ClientPreface)))
				for {
					f, err := fr.ReadFrame()
					if err != nil {
						return
					}
					if f.Header().Type == http2.FrameHeaders {
						break
					}
				}
				_, _ = io.WriteString(theirs, s.script)
				if s.cut {
					_ = theirs.CloseWrite()
				}
				_, _ = io.Copy(io.Discard, theirs)
			}()
			tun, err := c.connect(ctxOf(t), "10.0.0.1:80", &Header{}, 10*time.Second)
			if e := wanted(s.dial, err); e != nil {
				t.Fatalf("connect: %v", e)
			}
			if tun != nil {
				_, err := io.Copy(io.Discard, struct{ io.Reader }{tun})
				if err == nil {
					err = io.EOF
				}
				if e := wanted(s.read, err); e != nil {
					t.Fatalf("read: %v", e)
				}
			}
			if over, _ := c.isOver(); over && !s.cut {
				t.Error("the connection ended")
			}
		})
	}
}

func wanted(want any, got error) error {
	var status *StatusError
	switch want := want.(type) {
	case nil:
		if got == nil {
			return nil
		}
	case int:
		if errors.As(got, &status) && status.Status == want {
			return nil
		}
	case error:
		if errors.Is(got, want) {
			return nil
		}
	}
	return fmt.Errorf("%v, want %v", got, want)
}

func TestNoAnswerIsNotWaitedForLong(t *testing.T) {
	ours, theirs := tcpPair(t)
	defer theirs.Close()
	c := plainClient(t, ours)
	_, _ = io.WriteString(theirs, emptySettings)
	if _, err := c.connect(ctxOf(t), "10.0.0.1:80", &Header{}, time.Millisecond); !errors.Is(err, context.DeadlineExceeded) {
		t.Error(err)
	}
	ctx, cancel := context.WithCancelCause(context.Background())
	time.AfterFunc(time.Millisecond, func() { cancel(io.ErrNoProgress) })
	if _, err := c.connect(ctx, "10.0.0.1:80", &Header{}, time.Minute); !errors.Is(err, io.ErrNoProgress) {
		t.Error(err)
	}
}

// TestOnlyWhatThePeerDidNotSeeIsSentAgain counts the CONNECTs that a peer gets.
func TestOnlyWhatThePeerDidNotSeeIsSentAgain(t *testing.T) {
	for err, again := range map[error]bool{
		&ResetError{Code: http2.ErrCodeRefusedStream, Remote: true}: true,
		&ResetError{Code: http2.ErrCodeRefusedStream}:               false,
		&ResetError{Code: http2.ErrCodeCancel, Remote: true}:        false,
		&StatusError{503}:                        false,
		&brokenError{cause: io.ErrUnexpectedEOF}: false,
		errRefused:                               true,
		errNoStreams:                             true,
		context.DeadlineExceeded:                 false,
		fmt.Errorf("connect: %w", errRefused):    true,
	} {
		if unseen(err) != again {
			t.Errorf("%v: sent again %v", err, !again)
		}
	}
}

// FuzzFrames gives both roles any bytes. Neither may hang, panic or take long.
func FuzzFrames(f *testing.F) {
	for _, s := range badServers {
		f.Add([]byte(s.script), true)
		f.Add([]byte(http2.ClientPreface+emptySettings+s.script), false)
	}
	f.Fuzz(func(t *testing.T, in []byte, client bool) {
		ours, theirs := net.Pipe()
		var c *conn
		if client {
			c = newConn(ours, true, defaultTiming(time.Minute), newBuffers(1<<20))
			c.budget = newBudget(Limits{}.withDefaults(), nil)
			c.hello()
		} else {
			a := &acceptor{s: newServer(ServerConfig{}, nil), ctx: context.Background(), h: echo, conns: make(map[*conn]struct{})}
			c = a.newConn(ours, nil, nil)
		}
		go func() { _, _ = io.Copy(io.Discard, theirs) }()
		go func() {
			_, _ = theirs.Write(in)
			theirs.Close()
		}()
		if client {
			go func() { _, _ = c.connect(context.Background(), "10.0.0.1:80", &Header{}, time.Minute) }()
		}
		c.run()
		c.handlers.Wait()
		if n := c.bufs.held.Load(); n != 0 {
			t.Errorf("%d bytes still held", n)
		}
	})
}
