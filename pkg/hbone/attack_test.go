package hbone

import (
	"context"
	"encoding/binary"
	"errors"
	"io"
	"net"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"
)

// An attacker is a client that writes whatever frames it likes. Its peer's
// frames are read and counted unless it chooses not to.
type attacker struct {
	t     testing.TB
	c     net.Conn
	out   []byte // not yet written
	fr    *http2.Framer
	enc   *hpack.Encoder
	block []byte
	next  uint32
	code  atomic.Int64 // of the GOAWAY that came; -1 before
	ended chan struct{}
}

func attack(t testing.TB, address string, read bool) *attacker {
	t.Helper()
	c, err := net.Dial("tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	a := &attacker{t: t, c: c, next: 1, ended: make(chan struct{})}
	a.code.Store(-1)
	a.fr = http2.NewFramer(a, c)
	a.fr.AllowIllegalWrites = true
	a.enc = hpack.NewEncoder(writerFunc(func(p []byte) (int, error) { a.block = append(a.block, p...); return len(p), nil }))
	a.out = append(a.out, http2.ClientPreface...)
	_ = a.fr.WriteSettings()
	if read {
		go a.read()
	} else {
		close(a.ended)
	}
	t.Cleanup(func() { c.Close(); <-a.ended })
	return a
}

type writerFunc func([]byte) (int, error)

func (f writerFunc) Write(p []byte) (int, error) { return f(p) }

// Write collects frames, so that the attack is as cheap as an attacker would make it.
func (a *attacker) Write(p []byte) (int, error) {
	a.out = append(a.out, p...)
	if len(a.out) < 16<<10 {
		return len(p), nil
	}
	return len(p), a.flush()
}

func (a *attacker) flush() error {
	_, err := a.c.Write(a.out)
	a.out = a.out[:0]
	return err
}

func (a *attacker) read() {
	defer close(a.ended)
	for {
		f, err := a.fr.ReadFrame()
		if err != nil {
			return
		}
		if g, ok := f.(*http2.GoAwayFrame); ok {
			a.code.Store(int64(g.ErrCode))
		}
	}
}

func (a *attacker) fields(kv ...string) []byte {
	a.block = a.block[:0]
	for i := 0; i < len(kv); i += 2 {
		_ = a.enc.WriteField(hpack.HeaderField{Name: kv[i], Value: kv[i+1]})
	}
	return a.block
}

// connect opens a stream and returns its number.
func (a *attacker) connect() uint32 {
	id := a.next
	a.next += 2
	_ = a.fr.WriteHeaders(http2.HeadersFrameParam{StreamID: id, EndHeaders: true,
		BlockFragment: a.fields(":method", "CONNECT", ":authority", "10.0.0.1:80")})
	return id
}

// accepting opens each tunnel and leaves it open.
func accepting(ctx context.Context, in *Incoming) {
	t, err := in.Accept(Header{})
	if err != nil {
		return
	}
	_, _ = io.Copy(io.Discard, struct{ io.Reader }{t})
	<-ctx.Done()
}

func sending(ctx context.Context, in *Incoming) {
	t, err := in.Accept(Header{})
	if err != nil {
		return
	}
	p := make([]byte, 64<<10)
	for {
		if _, err := t.Write(p); err != nil {
			return
		}
	}
}

// floods are attacks by frames: what one round sends, and how many rounds must
// never be taken. Each must be answered by GOAWAY, or by the end of the connection.
var floods = []struct {
	name    string
	handler Handler
	rounds  int
	quiet   bool          // the attacker does not read
	code    http2.ErrCode // of GOAWAY, if not ENHANCE_YOUR_CALM
	prepare func(a *attacker)
	round   func(a *attacker)
}{
	{name: "rapid reset", handler: accepting, rounds: 20_000, round: func(a *attacker) {
		_ = a.fr.WriteRSTStream(a.connect(), http2.ErrCodeCancel)
	}},
	{name: "rapid reset of refused requests", handler: accepting, rounds: 100_000, round: func(a *attacker) {
		id := a.next
		a.next += 2
		_ = a.fr.WriteHeaders(http2.HeadersFrameParam{StreamID: id, EndHeaders: true,
			BlockFragment: a.fields(":method", "GET", ":scheme", "http", ":path", "/", ":authority", "a")})
		_ = a.fr.WriteRSTStream(id, http2.ErrCodeCancel)
	}},
	{name: "made you reset by WINDOW_UPDATE", handler: accepting, rounds: 20_000, round: func(a *attacker) {
		_ = a.fr.WriteWindowUpdate(a.connect(), 0)
	}},
	{name: "made you reset by overflow", handler: accepting, rounds: 20_000, round: func(a *attacker) {
		_ = a.fr.WriteWindowUpdate(a.connect(), 1<<31-1)
	}},
	{name: "made you reset by HEADERS", handler: accepting, rounds: 20_000, round: func(a *attacker) {
		_ = a.fr.WriteHeaders(http2.HeadersFrameParam{StreamID: a.connect(), EndHeaders: true, BlockFragment: a.fields("x", "y")})
	}},
	{name: "made you reset by PRIORITY", handler: accepting, rounds: 20_000, round: func(a *attacker) {
		id := a.connect()
		_ = a.fr.WritePriority(id, http2.PriorityParam{StreamDep: id})
	}},
	{name: "made you reset after GOAWAY", handler: accepting, rounds: 20_000, prepare: func(a *attacker) {
		a.connect()
		_ = a.fr.WriteGoAway(0, http2.ErrCodeNo, nil)
	}, round: func(a *attacker) {
		_ = a.fr.WriteWindowUpdate(a.connect(), 0)
	}},
	{name: "malformed requests", handler: accepting, rounds: 20_000, round: func(a *attacker) {
		id := a.next
		a.next += 2
		_ = a.fr.WriteHeaders(http2.HeadersFrameParam{StreamID: id, EndHeaders: true, EndStream: true, BlockFragment: a.fields(":method", "CONNECT", "X", "y")})
	}},
	{name: "streams over the limit", handler: accepting, rounds: 20_000, round: func(a *attacker) { a.connect() }},
	{name: "CONTINUATION", handler: accepting, rounds: 1000, prepare: func(a *attacker) {
		_ = a.fr.WriteHeaders(http2.HeadersFrameParam{StreamID: 1, BlockFragment: a.fields(":method", "CONNECT")})
	}, round: func(a *attacker) { _ = a.fr.WriteContinuation(1, false, make([]byte, 1000)) }},
	{name: "empty CONTINUATION", handler: accepting, rounds: 20_000, prepare: func(a *attacker) {
		_ = a.fr.WriteHeaders(http2.HeadersFrameParam{StreamID: 1, BlockFragment: a.fields(":method", "CONNECT")})
	}, round: func(a *attacker) { _ = a.fr.WriteContinuation(1, false, nil) }},
	{name: "SETTINGS", handler: accepting, rounds: 500_000, round: func(a *attacker) {
		_ = a.fr.WriteSettings(http2.Setting{ID: http2.SettingInitialWindowSize, Val: uint32(a.next)})
		a.next++
	}},
	{name: "SETTINGS acknowledgements", handler: accepting, rounds: 500_000, round: func(a *attacker) { _ = a.fr.WriteSettingsAck() }},
	{name: "PING", handler: accepting, rounds: 500_000, round: func(a *attacker) { _ = a.fr.WritePing(false, [8]byte{}) }},
	{name: "PING without reading", handler: accepting, quiet: true, rounds: 5_000_000, round: func(a *attacker) { _ = a.fr.WritePing(false, [8]byte{}) }},
	{name: "PING answers", handler: accepting, rounds: 500_000, round: func(a *attacker) { _ = a.fr.WritePing(true, [8]byte{}) }},
	{name: "PRIORITY", handler: accepting, rounds: 1_000_000, round: func(a *attacker) {
		_ = a.fr.WritePriority(7, http2.PriorityParam{StreamDep: 3})
	}},
	{name: "GOAWAY", handler: accepting, rounds: 500_000, prepare: func(a *attacker) { a.connect() }, round: func(a *attacker) {
		_ = a.fr.WriteGoAway(0, http2.ErrCodeNo, nil)
	}},
	{name: "WINDOW_UPDATE of the connection", handler: accepting, rounds: 1_000_000, round: func(a *attacker) { _ = a.fr.WriteWindowUpdate(0, 300) }},
	{name: "WINDOW_UPDATE of a stream", handler: accepting, rounds: 1_000_000, prepare: func(a *attacker) { a.connect() }, round: func(a *attacker) {
		_ = a.fr.WriteWindowUpdate(1, 300)
	}},
	{name: "empty DATA", handler: accepting, rounds: 1_000_000, prepare: func(a *attacker) { a.connect() }, round: func(a *attacker) {
		_ = a.fr.WriteData(1, false, nil)
	}},
	{name: "padding", handler: accepting, rounds: 1_000_000, prepare: func(a *attacker) { a.connect() }, round: func(a *attacker) {
		_ = a.fr.WriteDataPadded(1, false, nil, make([]byte, 10))
	}},
	{name: "DATA on a closed stream", handler: accepting, rounds: 100_000, prepare: func(a *attacker) {
		_ = a.fr.WriteRSTStream(a.connect(), http2.ErrCodeCancel)
	}, round: func(a *attacker) { _ = a.fr.WriteData(1, false, []byte("x")) }},
	{name: "unknown frames", handler: accepting, rounds: 1_000_000, round: func(a *attacker) { _ = a.fr.WriteRawFrame(0xee, 0, 0, nil) }},
	{name: "HPACK bomb", handler: accepting, rounds: 1000, prepare: func(a *attacker) {
		_ = a.fr.WriteHeaders(http2.HeadersFrameParam{StreamID: a.connect() + 2, EndHeaders: true,
			BlockFragment: a.fields(":method", "CONNECT", ":authority", "10.0.0.1:80", "bomb", string(make([]byte, 3000)))})
		a.next += 2
	}, round: func(a *attacker) {
		block := a.fields(":method", "CONNECT", ":authority", "10.0.0.1:80")
		for range 8000 {
			block = append(block, 0x80|62) // the newest entry of the dynamic table
		}
		_ = a.fr.WriteHeaders(http2.HeadersFrameParam{StreamID: a.next, EndHeaders: true, BlockFragment: block})
		a.next += 2
	}},
	{name: "one-byte windows", handler: sending, rounds: 1_000_000, prepare: func(a *attacker) {
		_ = a.fr.WriteSettings(http2.Setting{ID: http2.SettingInitialWindowSize, Val: 0})
		a.connect()
	}, round: func(a *attacker) { _ = a.fr.WriteWindowUpdate(1, 1) }},
	{name: "opening and closing", handler: func(_ context.Context, in *Incoming) {
		if t, err := in.Accept(Header{}); err == nil {
			_ = t.CloseWrite()
		}
	}, rounds: 1_000_000, round: func(a *attacker) { _ = a.fr.WriteData(a.connect(), true, nil) }},
	{name: "CONNECT to nowhere", handler: accepting, rounds: 1_000_000, round: func(a *attacker) {
		id := a.next
		a.next += 2
		_ = a.fr.WriteHeaders(http2.HeadersFrameParam{StreamID: id, EndHeaders: true, EndStream: true,
			BlockFragment: a.fields(":method", "CONNECT", ":authority", "nowhere")})
	}},
}

func TestFloodsAreCut(t *testing.T) {
	for _, f := range floods {
		t.Run(f.name, func(t *testing.T) {
			var dials atomic.Int64
			a := attack(t, plainServer(t, func(ctx context.Context, in *Incoming) {
				dials.Add(1)
				f.handler(ctx, in)
			}, Limits{}), !f.quiet)
			if f.prepare != nil {
				f.prepare(a)
			}
			_ = a.flush()
			n := a.flood(f.rounds, f.round)
			if f.quiet {
				if n == f.rounds {
					t.Fatalf("not cut after %d rounds", n)
				}
				return
			}
			_ = a.c.SetReadDeadline(time.Now().Add(10 * time.Second))
			<-a.ended
			if code := http2.ErrCode(a.code.Load()); code != http2.ErrCodeEnhanceYourCalm && code != f.code {
				t.Errorf("GOAWAY with %v after %d rounds", code, n)
			}
			// What an attack makes us dial is bounded by what we let be reset.
			if n := dials.Load(); n > 2000 && f.name != "opening and closing" {
				t.Errorf("%d dials", n)
			}
		})
	}
}

// flood runs rounds until the connection is closed, and tells how many it took.
func (a *attacker) flood(rounds int, round func(*attacker)) int {
	for n := range rounds {
		round(a)
		if n%64 == 63 {
			_ = a.c.SetWriteDeadline(time.Now().Add(10 * time.Second))
			if err := a.flush(); err != nil {
				if !errors.Is(err, syscall.EPIPE) && !errors.Is(err, syscall.ECONNRESET) {
					a.t.Errorf("after %d rounds: %v", n, err)
				}
				return n
			}
		}
	}
	return rounds
}

// TestAWellBehavedClientIsServedBesideAnAttack: what a peer of one identity
// does is not what another pays for.
func TestAWellBehavedClientIsServedBesideAnAttack(t *testing.T) {
	w := newWorld(t, options{handler: echo})
	address := w.address.String()
	stop := make(chan struct{})
	done := make(chan struct{})
	go func() { // strangers that never finish their handshake, and junk
		defer close(done)
		for {
			select {
			case <-stop:
				return
			default:
			}
			if c, err := net.Dial("tcp", address); err == nil {
				_, _ = c.Write([]byte(http2.ClientPreface))
				c.Close()
			}
		}
	}()
	for range 50 {
		tun := w.dial()
		_, _ = tun.Write([]byte("hello"))
		if _, err := io.ReadFull(tun, make([]byte, 5)); err != nil {
			t.Error(err)
		}
		tun.Close()
	}
	close(stop)
	<-done
}

// TestAStreamThatStallsHoldsNoBuffer: windows of zero cost a goroutine and no more.
func TestAStreamThatStallsHoldsNoBuffer(t *testing.T) {
	app := serveTCP(t, func(c *net.TCPConn) {
		_, _ = c.Write(make([]byte, 1<<20))
		_, _ = io.Copy(io.Discard, c)
	})
	address := plainServer(t, relayTo(t, app), Limits{})
	a := attack(t, address, true)
	_ = a.fr.WriteSettings(http2.Setting{ID: http2.SettingInitialWindowSize, Val: 0})
	for range 50 {
		a.connect()
	}
	var p [8]byte
	binary.BigEndian.PutUint64(p[:], 1)
	_ = a.fr.WritePing(false, p)
	if err := a.flush(); err != nil {
		t.Fatal(err)
	}
	time.Sleep(50 * time.Millisecond)
	a.c.Close()
	<-a.ended
}
