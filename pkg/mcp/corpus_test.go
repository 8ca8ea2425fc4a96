package mcp

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/outrigger-mesh/outrigger/pkg/inspect"
	"github.com/outrigger-mesh/outrigger/pkg/policy"
)

// A corpusCase is a line of testdata/bypass/corpus.jsonl; README.md beside it tells
// what its members mean.
type corpusCase struct {
	Name, Verdict, Why, Request string
	RequestBase64               []byte
	Before                      []string
	Status                      int
}

func readCorpus(t testing.TB) (cases []corpusCase) {
	f, err := os.Open("../../testdata/bypass/corpus.jsonl")
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	d := json.NewDecoder(f)
	for {
		var c corpusCase
		if err := d.Decode(&c); err == io.EOF {
			return cases
		} else if err != nil {
			t.Fatal(err)
		}
		if len(c.RequestBase64) == 0 {
			c.RequestBase64 = []byte(c.Request)
		}
		cases = append(cases, c)
	}
}

// An app is a lenient server that keeps what it is sent.
type app struct {
	*httptest.Server
	mu  sync.Mutex
	got []string
}

func startApp(t testing.TB) *app {
	a := &app{}
	a.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		a.mu.Lock()
		a.got = append(a.got, string(body))
		a.mu.Unlock()
		var m struct{ ID json.RawMessage }
		json.Unmarshal(body, &m)
		w.Header().Set("Content-Type", "application/json")
		if len(m.ID) == 0 {
			w.WriteHeader(http.StatusAccepted)
			return
		}
		io.WriteString(w, `{"jsonrpc":"2.0","id":`+string(m.ID)+`,"result":{}}`)
	}))
	t.Cleanup(a.Close)
	return a
}

// take returns what it was sent since the last time.
func (a *app) take() []string {
	a.mu.Lock()
	defer a.mu.Unlock()
	got := a.got
	a.got = nil
	return got
}

func (a *app) dial(ctx context.Context) (net.Conn, error) {
	var d net.Dialer
	return d.DialContext(ctx, "tcp", a.Listener.Addr().String())
}

// A front is the layer in front of an app, over loopback sockets.
type front struct {
	net.Listener
	serving sync.WaitGroup
}

func startFront(t testing.TB, layer inspect.Layer, port policy.Port, dial func(context.Context) (net.Conn, error)) *front {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	f := &front{Listener: ln}
	ctx, cancel := context.WithCancel(context.Background())
	f.serving.Go(func() {
		for {
			c, err := ln.Accept()
			if err != nil {
				return
			}
			f.serving.Go(func() {
				inspect.Serve(ctx, c, inspect.Config{
					Conversation: &inspect.Conversation{Direction: policy.Inbound, Source: planner, Port: port,
						Target: policy.Destination{Address: netip.MustParseAddrPort("127.0.15.31:9000")}},
					Layers:   []inspect.Layer{layer},
					Policies: func() (*policy.Policies, uint64) { return nil, 1 },
					Upstream: dial,
				})
			})
		}
	})
	t.Cleanup(func() {
		ln.Close()
		cancel()
		f.serving.Wait()
	})
	return f
}

func TestCorpus(t *testing.T) {
	a := startApp(t)
	judge := denying("* danger", "* file:///danger")
	layer := New(Config{Judge: func(*inspect.Exchange) Judge { return judge }})
	f := startFront(t, layer, policy.Port{Protocol: policy.ProtocolMCP, Paths: []string{"/mcp"}}, a.dial)
	cases := readCorpus(t)
	if len(cases) < 300 {
		t.Fatalf("only %d cases", len(cases))
	}
	for _, c := range cases {
		t.Run(c.Name, func(t *testing.T) {
			for _, earlier := range c.Before {
				sendRaw(t, f.Addr().String(), []byte(earlier))
			}
			a.take()
			status, body := sendRaw(t, f.Addr().String(), c.RequestBase64)
			got := a.take()
			switch {
			case c.Status != 0 && status != c.Status:
				t.Errorf("%s: got status %d (%.200q), want %d", c.Why, status, body, c.Status)
			case c.Verdict == "any":
			case c.Verdict == "pass":
				_, sent, _ := bytes.Cut(c.RequestBase64, []byte("\r\n\r\n"))
				if status != 200 || len(got) != 1 || got[0] != string(sent) && !strings.Contains(string(c.RequestBase64), "chunked") {
					t.Errorf("%s: got %d %.200q, the app %q", c.Why, status, body, got)
				}
			case len(got) != 0:
				t.Errorf("%s: %d, but the app got %q", c.Why, status, got)
			case c.Verdict == "deny" && !strings.Contains(body, `"error"`):
				t.Errorf("%s: got %d %q", c.Why, status, body)
			case c.Verdict == "refuse" && status < 400:
				t.Errorf("%s: got %d %q", c.Why, status, body)
			}
		})
	}
}

// whole tells whether raw begins with a complete request.
func whole(raw []byte) bool {
	r, err := http.ReadRequest(bufio.NewReader(bytes.NewReader(raw)))
	if err != nil {
		return false
	}
	_, err = io.Copy(io.Discard, r.Body)
	return err == nil
}

// sendRaw sends the bytes and returns the first response.
func sendRaw(t *testing.T, address string, raw []byte) (status int, body string) {
	t.Helper()
	c, err := net.Dial("tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	c.SetDeadline(time.Now().Add(20 * time.Second))
	if _, err := c.Write(raw); err != nil {
		t.Logf("write: %v", err)
	}
	if !whole(raw) { // the end of a whole one would mean that nobody waits for the answer
		c.(*net.TCPConn).CloseWrite()
	}
	buffered := bufio.NewReader(c)
	r, err := http.ReadResponse(buffered, nil)
	if err == nil && r.StatusCode == http.StatusContinue {
		r, err = http.ReadResponse(buffered, nil)
	}
	if err != nil {
		t.Fatalf("no response: %v", err)
	}
	content, err := io.ReadAll(r.Body)
	if err != nil {
		t.Fatal(err)
	}
	return r.StatusCode, string(content)
}
