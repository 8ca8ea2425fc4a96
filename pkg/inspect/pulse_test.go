package inspect

import (
	"bufio"
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"
)

// eventStream answers a request with an event stream that says what comes on events,
// and ends when that is closed.
func eventStream(events <-chan string, contentType string) Layer {
	return func(Handler) Handler {
		return HandlerFunc(func(ctx context.Context, x *Exchange) (*Response, error) {
			r, w := io.Pipe()
			go func() {
				for e := range events {
					io.WriteString(w, e)
				}
				w.Close()
			}()
			return &Response{Status: 200, Header: Header{{"Content-Type", contentType}}, Body: r, ContentLength: -1}, nil
		})
	}
}

// overPipe serves a connection in memory and returns the other end of it.
func overPipe(t *testing.T, c Config) (net.Conn, <-chan error) {
	t.Helper()
	near, far := net.Pipe()
	served := make(chan error, 1)
	c.Conversation = &Conversation{}
	go func() { served <- Serve(t.Context(), far, c) }()
	return near, served
}

// heard collects what is read from r and when.
type heard struct {
	text string
	at   time.Duration
}

func hear(r io.Reader, start time.Time) <-chan heard {
	out := make(chan heard, 100)
	go func() {
		defer close(out)
		buf := make([]byte, 1024)
		for {
			n, err := r.Read(buf)
			if n > 0 {
				out <- heard{string(buf[:n]), time.Since(start)}
			}
			if err != nil {
				return
			}
		}
	}()
	return out
}

func TestASilentEventStreamGetsComments(t *testing.T) {
	const chunk = "3\r\n:\n\n\r\n"
	for _, c := range []struct {
		name, contentType string
		keepAlive         time.Duration
		says              string
		want              int // comments in the minute after it
	}{
		{"before the first event", "text/event-stream", 10 * time.Second, "", 5},
		{"after an event", "text/event-stream", 10 * time.Second, "data: 1\n\n", 5},
		{"in another case, with a parameter", "TEXT/Event-Stream; charset=utf-8", 10 * time.Second, "data: 1\r\n\r\n", 5},
		{"by default", "text/event-stream", 0, "data: 1\n\n", 1},
		{"never", "text/event-stream", -1, "data: 1\n\n", 0},
		{"in the middle of an event", "text/event-stream", 10 * time.Second, "data: 1\n", 0},
		{"in the middle of a line", "text/event-stream", 10 * time.Second, "data: 1", 0},
		{"of another type", "application/json", 10 * time.Second, "", 0},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				events := make(chan string)
				conn, served := overPipe(t, Config{Layers: []Layer{eventStream(events, c.contentType)}, Limits: Limits{KeepAlive: c.keepAlive}})
				out := hear(conn, time.Now())
				io.WriteString(conn, "GET / HTTP/1.1\r\nHost: a\r\n\r\n")
				if c.says != "" {
					events <- c.says
				}
				synctest.Wait()
				time.Sleep(59 * time.Second)
				close(events)
				synctest.Wait()
				conn.Close()
				comments := 0
				for h := range out {
					comments += strings.Count(h.text, chunk)
				}
				if comments != c.want {
					t.Errorf("%d comments, want %d", comments, c.want)
				}
				<-served
			})
		})
	}
}

func TestAnEventPutsTheNextCommentOff(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		events := make(chan string)
		conn, served := overPipe(t, Config{Layers: []Layer{eventStream(events, "text/event-stream")}, Limits: Limits{KeepAlive: 10 * time.Second}})
		start := time.Now()
		out := hear(conn, start)
		io.WriteString(conn, "GET / HTTP/1.1\r\nHost: a\r\n\r\n")
		for range 5 {
			time.Sleep(9 * time.Second)
			events <- "data: 1\n\n"
		}
		time.Sleep(11 * time.Second)
		close(events)
		synctest.Wait()
		conn.Close()
		var comments []time.Duration
		for h := range out {
			if strings.Contains(h.text, ":\n\n\r\n") && !strings.Contains(h.text, "data") {
				comments = append(comments, h.at)
			}
		}
		if len(comments) != 1 || comments[0] != 55*time.Second {
			t.Errorf("comments at %v", comments)
		}
		<-served
	})
}

func TestASilentEventStreamGetsCommentsInHTTP2(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		events := make(chan string)
		conn, served := overPipe(t, Config{Layers: []Layer{eventStream(events, "text/event-stream")}, Limits: Limits{KeepAlive: 10 * time.Second}})
		fr := http2.NewFramer(conn, conn)
		fr.ReadMetaHeaders = hpack.NewDecoder(4096, nil)
		said := make(chan string, 100)
		go func() {
			defer close(said)
			for {
				f, err := fr.ReadFrame()
				if err != nil {
					return
				}
				if d, ok := f.(*http2.DataFrame); ok {
					said <- string(d.Data())
				}
			}
		}()
		io.WriteString(conn, http2.ClientPreface)
		fr.WriteSettings()
		conn.Write(streamCase{steps: []string{"get", "end"}}.frames(t))
		events <- "data: 1\n\n"
		synctest.Wait()
		time.Sleep(35 * time.Second)
		events <- "data: 2\n"
		synctest.Wait()
		time.Sleep(35 * time.Second)
		close(events)
		synctest.Wait()
		conn.Close()
		var all []string
		for s := range said {
			all = append(all, s)
		}
		if got := strings.Join(all, "|"); got != "data: 1\n\n|:\n\n|:\n\n|:\n\n|data: 2\n|" {
			t.Errorf("got %q", got)
		}
		<-served
	})
}

// TestCloseEndsARead: a layer may take a response away from whoever reads it.
func TestCloseEndsARead(t *testing.T) {
	silent := peer(t, func(c net.Conn, r *bufio.Reader) {
		r.ReadString('\n')
		io.WriteString(c, "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\ndata: 1\n\n")
		io.Copy(io.Discard, r) // until the proxy goes
	})
	silent2 := h2App(t, func(w http.ResponseWriter, r *http.Request) {
		io.WriteString(w, "data: 1\n\n")
		http.NewResponseController(w).Flush()
		<-r.Context().Done()
	})
	for name, addr := range map[string]string{"HTTP/1.1": silent, "HTTP/2": silent2} {
		t.Run(name, func(t *testing.T) {
			read := make(chan error, 1)
			taker := func(next Handler) Handler {
				return HandlerFunc(func(ctx context.Context, x *Exchange) (*Response, error) {
					resp, err := next.Do(ctx, x)
					if err != nil {
						return nil, err
					}
					buf := make([]byte, 100)
					if _, err := resp.Body.Read(buf); err != nil {
						return nil, err
					}
					started := make(chan struct{})
					go func() {
						close(started)
						_, err := resp.Body.Read(buf)
						read <- err
					}()
					<-started
					resp.Body.Close()
					return Reply(200, "text/plain", []byte("taken away")), nil
				})
			}
			d := open(t, addr, Config{Layers: []Layer{taker}})
			c := client(t)
			if name == "HTTP/2" {
				c = h2Client(t)
			}
			resp, err := c.Get("http://" + d.addr + "/")
			if err != nil {
				t.Fatal(err)
			}
			defer resp.Body.Close()
			if got, _ := io.ReadAll(resp.Body); string(got) != "taken away" {
				t.Errorf("got %q", got)
			}
			if err := <-read; err == nil || errors.Is(err, io.EOF) {
				t.Errorf("the read ended with %v", err)
			}
		})
	}
}
