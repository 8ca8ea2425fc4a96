package inspect

import (
	"bufio"
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"
)

func TestServePassesRequestsAndResponses(t *testing.T) {
	a := app(t, func(w http.ResponseWriter, r *http.Request) {
		b, _ := io.ReadAll(r.Body)
		w.Header().Set("X-Seen", fmt.Sprint(r.Method, r.RequestURI, r.Host, r.ContentLength, len(b)))
		w.Write(b)
	})
	d := open(t, a, Config{})
	c := client(t)
	for i := range 50 {
		body := strings.Repeat("x", i*1500)
		resp, err := c.Post("http://"+d.addr+"/mcp?x=1", "application/json", strings.NewReader(body))
		if err != nil {
			t.Fatal(err)
		}
		b, err := io.ReadAll(resp.Body)
		resp.Body.Close()
		if err != nil || string(b) != body {
			t.Fatalf("%d: got %d bytes of %d, %v", i, len(b), len(body), err)
		}
		if want := fmt.Sprint("POST", "/mcp?x=1", d.addr, len(body), len(body)); resp.Header.Get("X-Seen") != want {
			t.Fatalf("app saw %q, want %q", resp.Header.Get("X-Seen"), want)
		}
	}
}

func TestServeReusesTheUpstreamConnection(t *testing.T) {
	var dials atomic.Int32
	a := app(t, func(w http.ResponseWriter, r *http.Request) { io.Copy(w, r.Body) })
	d := open(t, a, Config{Upstream: func(ctx context.Context) (net.Conn, error) {
		dials.Add(1)
		return (&net.Dialer{}).DialContext(ctx, "tcp", a)
	}})
	c := client(t)
	for range 20 {
		resp, err := c.Post("http://"+d.addr, "text/plain", strings.NewReader("hello"))
		if err != nil {
			t.Fatal(err)
		}
		io.Copy(io.Discard, resp.Body)
		resp.Body.Close()
	}
	if n := dials.Load(); n != 1 {
		t.Errorf("dialled %d times for 20 exchanges of one connection", n)
	}
}

func TestServeCarries64MBBothWaysExactly(t *testing.T) {
	for _, chunked := range []bool{false, true} {
		t.Run(fmt.Sprintf("chunked=%v", chunked), func(t *testing.T) {
			a := app(t, func(w http.ResponseWriter, r *http.Request) {
				http.NewResponseController(w).EnableFullDuplex()
				if !chunked {
					w.Header().Set("Content-Length", r.Header.Get("Content-Length"))
				}
				io.Copy(w, r.Body)
			})
			d := open(t, a, Config{})
			data := make([]byte, 64<<20)
			rand.Read(data)
			req, _ := http.NewRequest("POST", "http://"+d.addr, struct{ io.Reader }{bytes.NewReader(data)})
			if !chunked {
				req.ContentLength = int64(len(data))
			}
			resp, err := client(t).Do(req)
			if err != nil {
				t.Fatal(err)
			}
			defer resp.Body.Close()
			got, err := io.ReadAll(resp.Body)
			if err != nil || !bytes.Equal(got, data) {
				t.Fatalf("got %d bytes, equal %v, %v", len(got), bytes.Equal(got, data), err)
			}
		})
	}
}

func TestServeFlushesEventsAsTheyCome(t *testing.T) {
	next := make(chan struct{})
	a := app(t, func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "text/event-stream")
		w.WriteHeader(200)
		http.NewResponseController(w).Flush()
		for i := 0; ; i++ {
			select {
			case <-r.Context().Done():
				return
			case <-next:
				fmt.Fprintf(w, "data: %d\n\n", i)
				http.NewResponseController(w).Flush()
			}
		}
	})
	layers := map[string][]Layer{
		"passed through": nil,
		"read by a layer": {func(next Handler) Handler {
			return HandlerFunc(func(ctx context.Context, x *Exchange) (*Response, error) {
				resp, err := next.Do(ctx, x)
				if err == nil {
					resp.Body = struct{ io.ReadCloser }{resp.Body}
				}
				return resp, err
			})
		}},
	}
	for name, ls := range layers {
		t.Run(name, func(t *testing.T) {
			d := open(t, a, Config{Layers: ls})
			resp, err := client(t).Get("http://" + d.addr)
			if err != nil {
				t.Fatal(err)
			}
			defer resp.Body.Close()
			lines := bufio.NewReader(resp.Body)
			for i := range 2000 {
				next <- struct{}{}
				if line, err := lines.ReadString('\n'); err != nil || line != fmt.Sprintf("data: %d\n", i) {
					t.Fatalf("event %d: %q, %v", i, line, err)
				}
				lines.ReadString('\n')
			}
		})
	}
}

func TestServeTellsTheAppThatTheDownstreamLeft(t *testing.T) {
	left := make(chan struct{})
	started := make(chan struct{})
	a := app(t, func(w http.ResponseWriter, r *http.Request) {
		io.Copy(io.Discard, r.Body)
		w.WriteHeader(200)
		http.NewResponseController(w).Flush()
		close(started)
		<-r.Context().Done()
		close(left)
	})
	d := open(t, a, Config{})
	ctx, cancel := context.WithCancel(context.Background())
	req, _ := http.NewRequestWithContext(ctx, "POST", "http://"+d.addr, strings.NewReader("x"))
	resp, err := client(t).Do(req)
	if err != nil {
		t.Fatal(err)
	}
	<-started
	cancel()
	resp.Body.Close()
	<-left
	if err := <-d.errs; !errors.Is(err, ErrDisconnected) {
		t.Errorf("Serve returned %v", err)
	}
}

func TestServeHoldsAPipelinedRequestBack(t *testing.T) {
	var open1, most atomic.Int32
	a := app(t, func(w http.ResponseWriter, r *http.Request) {
		most.Store(max(most.Load(), open1.Add(1)))
		time.Sleep(2 * watchAfter) // long enough that the watch reads the next request
		io.WriteString(w, r.URL.Path)
		open1.Add(-1)
	})
	d := open(t, a, Config{})
	var raw strings.Builder
	for i := range 4 {
		fmt.Fprintf(&raw, "GET /%d HTTP/1.1\r\nHost: x\r\n\r\n", i)
	}
	raw.WriteString("GET /last HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
	got := say(t, d.addr, raw.String())
	if n := strings.Count(got, "HTTP/1.1 200 OK"); n != 5 {
		t.Errorf("got %d responses: %q", n, got)
	}
	if most.Load() != 1 {
		t.Errorf("%d exchanges at once", most.Load())
	}
}

// deny refuses everything without reading the body.
func deny(Handler) Handler {
	return HandlerFunc(func(context.Context, *Exchange) (*Response, error) {
		return Reply(403, "text/plain", []byte("no")), nil
	})
}

func TestServeDoesNotTakeADeniedBodyForARequest(t *testing.T) {
	d := open(t, "", Config{Layers: []Layer{deny}, Limits: Limits{Drain: 1000}})
	second := "GET /second HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"
	for _, c := range []struct {
		name, body string
		responses  int
	}{
		{"drained", strings.Repeat(second, 10), 2},
		{"too long to drain", strings.Repeat(second, 100), 1},
	} {
		got := say(t, d.addr, fmt.Sprintf("POST / HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n%s%s", len(c.body), c.body, second))
		if n := strings.Count(got, "HTTP/1.1 403 Forbidden"); n != c.responses {
			t.Errorf("%s: %d responses, want %d", c.name, n, c.responses)
		}
	}
}

func TestServeAnswersExpectOnlyWhenTheBodyIsRead(t *testing.T) {
	a := app(t, func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("Expect") != "" {
			t.Error("Expect reached the app")
		}
		io.Copy(w, r.Body)
	})
	head := "POST / HTTP/1.1\r\nHost: x\r\nConnection: close\r\nExpect: 100-continue\r\nContent-Length: 5\r\n\r\n"
	got := say(t, open(t, a, Config{}).addr, head+"hello")
	if !strings.HasPrefix(got, "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\n") || !strings.HasSuffix(got, "hello") {
		t.Errorf("allowed: %q", got)
	}
	got = say(t, open(t, a, Config{Layers: []Layer{deny}}).addr, head)
	if !strings.HasPrefix(got, "HTTP/1.1 403 Forbidden\r\n") || !strings.Contains(got, "Connection: close") {
		t.Errorf("denied: %q", got)
	}
}

func TestServeKeepsOrderAndSpellingOfFields(t *testing.T) {
	seen := make(chan string, 1)
	a := peer(t, func(c net.Conn, r *bufio.Reader) {
		var b strings.Builder
		for {
			line, err := r.ReadString('\n')
			b.WriteString(line)
			if err != nil || line == "\r\n" {
				break
			}
		}
		seen <- b.String()
		io.WriteString(c, "HTTP/1.1 200 Fine\r\nx-B: 1\r\nConnection: keep-alive\r\nKeep-Alive: timeout=5\r\nX-a:  2 \r\nContent-Length: 0\r\nlAST:\r\n\r\n")
	})
	got := say(t, open(t, a, Config{}).addr, "GET /p?q HTTP/1.1\r\nzZ: 1\r\nhOST: x:1\r\nKeep-Alive: 5\r\nTE: trailers\r\nConnection: close, TE\r\nProxy-Authorization: p\r\nProxy-Connection: x\r\nUpgrade: h2c\r\nzZ:\t2 \r\nEmpty:\r\n\r\n")
	if want := "GET /p?q HTTP/1.1\r\nzZ: 1\r\nhOST: x:1\r\nzZ: 2\r\nEmpty: \r\n\r\n"; <-seen != want {
		t.Errorf("the app did not see %q", want)
	}
	if want := "HTTP/1.1 200 OK\r\nx-B: 1\r\nX-a: 2\r\nContent-Length: 0\r\nlAST: \r\nConnection: close\r\n\r\n"; got != want {
		t.Errorf("got  %q\nwant %q", got, want)
	}
}

func TestLayersRunOutermostFirstAndMayReplaceBodies(t *testing.T) {
	a := app(t, func(w http.ResponseWriter, r *http.Request) { io.Copy(w, r.Body) })
	var order []string
	layer := func(name string) Layer {
		return func(next Handler) Handler {
			return HandlerFunc(func(ctx context.Context, x *Exchange) (*Response, error) {
				order = append(order, name)
				b, err := io.ReadAll(x.Request.Body)
				if err != nil {
					return nil, err
				}
				b = append(b, name...)
				x.Request.Body, x.Request.ContentLength = bytes.NewReader(b), int64(len(b))
				resp, err := next.Do(ctx, x)
				if err != nil {
					return nil, err
				}
				answer, err := io.ReadAll(resp.Body)
				resp.Body.Close()
				r := Reply(201, "text/plain", append(answer, strings.ToUpper(name)...))
				return r, err
			})
		}
	}
	d := open(t, a, Config{Layers: []Layer{layer("a"), layer("b")}})
	got := say(t, d.addr, "POST / HTTP/1.1\r\nHost: x\r\nConnection: close\r\nTransfer-Encoding: chunked\r\n\r\n1\r\n-\r\n0\r\n\r\n")
	if !strings.HasPrefix(got, "HTTP/1.1 201 Created\r\n") || !strings.HasSuffix(got, "\r\n\r\n-abBA") {
		t.Errorf("got %q", got)
	}
	if !slices.Equal(order, []string{"a", "b"}) {
		t.Errorf("order %v", order)
	}
}
