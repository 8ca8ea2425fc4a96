//go:build peers

package peers

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"strconv"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/outrigger-mesh/outrigger/pkg/hbone"
	"github.com/outrigger-mesh/outrigger/pkg/identity"
	"github.com/outrigger-mesh/outrigger/pkg/mesh"
	"github.com/outrigger-mesh/outrigger/pkg/relay"
)

const asked = "10.1.2.3:8080" // what Envoy's client asks for

func (b *bed) envoyClient(s *server) *peer {
	return b.envoy("envoy-client.yaml", "PEER_PORT", strconv.Itoa(int(s.port)), "AUTHORITY", asked)
}

func (b *bed) dial(p *peer) *net.TCPConn {
	b.t.Helper()
	c, err := net.DialTimeout("tcp", p.address.String(), patience)
	if err != nil {
		b.t.Fatal(err)
	}
	_ = c.SetDeadline(time.Now().Add(patience))
	b.t.Cleanup(func() { c.Close() })
	return c.(*net.TCPConn)
}

// exchange sends much, ends, and must get the same back, and then an end.
func exchange(c relay.Conn) error {
	want := pattern(1 << 20)
	failed := make(chan error, 1)
	go func() {
		_, err := c.Write(want)
		failed <- errors.Join(err, c.CloseWrite())
	}()
	got, err := io.ReadAll(c)
	if err := errors.Join(err, <-failed); err != nil {
		return err
	}
	if !bytes.Equal(got, want) {
		return fmt.Errorf("%d bytes came back of %d", len(got), len(want))
	}
	return nil
}

// greet speaks first, ends its direction, and then reads until the other end does.
func greet(got chan<- string) func(*net.TCPConn) {
	return func(c *net.TCPConn) {
		_, _ = c.Write([]byte("hello"))
		_ = c.CloseWrite()
		rest, err := io.ReadAll(c)
		got <- fmt.Sprintf("%s %v", rest, err)
	}
}

func TestEnvoysClientCarriesThroughUs(t *testing.T) {
	b := newBed(t)
	s := b.server(hbone.ServerConfig{}, b.certificate(b.ca, "server", serverID), b.app(echo))
	envoy := b.envoyClient(s)
	for range 3 {
		if err := exchange(b.dial(envoy)); err != nil {
			t.Fatal(err)
		}
	}
	in := <-s.in
	if in.Authority != asked || in.Peer.Principal != clientID || in.Header.Baggage == "" || in.Header.Forwarded == "" || in.Header.Hops != 0 {
		t.Errorf("%+v", in)
	}
}

func TestEnvoysClientAndAnAppThatEndsFirst(t *testing.T) {
	b := newBed(t)
	got := make(chan string, 1)
	s := b.server(hbone.ServerConfig{}, b.certificate(b.ca, "server", serverID), b.app(greet(got)))
	c := b.dial(b.envoyClient(s))
	if said, err := io.ReadAll(c); err != nil || string(said) != "hello" {
		t.Fatalf("%q, %v", said, err)
	}
	_, _ = c.Write([]byte("and after your end"))
	_ = c.CloseWrite()
	if rest := <-got; rest != "and after your end <nil>" {
		t.Errorf("the app got %s", rest)
	}
}

// waitRead reads until the end, which must be a reset.
func waitReset(t *testing.T, c net.Conn, what string) {
	t.Helper()
	if _, err := io.Copy(io.Discard, struct{ io.Reader }{c}); !errors.Is(err, syscall.ECONNRESET) {
		t.Errorf("%s: %v, want a reset", what, err)
	}
}

func TestResetsPassEnvoysClientBothWays(t *testing.T) {
	b := newBed(t)
	ends := make(chan error, 2)
	app := b.app(func(c *net.TCPConn) {
		var word [5]byte
		_, _ = io.ReadFull(c, word[:])
		if string(word[:]) == "reset" {
			_ = c.SetLinger(0)
			return
		}
		_, _ = c.Write(word[:])
		_, err := c.Read(word[:])
		ends <- err
	})
	envoy := b.envoyClient(b.server(hbone.ServerConfig{}, b.certificate(b.ca, "server", serverID), app))
	c := b.dial(envoy)
	_, _ = c.Write([]byte("reset"))
	waitReset(t, c, "the app resets")
	c = b.dial(envoy)
	_, _ = c.Write([]byte("hello"))
	_, _ = io.ReadFull(c, make([]byte, 5))
	_ = c.SetLinger(0)
	c.Close()
	if err := <-ends; !errors.Is(err, syscall.ECONNRESET) {
		t.Errorf("the client resets: %v", err)
	}
}

// waitNothing: whether Envoy ends or resets what it never could carry depends on
// what it had read. That something comes through would be wrong.
func waitNothing(t *testing.T, c net.Conn) {
	t.Helper()
	if n, err := io.Copy(io.Discard, struct{ io.Reader }{c}); n != 0 || errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("%d bytes came, %v", n, err)
	}
}

func TestEnvoysClientIsRefused(t *testing.T) {
	b := newBed(t)
	s := b.server(hbone.ServerConfig{}, b.certificate(b.ca, "server", serverID), "127.0.0.1:1") // nobody listens
	waitNothing(t, b.dial(b.envoyClient(s)))
}

// Envoy cannot tell our abort from our end unless each stream is reset first.
func TestTheEndOfOurConnectionIsAResetToEnvoysClient(t *testing.T) {
	b := newBed(t)
	s := b.server(hbone.ServerConfig{}, b.certificate(b.ca, "server", serverID), b.app(echo))
	envoy := b.envoyClient(s)
	open := make([]*net.TCPConn, 5)
	for i := range open {
		open[i] = b.dial(envoy)
		_, _ = open[i].Write([]byte("x"))
		if _, err := io.ReadFull(open[i], make([]byte, 1)); err != nil {
			t.Fatal(err)
		}
	}
	s.shutdown() // GOAWAY: those that are open go on
	for _, c := range open {
		_, _ = c.Write([]byte("y"))
		if _, err := io.ReadFull(c, make([]byte, 1)); err != nil {
			t.Fatalf("during the drain: %v", err)
		}
	}
	s.cut()
	for _, c := range open {
		waitReset(t, c, "the drain has ended")
	}
	<-s.done
}

// Envoy opens as many streams as it likes until it has our SETTINGS; after that
// it makes another connection, and none is refused.
func TestEnvoysClientKeepsToOurStreamLimit(t *testing.T) {
	b := newBed(t)
	s := b.server(hbone.ServerConfig{MaxStreams: 4}, b.certificate(b.ca, "server", serverID), b.app(echo))
	envoy := b.envoyClient(s)
	for range 21 {
		c := b.dial(envoy) // stays open
		_, _ = c.Write([]byte("x"))
		if _, err := io.ReadFull(c, make([]byte, 1)); err != nil {
			t.Fatal(err)
		}
	}
}

func TestBadIdentitiesDoNotPassEnvoysClient(t *testing.T) {
	for name, c := range map[string]func(b *bed) *identity.Mutual{
		"our name is another":      func(b *bed) *identity.Mutual { return b.certificate(b.ca, "x", strangerID) },
		"our authority is another": func(b *bed) *identity.Mutual { return b.certificate(newCA(t), "x", serverID) },
		"Envoy's authority is another": func(b *bed) *identity.Mutual {
			b.certificate(newCA(t), "client", clientID)
			return b.certificate(b.ca, "server", serverID)
		},
	} {
		t.Run(name, func(t *testing.T) {
			b := newBed(t)
			s := b.server(hbone.ServerConfig{}, c(b), b.app(echo))
			waitNothing(t, b.dial(b.envoyClient(s)))
			if len(s.in) != 0 {
				t.Error("a tunnel was opened")
			}
		})
	}
}

func TestWeCarryThroughEnvoysServer(t *testing.T) {
	b := newBed(t)
	envoy, d := b.envoy("envoy-server.yaml"), b.dialer(b.certificate(b.ca, "client", clientID))
	app := b.app(echo)
	for range 3 {
		tun, err := d.Dial(b.ctx(), hop(envoy, app), hbone.Header{Baggage: "service.name=us"})
		if err != nil {
			t.Fatal(err)
		}
		if err := exchange(tun); err != nil {
			t.Fatal(err)
		}
		tun.Close()
	}
}

func TestEnvoysServerAndItsOwnWays(t *testing.T) {
	b := newBed(t)
	envoy, d := b.envoy("envoy-server.yaml"), b.dialer(b.certificate(b.ca, "client", clientID))
	dial := func(app string) (*hbone.Tunnel, error) {
		return d.Dial(b.ctx(), hop(envoy, app), hbone.Header{})
	}
	t.Run("the app ends first: END_STREAM and RST_STREAM NO_ERROR", func(t *testing.T) {
		tun, err := dial(b.app(func(c *net.TCPConn) { _, _ = c.Write([]byte("bye")) }))
		if err != nil {
			t.Fatal(err)
		}
		if got, err := io.ReadAll(tun); err != nil || string(got) != "bye" {
			t.Errorf("%q, %v", got, err)
		}
		b.eventually(func() error { // nothing more can be sent, and that is not a broken connection
			if _, err := tun.Write([]byte("x")); !errors.Is(err, syscall.EPIPE) {
				return fmt.Errorf("write: %v", err)
			}
			return nil
		})
	})
	t.Run("refused: 503, body, reset", func(t *testing.T) {
		_, err := dial("127.0.9.9:1")
		var status *hbone.StatusError
		if !errors.As(err, &status) || status.Status != http.StatusServiceUnavailable {
			t.Error(err)
		}
	})
	t.Run("the app resets", func(t *testing.T) {
		tun, err := dial(b.app(func(c *net.TCPConn) {
			_, _ = io.ReadFull(c, make([]byte, 1))
			_ = c.SetLinger(0)
		}))
		if err != nil {
			t.Fatal(err)
		}
		_, _ = tun.Write([]byte("x"))
		waitReset(t, tun, "the app resets")
	})
	t.Run("we reset", func(t *testing.T) {
		ended := make(chan error, 1)
		tun, err := dial(b.app(func(c *net.TCPConn) {
			_, _ = c.Write([]byte("x"))
			_, err := io.Copy(io.Discard, c)
			ended <- err
		}))
		if err != nil {
			t.Fatal(err)
		}
		_, _ = io.ReadFull(tun, make([]byte, 1))
		_ = tun.Reset()
		<-ended // Envoy makes it an end
	})
	t.Run("never more than its five streams", func(t *testing.T) {
		app := b.app(echo)
		var open sync.WaitGroup
		for range 33 {
			open.Go(func() {
				tun, err := dial(app)
				if err != nil {
					t.Error(err)
					return
				}
				defer tun.Close()
				if err := exchange(tun); err != nil {
					t.Error(err)
				}
			})
		}
		open.Wait()
	})
}

func TestADrainOfEnvoysServerLosesNothing(t *testing.T) {
	b := newBed(t)
	envoy, d := b.envoy("envoy-server.yaml"), b.dialer(b.certificate(b.ca, "client", clientID))
	app := b.app(echo)
	old, err := d.Dial(b.ctx(), hop(envoy, app), hbone.Header{})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := envoy.ask(http.MethodPost, "/healthcheck/fail"); err != nil {
		t.Fatal(err)
	}
	for range 30 { // the connections get GOAWAY with these
		tun, err := d.Dial(b.ctx(), hop(envoy, app), hbone.Header{})
		if err != nil {
			t.Fatal(err)
		}
		if err := exchange(tun); err != nil {
			t.Fatal(err)
		}
		tun.Close()
	}
	if err := exchange(old); err != nil {
		t.Errorf("the tunnel that was open: %v", err)
	}
}

func TestTheDeathOfEnvoysServerIsAReset(t *testing.T) {
	b := newBed(t)
	envoy, d := b.envoy("envoy-server.yaml"), b.dialer(b.certificate(b.ca, "client", clientID))
	tun, err := d.Dial(b.ctx(), hop(envoy, b.app(echo)), hbone.Header{})
	if err != nil {
		t.Fatal(err)
	}
	_ = envoy.cmd.Process.Signal(syscall.SIGTERM) // without GOAWAY
	waitReset(t, tun, "Envoy is gone")
}

func TestEnvoysServerDoesNotTakeBadIdentities(t *testing.T) {
	b := newBed(t)
	envoy, app := b.envoy("envoy-server.yaml"), b.app(echo)
	for name, m := range map[string]*identity.Mutual{
		"another name":      b.certificate(b.ca, "x", strangerID),
		"another authority": b.certificate(newCA(t), "x", clientID),
	} {
		if tun, err := b.dialer(m).Dial(b.ctx(), hop(envoy, app), hbone.Header{}); err == nil {
			tun.Close()
			t.Errorf("%s: a tunnel was opened", name)
		}
	}
	other := hop(envoy, app)
	other.Expected = []mesh.Principal{strangerID}
	if _, err := b.dialer(b.certificate(b.ca, "x", clientID)).Dial(b.ctx(), other, hbone.Header{}); err == nil {
		t.Error("Envoy passed for somebody else")
	}
}

// Envoy as the gateway of another network: it carries a tunnel in a tunnel and sees nothing of it.
func TestEnvoyIsAGatewayForDoubleHBONE(t *testing.T) {
	b := newBed(t)
	envoy, d := b.envoy("envoy-server.yaml"), b.dialer(b.certificate(b.ca, "client", clientID))
	inner := b.server(hbone.ServerConfig{}, b.certificate(b.ca, "y", strangerID), b.app(echo))
	outer, err := d.Dial(b.ctx(), hop(envoy, net.JoinHostPort("127.0.9.1", strconv.Itoa(int(inner.port)))), hbone.Header{})
	if err != nil {
		t.Fatal(err)
	}
	to := mesh.Hop{Authority: "web.tools.svc.cluster.local:80", Expected: []mesh.Principal{strangerID}}
	tun, err := d.DialThrough(b.ctx(), outer, to, hbone.Header{Network: "home"})
	if err != nil {
		t.Fatal(err)
	}
	if err := exchange(tun); err != nil {
		t.Fatal(err)
	}
	in := <-inner.in
	if in.Authority != to.Authority || in.Header.Network != "home" || in.Peer.Principal != clientID {
		t.Errorf("%+v", in)
	}
}
