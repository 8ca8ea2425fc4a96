package inspect

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// h2App starts a net/http server that speaks HTTP/2 without TLS, and nothing else.
func h2App(t testing.TB, h http.HandlerFunc) string {
	t.Helper()
	s := httptest.NewUnstartedServer(h)
	s.Config.Protocols = new(http.Protocols)
	s.Config.Protocols.SetUnencryptedHTTP2(true)
	s.Start()
	t.Cleanup(s.Close)
	return s.Listener.Addr().String()
}

// h2Client returns an HTTP client that speaks HTTP/2 with prior knowledge.
func h2Client(t testing.TB) *http.Client {
	tr := &http.Transport{DisableCompression: true, Protocols: new(http.Protocols)}
	tr.Protocols.SetUnencryptedHTTP2(true)
	t.Cleanup(tr.CloseIdleConnections)
	return &http.Client{Transport: tr}
}

// echoApp answers with what it was sent, and tells the protocol.
func echoApp(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("X-Proto", r.Proto)
	w.Header().Set("X-Seen", r.Method+" "+r.Host+" "+r.URL.RequestURI())
	io.Copy(w, r.Body)
}

func TestStreamsBetweenGoPeers(t *testing.T) {
	var seen atomic.Int32
	count := func(next Handler) Handler {
		return HandlerFunc(func(ctx context.Context, x *Exchange) (*Response, error) {
			seen.Add(1)
			return next.Do(ctx, x)
		})
	}
	d := open(t, h2App(t, echoApp), Config{Layers: []Layer{count}})
	c := h2Client(t)
	var all sync.WaitGroup
	for i := range 60 {
		all.Go(func() {
			body := bytes.Repeat([]byte{byte('a' + i%26)}, i*i*100)
			resp, err := c.Post(fmt.Sprintf("http://%s/%d?q=1", d.addr, i), "application/json", bytes.NewReader(body))
			if err != nil {
				t.Errorf("%d: %v", i, err)
				return
			}
			defer resp.Body.Close()
			got, err := io.ReadAll(resp.Body)
			if err != nil || !bytes.Equal(got, body) {
				t.Errorf("%d: %d bytes of %d: %v", i, len(got), len(body), err)
			}
			if want := fmt.Sprintf("POST %s /%d?q=1", d.addr, i); resp.Header.Get("X-Seen") != want || resp.Header.Get("X-Proto") != "HTTP/2.0" {
				t.Errorf("%d: the app saw %q in %s", i, resp.Header.Get("X-Seen"), resp.Header.Get("X-Proto"))
			}
		})
	}
	all.Wait()
	if n := seen.Load(); n != 60 {
		t.Errorf("the layer saw %d requests", n)
	}
	c.CloseIdleConnections()
	if err := <-d.errs; err != nil {
		t.Errorf("Serve returned %v", err)
	}
}

func TestStreamsCarryRequestsOfEveryForm(t *testing.T) {
	a := h2App(t, func(w http.ResponseWriter, r *http.Request) {
		switch r.URL.Path {
		case "/204":
			w.WriteHeader(204)
		case "/304":
			w.WriteHeader(304)
		case "/early":
			w.WriteHeader(413) // without reading
		default:
			if r.Method == "HEAD" {
				w.Header().Set("Content-Length", "5")
				return
			}
			echoApp(w, r)
		}
	})
	d := open(t, a, Config{})
	c := h2Client(t)
	for _, r := range []struct {
		method, path string
		body         io.Reader
		header       string
		status       int
		want         string
	}{
		{"GET", "/", nil, "", 200, ""},
		{"HEAD", "/", nil, "", 200, ""},
		{"DELETE", "/", nil, "", 200, ""},
		{"DELETE", "/", strings.NewReader("x"), "", 200, "x"},
		{"POST", "/", io.MultiReader(strings.NewReader("abc")), "", 200, "abc"}, // of unknown length
		{"POST", "/", strings.NewReader("abc"), "100-continue", 200, "abc"},
		{"POST", "/204", strings.NewReader("abc"), "", 204, ""},
		{"GET", "/304", nil, "", 304, ""},
		{"POST", "/early", strings.NewReader(strings.Repeat("x", 3<<20)), "", 413, ""},
		{"TRACE", "/", nil, "", 405, ""},
		{"BREW", "/", nil, "", 501, ""},
	} {
		req, err := http.NewRequest(r.method, "http://"+d.addr+r.path, r.body)
		if err != nil {
			t.Fatal(err)
		}
		if r.header != "" {
			req.Header.Set("Expect", r.header)
		}
		resp, err := c.Do(req)
		if err != nil {
			t.Errorf("%s %s: %v", r.method, r.path, err)
			continue
		}
		got, err := io.ReadAll(resp.Body)
		resp.Body.Close()
		if resp.StatusCode != r.status || r.status < 400 && string(got) != r.want || err != nil && r.status != 413 {
			t.Errorf("%s %s: %d %q %v", r.method, r.path, resp.StatusCode, got, err)
		}
		if r.method == "HEAD" && resp.ContentLength != 5 {
			t.Errorf("HEAD: content-length %d", resp.ContentLength)
		}
	}
}

func TestStreamsStreamBothWays(t *testing.T) {
	a := h2App(t, func(w http.ResponseWriter, r *http.Request) {
		rc := http.NewResponseController(w)
		rc.EnableFullDuplex()
		w.WriteHeader(200)
		rc.Flush()
		buf := make([]byte, 100)
		for {
			n, err := r.Body.Read(buf)
			if n > 0 {
				w.Write(buf[:n])
				rc.Flush()
			}
			if err != nil {
				return
			}
		}
	})
	d := open(t, a, Config{})
	pr, pw := io.Pipe()
	req, err := http.NewRequest("POST", "http://"+d.addr+"/", pr)
	if err != nil {
		t.Fatal(err)
	}
	resp, err := h2Client(t).Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	for i := range 5 {
		said := fmt.Sprintf("message %d", i)
		io.WriteString(pw, said)
		buf := make([]byte, len(said))
		if _, err := io.ReadFull(resp.Body, buf); err != nil || string(buf) != said {
			t.Fatalf("got %q, %v", buf, err)
		}
	}
	pw.Close()
	if rest, err := io.ReadAll(resp.Body); len(rest) > 0 || err != nil {
		t.Errorf("rest %q, %v", rest, err)
	}
}

func TestStreamsPassOnThatAClientHasGone(t *testing.T) {
	gone := make(chan struct{})
	a := h2App(t, func(w http.ResponseWriter, r *http.Request) {
		w.WriteHeader(200)
		http.NewResponseController(w).Flush()
		<-r.Context().Done()
		close(gone)
	})
	d := open(t, a, Config{})
	c := h2Client(t)
	ctx, cancel := context.WithCancel(context.Background())
	req, _ := http.NewRequestWithContext(ctx, "GET", "http://"+d.addr+"/", nil)
	resp, err := c.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	cancel()
	resp.Body.Close()
	<-gone
	// The connection goes on.
	select {
	case err := <-d.errs:
		t.Errorf("Serve returned %v", err)
	case <-time.After(10 * time.Millisecond):
	}
}

func TestStreamsOfAnAppThatFails(t *testing.T) {
	refused := func(context.Context) (net.Conn, error) { return nil, io.ErrUnexpectedEOF }
	aborts := h2App(t, func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/late" {
			w.WriteHeader(200)
			http.NewResponseController(w).Flush()
		}
		panic(http.ErrAbortHandler)
	})
	for _, c := range []struct {
		name, addr, path string
		config           Config
		status           int
	}{
		{"not there", "", "/", Config{Upstream: refused}, 503},
		{"speaks HTTP/1", app(t, echoApp), "/", Config{}, 502},
		{"resets before it answers", aborts, "/", Config{}, 502},
		{"resets within its answer", aborts, "/late", Config{}, 0},
	} {
		d := open(t, c.addr, c.config)
		resp, err := h2Client(t).Get("http://" + d.addr + c.path)
		if c.status == 0 {
			if err == nil {
				_, err = io.ReadAll(resp.Body)
			}
			if err == nil {
				t.Errorf("%s: the response seemed complete", c.name)
			}
			continue
		}
		if err != nil {
			t.Errorf("%s: %v", c.name, err)
			continue
		}
		resp.Body.Close()
		if resp.StatusCode != c.status {
			t.Errorf("%s: %d", c.name, resp.StatusCode)
		}
	}
}

func TestAMessageOfOurOwnGoesInTheProtocolOfTheExchange(t *testing.T) {
	for name, peers := range map[string]struct {
		app    func(testing.TB, http.HandlerFunc) string
		client func(testing.TB) *http.Client
	}{"HTTP/1.1": {app, client}, "HTTP/2.0": {h2App, h2Client}} {
		own := func(next Handler) Handler {
			return HandlerFunc(func(ctx context.Context, x *Exchange) (*Response, error) {
				conn, err := x.Upstream(ctx)
				if err != nil {
					return nil, err
				}
				r := &Request{Method: "POST", Target: "/own", Host: "a", Body: strings.NewReader("abc"), ContentLength: 3}
				resp, err := RoundTrip(ctx, conn, r, Limits{})
				if err != nil {
					return nil, err
				}
				defer resp.Body.Close()
				got, err := io.ReadAll(resp.Body)
				if err != nil || string(got) != "abc" || resp.Header.Get("X-Proto") != name {
					t.Errorf("%s: own message came back as %q in %s: %v", name, got, resp.Header.Get("X-Proto"), err)
				}
				return next.Do(ctx, x)
			})
		}
		d := open(t, peers.app(t, echoApp), Config{Layers: []Layer{own}})
		resp, err := peers.client(t).Post("http://"+d.addr+"/", "text/plain", strings.NewReader("of the client"))
		if err != nil {
			t.Fatal(err)
		}
		got, _ := io.ReadAll(resp.Body)
		resp.Body.Close()
		if string(got) != "of the client" {
			t.Errorf("%s: the client got %q", name, got)
		}
	}
}
