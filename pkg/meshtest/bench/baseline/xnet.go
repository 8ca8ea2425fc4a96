package baseline

//lint:file-ignore SA1019 what others build their tunnels on is what we are measured beside

import (
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"net/url"
	"sync"

	"golang.org/x/net/http2"
)

// copyBuffers are lent to a direction for as long as it lives, as io.Copy would make them.
var copyBuffers = sync.Pool{New: func() any { b := make([]byte, 32<<10); return &b }}

// xnetClient opens a CONNECT for each connection, on an http2.Transport with
// its defaults.
func (c *Config) xnetClient(ctx context.Context, ln net.Listener) error {
	config, err := c.clientTLS()
	if err != nil {
		return err
	}
	transport := &http2.Transport{TLSClientConfig: config}
	defer transport.CloseIdleConnections()
	return serve(ctx, ln, func(down net.Conn) {
		defer down.Close()
		body := io.NopCloser(down)
		var up sync.WaitGroup
		if c.Kind == XNet {
			pr, pw := io.Pipe()
			up.Go(func() { _ = pw.CloseWithError(copyAll(pw, down)) })
			body = pr
		}
		c.xnetCarry(ctx, transport, down, body)
		body.Close()
		down.Close()
		up.Wait()
	})
}

// xnetCarry sends body and passes on the answer.
func (c *Config) xnetCarry(ctx context.Context, transport *http2.Transport, down net.Conn, body io.ReadCloser) {
	req := (&http.Request{
		Method: http.MethodConnect,
		URL:    &url.URL{Scheme: "https", Host: c.To},
		Host:   c.App,
		Header: http.Header{},
		Body:   body,
	}).WithContext(ctx)
	res, err := transport.RoundTrip(req)
	if err != nil {
		return
	}
	defer res.Body.Close()
	if res.StatusCode == http.StatusOK {
		_ = copyAll(down, res.Body) // either end notices by itself that the other is gone
	}
}

// copyAll is io.Copy with a buffer that was lent.
func copyAll(to io.Writer, from io.Reader) error {
	buf := copyBuffers.Get().(*[]byte)
	defer copyBuffers.Put(buf)
	_, err := io.CopyBuffer(writerOnly{to}, readerOnly{from}, *buf)
	return err
}

// xnetServer dials what a CONNECT asks for, on an http2.Server with its defaults.
func (c *Config) xnetServer(ctx context.Context, ln net.Listener) error {
	config, err := c.serverTLS()
	if err != nil {
		return err
	}
	s := &http.Server{TLSConfig: config, Handler: http.HandlerFunc(carryConnect)}
	if err := http2.ConfigureServer(s, &http2.Server{}); err != nil {
		return err
	}
	defer stopServer(ctx, s)()
	if err := s.ServeTLS(ln, "", ""); !errors.Is(err, http.ErrServerClosed) {
		return err
	}
	return nil
}

func carryConnect(w http.ResponseWriter, r *http.Request) {
	if r.Method != http.MethodConnect {
		http.Error(w, "only CONNECT", http.StatusMethodNotAllowed)
		return
	}
	c, err := net.Dial("tcp", r.Host)
	if err != nil {
		http.Error(w, "no such app", http.StatusServiceUnavailable)
		return
	}
	defer c.Close()
	w.WriteHeader(http.StatusOK)
	flush := http.NewResponseController(w)
	if flush.Flush() != nil {
		return
	}
	var up sync.WaitGroup
	up.Go(func() {
		_ = copyAll(c, r.Body)
		_ = c.(*net.TCPConn).CloseWrite()
	})
	defer up.Wait()
	buf := copyBuffers.Get().(*[]byte)
	defer copyBuffers.Put(buf)
	for {
		n, err := c.Read(*buf)
		if n > 0 {
			if _, err := w.Write((*buf)[:n]); err != nil {
				break
			}
			if flush.Flush() != nil {
				break
			}
		}
		if err != nil {
			break
		}
	}
}

// These hide ReadFrom and WriteTo, which would bring a buffer of their own.
type (
	writerOnly struct{ io.Writer }
	readerOnly struct{ io.Reader }
)
