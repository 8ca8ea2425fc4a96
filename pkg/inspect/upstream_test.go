package inspect

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"time"
)

// readHead reads to an empty line.
func readHead(r *bufio.Reader) error {
	for {
		line, err := r.ReadString('\n')
		if err != nil || line == "\r\n" {
			return err
		}
	}
}

// An app that closes its connection after each response without saying so.
func hasty(t *testing.T, dials *atomic.Int32, pause time.Duration) string {
	return peer(t, func(c net.Conn, r *bufio.Reader) {
		dials.Add(1)
		if readHead(r) == nil {
			io.WriteString(c, "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
		}
		time.Sleep(pause)
	})
}

func TestUpstreamThatClosedWhileIdleIsDialledAnew(t *testing.T) {
	var dials atomic.Int32
	d := open(t, hasty(t, &dials, 0), Config{})
	c, err := net.Dial("tcp", d.addr)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	r := bufio.NewReader(c)
	for i := range 3 {
		fmt.Fprintf(c, "POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\n\r\nx")
		resp, err := http.ReadResponse(r, nil)
		if err != nil || resp.StatusCode != 200 {
			t.Fatalf("%d: %v, %v", i, resp, err)
		}
		time.Sleep(4 * watchAfter) // the watch has seen it by then
	}
	if dials.Load() != 3 {
		t.Errorf("dialled %d times", dials.Load())
	}
}

// A connection whose other end goes away exactly when it is used again.
type fickle struct {
	net.Conn
	writes int
}

func (f *fickle) Write(p []byte) (int, error) {
	if f.writes++; f.writes > 1 {
		f.Conn.Close()
		return 0, &net.OpError{Op: "write", Err: errors.New("broken pipe")}
	}
	return f.Conn.Write(p)
}

func TestUpstreamRepeatsOnlyWhatChangesNothing(t *testing.T) {
	a := app(t, func(w http.ResponseWriter, r *http.Request) {})
	for _, c := range []struct{ second, want string }{
		{"GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n", "200"},
		{"POST / HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: 1\r\n\r\nx", "502"},
		{"DELETE / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n", "502"},
	} {
		dials := 0
		d := open(t, "", Config{Upstream: func(ctx context.Context) (net.Conn, error) {
			dials++
			conn, err := (&net.Dialer{}).DialContext(ctx, "tcp", a)
			return &fickle{Conn: conn}, err
		}})
		got := say(t, d.addr, "GET / HTTP/1.1\r\nHost: x\r\n\r\n"+c.second)
		_, last, _ := strings.Cut(got[1:], "HTTP/1.1")
		if s := status("HTTP/1.1" + last); s != c.want {
			t.Errorf("%.10q: %s after %d dials, want %s", c.second, s, dials, c.want)
		}
	}
}

func TestUpstreamMayAnswerBeforeItReadEverything(t *testing.T) {
	for name, length := range map[string]string{"length": "Content-Length: 50000000", "chunked": "Transfer-Encoding: chunked"} {
		t.Run(name, func(t *testing.T) {
			a := peer(t, func(c net.Conn, r *bufio.Reader) {
				readHead(r)
				io.WriteString(c, "HTTP/1.1 413 Too Large\r\nContent-Length: 2\r\nConnection: close\r\n\r\nno")
				c.(*net.TCPConn).CloseWrite()
				io.CopyN(io.Discard, r, 1<<20)
			})
			d := open(t, a, Config{})
			c, err := net.Dial("tcp", d.addr)
			if err != nil {
				t.Fatal(err)
			}
			defer c.Close()
			stop := make(chan struct{})
			go func() {
				defer close(stop)
				fmt.Fprintf(c, "POST / HTTP/1.1\r\nHost: x\r\n%s\r\n\r\n", length)
				chunk := "2710\r\n" + strings.Repeat("x", 10000) + "\r\n"
				for range 5000 {
					if _, err := io.WriteString(c, chunk); err != nil {
						return
					}
				}
			}()
			resp, err := http.ReadResponse(bufio.NewReader(c), nil)
			if err != nil {
				t.Fatal(err)
			}
			if b, _ := io.ReadAll(resp.Body); resp.StatusCode != 413 || string(b) != "no" {
				t.Errorf("got %v %q", resp.StatusCode, b)
			}
			c.Close()
			<-stop
		})
	}
}

func TestUpstreamNeverSeesTheEndOfABodyThatBroke(t *testing.T) {
	got := make(chan string, 1)
	a := peer(t, func(c net.Conn, r *bufio.Reader) {
		b, _ := io.ReadAll(r)
		got <- string(b)
	})
	d := open(t, a, Config{})
	if s := say(t, d.addr, "POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\nxyz\r\n"); status(s) != "400" {
		t.Errorf("got %q", s)
	}
	if s := <-got; strings.HasSuffix(s, "0\r\n\r\n") {
		t.Errorf("the app saw %q", s)
	}
}

func TestLayersMayNotWriteLinesIntoAHead(t *testing.T) {
	a := app(t, func(w http.ResponseWriter, r *http.Request) {})
	inject := Field{"X-A", "b\r\nX-Evil: 1"}
	for name, layer := range map[string]Layer{
		"request": func(next Handler) Handler {
			return HandlerFunc(func(ctx context.Context, x *Exchange) (*Response, error) {
				x.Request.Header = append(x.Request.Header, inject)
				return next.Do(ctx, x)
			})
		},
		"response": func(next Handler) Handler {
			return HandlerFunc(func(ctx context.Context, x *Exchange) (*Response, error) {
				resp, err := next.Do(ctx, x)
				resp.Header = append(resp.Header, inject)
				return resp, err
			})
		},
	} {
		got := say(t, open(t, a, Config{Layers: []Layer{layer}}).addr, "GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
		if s := status(got); s != "500" && s != "502" || strings.Contains(got, "Evil") {
			t.Errorf("%s: got %q", name, got)
		}
	}
}

func TestErrorsOfLayersChooseTheStatus(t *testing.T) {
	for _, c := range []struct {
		err    error
		status string
	}{
		{&Error{Status: 415, Problem: "not JSON", Err: errors.New("secret")}, "415"},
		{fmt.Errorf("wrapped: %w", &Error{Status: 429, Problem: "slower"}), "429"},
		{errors.New("secret"), "500"},
		{nil, "500"},
	} {
		fail := func(Handler) Handler {
			return HandlerFunc(func(context.Context, *Exchange) (*Response, error) { return nil, c.err })
		}
		d := open(t, "", Config{Layers: []Layer{fail}})
		got := say(t, d.addr, "POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\nConnection: close\r\n\r\nx")
		if status(got) != c.status || strings.Contains(got, "secret") {
			t.Errorf("%v: got %q", c.err, got)
		}
		if err := <-d.errs; err == nil || c.err != nil && !errors.Is(err, c.err) && !strings.Contains(err.Error(), "slower") {
			t.Errorf("%v: Serve returned %v", c.err, err)
		}
	}
}

func TestServeSpeaksToHTTP10AndHEAD(t *testing.T) {
	a := app(t, func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/known" {
			w.Header().Set("Content-Length", "5")
		}
		io.WriteString(w, "hello")
		http.NewResponseController(w).Flush()
	})
	d := open(t, a, Config{})
	if got := say(t, d.addr, "GET / HTTP/1.0\r\nHost: x\r\n\r\n"); strings.Contains(got, "chunked") || !strings.HasSuffix(got, "\r\n\r\nhello") {
		t.Errorf("HTTP/1.0: %q", got)
	}
	if got := say(t, d.addr, "HEAD /known HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"); !strings.Contains(got, "Content-Length: 5\r\n") || !strings.HasSuffix(got, "\r\n\r\n") {
		t.Errorf("HEAD: %q", got)
	}
	if got := say(t, d.addr, "HEAD / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"); strings.Contains(got, "hello") {
		t.Errorf("HEAD: %q", got)
	}
}

func TestRoundTripSendsAMessageOfOurOwn(t *testing.T) {
	a := app(t, func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/none" {
			w.WriteHeader(202)
			return
		}
		b, _ := io.ReadAll(r.Body)
		w.Write(b)
	})
	for _, path := range []string{"/", "/none"} {
		conn, err := net.Dial("tcp", a)
		if err != nil {
			t.Fatal(err)
		}
		body := bytes.Repeat([]byte("x"), 100_000)
		resp, err := RoundTrip(t.Context(), conn, &Request{
			Method: "POST", Target: path, Host: "x",
			Header: Header{{"Content-Type", "application/json"}},
			Body:   bytes.NewReader(body), ContentLength: int64(len(body)),
		}, Limits{})
		if err != nil {
			t.Fatal(err)
		}
		if path == "/none" {
			if resp.Status != 202 || resp.Body != nil {
				t.Errorf("got %+v", resp)
			}
		} else if got, err := io.ReadAll(resp.Body); err != nil || !bytes.Equal(got, body) {
			t.Errorf("got %d bytes, %v", len(got), err)
		} else {
			resp.Body.Close()
		}
		if _, err := conn.Write([]byte("x")); !errors.Is(err, net.ErrClosed) {
			t.Errorf("connection was left open: %v", err)
		}
	}
}

func TestHeaderIgnoresTheCaseOfASCIIOnly(t *testing.T) {
	h := Header{{"a-B", "1"}, {"X", "2"}, {"A-b", "3"}, {"aſ", "4"}}
	if h.Get("A-B") != "1" || h.Count("a-b") != 2 || h.Has("as") || !h.Has("x") || h.Get("none") != "" {
		t.Error("look-up")
	}
	var all []string
	for v := range h.Values("a-b") {
		all = append(all, v)
	}
	if fmt.Sprint(all) != "[1 3]" {
		t.Errorf("values %v", all)
	}
	c := h.Clone()
	c.Set("A-B", "5")
	c.Set("new", "6")
	c.Del("x")
	c.Add("X", "7")
	if fmt.Sprint(c) != "[{a-B 5} {aſ 4} {new 6} {X 7}]" {
		t.Errorf("changed to %v", c)
	}
	if fmt.Sprint(h) != "[{a-B 1} {X 2} {A-b 3} {aſ 4}]" {
		t.Errorf("the original changed to %v", h)
	}
	if n := testing.AllocsPerRun(100, func() {
		h.Get("a-b")
		h.Has("zz")
		for range h.Values("x") {
		}
	}); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

func TestResponseUntilTheEndIsResetIfItIsNotWhole(t *testing.T) {
	a := peer(t, func(c net.Conn, r *bufio.Reader) {
		readHead(r)
		io.WriteString(c, "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n")
	})
	c, err := net.Dial("tcp", open(t, a, Config{}).addr)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	io.WriteString(c, "GET / HTTP/1.0\r\nHost: x\r\n\r\n")
	if got, err := io.ReadAll(c); err == nil {
		t.Errorf("%q seems complete", got)
	}
}

// A head that fills its limit grows when it is written: by spaces and by fields of ours.
func TestHeadThatGrowsPastTheBufferKeepsItsBody(t *testing.T) {
	d := open(t, app(t, func(w http.ResponseWriter, r *http.Request) {
		b, _ := io.ReadAll(r.Body)
		fmt.Fprintf(w, "%s %d", b, len(r.Header.Get("X-Last")))
	}), Config{})
	head := "POST / HTTP/1.1\r\nHost:x\r\nConnection:close\r\nContent-Length:5\r\n" + strings.Repeat("X-A:b\r\n", 110) + "X-Last:"
	last := bufferSize - len(head) - len("\r\n\r\n")
	got := say(t, d.addr, head+strings.Repeat("c", last)+"\r\n\r\nhello")
	if want := fmt.Sprintf("hello %d", last); status(got) != "200" || !strings.HasSuffix(got, want) {
		t.Errorf("the app saw something else than %q: %q", want, got)
	}
}

// The app answers at once, reads nothing of the request and goes on listening.
func TestADownstreamWhoseRequestWasReadGoesOnAfterAnEarlyAnswer(t *testing.T) {
	lasting := make(chan struct{})
	a := peer(t, func(c net.Conn, r *bufio.Reader) {
		if readHead(r) == nil {
			io.WriteString(c, "HTTP/1.1 401 Unauthorized\r\nContent-Length: 2\r\n\r\nno")
			<-lasting
		}
	})
	defer close(lasting)
	whole := func(next Handler) Handler {
		return HandlerFunc(func(ctx context.Context, x *Exchange) (*Response, error) {
			b, err := io.ReadAll(x.Request.Body)
			if err != nil {
				return nil, err
			}
			x.Request.Body = bytes.NewReader(b)
			return next.Do(ctx, x)
		})
	}
	d := open(t, a, Config{Layers: []Layer{whole}})
	c, err := net.Dial("tcp", d.addr)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	c.SetDeadline(time.Now().Add(30 * time.Second))
	r := bufio.NewReader(c)
	for i := range 3 {
		const size = 16 << 20 // more than sockets hold
		if _, err := fmt.Fprintf(c, "POST / HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n%s", size, make([]byte, size)); err != nil {
			t.Fatalf("request %d: %v", i, err)
		}
		resp, err := http.ReadResponse(r, nil)
		if err != nil {
			t.Fatalf("request %d: %v", i, err)
		}
		if b, err := io.ReadAll(resp.Body); string(b) != "no" || err != nil || resp.Close {
			t.Fatalf("request %d: %q, %v, closing: %v", i, b, err, resp.Close)
		}
	}
}

// Whoever closes a body beside its last Read interrupts a connection that had come to
// a clean end.
func TestAConnectionWhoseReadsWereInterruptedIsNotUsedAgain(t *testing.T) {
	late := func(next Handler) Handler {
		return HandlerFunc(func(ctx context.Context, x *Exchange) (*Response, error) {
			resp, err := next.Do(ctx, x)
			if err != nil {
				return nil, err
			}
			b, err := io.ReadAll(resp.Body)
			if err != nil {
				return nil, err
			}
			resp.Body.(*responseBody).upstream.in.interrupt()
			resp.Body.Close()
			return Reply(resp.Status, "text/plain", b), nil
		})
	}
	d := open(t, app(t, func(w http.ResponseWriter, r *http.Request) { io.WriteString(w, "ok") }), Config{Layers: []Layer{late}})
	c := client(t)
	for range 3 {
		resp, err := c.Post("http://"+d.addr+"/", "text/plain", strings.NewReader("x"))
		if err != nil {
			t.Fatal(err)
		}
		if _, err := io.ReadAll(resp.Body); err != nil {
			t.Fatal(err)
		}
		resp.Body.Close()
		if resp.StatusCode != 200 {
			t.Errorf("status %d", resp.StatusCode)
		}
	}
}
