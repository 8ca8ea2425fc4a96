package inspect

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"net/textproto"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/net/http2"
)

// A tape is a connection that yields bytes in small pieces and takes any.
type tape struct {
	net.Conn
	in   []byte
	step int
	out  bytes.Buffer
}

func (t *tape) Read(p []byte) (int, error) {
	if len(t.in) == 0 {
		return 0, io.EOF
	}
	n := copy(p, t.in[:min(t.step, len(t.in))])
	t.in = t.in[n:]
	return n, nil
}
func (t *tape) Write(p []byte) (int, error)      { return t.out.Write(p) }
func (t *tape) SetReadDeadline(time.Time) error  { return nil }
func (t *tape) SetWriteDeadline(time.Time) error { return nil }

// nobody owns a body in a test.
type nobody struct{}

func (nobody) bodyBegins() error { return nil }
func (nobody) bodyEnds()         {}

// FuzzRequestHead: what we accept, written anew, is read alike by net/http, and
// reading it once more changes nothing.
func FuzzRequestHead(f *testing.F) {
	for _, p := range payloads(f, "requests.txt") {
		if i := strings.Index(p.bytes, "\r\n\r\n"); i >= 0 && len(p.bytes) < 2000 {
			f.Add(p.bytes[:i+4])
		}
	}
	l := Limits{}.withDefaults()
	f.Fuzz(func(t *testing.T, raw string) {
		r := reader{conn: &tape{in: []byte(raw), step: 7}}
		head, err := r.head(l.Head, time.Time{})
		if err != nil {
			return
		}
		in, err := parseRequest(string(head), &l)
		if err != nil {
			return
		}
		req := &in.request
		written, err := appendRequest(nil, req)
		if err != nil {
			t.Fatalf("accepted but cannot be written: %q: %v", head, err)
		}
		again, err := parseRequest(string(written), &l)
		if err != nil {
			t.Fatalf("%q written as %q: %v", head, written, err)
		}
		if a := again.request; a.Path != req.Path || a.ContentLength != req.ContentLength || !slices.EqualFunc(a.Header, req.Header, sameField) {
			t.Fatalf("%q read as %+v, then as %+v", head, req, a)
		}
		std, err := http.ReadRequest(bufio.NewReader(bytes.NewReader(written)))
		if err != nil {
			t.Fatalf("net/http refuses %q: %v", written, err)
		}
		if std.Method != req.Method || std.RequestURI != req.Target || std.Host != req.Host || std.ContentLength != req.ContentLength || std.URL.Path != req.Path {
			t.Fatalf("%q: net/http read %+v, we %+v", written, std, req)
		}
		var names []string
		for _, f := range req.Header {
			if !framingField(f.Name) {
				name := textproto.CanonicalMIMEHeaderKey(f.Name)
				if names = append(names, name); !slices.Contains(std.Header[name], f.Value) {
					t.Fatalf("%q: net/http has no %q: %q", written, name, f.Value)
				}
			}
		}
		for name := range std.Header {
			if !slices.Contains(names, name) && !framingField(name) && name != "Cache-Control" { // it adds one for Pragma
				t.Fatalf("%q: only net/http has %q", written, name)
			}
		}
	})
}

// sameField compares two lines; those of framing only keep a place.
func sameField(a, b Field) bool {
	return a == b || strings.EqualFold(a.Name, b.Name) && framingField(a.Name)
}

// FuzzChunked: whatever is accepted decodes to the same bytes for any segmentation
// and, written anew, for net/http.
func FuzzChunked(f *testing.F) {
	for _, p := range payloads(f, "requests.txt") {
		if i := strings.Index(p.bytes, "\r\n\r\n"); i >= 0 && len(p.bytes) < 2000 && strings.Contains(p.bytes, "chunked") {
			f.Add([]byte(p.bytes[i+4:]), uint8(1))
		}
	}
	decode := func(raw []byte, step int) ([]byte, int, error) {
		c := &tape{in: raw, step: step}
		b := body{in: &reader{conn: c}, owner: nobody{}, framing: framingChunked}
		got, err := io.ReadAll(&b)
		return got, len(c.in) + b.in.buffered(), err
	}
	f.Fuzz(func(t *testing.T, raw []byte, step uint8) {
		whole, rest, err := decode(raw, len(raw)+1)
		parts, rest2, err2 := decode(raw, int(step)+1)
		if !bytes.Equal(whole, parts) && err == nil || (err == nil) != (err2 == nil) || err == nil && rest != rest2 {
			t.Fatalf("at once %q, %v; in pieces %q, %v", whole, err, parts, err2)
		}
		if err != nil {
			return
		}
		std, err := http.ReadRequest(bufio.NewReader(io.MultiReader(
			strings.NewReader("POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n"), bytes.NewReader(raw[:len(raw)-rest]))))
		if err != nil {
			t.Fatal(err)
		}
		if got, err := io.ReadAll(std.Body); err != nil || !bytes.Equal(got, whole) {
			t.Fatalf("net/http reads %q from %q: %v; we %q", got, raw, err, whole)
		}
	})
}

// FuzzResponse: what we accept of an app is passed on so that net/http reads the
// same body, or the failure to complete it.
func FuzzResponse(f *testing.F) {
	for _, p := range payloads(f, "responses.txt") {
		if len(p.bytes) < 2000 {
			f.Add([]byte(p.bytes), "GET")
		}
	}
	f.Add([]byte("HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n"), "HEAD")
	f.Fuzz(func(t *testing.T, raw []byte, method string) {
		if method != "HEAD" {
			method = "GET"
		}
		l := Limits{}.withDefaults()
		app := &tape{in: raw, step: 11}
		u := &upstream{limits: &l, interrupt: func() {}}
		u.in.conn, u.out.conn, u.idle.in = app, app, &u.in
		resp, err := u.receive(method)
		if err != nil {
			return
		}
		s := &server{}
		down := &tape{}
		s.out.conn = down
		length := resp.ContentLength
		status := resp.Status
		err = s.respond(resp, outgoing{head: method == "HEAD", chunked: true})
		if e := (*sourceError)(nil); err != nil && !errors.As(err, &e) {
			t.Fatalf("%q cannot be passed on: %v", raw, err)
		}
		s.out.flush()
		std, err2 := http.ReadResponse(bufio.NewReader(&down.out), &http.Request{Method: method})
		if err2 != nil {
			if err != nil && s.out.total == 0 {
				return
			}
			t.Fatalf("net/http refuses %q, made of %q: %v", down.out.Bytes(), raw, err2)
		}
		got, err2 := io.ReadAll(std.Body)
		if (err == nil) != (err2 == nil) || std.StatusCode != status || err == nil && length > 0 && resp.Body != nil && int64(len(got)) != length {
			t.Fatalf("%q: passed on with %v, read as %d %q with %v", raw, err, std.StatusCode, got, err2)
		}
	})
}

// FuzzStream holds a request in HTTP/2 that is let pass to being the same one when it is
// written as HTTP/1.1 and read back, and the engine to surviving any frames.
func FuzzStream(f *testing.F) {
	for _, c := range streamCases(f) {
		f.Add(c.frames(f))
	}
	f.Fuzz(func(t *testing.T, frames []byte) {
		if len(frames) > 1<<16 {
			return
		}
		near, far := net.Pipe()
		check := func(Handler) Handler {
			return HandlerFunc(func(ctx context.Context, x *Exchange) (*Response, error) {
				sameInHTTP1(t, x.Request)
				io.Copy(io.Discard, x.Request.Body)
				return Reply(200, "", nil), nil
			})
		}
		served := make(chan struct{})
		go func() {
			defer close(served)
			Serve(context.Background(), far, Config{Conversation: &Conversation{}, Layers: []Layer{check}})
		}()
		go io.Copy(io.Discard, near)
		near.SetDeadline(time.Now().Add(10 * time.Second))
		io.WriteString(near, http2.ClientPreface)
		http2.NewFramer(near, nil).WriteSettings()
		near.Write(frames)
		near.Close()
		<-served
	})
}

func sameInHTTP1(t *testing.T, r *Request) {
	head, err := appendRequest(nil, r)
	if err != nil {
		t.Fatalf("%+v cannot be written: %v", r, err)
	}
	l := Limits{}.withDefaults()
	again, err := parseRequest(string(head), &l)
	if err != nil {
		t.Fatalf("%q is refused in HTTP/1.1: %v", head, err)
	}
	a := &again.request
	if a.Method != r.Method || a.Target != r.Target || a.Path != r.Path || a.RawQuery != r.RawQuery || a.Host != r.Host || a.ContentLength != r.ContentLength {
		t.Errorf("%+v is %+v in HTTP/1.1", r, a)
	}
}
