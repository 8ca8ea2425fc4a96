package inspect

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httputil"
	"net/url"
	"strconv"
	"strings"
	"sync"
	"testing"
)

// fixed is an app that costs next to nothing: it answers every request of a known
// form with the same bytes.
func fixed(b *testing.B, size int) string {
	answer := []byte(fmt.Sprintf("HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%s", size, strings.Repeat("x", size)))
	return peer(b, func(c net.Conn, r *bufio.Reader) {
		for {
			length := 0
			for {
				line, err := r.ReadSlice('\n')
				if err != nil {
					return
				}
				if len(line) == 2 {
					break
				}
				if s := string(line); len(s) > 16 && strings.EqualFold(s[:16], "content-length: ") {
					length, _ = strconv.Atoi(strings.TrimSpace(s[16:]))
				}
			}
			r.Discard(length)
			if _, err := c.Write(answer); err != nil {
				return
			}
		}
	})
}

// exchanges posts to addr over one connection, b.N times.
func exchanges(b *testing.B, addr string, size int) {
	c, err := net.Dial("tcp", addr)
	if err != nil {
		b.Fatal(err)
	}
	defer c.Close()
	r := bufio.NewReaderSize(c, 64<<10)
	request := []byte(fmt.Sprintf("POST /mcp HTTP/1.1\r\nHost: github.tools:80\r\nUser-Agent: bench\r\nAccept: application/json, text/event-stream\r\nContent-Type: application/json\r\nMcp-Protocol-Version: 2025-11-25\r\nMcp-Session-Id: 0123456789abcdef\r\nContent-Length: %d\r\n\r\n%s", size, strings.Repeat("x", size)))
	b.ReportAllocs()
	for b.Loop() {
		if _, err := c.Write(request); err != nil {
			b.Fatal(err)
		}
		for {
			line, err := r.ReadSlice('\n')
			if err != nil {
				b.Fatal(err)
			}
			if len(line) == 2 {
				break
			}
		}
		if _, err := r.Discard(size); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkExchange compares one exchange, client and app included, on the direct
// path, through Serve, through Serve with a layer that reads the body, and through
// net/http's reverse proxy.
func BenchmarkExchange(b *testing.B) {
	read := func(next Handler) Handler {
		return HandlerFunc(func(ctx context.Context, x *Exchange) (*Response, error) {
			data := make([]byte, x.Request.ContentLength)
			if _, err := io.ReadFull(x.Request.Body, data); err != nil {
				return nil, err
			}
			x.Request.Body = &replyBody{data}
			return next.Do(ctx, x)
		})
	}
	for _, size := range []int{1 << 10, 4 << 10, 64 << 10} {
		app := fixed(b, size)
		proxy := &httputil.ReverseProxy{
			Rewrite:       func(r *httputil.ProxyRequest) { r.SetURL(&url.URL{Scheme: "http", Host: app}) },
			Transport:     &http.Transport{MaxIdleConnsPerHost: 64, DisableCompression: true},
			FlushInterval: -1,
		}
		defer proxy.Transport.(*http.Transport).CloseIdleConnections()
		for _, path := range []struct{ name, addr string }{
			{"direct", app},
			{"splice", plainRelay(b, app)},
			{"inspect", open(b, app, Config{}).addr},
			{"inspect-read", open(b, app, Config{Layers: []Layer{read}}).addr},
			{"reverseproxy", forReverseProxy(b, proxy)},
		} {
			b.Run(fmt.Sprintf("%dKB/%s", size>>10, path.name), func(b *testing.B) { exchanges(b, path.addr, size) })
		}
	}
}

// plainRelay copies bytes to app, as a sidecar does on a port that is not inspected.
func plainRelay(b *testing.B, app string) string {
	return peer(b, func(c net.Conn, _ *bufio.Reader) {
		up, err := net.Dial("tcp", app)
		if err != nil {
			return
		}
		defer up.Close()
		var back sync.WaitGroup
		back.Go(func() {
			io.Copy(c, up)
			c.Close()
		})
		io.Copy(up, c)
		up.Close()
		back.Wait()
	})
}

// BenchmarkStream is an exchange on a stream of HTTP/2, through net/http's client and
// server, directly and through Serve.
func BenchmarkStream(b *testing.B) {
	answer := []byte(strings.Repeat("x", 1<<10))
	app := h2App(b, func(w http.ResponseWriter, r *http.Request) {
		io.Copy(io.Discard, r.Body)
		w.Write(answer)
	})
	for _, path := range []struct{ name, addr string }{{"direct", app}, {"inspect", open(b, app, Config{}).addr}} {
		b.Run(path.name, func(b *testing.B) {
			c := h2Client(b)
			b.ReportAllocs()
			for b.Loop() {
				resp, err := c.Post("http://"+path.addr+"/mcp", "application/json", bytes.NewReader(answer))
				if err != nil {
					b.Fatal(err)
				}
				io.Copy(io.Discard, resp.Body)
				resp.Body.Close()
			}
		})
	}
}

func forReverseProxy(b *testing.B, p http.Handler) string { return app(b, p.ServeHTTP) }

func BenchmarkParseRequest(b *testing.B) {
	head := "POST /mcp HTTP/1.1\r\nHost: github.tools:80\r\nUser-Agent: bench\r\nAccept: application/json, text/event-stream\r\nContent-Type: application/json\r\nMcp-Protocol-Version: 2025-11-25\r\nMcp-Session-Id: 0123456789abcdef\r\nContent-Length: 1000\r\n\r\n"
	l := Limits{}.withDefaults()
	b.ReportAllocs()
	b.SetBytes(int64(len(head)))
	for b.Loop() {
		if _, err := parseRequest(head, &l); err != nil {
			b.Fatal(err)
		}
	}
}
