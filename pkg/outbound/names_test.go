package outbound

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func TestNamesAreLookedUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		asked, broken := 0, false
		n := names{lookup: func(_ context.Context, host string) ([]netip.Addr, error) {
			asked++
			if broken || host == "nowhere" {
				return nil, errors.New("no such host")
			}
			if host == "empty" {
				return nil, nil
			}
			return []netip.Addr{netip.MustParseAddr("fd00::1"), netip.MustParseAddr("::ffff:10.0.0.1"), netip.MustParseAddr("fd00::2")}, nil
		}}
		find := func(ipv6First bool) []netip.Addr {
			t.Helper()
			found, err := n.addresses(t.Context(), "api.example.com", ipv6First)
			if err != nil || len(found) != 3 {
				t.Fatalf("found %v, %v", found, err)
			}
			return found
		}
		for range 20 {
			if a := find(false)[0]; a != netip.MustParseAddr("10.0.0.1") {
				t.Fatalf("first is %v", a)
			}
			if a := find(true); a[0].Is4() || a[1].Is4() {
				t.Fatalf("first are %v", a)
			}
		}
		if asked != 1 {
			t.Errorf("asked %d times", asked)
		}
		time.Sleep(lookupHolds)
		broken = true
		find(false) // what was known is better than nothing
		for _, host := range []string{"nowhere", "empty"} {
			if found, err := n.addresses(t.Context(), host, false); err == nil {
				t.Errorf("%s: %v", host, found)
			}
		}
		broken = false
		for i := range 2 * maxNames {
			if _, err := n.addresses(t.Context(), fmt.Sprint(i), false); err != nil {
				t.Fatal(err)
			}
		}
		if len(n.known) > maxNames {
			t.Errorf("remembers %d", len(n.known))
		}
	})
}
