package inspect

import (
	"context"
	"errors"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"
)

// A slowApp answers in two parts: it waits before the first and before the second.
type slowApp struct {
	started, head, rest chan struct{}
	ended               chan error // nil: it was not cancelled, and wrote everything
	bytes               int        // of the second part
}

func newSlowApp() *slowApp {
	return &slowApp{started: make(chan struct{}, 8), head: make(chan struct{}), rest: make(chan struct{}), ended: make(chan error, 8), bytes: 1 << 10}
}

func (a *slowApp) serve(w http.ResponseWriter, r *http.Request) {
	io.Copy(io.Discard, r.Body)
	a.started <- struct{}{}
	for i, gate := range []chan struct{}{a.head, a.rest} {
		select {
		case <-gate:
		case <-r.Context().Done():
			a.ended <- r.Context().Err()
			return
		}
		part := strings.Repeat("x", 1+i*a.bytes)
		if _, err := io.WriteString(w, part); err != nil {
			a.ended <- err
			return
		}
		if err := http.NewResponseController(w).Flush(); err != nil {
			a.ended <- err
			return
		}
	}
	a.ended <- nil
}

// goingOn is a layer whose exchanges outlive their downstream. It tells how they ended.
func goingOn(limit *Unheard, unheard chan<- bool) Layer {
	return func(next Handler) Handler {
		return HandlerFunc(func(ctx context.Context, x *Exchange) (*Response, error) {
			x.GoOn(limit)
			resp, err := next.Do(ctx, x)
			if err != nil || resp.Body == nil {
				unheard <- x.IsUnheard()
				return resp, err
			}
			resp.Body = &toldBody{resp.Body, func() { unheard <- x.IsUnheard() }}
			return resp, nil
		})
	}
}

type toldBody struct {
	io.ReadCloser
	told func()
}

func (b *toldBody) Close() error {
	b.told()
	return b.ReadCloser.Close()
}

// each runs a test in HTTP/1.1 and in HTTP/2.
func each(t *testing.T, run func(t *testing.T, start func(testing.TB, http.HandlerFunc) string, c *http.Client)) {
	t.Run("HTTP/1.1", func(t *testing.T) { run(t, app, client(t)) })
	t.Run("HTTP/2", func(t *testing.T) { run(t, h2App, h2Client(t)) })
}

// leave sends a request and goes away: before the response's head, or after it.
func (a *slowApp) leave(t *testing.T, c *http.Client, addr string, before bool) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, "POST", "http://"+addr+"/", strings.NewReader("call"))
	if err != nil {
		t.Fatal(err)
	}
	if !before {
		close(a.head)
		resp, err := c.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		<-a.started
		cancel()
		resp.Body.Close()
		return
	}
	done := make(chan error, 1)
	go func() {
		_, err := c.Do(req)
		done <- err
	}()
	<-a.started
	cancel()
	if err := <-done; !errors.Is(err, context.Canceled) {
		t.Fatal(err)
	}
}

// served is what Serve returns once the client has no connection any more.
func (d *door) served(c *http.Client) error {
	for {
		c.CloseIdleConnections()
		select {
		case err := <-d.errs:
			return err
		case <-time.After(time.Millisecond):
		}
	}
}

func TestAnExchangeThatGoesOnIsReadToItsEndThoughItsDownstreamLeft(t *testing.T) {
	for _, before := range []bool{true, false} {
		each(t, func(t *testing.T, start func(testing.TB, http.HandlerFunc) string, c *http.Client) {
			a, limit, unheard := newSlowApp(), &Unheard{}, make(chan bool, 1)
			a.bytes = 4 << 20 // more than all buffers and windows on the way hold
			d := open(t, start(t, a.serve), Config{Layers: []Layer{goingOn(limit, unheard)}})
			a.leave(t, c, d.addr, before)
			for limit.Count() == 0 { // the sidecar has not noticed yet
				time.Sleep(time.Millisecond)
			}
			if before {
				close(a.head)
			}
			close(a.rest)
			if err := <-a.ended; err != nil {
				t.Errorf("the app was cancelled: %v", err)
			}
			if !<-unheard {
				t.Error("nobody noticed that the downstream had left")
			}
			if err := d.served(c); !errors.Is(err, ErrDisconnected) {
				t.Errorf("Serve returned %v", err)
			}
			if limit.Count() != 0 || len(limit.callers) != 0 {
				t.Errorf("%d exchanges still have a place: %v", limit.total, limit.callers)
			}
		})
	}
}

func TestWhatGoesOnWithoutADownstreamIsBounded(t *testing.T) {
	for _, c := range []struct {
		name  string
		limit *Unheard
		full  bool // all places are taken
	}{
		{"in time", &Unheard{Time: time.Millisecond}, false},
		{"in bytes", &Unheard{Bytes: 1 << 10}, false},
		{"for each caller", &Unheard{PerCaller: 1}, true},
		{"in all", &Unheard{Total: 1}, true},
	} {
		each(t, func(t *testing.T, start func(testing.TB, http.HandlerFunc) string, client *http.Client) {
			a, unheard := newSlowApp(), make(chan bool, 1)
			a.bytes = 64 << 20
			d := open(t, start(t, a.serve), Config{Layers: []Layer{goingOn(c.limit, unheard)}})
			if c.full {
				if !c.limit.enter(Caller{}) {
					t.Fatal("there is no place at all")
				}
				defer c.limit.leave(Caller{})
			}
			a.leave(t, client, d.addr, true)
			if c.limit.Bytes > 0 {
				close(a.head)
				close(a.rest)
			}
			if err := <-a.ended; err == nil {
				t.Errorf("%s: the app wrote everything", c.name)
			}
			if found := <-unheard; found == c.full {
				t.Errorf("%s: the exchange found a place: %v", c.name, found)
			}
		})
	}
}

func TestAnExchangeThatGoesOnEndsWithTheContext(t *testing.T) {
	each(t, func(t *testing.T, start func(testing.TB, http.HandlerFunc) string, c *http.Client) {
		a, limit, unheard := newSlowApp(), &Unheard{}, make(chan bool, 1)
		t.Run("", func(t *testing.T) { // its end is that of the door
			d := open(t, start(t, a.serve), Config{Layers: []Layer{goingOn(limit, unheard)}})
			a.leave(t, c, d.addr, true)
		})
		if err := <-a.ended; err == nil {
			t.Error("the app was not told")
		}
	})
}

func TestAnAbandonedExchangeEnds(t *testing.T) {
	each(t, func(t *testing.T, start func(testing.TB, http.HandlerFunc) string, c *http.Client) {
		a, exchanges := newSlowApp(), make(chan *Exchange, 1)
		d := open(t, start(t, a.serve), Config{Layers: []Layer{func(next Handler) Handler {
			return HandlerFunc(func(ctx context.Context, x *Exchange) (*Response, error) {
				x.GoOn(&Unheard{})
				exchanges <- x
				return next.Do(ctx, x)
			})
		}}})
		a.leave(t, c, d.addr, true)
		x := <-exchanges
		for !x.IsUnheard() {
			time.Sleep(time.Millisecond)
		}
		x.Abandon()
		if err := <-a.ended; err == nil {
			t.Error("the app was not told")
		}
	})
}
