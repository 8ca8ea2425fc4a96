package tls13

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"io"
	"math/big"
	mathrand "math/rand/v2"
	"net"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func check(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// config is that of an end whose peer is not checked: that is not our business.
func config(t testing.TB) *tls.Config {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	check(t, err)
	template := &x509.Certificate{SerialNumber: big.NewInt(1), NotAfter: time.Now().Add(time.Hour)}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	check(t, err)
	return &tls.Config{
		InsecureSkipVerify: true, MinVersion: tls.VersionTLS12, SessionTicketsDisabled: true,
		Certificates: []tls.Certificate{{Certificate: [][]byte{der}, PrivateKey: key}},
	}
}

// sockets are two ends of a TCP connection.
func sockets(t testing.TB) (a, b net.Conn) {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	check(t, err)
	defer ln.Close()
	a, err = net.Dial("tcp", ln.Addr().String())
	check(t, err)
	b, err = ln.Accept()
	check(t, err)
	t.Cleanup(func() { a.Close(); b.Close() })
	return a, b
}

// shake makes an end of raw: one of ours or one of crypto/tls alone.
func shake(raw net.Conn, c *tls.Config, client, ours bool) (Secured, error) {
	role := tls.Server
	if client {
		role = tls.Client
	}
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	if !ours {
		stock := role(raw, c)
		return stock, stock.HandshakeContext(ctx)
	}
	h := NewHandshake(raw)
	c = c.Clone()
	c.KeyLogWriter = h.KeyLog()
	stock := role(h, c)
	if err := stock.HandshakeContext(ctx); err != nil {
		return nil, err
	}
	return h.Finish(stock, client), nil
}

// A match says who is at which end.
type match struct{ client, server bool } // whether it is ours

var matches = map[string]match{
	"our client, stock server": {true, false},
	"stock client, our server": {false, true},
	"ours at both ends":        {true, true},
}

func pair(t testing.TB, m match, change func(client, server *tls.Config)) (client, server Secured) {
	t.Helper()
	a, b := sockets(t)
	return secure(t, m, a, b, change)
}

func secure(t testing.TB, m match, a, b net.Conn, change func(client, server *tls.Config)) (client, server Secured) {
	t.Helper()
	cc, sc := config(t), config(t)
	if change != nil {
		change(cc, sc)
	}
	var serverErr, clientErr error
	var both sync.WaitGroup
	both.Go(func() { server, serverErr = shake(b, sc, false, m.server) })
	client, clientErr = shake(a, cc, true, m.client)
	both.Wait()
	check(t, errors.Join(clientErr, serverErr))
	return client, server
}

// isOurs tells whether c is a Conn of this package.
func isOurs(c Secured) bool { _, ok := c.(*Conn); return ok }

func TestWhatIsWrittenArrives(t *testing.T) {
	for name, m := range matches {
		t.Run(name, func(t *testing.T) {
			client, server := pair(t, m, nil)
			if isOurs(client) != m.client || isOurs(server) != m.server {
				t.Fatalf("client is a %T, server a %T", client, server)
			}
			var all sync.WaitGroup
			for _, way := range [][2]Secured{{client, server}, {server, client}} {
				all.Go(func() { write(t, way[0]) })
				all.Go(func() { read(t, way[1]) })
			}
			all.Wait()
		})
	}
}

// write sends pieces of many sizes, in both manners, and then the end.
func write(t *testing.T, c Secured) {
	rng := mathrand.New(mathrand.NewPCG(1, 2))
	var at byte
	for range 100 {
		n := 1 + rng.IntN(200)
		if rng.IntN(4) == 0 {
			n = 1 + rng.IntN(300_000)
		}
		p := make([]byte, n, n+1)
		for i := range p {
			p[i] = at
			at++
		}
		before := bytes.Clone(p[:n+1])
		var err error
		if ours, ok := c.(*Conn); ok && rng.IntN(2) == 0 {
			_, err = ours.WriteOver(p)
		} else {
			_, err = c.Write(p)
		}
		if err != nil || !bytes.Equal(before, p[:n+1]) {
			t.Errorf("write of %d bytes: %v; what was written has changed: %v", n, err, !bytes.Equal(before, p[:n+1]))
			return
		}
	}
	if err := c.CloseWrite(); err != nil {
		t.Error(err)
	}
}

func read(t *testing.T, c Secured) {
	got, err := io.ReadAll(c)
	if err != nil {
		t.Error(err)
		return
	}
	for i, b := range got {
		if b != byte(i) {
			t.Errorf("byte %d is wrong", i)
			return
		}
	}
	if len(got) < 1<<20 {
		t.Errorf("%d bytes arrived", len(got))
	}
}

func TestBothSuitesWorkAndOthersAreLeftToCryptoTLS(t *testing.T) {
	for _, c := range []struct {
		name string
		set  func(*tls.Config)
		ours bool
	}{
		{"TLS 1.3", func(*tls.Config) {}, true},
		{"TLS 1.2", func(c *tls.Config) { c.MaxVersion = tls.VersionTLS12 }, false},
	} {
		client, server := pair(t, match{true, true}, func(cc, sc *tls.Config) { c.set(cc); c.set(sc) })
		if isOurs(client) != c.ours || isOurs(server) != c.ours {
			t.Errorf("%s: client is a %T, server a %T", c.name, client, server)
		}
		exchange(t, client, server)
	}
}

// exchange sends a word each way.
func exchange(t testing.TB, a, b net.Conn) {
	t.Helper()
	for _, way := range [][2]net.Conn{{a, b}, {b, a}} {
		_, err := way[0].Write([]byte("word"))
		check(t, err)
		got := make([]byte, 4)
		_, err = io.ReadFull(way[1], got)
		if err != nil || string(got) != "word" {
			t.Fatalf("got %q, %v", got, err)
		}
	}
}

func TestTheSecretsOfBothHashesAreDerivedAsTheSuiteDemands(t *testing.T) {
	for id, s := range suites {
		secret := bytes.Repeat([]byte{7}, s.hash.Size())
		var near, far keys
		check(t, errors.Join(near.start(s, secret), far.start(s, secret)))
		for range 3 { // generations
			sealed := near.aead.Seal(nil, near.next(), []byte("word"), nil)
			if got, err := far.aead.Open(nil, far.next(), sealed, nil); err != nil || string(got) != "word" {
				t.Errorf("%s: %q, %v", tls.CipherSuiteName(id), got, err)
			}
			check(t, errors.Join(near.update(), far.update()))
		}
		if near.start(s, secret[1:]) == nil {
			t.Errorf("%s: a short secret was taken", tls.CipherSuiteName(id))
		}
	}
}

func TestNothingBeyondTheHandshakeIsReadByIt(t *testing.T) {
	// The stock end sends tickets and data before ours has returned from its handshake.
	for range 20 {
		a, b := sockets(t)
		done := make(chan error, 1)
		sc := config(t)
		sc.SessionTicketsDisabled = false
		go func() {
			s, err := shake(b, sc, false, false)
			if err == nil {
				_, err = s.Write(bytes.Repeat([]byte("x"), 100_000))
			}
			done <- err
		}()
		cc := config(t)
		cc.ClientSessionCache = tls.NewLRUClientSessionCache(1)
		client, err := shake(a, cc, true, true)
		check(t, err)
		n, err := io.ReadFull(client, make([]byte, 100_000))
		check(t, errors.Join(err, <-done))
		if n != 100_000 || !isOurs(client) {
			t.Fatalf("%d bytes, %T", n, client)
		}
	}
}

func TestKeysChangeWhenTheyAreDueOrAskedFor(t *testing.T) {
	for name, m := range matches {
		t.Run(name, func(t *testing.T) {
			client, server := pair(t, m, nil)
			for _, c := range []Secured{client, server} {
				if ours, ok := c.(*Conn); ok {
					ours.out.limit = 3
				}
			}
			for range 20 {
				exchange(t, client, server)
			}
		})
	}
	t.Run("asked for", func(t *testing.T) {
		client, server := pair(t, match{true, true}, nil)
		ours, peer := client.(*Conn), server.(*Conn)
		before := bytes.Clone(ours.out.keys.secret)
		sendRaw(t, peer, []byte{keyUpdate, 0, 0, 1, 1}, typeHandshake)
		check(t, peer.out.keys.update())
		exchange(t, peer, ours)
		if bytes.Equal(before, ours.out.keys.secret) {
			t.Error("the keys are the old ones")
		}
	})
}

// updateAfter has the peer change its keys after some records, often. It answers how often c took it.
func updateAfter(t *testing.T, records int) (taken int, err error) {
	client, server := pair(t, match{true, true}, nil)
	c, peer := client.(*Conn), server.(*Conn)
	for ; taken < 4*updatesAtFirst; taken++ {
		sendRaw(t, peer, []byte{keyUpdate, 0, 0, 1, 0}, typeHandshake)
		check(t, peer.out.keys.update())
		for range records {
			sendRaw(t, peer, []byte("x"), typeApplication)
			if _, err := c.Next(); err != nil {
				return taken, err
			}
		}
	}
	return taken, nil
}

func TestKeyUpdatesHaveToBeEarned(t *testing.T) {
	if n, err := updateAfter(t, costOfUpdate); err != nil {
		t.Errorf("with enough data between: %d, %v", n, err)
	}
	var mistake *recordError
	if n, err := updateAfter(t, 1); !errors.As(err, &mistake) || n < updatesAtFirst || n > updatesAtFirst+1 {
		t.Errorf("with one record between: %d, %v", n, err)
	}
}

// sendRaw sends one record with data of some type.
func sendRaw(t testing.TB, c *Conn, data []byte, typ byte) {
	t.Helper()
	c.out.mu.Lock()
	defer c.out.mu.Unlock()
	_, err := c.Conn.Write(c.out.seal(nil, data, typ))
	check(t, err)
}

func TestAnIdleConnectionHoldsNoBuffer(t *testing.T) {
	client, server := pair(t, match{true, true}, nil)
	exchange(t, client, server)
	ours := client.(*Conn)
	check(t, ours.SetReadDeadline(time.Now().Add(10*time.Millisecond)))
	if _, err := ours.Next(); !errors.Is(err, context.DeadlineExceeded) && !isTimeout(err) {
		t.Fatal(err)
	}
	if ours.in.buf != nil {
		t.Error("a buffer is held")
	}
	check(t, ours.SetReadDeadline(time.Time{}))
	exchange(t, client, server) // a timeout breaks nothing
}

func isTimeout(err error) bool {
	var n net.Error
	return errors.As(err, &n) && n.Timeout()
}

func TestWithoutSocketsItWorksToo(t *testing.T) {
	a, b := net.Pipe()
	client, server := secure(t, match{true, true}, a, b, nil)
	var both sync.WaitGroup
	both.Go(func() { _, _ = client.Write(make([]byte, 100_000)); client.Close() })
	if n, err := io.Copy(io.Discard, server); err != nil || n != 100_000 {
		t.Errorf("%d bytes, %v", n, err)
	}
	both.Wait()
	server.Close()
}

func TestTheEndIsToldFromATruncation(t *testing.T) {
	for name, c := range map[string]struct {
		end  func(*Conn)
		want error
	}{
		"close":           {func(c *Conn) { c.Close() }, io.EOF},
		"close of writes": {func(c *Conn) { _ = c.CloseWrite() }, io.EOF},
		"half a record": {func(c *Conn) {
			_, _ = c.Conn.Write(c.out.seal(nil, []byte("word"), typeApplication)[:9])
			c.Conn.Close()
		}, io.ErrUnexpectedEOF},
	} {
		client, server := pair(t, match{true, true}, nil)
		c.end(client.(*Conn))
		for range 2 { // and it stays so
			if _, err := server.Read(make([]byte, 1)); !errors.Is(err, c.want) {
				t.Errorf("%s: %v", name, err)
			}
		}
	}
	client, _ := pair(t, match{true, true}, nil)
	check(t, client.CloseWrite())
	if _, err := client.Write([]byte("x")); !errors.Is(err, net.ErrClosed) {
		t.Errorf("write after the end: %v", err)
	}
}

func BenchmarkWrite(b *testing.B) {
	for name, size := range map[string]int{"64B": 64, "64KiB": 64 << 10} {
		for kind, ours := range map[string]bool{"ours": true, "stock": false} {
			b.Run(name+"/"+kind, func(b *testing.B) {
				client, server := pair(b, match{ours, ours}, nil)
				var reader sync.WaitGroup
				reader.Go(func() { _, _ = io.CopyBuffer(io.Discard, struct{ io.Reader }{server}, make([]byte, 64<<10)) })
				p := make([]byte, size, size+1)
				b.SetBytes(int64(size))
				b.ReportAllocs()
				for b.Loop() {
					if _, err := client.Write(p); err != nil {
						b.Fatal(err)
					}
				}
				client.Close()
				reader.Wait()
			})
		}
	}
}
