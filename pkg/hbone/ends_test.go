package hbone

import (
	"context"
	"errors"
	"io"
	"net"
	"syscall"
	"testing"
	"time"

	"golang.org/x/net/http2"

	"github.com/outrigger-mesh/outrigger/pkg/relay"
)

// A carried is a tunnel to a scripted ztunnel that is relayed to an app.
type carried struct {
	z   *ztunnel
	id  uint32
	app *net.TCPConn       // the app's own end
	cut context.CancelFunc // as policy does
}

// carry relays tun, which z has at its other end.
func carry(t *testing.T, z *ztunnel, id uint32, tun *Tunnel) *carried {
	ours, app := tcpPair(t)
	_ = app.SetDeadline(time.Now().Add(20 * time.Second)) // fails only on a closed connection
	ctx, cut := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() {
		defer close(done)
		relay.Copy(ctx, tun, ours)
	}()
	t.Cleanup(func() {
		cut()
		app.Close()
		<-done
	})
	return &carried{z, id, app, cut}
}

// towards opens a tunnel in one of our two roles.
var towards = map[string]func(*testing.T) *carried{
	"we are the server": func(t *testing.T) *carried {
		z, arrived := accepts(t)
		z.first()
		z.headers(1, false, ":method", "CONNECT", ":authority", target)
		tun, err := (<-arrived).Accept(Header{})
		if err != nil {
			t.Fatal(err)
		}
		z.fields()
		return carry(t, z, 1, tun)
	},
	"we are the client": func(t *testing.T) *carried {
		ours, theirs := tcpPair(t)
		c := plainClient(t, ours)
		z := newZtunnel(t, theirs)
		t.Cleanup(func() { theirs.Close() })
		if _, err := io.ReadFull(theirs, make([]byte, len(http2.ClientPreface))); err != nil {
			t.Fatal(err)
		}
		z.settings()
		answered := make(chan *Tunnel)
		go func() {
			tun, err := c.connect(context.Background(), target, &Header{}, 20*time.Second)
			if err != nil {
				t.Error(err)
			}
			answered <- tun
		}()
		z.fields()
		z.headers(1, false, ":status", "200")
		return carry(t, z, 1, <-answered)
	},
}

// What the app does, what ztunnel sends, and what each sees of the other, as ztunnel's
// own table has it (h2.rs and copy.rs), but for resets: ztunnel swallows those of its
// app, and takes CANCEL for an end; we pass them on.
func TestEndsAndResetsAreToldToTheOtherSide(t *testing.T) {
	reset := func(code http2.ErrCode) func(*carried) {
		return func(c *carried) { _ = c.z.fr.WriteRSTStream(c.id, code) }
	}
	for name, c := range map[string]struct {
		act   func(*carried)
		frame string // that ztunnel gets
		app   error  // what the app reads
	}{
		"FIN of the app is END_STREAM": {act: func(c *carried) { _ = c.app.CloseWrite() }, frame: "end"},
		"RST of the app is a reset that Envoy and ztunnel show": {act: func(c *carried) {
			_ = c.app.SetLinger(0)
			c.app.Close()
		}, frame: "INTERNAL_ERROR"},
		"a cut by policy is one, too":           {act: func(c *carried) { c.cut() }, frame: "INTERNAL_ERROR", app: syscall.ECONNRESET},
		"END_STREAM is FIN":                     {act: func(c *carried) { _ = c.z.fr.WriteData(c.id, true, nil) }, app: io.EOF},
		"CANCEL, as of a tunnel that is killed": {act: reset(http2.ErrCodeCancel), app: syscall.ECONNRESET},
		"NO_ERROR before the end":               {act: reset(http2.ErrCodeNo), app: syscall.ECONNRESET},
		"STREAM_CLOSED":                         {act: reset(http2.ErrCodeStreamClosed), app: syscall.ECONNRESET},
		"INTERNAL_ERROR":                        {act: reset(http2.ErrCodeInternal), app: syscall.ECONNRESET},
		"CONNECT_ERROR, as Envoy":               {act: reset(http2.ErrCodeConnect), app: syscall.ECONNRESET},
		"NO_ERROR after the end, as Envoy": {act: func(c *carried) {
			_ = c.z.fr.WriteData(c.id, true, nil)
			_ = c.z.fr.WriteRSTStream(c.id, http2.ErrCodeNo)
		}, app: io.EOF},
		"the connection is lost": {act: func(c *carried) { c.z.c.Close() }, app: syscall.ECONNRESET},
		"GOAWAY lets it end by itself": {act: func(c *carried) {
			_ = c.z.fr.WriteGoAway(c.id, http2.ErrCodeNo, nil)
			_ = c.z.fr.WriteData(c.id, true, nil)
		}, app: io.EOF},
	} {
		for role, open := range towards {
			t.Run(name+"/"+role, func(t *testing.T) {
				e := open(t)
				c.act(e)
				if c.app != nil {
					_, err := io.Copy(io.Discard, struct{ io.Reader }{e.app})
					if err == nil {
						err = io.EOF
					}
					if !errors.Is(err, c.app) {
						t.Errorf("the app sees %v, want %v", err, c.app)
					}
				}
				if f := e.told(c.frame); f != c.frame {
					t.Errorf("ztunnel sees %q, want %q", f, c.frame)
				}
			})
		}
	}
}

// told is how ztunnel is told of the end, if it is to be.
func (c *carried) told(want string) string {
	for want != "" {
		switch f := c.z.next().(type) {
		case *http2.DataFrame:
			if f.StreamEnded() {
				return "end"
			}
		case *http2.RSTStreamFrame:
			return f.ErrCode.String()
		}
	}
	return ""
}

// One direction's end leaves the other open, for as long as it takes.
func TestAnEndOfOneDirectionIsNoneOfTheOther(t *testing.T) {
	for role, open := range towards {
		t.Run(role, func(t *testing.T) {
			e := open(t)
			_ = e.z.fr.WriteData(e.id, true, []byte("ask"))
			if got, err := io.ReadAll(e.app); err != nil || string(got) != "ask" {
				t.Fatalf("%q, %v", got, err)
			}
			_, _ = e.app.Write([]byte("answer"))
			_ = e.app.CloseWrite()
			var got string
			for {
				f, ok := e.z.next().(*http2.DataFrame)
				if !ok {
					t.Fatal("not DATA")
				}
				if got += string(f.Data()); f.StreamEnded() {
					break
				}
			}
			if got != "answer" {
				t.Errorf("%q", got)
			}
		})
	}
}
