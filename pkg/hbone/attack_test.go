package hbone

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/netip"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"golang.org/x/net/http2"
	"golang.org/x/sys/unix"

	"github.com/outrigger-mesh/outrigger/pkg/identity"
	"github.com/outrigger-mesh/outrigger/pkg/mesh"
	"github.com/outrigger-mesh/outrigger/pkg/meshtest/attack"
	"github.com/outrigger-mesh/outrigger/pkg/relay"
)

const target = "10.0.0.1:80"

// apps are what stands behind a server that is attacked.
var apps = map[attack.App]Handler{
	attack.Silent: func(ctx context.Context, in *Incoming) {
		if t, err := in.Accept(Header{}); err == nil {
			_, _ = io.Copy(io.Discard, struct{ io.Reader }{t})
			<-ctx.Done()
		}
	},
	attack.Firehose: sending,
	attack.Closing: func(_ context.Context, in *Incoming) {
		if t, err := in.Accept(Header{}); err == nil {
			_ = t.CloseWrite()
		}
	},
}

func sending(_ context.Context, in *Incoming) {
	t, err := in.Accept(Header{})
	if err != nil {
		return
	}
	p := make([]byte, 64<<10)
	for {
		if _, err := t.Write(p); err != nil {
			return
		}
	}
}

// A siege is a server whose clock stands still while there is work: in a bubble
// of synctest no budget fills up again but by what a test waits for.
type siege struct {
	t     testing.TB
	a     *acceptor
	peer  *peerBudget // of every connection
	dials atomic.Int64
	ctx   context.Context // ends as the server's does: it drains
	drain context.CancelFunc
}

func besiege(t testing.TB, app Handler, limits Limits) *siege {
	s := &siege{t: t, peer: newPeerBudget(limits.withDefaults())}
	s.ctx, s.drain = context.WithCancel(context.Background())
	serving, stop := context.WithCancel(context.Background())
	s.a = &acceptor{s: newServer(ServerConfig{Limits: limits}, nil), ctx: serving, conns: make(map[*conn]struct{})}
	s.a.h = func(ctx context.Context, in *Incoming) {
		s.dials.Add(1)
		app(ctx, in)
	}
	t.Cleanup(func() {
		stop()
		s.drain()
		s.a.each(func(c *conn) { c.abort(errServerClosed) })
		s.a.wait.Wait()
	})
	return s
}

// connect is one more connection of the attacker.
func (s *siege) connect(read bool) *attack.Client {
	ours, theirs := net.Pipe()
	s.a.wait.Go(func() { s.a.run(s.ctx, s.a.newConn(ours, nil, s.peer)) })
	c := attack.New(theirs, target, read)
	s.t.Cleanup(c.Close)
	return c
}

// The clock of the bubble moves only while a flood has to rest, so that the budgets
// are exact and no machine is too slow.
func TestFloodsAreCut(t *testing.T) {
	for _, f := range attack.Floods() {
		t.Run(f.Name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := besiege(t, apps[f.App], Limits{})
				c, start := s.connect(!f.Quiet), time.Now()
				rounds, err := c.Run(&f)
				if err != nil {
					t.Fatal(err)
				}
				if code, ok := c.Ended(time.Minute); !f.Quiet && (!ok || code != http2.ErrCodeEnhanceYourCalm) {
					t.Errorf("after %d rounds: GOAWAY %v, %v", rounds, ok, code)
				}
				rested := time.Since(start)
				if !f.Quiet && rested > 600*time.Millisecond {
					t.Errorf("cut after %v of rest alone", rested)
				}
				if rounds == f.Rounds && f.Rounds > 20_000 {
					t.Errorf("not cut after %d rounds", rounds)
				}
				limits := Limits{}.withDefaults()
				most := 5*limits.ResetsPerSecond + 200 // and those that are open
				if f.Dials {
					most = opensAtOnce*limits.OpensPerSecond + int(rested.Seconds()*float64(limits.OpensPerSecond))
				}
				if n := s.dials.Load(); n > int64(most) {
					t.Errorf("%d dials, at most %d are in the budget", n, most)
				}
				synctest.Wait()
				if n := s.peer.tunnels.Load(); n != 0 {
					t.Errorf("%d tunnels are still counted", n)
				}
			})
		})
	}
}

// CVE-2025-8671's loophole: what comes after our own GOAWAY counts as well.
func TestFloodsAreCutAfterOurGOAWAYToo(t *testing.T) {
	for _, f := range attack.Floods() {
		if f.Quiet {
			continue
		}
		t.Run(f.Name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := besiege(t, apps[f.App], Limits{})
				app := s.a.h
				s.a.h = func(ctx context.Context, in *Incoming) {
					if s.dials.Add(1) == 1 {
						apps[attack.Silent](ctx, in)
						return
					}
					app(ctx, in)
				}
				c := s.connect(true)
				c.Connect()
				if err := c.Flush(); err != nil {
					t.Fatal(err)
				}
				synctest.Wait() // a tunnel is open: the drain waits for it
				s.drain()
				s.a.each((*conn).drain)
				time.Sleep(3 * time.Second) // no new stream is taken any more
				if n := c.Frames(http2.FrameGoAway); n != 2 {
					t.Fatalf("%d GOAWAYs before the attack", n)
				}
				if _, err := c.Run(&f); err != nil {
					t.Fatal(err)
				}
				if code, ok := c.Ended(time.Minute); !ok || code != http2.ErrCodeEnhanceYourCalm {
					t.Errorf("GOAWAY %v, %v", ok, code)
				}
				if n := s.dials.Load(); n != 1 {
					t.Errorf("%d dials", n)
				}
			})
		})
	}
}

// What one connection may send in bad faith does not come again with the next.
func TestConnectionsOfOneIdentityShareABudget(t *testing.T) {
	for _, f := range attack.Floods() {
		if f.Quiet || f.Name == "CONTINUATION" || f.Name == "empty CONTINUATION" || f.Name == "HPACK bomb" { // cut at once, each time
			continue
		}
		t.Run(f.Name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := besiege(t, apps[f.App], Limits{NoisePerSecond: 400, ResetsPerSecond: 20, OpensPerSecond: 100})
				var first int64
				for n := range 80 {
					before := s.spent()
					if _, err := s.connect(true).Run(&f); err != nil {
						t.Fatal(err)
					}
					synctest.Wait()
					switch now := s.spent() - before; {
					case n == 0:
						first = now
					case now <= first/4: // some comes back while it rests
						return
					}
				}
				t.Errorf("80 connections could each spend as much as the first, %d", first)
			})
		})
	}
}

// spent is what the identity has spent of all its buckets.
func (s *siege) spent() (sum int64) {
	s.peer.mu.Lock()
	defer s.peer.mu.Unlock()
	full := newPeerBudget(s.peer.limits)
	for _, which := range [...]int{noiseOfPeer, resetsOfPeer, opensOfPeer} {
		sum += int64(full.buckets[which].Level() - s.peer.buckets[which].Level())
	}
	return sum
}

// Tunnels that come to nothing are bounded per second; those that are of use are not.
func TestOnlyTunnelsOfNoUseUseUpTheDials(t *testing.T) {
	limits := Limits{OpensPerSecond: 10}
	for name, c := range map[string]struct {
		use  bool
		want int
	}{"of use": {true, 500}, "of no use": {false, 10}} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t, options{server: ServerConfig{Limits: limits}, handler: echo})
			opened, start := 0, time.Now()
			for range 500 {
				tun, err := w.dialer.Dial(ctxOf(t), w.hop(target), Header{})
				if err != nil {
					break
				}
				opened++
				if c.use {
					_, _ = tun.Write([]byte("x"))
					_, _ = io.ReadFull(tun, make([]byte, 1))
				}
				_ = tun.CloseWrite()
				_, _ = io.Copy(io.Discard, struct{ io.Reader }{tun})
			}
			most := c.want + int(time.Since(start).Seconds()*10) + 1
			if opened < c.want || !c.use && opened > most {
				t.Errorf("%d of 500 tunnels, want %d to %d", opened, c.want, most)
			}
		})
	}
}

// The rests are for floods. Whoever opens tunnels that come to something, thirty of them
// at once, and looks with PINGs whether we are there, never meets one: not a moment of
// the bubble's clock passes.
func TestAPoliteClientIsNeverKeptWaiting(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := besiege(t, echo, Limits{})
		c, start := s.connect(true), time.Now()
		for range 200 {
			for range 30 {
				_ = c.Framer.WriteData(c.Connect(), true, []byte("x"))
			}
			_ = c.Framer.WritePing(false, [8]byte{})
			_ = c.Framer.WriteWindowUpdate(0, 8<<10)
			if err := c.Flush(); err != nil {
				t.Fatal(err)
			}
			synctest.Wait()
		}
		if n := s.dials.Load(); n != 6000 || c.Bytes() != 6000 {
			t.Errorf("%d tunnels, %d bytes of 6000", n, c.Bytes())
		}
		if d := time.Since(start); d != 0 {
			t.Errorf("kept waiting for %v", d)
		}
	})
}

func TestAnIdentityMayNotHoardTunnels(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := besiege(t, apps[attack.Silent], Limits{TunnelsPerPeer: 250})
		for range 3 {
			c := s.connect(true)
			for range 150 {
				c.Connect()
			}
			if err := c.Flush(); err != nil {
				t.Fatal(err)
			}
		}
		time.Sleep(time.Second) // many at once are begun a few at a time
		synctest.Wait()
		if n := s.dials.Load(); n != 250 {
			t.Errorf("%d tunnels are open, 250 are allowed", n)
		}
	})
}

// A stranger is someone with a valid identity and no good intentions.
type stranger struct {
	w      *world
	mutual *identity.Mutual
	from   netip.Addr
}

func newStranger(w *world, from string) *stranger {
	id := mesh.NewPrincipal("cluster.local", "agents", "stranger")
	return &stranger{w, &identity.Mutual{Source: identity.NewMemory(issue(w.t, w.ca, id))}, netip.MustParseAddr(from)}
}

func (s *stranger) dial() (net.Conn, error) {
	d := net.Dialer{LocalAddr: net.TCPAddrFromAddrPort(netip.AddrPortFrom(s.from, 0)), Timeout: 10 * time.Second}
	return d.Dial("tcp", s.w.address.String())
}

// connect shakes hands; an error means that the server would not.
func (s *stranger) connect() (net.Conn, error) {
	raw, err := s.dial()
	if err != nil {
		return nil, err
	}
	c, err := s.mutual.Client(ctxOf(s.w.t), raw, []mesh.Principal{serverID})
	if err != nil {
		return nil, err
	}
	// With TLS 1.3 it takes a read to know whether the server has agreed.
	return c, nil
}

// A peer that is cut, and connects again to go on, is kept out; its neighbour at
// another address is not.
func TestWhoIsCutAgainAndAgainIsKeptOut(t *testing.T) {
	var cut atomic.Int64
	w := newWorld(t, options{handler: apps[attack.Silent], server: ServerConfig{
		Limits:  Limits{ConnsPerSecond: 10},
		Refused: func(netip.AddrPort, error) { cut.Add(1) },
	}})
	s := newStranger(w, "127.0.0.2")
	flood := attack.Floods()[0]
	start, connected := time.Now(), 0
	for range 60 {
		c, err := s.connect()
		if err != nil {
			continue
		}
		connected++
		a := attack.New(c, target, true)
		if _, err := a.Run(&flood); err != nil {
			t.Error(err)
		}
		a.Ended(10 * time.Second)
		a.Close()
	}
	// 20 at once, each for 11, and then one a second.
	if most := 3 + int(time.Since(start).Seconds()); connected > most {
		t.Errorf("%d connections after being cut, want at most %d", connected, most)
	}
	if n := cut.Load(); n == 0 {
		t.Error("nobody was told")
	}
	w.dial().Close()
}

// Strangers that take part in handshakes and never finish them keep nobody else out.
func TestUnfinishedHandshakesOfOneAddressKeepNobodyOut(t *testing.T) {
	w := newWorld(t, options{handler: echo, server: ServerConfig{HandshakeTimeout: time.Minute}, prepare: func(s *Server) {
		s.handshakes = make(chan struct{}, 150) // as if there were many such addresses
	}})
	s := newStranger(w, "127.0.0.2")
	open := 0
	for range 300 {
		c, err := s.dial()
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		open++
	}
	w.dial().Close()
	if n := len(w.server.handshakes); n > 64 {
		t.Errorf("one address holds %d handshakes", n)
	}
}

// What a peer of one identity does is not what another pays for: while there are
// floods, four at a time, a client beside them loses nothing.
func TestAWellBehavedClientIsServedBesideAnAttack(t *testing.T) {
	w := newWorld(t, options{dialer: DialerConfig{MaxConns: 1}, handler: func(ctx context.Context, in *Incoming) {
		if in.Peer.Principal == clientID {
			echo(ctx, in)
			return
		}
		apps[attack.App(in.Authority[len(in.Authority)-1]-'0')](ctx, in)
	}})
	floods := make(chan attack.Flood)
	var attackers sync.WaitGroup
	var cuts atomic.Int64
	for i := range 4 {
		s := newStranger(w, fmt.Sprintf("127.0.0.%d", 2+i))
		attackers.Go(func() {
			for f := range floods {
				cuts.Add(s.attack(&f))
			}
		})
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		defer attackers.Wait()
		defer close(floods)
		for _, f := range attack.Floods() {
			floods <- f
		}
	}()
	for i := 0; ; i++ {
		tun := w.dial()
		want := fmt.Sprintf("hello %d", i)
		_, _ = tun.Write([]byte(want))
		_ = tun.CloseWrite()
		if got, err := io.ReadAll(tun); err != nil || string(got) != want {
			t.Fatalf("echo %d: %q, %v", i, got, err)
		}
		select {
		case <-done:
			if n := len(w.dialer.pool.all); n != 1 {
				t.Errorf("the client needed %d connections: it was cut itself", n)
			}
			if n := cuts.Load(); n != int64(len(attack.Floods())) {
				t.Errorf("%d of %d attacks were cut", n, len(attack.Floods()))
			}
			return
		default:
		}
	}
}

// attack runs a flood and tells how many times it was cut or kept out: once, if all is well.
func (s *stranger) attack(f *attack.Flood) int64 {
	c, err := s.connect()
	if err != nil {
		return 1
	}
	a := attack.New(c, fmt.Sprintf("10.0.0.1:8%d", f.App), true)
	defer a.Close()
	if rounds, _ := a.Run(f); rounds < f.Rounds {
		return 1
	}
	if _, ok := a.Ended(20 * time.Second); ok {
		return 1
	}
	return 0
}

// Windows of zero, of the stream or of the connection, cost a goroutine and no
// buffer: what cannot be sent is left in the app's socket.
func TestAStreamThatStallsHoldsNoBuffer(t *testing.T) {
	zeros := make([]byte, 1<<20)
	app := serveTCP(t, func(c *net.TCPConn) {
		for {
			if _, err := c.Write(zeros); err != nil {
				return
			}
		}
	})
	setting := func(a *attack.Client, window uint32) {
		_ = a.Framer.WriteSettings(http2.Setting{ID: http2.SettingInitialWindowSize, Val: window})
	}
	for name, c := range map[string]struct {
		begin func(*attack.Client)
		slack int64 // bytes of all tunnels: who has looked at a window just before it closed
	}{
		"stream windows of 0":               {func(a *attack.Client) { setting(a, 0) }, 0},
		"stream windows of 100":             {func(a *attack.Client) { setting(a, 100) }, 0},
		"connection window is never opened": {func(a *attack.Client) { setting(a, 1<<31-1) }, 0},
		"stream windows that close after much was sent": {func(a *attack.Client) {
			setting(a, 512<<10+1)
			_ = a.Framer.WriteWindowUpdate(0, 1<<30)
		}, 0},
		"connection window that closes after much was sent": {func(a *attack.Client) {
			setting(a, 1<<31-1)
			_ = a.Framer.WriteWindowUpdate(0, 50<<20)
		}, 8 * 4 * record},
	} {
		begin, slack := c.begin, c.slack
		t.Run(name, func(t *testing.T) {
			const tunnels = 100
			var sockets taps
			a := &acceptor{s: newServer(ServerConfig{}, nil), ctx: context.Background(), conns: make(map[*conn]struct{})}
			a.h = func(ctx context.Context, in *Incoming) {
				c := dialTCP(t, app)
				sockets.add(c)
				if tunnel, err := in.Accept(Header{}); err == nil {
					relay.Copy(ctx, tunnel, c)
				}
			}
			ours, theirs := tcpPair(t)
			c := a.newConn(ours, nil, nil)
			a.wait.Go(func() { a.run(context.Background(), c) })
			client := attack.New(theirs, target, true)
			defer a.wait.Wait()
			defer client.Close()
			begin(client)
			for range tunnels {
				client.Connect()
			}
			if err := client.Flush(); err != nil {
				t.Fatal(err)
			}
			eventually(t, func() error {
				if n := c.stalled(); n != tunnels {
					return fmt.Errorf("%d of %d streams wait for a window", n, tunnels)
				}
				if read, sent := sockets.read(t), client.Bytes(); read-sent > slack {
					return fmt.Errorf("%d bytes read from apps, %d sent", read, sent)
				}
				return nil
			})
		})
	}
}

// stalled counts the streams that wait for a window.
func (c *conn) stalled() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	n := len(c.send.blocked)
	for at := c.send.first; at != nil; at = at.next {
		n++
	}
	return n
}

// Taps tell how much was read from sockets.
type taps struct {
	mu  sync.Mutex
	all []*net.TCPConn
}

func (s *taps) add(c *net.TCPConn) {
	s.mu.Lock()
	s.all = append(s.all, c)
	s.mu.Unlock()
}

// read is what has arrived and is not in the kernel any more.
func (s *taps) read(t testing.TB) (sum int64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, c := range s.all {
		raw, err := c.SyscallConn()
		if err != nil {
			t.Fatal(err)
		}
		err = raw.Control(func(fd uintptr) {
			info, err := unix.GetsockoptTCPInfo(int(fd), unix.IPPROTO_TCP, unix.TCP_INFO)
			if err != nil {
				t.Error(err)
				return
			}
			unread, err := unix.IoctlGetInt(int(fd), unix.TIOCINQ)
			if err != nil {
				t.Error(err)
			}
			sum += int64(info.Bytes_received) - int64(unread)
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	return sum
}

// eventually waits until check returns nil.
func eventually(t testing.TB, check func() error) {
	t.Helper()
	deadline := time.Now().Add(30 * time.Second)
	for {
		err := check()
		if err == nil {
			return
		}
		if time.Now().After(deadline) {
			t.Fatal(err)
		}
		time.Sleep(5 * time.Millisecond)
	}
}
