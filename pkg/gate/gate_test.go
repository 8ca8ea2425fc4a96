package gate

import (
	"errors"
	"net/netip"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// try enters and, if it may, leaves.
func (g *Gate) try(from string) error {
	leave, err := g.Enter(netip.MustParseAddr(from))
	if err == nil {
		leave()
	}
	return err
}

// isFor tells whether err is a refusal for a bound.
func isFor(err error, b Bound) bool {
	tooMany, ok := errors.AsType[*TooManyError](err)
	return ok && tooMany.Bound == b
}

func TestAnAddressMayNotConnectWithoutEnd(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := New(Config{PerSecond: 25, AtOnce: 100})
		admitted := func(from string) (n int) {
			for range 1000 {
				if g.try(from) == nil {
					n++
				}
			}
			return n
		}
		if n := admitted("10.0.0.1"); n != 50 {
			t.Errorf("%d at once, want 50", n)
		}
		if n := admitted("10.0.0.2"); n != 50 {
			t.Errorf("%d of another address, want 50", n)
		}
		time.Sleep(time.Second)
		if n := admitted("10.0.0.1"); n != 25 {
			t.Errorf("%d after a second, want 25", n)
		}
		g.Punish(netip.MustParseAddr("10.0.0.1"), 50)
		time.Sleep(2 * time.Second)
		if n := admitted("10.0.0.1"); n != 0 {
			t.Errorf("%d two seconds after a cut, want 0", n)
		}
		time.Sleep(time.Second)
		if n := admitted("10.0.0.1"); n != 25 {
			t.Errorf("%d three seconds after a cut, want 25", n)
		}
		// An IPv6 address is one of 2^64 that its owner has.
		if n := admitted("fd00::1") + admitted("fd00::2"); n != 50 {
			t.Errorf("%d of one IPv6 network, want 50", n)
		}
	})
}

func TestAFloodOfConnectionsIsNotOneOfReports(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := New(Config{PerSecond: 1, AtOnce: 100})
		told, untold := 0, 0
		for range 3 {
			for range 1000 {
				var tooMany *TooManyError
				if err := g.try("10.0.0.1"); errors.As(err, &tooMany) && tooMany.Tell {
					told++
					untold += tooMany.More
				}
			}
			time.Sleep(time.Second)
		}
		if told != 3 || untold < 1900 {
			t.Errorf("%d reports, which count %d more; want 3 and nearly 2000", told, untold)
		}
	})
}

func TestWhatAnAddressHasAtOnceIsBounded(t *testing.T) {
	g := New(Config{PerSecond: 100, AtOnce: 2})
	from := netip.MustParseAddr("10.0.0.1")
	first, err := g.Enter(from)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := g.Enter(from); err != nil {
		t.Fatal(err)
	}
	if _, err := g.Enter(from); !isFor(err, AtOnce) {
		t.Errorf("a third: %v", err)
	}
	first()
	if _, err := g.Enter(from); err != nil {
		t.Errorf("one has left: %v", err)
	}
}

func TestAllAddressesTogetherAreBounded(t *testing.T) {
	g := New(Config{AtOnce: 2, Total: 3})
	enter := func(from string) (func(), error) { return g.Enter(netip.MustParseAddr(from)) }
	var leave func()
	for _, from := range []string{"10.0.0.1", "10.0.0.1", "10.0.0.2"} {
		var err error
		if leave, err = enter(from); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := enter("10.0.0.3"); !isFor(err, Total) {
		t.Errorf("a fourth: %v", err)
	}
	leave()
	if _, err := enter("10.0.0.3"); err != nil {
		t.Errorf("one has left: %v", err)
	}
}

// What a gate remembers is bounded, whatever addresses come.
func TestAGateForgets(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := New(Config{PerSecond: 100, AtOnce: 100})
		from := func(i int) netip.Addr { return netip.AddrFrom4([4]byte{10, byte(i >> 16), byte(i >> 8), byte(i)}) }
		for i := range maxOrigins + 100 {
			if leave, err := g.Enter(from(i)); err == nil {
				leave()
			}
		}
		if n := len(g.origins); n != maxOrigins {
			t.Errorf("%d addresses are remembered, at most %d should be", n, maxOrigins)
		}
		time.Sleep(time.Minute)
		if err := g.try("10.255.0.1"); err != nil || len(g.origins) != 1 {
			t.Errorf("%d addresses are remembered after a quiet minute, %v", len(g.origins), err)
		}
	})
}

// Strangers share one budget; who is welcomed, or was lately, needs none of it.
func TestStrangersTogetherAreBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := New(Config{PerSecond: 100, AtOnce: 100, Strangers: 10})
		friend := netip.MustParseAddr("10.0.0.1")
		enter := func(i int) error { return g.try(netip.AddrFrom4([4]byte{10, 1, byte(i >> 8), byte(i)}).String()) }
		for i := range 1000 { // as after a rollout: each is of use at once
			if err := enter(i); err != nil {
				t.Fatalf("newcomer %d: %v", i, err)
			}
			g.Welcome(netip.AddrFrom4([4]byte{10, 1, byte(i >> 8), byte(i)}))
		}
		g.Welcome(friend)
		count := func(from int) (n int) {
			for i := range 1000 {
				if enter(from+i) == nil {
					n++
				}
			}
			return n
		}
		if n := count(2000); n != 20 {
			t.Errorf("%d strangers at once, want 20", n)
		}
		time.Sleep(time.Second)
		if n := count(4000); n != 10 {
			t.Errorf("%d strangers after a second, want 10", n)
		}
		if err := g.try(friend.String()); err != nil {
			t.Errorf("one who was welcomed: %v", err)
		}
		time.Sleep(welcomeFor)
		count(6000)
		if err := g.try(friend.String()); err == nil {
			t.Error("one who was welcomed long ago is no stranger")
		}
	})
}

func BenchmarkGate(b *testing.B) {
	g := New(Config{PerSecond: 1 << 30, AtOnce: 100})
	from := netip.MustParseAddr("10.0.0.1")
	b.ReportAllocs()
	for b.Loop() {
		leave, err := g.Enter(from)
		if err != nil {
			b.Fatal(err)
		}
		leave()
	}
}
