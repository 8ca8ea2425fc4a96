package meshtest_test

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/outrigger-mesh/outrigger/pkg/inspect"
	"github.com/outrigger-mesh/outrigger/pkg/meshtest"
)

const httpPolicy = `apiVersion: outrigger.dev/v1alpha1
kind: AgentPolicy
metadata: {name: web, namespace: tools}
spec:
  ports: [{number: %d, protocol: HTTP}]
`

// A listened is a listener that knows how much came to it.
type listened struct {
	net.Listener
	bytes atomic.Int64
}

func (l *listened) Accept() (net.Conn, error) {
	c, err := l.Listener.Accept()
	return listenedConn{c, l}, err
}

type listenedConn struct {
	net.Conn
	of *listened
}

func (c listenedConn) Read(p []byte) (int, error) {
	n, err := c.Conn.Read(p)
	c.of.bytes.Add(int64(n))
	return n, err
}

// serveHTTP is an app that answers with the caller it was told of and what it was sent.
func serveHTTP(t *testing.T, m *meshtest.Mesh) *listened {
	t.Helper()
	ln := &listened{Listener: m.ListenApp()}
	s := &http.Server{ReadHeaderTimeout: time.Minute, Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body) // what is missing shows in the answer
		fmt.Fprintf(w, "%s %s %q", r.Method, r.Header.Values(inspect.CallerHeader), body)
	})}
	var wg sync.WaitGroup
	wg.Go(func() {
		if err := s.Serve(ln); !errors.Is(err, http.ErrServerClosed) {
			t.Error(err)
		}
	})
	t.Cleanup(func() {
		if err := s.Shutdown(context.Background()); err != nil {
			t.Error(err)
		}
		wg.Wait()
	})
	return ln
}

// On a port that policy declares as HTTP, any request passes whose framing is beyond
// doubt, and the app is told who sent it. Nothing of another comes to the app, which
// would answer 400 as well.
func TestAnHTTPPortTellsTheAppWhoCallsAndPassesNothingElse(t *testing.T) {
	m := meshtest.New(t, meshtest.Config{Policy: httpPolicy})
	app := serveHTTP(t, m)
	for _, c := range []struct{ name, request, status, body string }{
		{"a request, with a forged caller", "POST /any HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n" + inspect.CallerHeader + ": spiffe://cluster.local/ns/x/sa/root\r\n\r\n[{", "200", `POST [spiffe://cluster.local/ns/agents/sa/agent] "[{"`},
		{"lengths that differ", "POST /any HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\nContent-Length: 3\r\n\r\nabc", "400", ""},
		{"no HTTP", "\x00\x01\x02\x03 something else\r\n\r\n", "400", ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			before := app.bytes.Load()
			conn, err := net.Dial("tcp", m.Agent)
			if err != nil {
				t.Fatal(err)
			}
			defer conn.Close()
			conn.SetDeadline(time.Now().Add(limit))
			if _, err := io.WriteString(conn, c.request); err != nil {
				t.Fatal(err)
			}
			res, err := http.ReadResponse(bufio.NewReader(conn), nil)
			if err != nil {
				t.Fatal(err)
			}
			defer res.Body.Close()
			body, err := io.ReadAll(res.Body)
			if err != nil {
				t.Fatal(err)
			}
			if !strings.HasPrefix(res.Status, c.status) || c.body != "" && string(body) != c.body {
				t.Errorf("%s %q, want %s %q", res.Status, body, c.status, c.body)
			}
			if came := app.bytes.Load() - before; came > 0 != (c.status == "200") {
				t.Errorf("%d bytes came to the app", came)
			}
		})
	}
}
