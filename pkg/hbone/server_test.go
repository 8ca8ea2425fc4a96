package hbone

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"syscall"
	"testing"
	"time"

	"golang.org/x/net/http2"

	"github.com/outrigger-mesh/outrigger/pkg/identity"
	"github.com/outrigger-mesh/outrigger/pkg/mesh"
)

func TestARejectionArrivesAsItsStatus(t *testing.T) {
	w := newWorld(t, options{handler: func(_ context.Context, in *Incoming) {
		switch in.Authority {
		case "10.0.0.1:401":
			_ = in.Reject(401)
		case "10.0.0.1:503": // no answer at all
		case "10.0.0.1:200":
			if err := in.Reject(200); err == nil {
				t.Error("200 is no rejection")
			}
			_ = in.Reject(403)
			if err := in.Reject(403); !errors.Is(err, errAnswered) {
				t.Error(err)
			}
			if _, err := in.Accept(Header{}); !errors.Is(err, errAnswered) {
				t.Error(err)
			}
		}
	}})
	for authority, want := range map[string]int{"10.0.0.1:401": 401, "10.0.0.1:503": 503, "10.0.0.1:200": 403} {
		_, err := w.dialer.Dial(ctxOf(t), w.hop(authority), Header{})
		var status *StatusError
		if !errors.As(err, &status) || status.Status != want {
			t.Errorf("%s: %v", authority, err)
		}
	}
	if n := len(w.dialer.pool.all); n > 2 {
		t.Errorf("%d connections for three tunnels", n)
	}
}

func TestAHandlerThatPanicsCostsItsTunnelOnly(t *testing.T) {
	quiet := slog.New(slog.DiscardHandler)
	w := newWorld(t, options{server: ServerConfig{Logger: quiet}, dialer: DialerConfig{MaxConns: 1}, handler: func(ctx context.Context, in *Incoming) {
		if in.Authority == "10.0.0.1:1" {
			panic("oh")
		}
		echo(ctx, in)
	}})
	good := w.dial()
	var reset *ResetError
	if _, err := w.dialer.Dial(ctxOf(t), w.hop("10.0.0.1:1"), Header{}); !errors.As(err, &reset) || reset.Code != http2.ErrCodeInternal {
		t.Errorf("got %v", err)
	}
	if _, err := good.Write([]byte("x")); err != nil {
		t.Error(err)
	}
	if _, err := io.ReadFull(good, make([]byte, 1)); err != nil {
		t.Error(err)
	}
}

func TestADrainLetsTunnelsFinishAndRefusesNewOnes(t *testing.T) {
	w := newWorld(t, options{handler: echo})
	tun := w.dial()
	w.shutdown()
	// The listener is closed and the connection takes nothing new.
	for {
		ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
		late, err := w.dialer.Dial(ctx, w.hop("10.0.0.1:80"), Header{})
		cancel()
		if err != nil {
			break
		}
		late.Close()
	}
	if _, err := tun.Write([]byte("still here")); err != nil {
		t.Fatal(err)
	}
	_ = tun.CloseWrite()
	if got, err := io.ReadAll(tun); err != nil || string(got) != "still here" {
		t.Errorf("got %q, %v", got, err)
	}
	if err := <-w.served; err != nil { // with nothing left, Serve returns without a cut
		t.Error(err)
	}
	w.served <- nil
}

func TestTheEndOfADrainResetsWhatIsLeft(t *testing.T) {
	ended := make(chan error, 1)
	w := newWorld(t, options{handler: func(ctx context.Context, in *Incoming) {
		_, _ = in.Accept(Header{})
		<-ctx.Done()
		ended <- context.Cause(ctx)
	}})
	tun := w.dial()
	w.shutdown()
	w.cut()
	if _, err := tun.Read(make([]byte, 1)); !errors.Is(err, syscall.ECONNRESET) {
		t.Errorf("client saw %v", err)
	}
	if err := <-ended; err == nil {
		t.Error("handler was not told why")
	}
}

func TestRecheckCutsThePeersThatAreNoLongerAdmitted(t *testing.T) {
	for _, side := range []string{"server", "client"} {
		w := newWorld(t, options{handler: echo})
		tun := w.dial()
		w.server.Recheck()
		w.dialer.Recheck()
		if _, err := tun.Write([]byte("x")); err != nil {
			t.Fatal(err)
		}
		_, _ = io.ReadFull(tun, make([]byte, 1))
		// The roots change: the peer's chain leads nowhere now.
		if side == "server" {
			w.server.config.Mutual.Source.(*identity.Memory).Set(issue(t, newCA(t), serverID))
			w.server.Recheck()
		} else {
			w.client.Set(issue(t, newCA(t), clientID))
			w.dialer.Recheck()
		}
		if _, err := tun.Read(make([]byte, 1)); !errors.Is(err, syscall.ECONNRESET) {
			t.Errorf("%s: %v", side, err)
		}
	}
}

func TestAPeerMayNotHaveTooManyConnections(t *testing.T) {
	w := newWorld(t, options{server: ServerConfig{Limits: Limits{ConnsPerPeer: 1}}, dialer: DialerConfig{MaxStreams: 1}, handler: echo})
	first := w.dial()
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	if _, err := w.dialer.Dial(ctx, w.hop("10.0.0.1:80"), Header{}); err == nil {
		t.Error("a second connection was admitted")
	}
	first.Close()
	w.dial().Close()
}

func TestStreamsOverTheLimitGoToAnotherConnection(t *testing.T) {
	w := newWorld(t, options{server: ServerConfig{MaxStreams: 3}, dialer: DialerConfig{MaxConns: 1}, handler: echo})
	for range 20 {
		tun := w.dial()
		defer tun.Close()
	}
	if n := len(w.dialer.pool.all); n < 7 {
		t.Errorf("20 tunnels on %d connections of 3 each", n)
	}
}

func TestAConnectionWithRoomAgainIsUsedAgain(t *testing.T) {
	w := newWorld(t, options{dialer: DialerConfig{MaxConns: 1, MaxStreams: 2}, handler: echo})
	for range 10 {
		a, b := w.dial(), w.dial()
		for _, tun := range []*Tunnel{a, b} {
			_ = tun.CloseWrite()
			_, _ = io.ReadAll(tun)
		}
	}
	if n := len(w.dialer.pool.all); n != 1 {
		t.Errorf("%d connections", n)
	}
}

func TestConnectionsAreReplacedWhenOurCertificateIs(t *testing.T) {
	w := newWorld(t, options{dialer: DialerConfig{MaxConns: 1}, handler: echo})
	old := w.dial()
	w.client.Set(issue(t, w.ca, clientID))
	fresh := w.dial()
	if old.c == fresh.c {
		t.Error("the old certificate was used again")
	}
	if _, err := old.Write([]byte("x")); err != nil {
		t.Error(err)
	}
	if _, err := io.ReadFull(old, make([]byte, 1)); err != nil {
		t.Errorf("the old tunnel does not go on: %v", err)
	}
	_ = old.CloseWrite()
	_, _ = io.ReadAll(old)
	<-old.c.done // with its last tunnel
}

func TestOnlyTheExpectedPeerWillDo(t *testing.T) {
	w := newWorld(t, options{handler: echo})
	for name, expected := range map[string][]mesh.Principal{
		"nobody": nil,
		"other":  {mesh.NewPrincipal("cluster.local", "tools", "other")},
	} {
		hop := w.hop("10.0.0.1:80")
		hop.Expected = expected
		if _, err := w.dialer.Dial(ctxOf(t), hop, Header{}); err == nil {
			t.Errorf("%s: connected", name)
		}
	}
}

func TestDoubleHBONECarriesATunnelInATunnel(t *testing.T) {
	inner := newWorld(t, options{handler: echo})
	gateway := newWorld(t, options{handler: relayTo(t, inner.address.String())})
	outer := gateway.dial()
	tun, err := inner.dialer.DialThrough(ctxOf(t), outer, inner.hop("svc.ns:80"), Header{Network: "n"})
	if err != nil {
		t.Fatal(err)
	}
	want := pattern(1<<20, 5)
	go func() {
		_, _ = tun.Write(want)
		_ = tun.CloseWrite()
	}()
	got, err := io.ReadAll(tun)
	if err != nil || string(got) != string(want) {
		t.Fatalf("got %d bytes, %v", len(got), err)
	}
	<-tun.c.done // the inner connection ends with its tunnel
	if _, err := outer.Read(make([]byte, 1)); err == nil {
		t.Error("the outer tunnel is still open")
	}
}
