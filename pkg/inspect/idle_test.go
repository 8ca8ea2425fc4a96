package inspect

import (
	"bufio"
	"context"
	"io"
	"net"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"
)

// idleStreams is how many silent event streams are measured, and what one may cost.
const (
	idleStreams = 10_000
	idleBytes   = 40 << 10
)

// reread is a layer that reads the app's events itself, as one that inspects them does.
func reread(next Handler) Handler {
	return HandlerFunc(func(ctx context.Context, x *Exchange) (*Response, error) {
		resp, err := next.Do(ctx, x)
		if err == nil && resp.Body != nil {
			body := resp.Body
			resp.Body = &onlyBody{Reader: body, end: func() { body.Close() }}
		}
		return resp, err
	})
}

// A crowd is many connections in memory whose own ends need no goroutine once their
// event stream is silent, so that what is measured is the engine's.
type crowd struct {
	conns  []net.Conn
	served sync.WaitGroup
	mu     sync.Mutex // guards apps
	apps   []net.Conn
}

func (c *crowd) config(h2 bool) Config {
	return Config{Conversation: &Conversation{}, Layers: []Layer{reread}, Limits: Limits{KeepAlive: time.Hour}, Upstream: func(context.Context) (net.Conn, error) {
		near, far := net.Pipe()
		c.mu.Lock()
		c.apps = append(c.apps, far)
		c.mu.Unlock()
		go func() {
			if h2 {
				answerStream(far)
				return
			}
			if _, err := bufio.NewReader(far).ReadString('\n'); err == nil {
				io.WriteString(far, "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n9\r\ndata: 1\n\n\r\n")
			}
		}()
		return near, nil
	}}
}

// answerStream answers the first request on an HTTP/2 connection with an event.
func answerStream(c net.Conn) {
	fr := http2.NewFramer(c, c)
	io.ReadFull(c, make([]byte, len(http2.ClientPreface)))
	fr.WriteSettings()
	for asked, settled := false, false; !asked || !settled; { // nothing else is to come
		f, err := fr.ReadFrame()
		if err != nil {
			return
		}
		asked = asked || f.Header().Type == http2.FrameHeaders
		settled = settled || f.Header().Flags.Has(http2.FlagSettingsAck) && f.Header().Type == http2.FrameSettings
	}
	var block strings.Builder
	enc := hpack.NewEncoder(&block)
	enc.WriteField(hpack.HeaderField{Name: ":status", Value: "200"})
	enc.WriteField(hpack.HeaderField{Name: "content-type", Value: "text/event-stream"})
	fr.WriteHeaders(http2.HeadersFrameParam{StreamID: 1, BlockFragment: []byte(block.String()), EndHeaders: true})
	fr.WriteData(1, false, []byte("data: 1\n\n"))
}

// join adds a connection with one silent event stream.
func (c *crowd) join(b *testing.B, h2 bool) {
	near, far := net.Pipe()
	c.conns = append(c.conns, near)
	c.served.Go(func() { Serve(b.Context(), far, c.config(h2)) })
	if !h2 {
		io.WriteString(near, "GET /mcp HTTP/1.1\r\nHost: a\r\nAccept: text/event-stream\r\n\r\n")
	} else {
		go func() {
			io.WriteString(near, http2.ClientPreface)
			http2.NewFramer(near, nil).WriteSettings()
			near.Write(streamCase{steps: []string{"get", "end"}}.frames(b))
		}()
	}
	var got []byte
	for buf := make([]byte, 512); !strings.Contains(string(got), "data: 1\n\n"); {
		n, err := near.Read(buf)
		if err != nil {
			b.Fatal(err)
		}
		got = append(got, buf[:n]...)
	}
}

func (c *crowd) leave() {
	for _, conn := range c.conns {
		conn.Close()
	}
	c.served.Wait()
	for _, conn := range c.apps {
		conn.Close()
	}
}

func footprint() (bytes uint64, goroutines int) {
	runtime.GC()
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return m.HeapInuse + m.StackInuse, runtime.NumGoroutine()
}

// BenchmarkIdleEventStream tells what a silent event stream holds, each on a connection
// of its own, and fails if that is more than it may be.
func BenchmarkIdleEventStream(b *testing.B) {
	for _, c := range []struct {
		name string
		h2   bool
	}{{"http1", false}, {"http2", true}} {
		b.Run(c.name, func(b *testing.B) {
			for b.Loop() {
				before, goroutines := footprint()
				all := &crowd{}
				for range idleStreams {
					all.join(b, c.h2)
				}
				time.Sleep(2 * patience) // buffers go back after a silence
				after, more := footprint()
				each := float64(after-before) / idleStreams
				b.ReportMetric(each/1024, "KiB/stream")
				b.ReportMetric(float64(more-goroutines)/idleStreams, "goroutines/stream")
				all.leave()
				if each > idleBytes {
					b.Errorf("%.1f KiB for each silent stream, at most %d", each/1024, idleBytes>>10)
				}
			}
		})
	}
}
