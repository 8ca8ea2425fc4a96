package inspect

import (
	"bufio"
	"context"
	"errors"
	"io"
	"net"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/outrigger-mesh/outrigger/pkg/telemetry"
)

// pipe serves one end of a pipe and returns the other. An app is given by what it
// does with its end of another pipe; nil: it cannot be reached.
func pipe(t *testing.T, c Config, appDoes func(net.Conn)) (net.Conn, <-chan error) {
	a, b := net.Pipe()
	if c.Conversation == nil {
		c.Conversation = &Conversation{}
	}
	c.Upstream = func(context.Context) (net.Conn, error) {
		if appDoes == nil {
			return nil, errors.New("connection refused")
		}
		x, y := net.Pipe()
		go func() {
			defer y.Close()
			appDoes(y)
		}()
		return x, nil
	}
	done := make(chan error, 1)
	go func() { done <- Serve(t.Context(), b, c) }()
	return a, done
}

// answers returns an app that answers every request after a while.
func answers(after time.Duration, response string) func(net.Conn) {
	return func(c net.Conn) {
		r := bufio.NewReader(c)
		for {
			for {
				line, err := r.ReadString('\n')
				if err != nil {
					return
				}
				if line == "\r\n" {
					break
				}
			}
			time.Sleep(after)
			if _, err := io.WriteString(c, response); err != nil {
				return
			}
		}
	}
}

const (
	empty = "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"
	get   = "GET / HTTP/1.1\r\nHost: x\r\n\r\n"
)

// drip writes s one byte at a time until it cannot.
func drip(c net.Conn, s string, every time.Duration) {
	for i := range len(s) {
		if _, err := c.Write([]byte{s[i]}); err != nil {
			return
		}
		time.Sleep(every)
	}
}

func TestServeBoundsTime(t *testing.T) {
	post := "POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 1000000\r\n\r\n"
	read := func(next Handler) Handler {
		return HandlerFunc(func(ctx context.Context, x *Exchange) (*Response, error) {
			if _, err := io.Copy(io.Discard, x.Request.Body); err != nil {
				return nil, bodyError(err)
			}
			return Reply(200, "", nil), nil
		})
	}
	for _, c := range []struct {
		name   string
		config Config
		app    func(net.Conn)
		client func(net.Conn)
		after  time.Duration
		status string
	}{
		{"silence before the first request", Config{}, nil, func(net.Conn) {}, 5 * time.Minute, ""},
		{"silence after a request", Config{}, answers(0, empty), func(c net.Conn) { io.WriteString(c, get) }, 5 * time.Minute, "200"},
		{"half a head", Config{}, nil, func(c net.Conn) { io.WriteString(c, get[:10]) }, 10 * time.Second, "408"},
		{"a dripping head", Config{}, nil, func(c net.Conn) { drip(c, get, time.Second) }, 10 * time.Second, "408"},
		{"half a body", Config{Layers: []Layer{read}}, nil, func(c net.Conn) { io.WriteString(c, post) }, 30 * time.Second, "408"},
		{"a dripping body", Config{Layers: []Layer{read}}, nil, func(c net.Conn) {
			io.WriteString(c, post)
			drip(c, strings.Repeat("x", 1000), time.Second)
		}, 30 * time.Second, "408"},
		{"a body that nobody wants and that does not come", Config{Layers: []Layer{deny}}, nil, func(c net.Conn) {
			io.WriteString(c, "POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 10\r\n\r\n")
		}, 5 * time.Second, "403"},
		{"an app that does not answer", Config{Limits: Limits{Idle: time.Millisecond}}, answers(time.Hour, ""), func(c net.Conn) { io.WriteString(c, get) }, 15 * time.Minute, "504"},
		{"an app that stops in a body", Config{}, answers(0, "HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nabc"), func(c net.Conn) { io.WriteString(c, get) }, time.Hour, "200"},
		{"limits of our own", Config{Limits: Limits{Idle: time.Second}}, nil, func(net.Conn) {}, time.Second, ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				conn, done := pipe(t, c.config, c.app)
				defer conn.Close()
				start := time.Now()
				go c.client(conn)
				got, _ := io.ReadAll(conn)
				err := <-done
				if s := status(string(got)); s != c.status {
					t.Errorf("status %q, want %q (Serve returned %v)", s, c.status, err)
				}
				if d := time.Since(start).Round(time.Second / 2); d != c.after {
					t.Errorf("ended after %v, want %v (Serve returned %v)", d, c.after, err)
				}
				conn.Close()
				time.Sleep(2 * time.Hour) // both peers find out
			})
		})
	}
}

func TestServeGivesUpOnADownstreamThatDoesNotRead(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		conn, done := pipe(t, Config{}, answers(0, "HTTP/1.1 200 OK\r\nContent-Length: 1000000\r\n\r\n"+strings.Repeat("x", 1000000)))
		defer conn.Close()
		start := time.Now()
		io.WriteString(conn, get)
		if err := <-done; !errors.Is(err, ErrDisconnected) || time.Since(start) != time.Minute {
			t.Errorf("ended after %v with %v", time.Since(start), err)
		}
	})
}

func TestServeEndsWithItsContext(t *testing.T) {
	for name, app := range map[string]func(net.Conn){
		"idle":      answers(0, empty),
		"answering": answers(time.Hour, empty),
		"streaming": answers(0, "HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nabc"),
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				a, b := net.Pipe()
				ctx, cancel := context.WithCancel(t.Context())
				time.AfterFunc(time.Minute, cancel)
				go func() {
					io.WriteString(a, get)
					io.Copy(io.Discard, a)
				}()
				err := Serve(ctx, b, Config{Conversation: &Conversation{}, Upstream: func(context.Context) (net.Conn, error) {
					x, y := net.Pipe()
					go func() {
						defer y.Close()
						app(y)
					}()
					return x, nil
				}})
				if !errors.Is(err, context.Canceled) {
					t.Errorf("Serve returned %v", err)
				}
				time.Sleep(time.Hour) // the app's nap
			})
		})
	}
}

func TestServeTellsThatTheAppCannotBeReached(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		record := &telemetry.Connection{}
		conn, done := pipe(t, Config{Conversation: &Conversation{Record: record}}, nil)
		go io.WriteString(conn, get+"GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
		got, _ := io.ReadAll(conn)
		err := <-done
		if strings.Count(string(got), "HTTP/1.1 503 Service Unavailable\r\n") != 2 || strings.Contains(string(got), "refused") {
			t.Errorf("got %q", got)
		}
		if e, ok := errors.AsType[*Error](err); !ok || e.Status != 503 || !strings.Contains(err.Error(), "refused") {
			t.Errorf("Serve returned %v", err)
		}
		if record.Flags != "CONNECT" || record.BytesSent != int64(len(got)) || record.BytesReceived == 0 {
			t.Errorf("recorded %q, %d sent, %d received", record.Flags, record.BytesSent, record.BytesReceived)
		}
	})
}

func TestServeDoesNotWaitForABodyThatTheAppAnsweredWithout(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		conn, done := pipe(t, Config{}, answers(0, "HTTP/1.1 413 Too Large\r\nContent-Length: 0\r\n\r\n"))
		defer conn.Close()
		start := time.Now()
		go io.WriteString(conn, "POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 1000000\r\n\r\nxxx")
		got, _ := io.ReadAll(conn)
		if err := <-done; err != nil || status(string(got)) != "413" || time.Since(start) != sendGrace {
			t.Errorf("got %q and %v after %v", got, err, time.Since(start))
		}
	})
}

func TestReaderWaitsWithoutABuffer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a, b := net.Pipe()
		defer a.Close()
		r := &reader{conn: b}
		done := make(chan error)
		for range 2 {
			go func() { done <- r.fill(time.Now().Add(time.Hour)) }()
			time.Sleep(time.Minute)
			synctest.Wait()
			if r.buf != nil {
				t.Error("holds a buffer after a minute")
			}
			go io.WriteString(a, strings.Repeat("0123456789", 3))
			if err := <-done; err != nil {
				t.Fatal(err)
			}
			for r.buffered() < 30 {
				if err := r.fill(time.Now().Add(time.Hour)); err != nil {
					t.Fatal(err)
				}
			}
			if got := string(r.buf[r.r:r.w]); got != strings.Repeat("0123456789", 3) {
				t.Errorf("read %q", got)
			}
			r.discard()
		}
	})
}
