package sniff

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"net/http"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func TestClassifyNamesTheProtocol(t *testing.T) {
	for _, c := range []struct {
		bytes string
		want  Protocol
	}{
		{"GET / HTTP/1.1\r\n", HTTP1},
		{"POST /mcp", HTTP1},
		{"OPTIONS *", HTTP1},
		{"M-SEARCH * HTTP/1.1", HTTP1},
		{"GET http://x/", HTTP1},
		{"CONNECT x:1", HTTP1},
		{"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", HTTP2},
		{"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\x00\x00", HTTP2},
		{"PRI * HTTP/2.0\r\n\r\nXX\r\n\r\n", HTTP1},
		{"PRI * HTTP/1.1\r\n", HTTP1},
		{"\x16\x03\x01\x02\x00\x01", TLS},
		{"\x16\x03\x03\x00\x10\x01\x00", TLS},
		{"\x16\x03\x01\x02\x00\x02", Opaque},
		{"\x16\x02\x01\x02\x00\x01", Opaque},
		{"\x16\x03\x01\xff\x00\x01", Opaque},
		{"get / HTTP/1.1", Opaque},
		{"SET key value\r\n", Opaque},
		{"GET\t/", Opaque},
		{"*1\r\n$4\r\nPING\r\n", Opaque},
		{"ABCDEFGHIJKLMNOPQRSTUVWXYZ /", Opaque},
		{" GET /", Opaque},
		{"\r\nGET /", Opaque},
		{"\x00", Opaque},
		{"SSH-2.0-OpenSSH\r\n", Opaque},
	} {
		got, known := classify([]byte(c.bytes))
		if got != c.want || !known {
			t.Errorf("classify(%q) = %v, %v, want %v", c.bytes, got, known, c.want)
		}
		for i := range len(c.bytes) { // no beginning of it may be decided otherwise
			if early, known := classify([]byte(c.bytes[:i])); known && early != c.want {
				t.Errorf("classify(%q) = %v already, want %v", c.bytes[:i], early, c.want)
			}
		}
	}
}

func TestConnYieldsEveryByteAgain(t *testing.T) {
	for _, step := range []int{1, 3, 1000} {
		synctest.Test(t, func(t *testing.T) {
			a, b := net.Pipe()
			data := []byte("POST /mcp HTTP/1.1\r\nHost: x\r\n\r\n")
			go func() {
				defer a.Close()
				for i := 0; i < len(data); i += step {
					a.Write(data[i:min(i+step, len(data))])
				}
			}()
			p, c, err := Conn(t.Context(), b, time.Second)
			if p != HTTP1 || err != nil {
				t.Fatalf("got %v, %v", p, err)
			}
			got, err := io.ReadAll(c)
			if err != nil || !bytes.Equal(got, data) {
				t.Errorf("read %q, %v", got, err)
			}
		})
	}
}

func TestConnIsOpaqueWhenNobodySpeaks(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a, b := net.Pipe()
		defer a.Close()
		start := time.Now()
		p, c, err := Conn(t.Context(), b, 5*time.Second)
		if p != Opaque || err != nil || time.Since(start) != 5*time.Second {
			t.Errorf("got %v, %v after %v", p, err, time.Since(start))
		}
		go func() {
			time.Sleep(time.Hour)
			a.Write([]byte("late"))
		}()
		var got [4]byte
		if _, err := io.ReadFull(c, got[:]); err != nil {
			t.Errorf("the deadline was left on: %v", err)
		}
	})
}

func TestConnKeepsWhatCameBeforeTheLimit(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a, b := net.Pipe()
		defer a.Close()
		go a.Write([]byte("GE"))
		p, c, err := Conn(t.Context(), b, time.Second)
		if p != Opaque || err != nil {
			t.Fatalf("got %v, %v", p, err)
		}
		peeked, inner := c.(*Replay).Unwrap()
		if string(peeked) != "GE" || inner != b {
			t.Errorf("unwrapped %q", peeked)
		}
		if peeked, _ := c.(*Replay).Unwrap(); peeked != nil {
			t.Errorf("unwrapped %q twice", peeked)
		}
	})
}

func TestConnEndsWithItsContext(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a, b := net.Pipe()
		defer a.Close()
		ctx, cancel := context.WithCancelCause(t.Context())
		why := errors.New("drained")
		time.AfterFunc(time.Second, func() { cancel(why) })
		if _, _, err := Conn(ctx, b, time.Hour); !errors.Is(err, why) {
			t.Errorf("got %v", err)
		}
	})
}

func TestConnHalfClosesThrough(t *testing.T) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	a, err := net.Dial("tcp", ln.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer a.Close()
	b, err := ln.Accept()
	if err != nil {
		t.Fatal(err)
	}
	defer b.Close()
	a.Write([]byte("\x16\x03\x01\x02\x00\x01"))
	p, c, err := Conn(t.Context(), b, time.Second)
	if p != TLS || err != nil {
		t.Fatalf("got %v, %v", p, err)
	}
	if err := c.(interface{ CloseWrite() error }).CloseWrite(); err != nil {
		t.Fatal(err)
	}
	if got, err := io.ReadAll(a); err != nil || len(got) != 0 {
		t.Errorf("read %q, %v", got, err)
	}
	if err := c.(*Replay).Reset(); err != nil {
		t.Fatal(err)
	}
	if _, err := io.Copy(a, neverEnding{}); err == nil {
		t.Error("the peer of a reset connection can write for ever")
	}
	pipe, _ := net.Pipe()
	defer pipe.Close()
	if err := (&Replay{Conn: pipe}).CloseWrite(); !errors.Is(err, errors.ErrUnsupported) {
		t.Errorf("half-close of a pipe: %v", err)
	}
}

type neverEnding struct{}

func (neverEnding) Read(p []byte) (int, error) { return len(p), nil }

func TestConnKnowsWhatRealClientsSend(t *testing.T) {
	first := func(send func(net.Conn)) Protocol {
		a, b := net.Pipe()
		done := make(chan struct{})
		go func() {
			defer close(done)
			send(a)
		}()
		p, _, err := Conn(t.Context(), b, 5*time.Second)
		if err != nil {
			t.Error(err)
		}
		b.Close()
		<-done
		return p
	}
	if p := first(func(c net.Conn) { tls.Client(c, &tls.Config{InsecureSkipVerify: true}).Handshake() }); p != TLS {
		t.Errorf("crypto/tls: %v", p)
	}
	if p := first(func(c net.Conn) {
		req, _ := http.NewRequest("DELETE", "http://x/y", nil)
		req.Write(c)
	}); p != HTTP1 {
		t.Errorf("net/http: %v", p)
	}
}

func FuzzClassify(f *testing.F) {
	f.Add([]byte("GET / HTTP/1.1"))
	f.Add([]byte(preface))
	f.Add([]byte("\x16\x03\x01\x02\x00\x01"))
	f.Fuzz(func(t *testing.T, b []byte) {
		p, known := classify(b)
		if len(b) >= maxPeek && !known {
			t.Errorf("%q is not decided after %d bytes", b, maxPeek)
		}
		for i := range min(len(b), maxPeek) {
			if early, known := classify(b[:i]); known && early != p {
				t.Errorf("%q: %v, but %v after %d bytes", b, p, early, i)
			}
		}
	})
}

func BenchmarkClassify(b *testing.B) {
	data := []byte("POST /mcp HTTP/1.1\r\nHost: github.tools.svc.cluster.local\r\n")[:maxPeek-10]
	b.ReportAllocs()
	for b.Loop() {
		classify(data)
	}
}
