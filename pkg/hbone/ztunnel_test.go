package hbone

import (
	"bytes"
	"context"
	"io"
	"net"
	"slices"
	"testing"
	"time"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"
)

// A ztunnel is a scripted peer that writes, byte for byte, what ztunnel does.
type ztunnel struct {
	t   *testing.T
	c   net.Conn
	fr  *http2.Framer
	dec *hpack.Decoder
}

func newZtunnel(t *testing.T, c net.Conn) *ztunnel {
	_ = c.SetDeadline(time.Now().Add(20 * time.Second)) // fails only on a closed connection
	z := &ztunnel{t: t, c: c, fr: http2.NewFramer(c, c), dec: hpack.NewDecoder(4096, nil)}
	z.fr.SetMaxReadFrameSize(1 << 20)
	return z
}

// settings are what its two roles say of themselves, and the window of its connections.
func (z *ztunnel) settings(more ...http2.Setting) {
	all := append([]http2.Setting{
		{ID: http2.SettingInitialWindowSize, Val: 4 << 20},
		{ID: http2.SettingMaxFrameSize, Val: 1 << 20},
	}, more...)
	if err := z.fr.WriteSettings(all...); err != nil {
		z.t.Fatal(err)
	}
	if err := z.fr.WriteWindowUpdate(0, 16<<20-65535); err != nil {
		z.t.Fatal(err)
	}
}

// next is the next frame that is about a stream; settings are acknowledged on the way.
func (z *ztunnel) next() http2.Frame {
	z.t.Helper()
	for {
		f, err := z.fr.ReadFrame()
		if err != nil {
			z.t.Fatal(err)
		}
		if s, ok := f.(*http2.SettingsFrame); ok && !s.IsAck() {
			if err := z.fr.WriteSettingsAck(); err != nil {
				z.t.Fatal(err)
			}
		}
		if f.Header().StreamID != 0 && f.Header().Type != http2.FrameWindowUpdate {
			return f
		}
	}
}

// first reads, without acknowledging, the peer's SETTINGS and what it gives the connection.
func (z *ztunnel) first() (settings map[http2.SettingID]uint32, window uint32) {
	z.t.Helper()
	f, err := z.fr.ReadFrame()
	if err != nil {
		z.t.Fatal(err)
	}
	s, ok := f.(*http2.SettingsFrame)
	if !ok {
		z.t.Fatalf("%v comes first", f)
	}
	settings = map[http2.SettingID]uint32{}
	for i := range s.NumSettings() {
		settings[s.Setting(i).ID] = s.Setting(i).Val
	}
	if f, err = z.fr.ReadFrame(); err != nil {
		z.t.Fatal(err)
	}
	u, ok := f.(*http2.WindowUpdateFrame)
	if !ok || u.StreamID != 0 {
		z.t.Fatalf("%v comes second", f)
	}
	return settings, u.Increment + 65535
}

// fields reads a header block.
func (z *ztunnel) fields() (all []string, end bool) {
	z.t.Helper()
	f := z.next()
	h, ok := f.(*http2.HeadersFrame)
	if !ok {
		z.t.Fatalf("%v instead of HEADERS", f)
	}
	fields, err := z.dec.DecodeFull(h.HeaderBlockFragment())
	if err != nil {
		z.t.Fatal(err)
	}
	for _, f := range fields {
		all = append(all, f.Name+": "+f.Value)
	}
	return all, h.StreamEnded()
}

func (z *ztunnel) headers(id uint32, end bool, kv ...string) {
	z.t.Helper()
	var block bytes.Buffer
	enc := hpack.NewEncoder(&block)
	for i := 0; i < len(kv); i += 2 {
		if err := enc.WriteField(hpack.HeaderField{Name: kv[i], Value: kv[i+1]}); err != nil {
			z.t.Fatal(err)
		}
	}
	if err := z.fr.WriteHeaders(http2.HeadersFrameParam{StreamID: id, EndHeaders: true, EndStream: end, BlockFragment: block.Bytes()}); err != nil {
		z.t.Fatal(err)
	}
}

var ourWords = Header{
	Baggage: "k8s.cluster.name=c,k8s.namespace.name=agents", Forwarded: `for="10.0.0.9:4711"`,
	TraceParent: "00-0123456789abcdef0123456789abcdef-0123456789abcdef-00",
}

func TestOurClientSaysToZtunnelWhatZtunnelWould(t *testing.T) {
	for name, c := range map[string]struct {
		header Header
		more   []string
	}{
		"a tunnel":       {header: ourWords},
		"an inner layer": {header: func() Header { h := ourWords; h.Network = "home"; return h }(), more: []string{"x-forwarded-network: home"}},
	} {
		t.Run(name, func(t *testing.T) {
			ours, theirs := tcpPair(t)
			client, z := plainClient(t, ours), newZtunnel(t, theirs)
			preface := make([]byte, len(http2.ClientPreface))
			if _, err := io.ReadFull(theirs, preface); err != nil || string(preface) != http2.ClientPreface {
				t.Fatalf("%q %v", preface, err)
			}
			settings, window := z.first()
			if push, ok := settings[http2.SettingEnablePush]; !ok || push != 0 {
				t.Error("push is not turned off")
			}
			if got := settings[http2.SettingMaxHeaderListSize]; got != 16<<10 {
				t.Errorf("header lists of %d", got)
			}
			if _, ok := settings[http2.SettingMaxConcurrentStreams]; ok || window != 16<<20 {
				t.Errorf("%v, window %d", settings, window)
			}
			z.settings(http2.Setting{ID: http2.SettingMaxConcurrentStreams, Val: 200}, http2.Setting{ID: http2.SettingMaxHeaderListSize, Val: 64 << 10})
			dialed := make(chan *Tunnel, 1)
			go func() {
				tun, err := client.connect(ctxOf(t), "web.tools.svc.cluster.local:80", &c.header, 10*time.Second)
				if err != nil {
					t.Error(err)
				}
				dialed <- tun
			}()
			got, end := z.fields()
			want := append([]string{
				":method: CONNECT", ":authority: web.tools.svc.cluster.local:80",
				"baggage: " + ourWords.Baggage, "forwarded: " + ourWords.Forwarded, "traceparent: " + ourWords.TraceParent,
			}, c.more...)
			if !slices.Equal(got, want) || end {
				t.Errorf("end %v, and it said\n%q, not\n%q", end, got, want)
			}
			z.headers(1, false, ":status", "200", "baggage", "k8s.namespace.name=tools")
			tun := <-dialed
			if tun == nil {
				t.FailNow()
			}
			if b := tun.ResponseHeader().Baggage; b != "k8s.namespace.name=tools" {
				t.Errorf("the answer's baggage is %q", b)
			}
			z.halves(1, tun, func() error { return tun.CloseWrite() })
		})
	}
}

// halves ends a tunnel as TCP does, first their way and then ours.
func (z *ztunnel) halves(id uint32, tun io.ReadWriter, closeWrite func() error) {
	z.t.Helper()
	if err := z.fr.WriteData(id, true, []byte("to you")); err != nil {
		z.t.Fatal(err)
	}
	if got, err := io.ReadAll(tun); err != nil || string(got) != "to you" {
		z.t.Errorf("%q %v", got, err)
	}
	if _, err := tun.Write([]byte("to them")); err != nil { // half closed is half open
		z.t.Error(err)
	}
	if err := closeWrite(); err != nil {
		z.t.Error(err)
	}
	var got []byte
	for {
		f, ok := z.next().(*http2.DataFrame)
		if !ok {
			z.t.Fatal("no DATA")
		}
		got = append(got, f.Data()...)
		if f.StreamEnded() {
			break
		}
	}
	if string(got) != "to them" {
		z.t.Errorf("%q", got)
	}
}

// accepts serves one connection and gives its tunnels out, unanswered.
func accepts(t *testing.T) (*ztunnel, chan *Incoming) {
	arrived, done := make(chan *Incoming), make(chan struct{})
	ours, theirs := tcpPair(t)
	s := newServer(ServerConfig{}, nil)
	ctx, cancel := context.WithCancel(context.Background())
	a := &acceptor{s: s, ctx: ctx, conns: make(map[*conn]struct{}), h: func(_ context.Context, in *Incoming) {
		select {
		case arrived <- in:
			<-done
		case <-done:
		}
	}}
	a.wait.Go(func() { a.run(ctx, a.newConn(ours, nil, nil)) })
	t.Cleanup(func() {
		close(done)
		cancel()
		theirs.Close()
		a.wait.Wait()
	})
	z := newZtunnel(t, theirs)
	if _, err := io.WriteString(theirs, http2.ClientPreface); err != nil {
		t.Fatal(err)
	}
	z.settings(http2.Setting{ID: http2.SettingEnablePush, Val: 0}, http2.Setting{ID: http2.SettingMaxHeaderListSize, Val: 16 << 10})
	return z, arrived
}

func TestOurServerUnderstandsWhatZtunnelSays(t *testing.T) {
	z, arrived := accepts(t)
	settings, window := z.first()
	if _, ok := settings[http2.SettingEnablePush]; ok {
		t.Error("a server speaks of push")
	}
	if settings[http2.SettingMaxConcurrentStreams] != 200 || window != 16<<20 {
		t.Errorf("%v, window %d", settings, window)
	}
	id := uint32(1)
	for _, authority := range []string{"10.0.0.1:80", "[fd00::1]:80", "web.tools.svc.cluster.local:80"} {
		z.headers(id, false, ":method", "CONNECT", ":authority", authority,
			"baggage", ourWords.Baggage, "baggage", "service.name=x", "forwarded", ourWords.Forwarded+";host=web", "traceparent", ourWords.TraceParent, "x-forwarded-network", "away")
		in := <-arrived
		want := ourWords
		want.Baggage, want.Forwarded, want.Network = want.Baggage+",service.name=x", want.Forwarded+";host=web", "away"
		if in.Authority != authority || in.Header != want {
			t.Errorf("%s %+v", in.Authority, in.Header)
		}
		if authority == "10.0.0.1:80" { // nothing is answered before the handler has: a PING passes the answer that is not there
			if err := z.fr.WritePing(false, [8]byte{1}); err != nil {
				t.Fatal(err)
			}
			for {
				f, err := z.fr.ReadFrame()
				if err != nil {
					t.Fatal(err)
				}
				if f.Header().StreamID != 0 {
					t.Fatalf("%v before the handler has answered", f)
				}
				if p, ok := f.(*http2.PingFrame); ok && p.IsAck() {
					break
				}
			}
		}
		tun, err := in.Accept(Header{Baggage: "k8s.namespace.name=tools"})
		if err != nil {
			t.Fatal(err)
		}
		if got, end := z.fields(); !slices.Equal(got, []string{":status: 200", "baggage: k8s.namespace.name=tools"}) || end {
			t.Errorf("%q, end %v", got, end)
		}
		z.halves(id, tun, tun.CloseWrite)
		id += 2
	}
}

// A refusal is HEADERS with END_STREAM: no body, no reason.
func TestOurServerRefusesAsZtunnelDoes(t *testing.T) {
	z, arrived := accepts(t)
	z.first()
	for i, status := range []string{"400", "401", "503"} {
		id := uint32(1 + 2*i)
		if status == "400" { // the authority has no port: no handler is asked
			z.headers(id, false, ":method", "CONNECT", ":authority", "10.0.0.1")
		} else {
			z.headers(id, false, ":method", "CONNECT", ":authority", target)
			if err := (<-arrived).Reject(map[string]int{"401": 401, "503": 503}[status]); err != nil {
				t.Fatal(err)
			}
		}
		if got, end := z.fields(); !slices.Equal(got, []string{":status: " + status}) || !end {
			t.Errorf("%q, end %v", got, end)
		}
		if status == "400" { // without more ado
			continue
		}
		if r, ok := z.next().(*http2.RSTStreamFrame); !ok || r.ErrCode != http2.ErrCodeNo {
			t.Errorf("%v, not RST_STREAM NO_ERROR", r)
		}
	}
}
