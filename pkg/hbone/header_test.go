package hbone

import (
	"bytes"
	"context"
	"errors"
	"slices"
	"strings"
	"testing"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"
)

const traceParent = "00-0123456789abcdef0123456789abcdef-0123456789abcdef-00"

func TestHeadersArriveAsTheyWereSent(t *testing.T) {
	seen := make(chan *Incoming, 1)
	w := newWorld(t, options{handler: func(_ context.Context, in *Incoming) {
		seen <- in
		if _, err := in.Accept(Header{Baggage: "k8s.cluster.name=b"}); err != nil {
			t.Error(err)
		}
	}})
	h := Header{
		Baggage: "k8s.cluster.name=a,service.name=b", Forwarded: `for="10.0.0.9:4711";host=x`,
		TraceParent: traceParent, Network: "net1", IstioSource: "sidecar", Hops: 3,
	}
	for range 3 { // the dynamic table fills and is used
		tun, err := w.dialer.Dial(ctxOf(t), w.hop("svc.ns:80"), h)
		if err != nil {
			t.Fatal(err)
		}
		in := <-seen
		if in.Header != h || in.Authority != "svc.ns:80" || in.Peer.Principal != clientID || in.Local != w.address {
			t.Errorf("got %+v", in)
		}
		if got := tun.ResponseHeader(); got.Baggage != "k8s.cluster.name=b" {
			t.Errorf("response header %+v", got)
		}
		if tun.Peer().Principal != serverID {
			t.Errorf("peer %v", tun.Peer().Principal)
		}
		tun.Close()
	}
}

func TestAHeaderThatCannotBeSentIsAnError(t *testing.T) {
	w := newWorld(t, options{handler: echo})
	for name, h := range map[string]Header{
		"hops":    {Hops: MaxHops + 1},
		"newline": {Baggage: "a\nb"},
		"long":    {Forwarded: strings.Repeat("x", maxFieldValue+1)},
	} {
		if _, err := w.dialer.Dial(ctxOf(t), w.hop("10.0.0.1:80"), h); !errors.Is(err, errBadHeader) && !errors.Is(err, errTooManyHops) {
			t.Errorf("%s: %v", name, err)
		}
	}
	large := strings.Repeat("x", maxFieldValue)
	if _, err := w.dialer.Dial(ctxOf(t), w.hop("10.0.0.1:80"), Header{Baggage: large, Forwarded: large}); !errors.Is(err, errBadHeader) {
		t.Errorf("block too large: %v", err)
	}
	w.dial().Close() // the connection still works, and so does its table
}

func decodeRequest(fields ...string) (*request, error) {
	var encoded bytes.Buffer
	enc := hpack.NewEncoder(&encoded)
	for i := 0; i < len(fields); i += 2 {
		_ = enc.WriteField(hpack.HeaderField{Name: fields[i], Value: fields[i+1]})
	}
	r := &request{length: -1}
	err := r.decode(hpack.NewDecoder(4096, nil), encoded.Bytes())
	r.check()
	return r, err
}

func TestRequestsAreJudged(t *testing.T) {
	connect := []string{":method", "CONNECT", ":authority", "10.0.0.1:80"}
	with := func(kv ...string) []string { return append(append([]string(nil), connect...), kv...) }
	for _, c := range []struct {
		name           string
		fields         []string
		malformed, bad bool
	}{
		{name: "plain", fields: connect},
		{name: "unknown field", fields: with("x-other", "y")},
		{name: "two baggages", fields: with("baggage", "a=b", "baggage", "c=d")},
		{name: "te trailers", fields: with("te", "trailers")},
		{name: "bad traceparent is dropped", fields: with("traceparent", "01-x")},
		{name: "hops", fields: with("x-outrigger-hops", "4")},
		{name: "too many hops", fields: with("x-outrigger-hops", "5"), bad: true},
		{name: "many digits of hops", fields: with("x-outrigger-hops", "04"), bad: true},
		{name: "hops twice", fields: with("x-outrigger-hops", "1", "x-outrigger-hops", "1"), bad: true},
		{name: "negative hops", fields: with("x-outrigger-hops", "-1"), bad: true},
		{name: "network twice", fields: with("x-forwarded-network", "a", "x-forwarded-network", "b"), bad: true},
		{name: "scheme and path", fields: []string{":method", "CONNECT", ":scheme", "https", ":path", "/", ":authority", "10.0.0.1:80"}, bad: true},
		{name: "extended CONNECT", fields: []string{":method", "CONNECT", ":protocol", "connect-udp", ":scheme", "https", ":path", "/", ":authority", "10.0.0.1:80"}, bad: true},
		{name: "protocol alone", fields: []string{":method", "CONNECT", ":protocol", "websocket", ":authority", "10.0.0.1:80"}, bad: true},
		{name: "no authority", fields: []string{":method", "CONNECT"}, bad: true},
		{name: "empty authority", fields: []string{":method", "CONNECT", ":authority", ""}, bad: true},
		{name: "loopback authority", fields: []string{":method", "CONNECT", ":authority", "127.0.0.1:80"}, bad: true},
		{name: "content-length", fields: with("content-length", "0"), bad: true},
		{name: "GET", fields: []string{":method", "GET", ":scheme", "http", ":path", "/", ":authority", "a"}, bad: true},
		{name: "lower-case connect", fields: []string{":method", "connect", ":authority", "10.0.0.1:80"}, malformed: true},
		{name: "nothing", malformed: true},
		{name: "status", fields: with(":status", "200"), malformed: true},
		{name: "two methods", fields: []string{":method", "CONNECT", ":method", "CONNECT", ":authority", "10.0.0.1:80"}, malformed: true},
		{name: "two authorities", fields: with(":authority", "10.0.0.2:80"), malformed: true},
		{name: "pseudo after regular", fields: []string{":method", "CONNECT", "a", "b", ":authority", "10.0.0.1:80"}, malformed: true},
		{name: "unknown pseudo", fields: with(":x", "y"), malformed: true},
		{name: "upper case", fields: with("Baggage", "a=b"), malformed: true},
		{name: "empty name", fields: with("", "a"), malformed: true},
		{name: "space in name", fields: with("a b", "a"), malformed: true},
		{name: "colon in name", fields: with("a:b", "a"), malformed: true},
		{name: "newline in value", fields: with("a", "b\r\nc: d"), malformed: true},
		{name: "NUL in value", fields: with("baggage", "a\x00"), malformed: true},
		{name: "space around value", fields: with("a", " b"), malformed: true},
		{name: "connection", fields: with("connection", "close"), malformed: true},
		{name: "transfer-encoding", fields: with("transfer-encoding", "chunked"), malformed: true},
		{name: "upgrade", fields: with("upgrade", "h2c"), malformed: true},
		{name: "te gzip", fields: with("te", "gzip"), malformed: true},
		{name: "two content-lengths", fields: with("content-length", "1", "content-length", "2"), malformed: true},
		{name: "content-length with sign", fields: with("content-length", "+1"), malformed: true},
	} {
		r, err := decodeRequest(c.fields...)
		if err != nil || (r.malformed != "") != c.malformed || (r.bad != nil) != c.bad && !c.malformed {
			t.Errorf("%s: malformed %q, bad %v, %v", c.name, r.malformed, r.bad, err)
		}
	}
}

func TestAHeaderListIsBounded(t *testing.T) {
	list := func(fields, bytes int) []string {
		all := []string{":method", "CONNECT", ":authority", "10.0.0.1:80"}
		for range fields {
			all = append(all, "a", "b")
		}
		return append(all, "a", strings.Repeat("0", bytes))
	}
	for name, c := range map[string]struct {
		fields []string
		end    bool // of the connection, rather than 431
	}{
		"fields":      {fields: list(maxHeaderFields, 1)},
		"bytes":       {fields: list(0, maxHeaderBlock-50)},
		"many fields": {fields: list(4*maxHeaderFields, 1), end: true},
		"bomb":        {fields: append(list(0, 3000), slices.Repeat([]string{"a", strings.Repeat("0", 3000)}, 30)...), end: true},
	} {
		r, err := decodeRequest(c.fields...)
		var ce *connError
		if c.end && (!errors.As(err, &ce) || ce.code != http2.ErrCodeEnhanceYourCalm) || !c.end && !errors.Is(r.bad, errTooLarge) {
			t.Errorf("%s: %v, %v", name, r.bad, err)
		}
	}
}

func FuzzRequest(f *testing.F) {
	f.Add([]byte{0x42, 7, 'C', 'O', 'N', 'N', 'E', 'C', 'T', 0x41, 8, '1', '.', '1', '.', '1', '.', '1', ':', '1'})
	f.Add([]byte{0x82, 0x86, 0x84, 0xbe})
	f.Add([]byte{0x3f, 0xe1, 0x1f})
	f.Fuzz(func(t *testing.T, block []byte) {
		r := &request{length: -1}
		if err := r.decode(hpack.NewDecoder(4096, nil), block); err != nil {
			return
		}
		r.check()
		if r.malformed != "" || r.bad != nil {
			return
		}
		if r.method != "CONNECT" || r.header.Hops > MaxHops || r.header.Hops < 0 {
			t.Errorf("%+v", r)
		}
		if _, _, _, err := ParseAuthority(r.authority); err != nil {
			t.Error(err)
		}
		if err := r.header.check(); err != nil && !strings.Contains(err.Error(), "too many") {
			t.Errorf("what was taken in could not be sent on: %v", err)
		}
	})
}
