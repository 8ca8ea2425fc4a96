package process

import (
	"os"
	"testing"
	"time"
)

func TestStatGivesUserAndSystemTime(t *testing.T) {
	const rest = " S 1 2 3 4 5 6 7 8 9 10 123 45 16 17 18 19"
	for _, name := range []string{"(envoy)", "(a b)", "(odd) 1 2 ())"} {
		u, err := parseStat([]byte("4321 " + name + rest))
		if err != nil || u.User != 1230*time.Millisecond || u.System != 450*time.Millisecond {
			t.Errorf("%s: %v, %v", name, u, err)
		}
	}
	for _, bad := range []string{"", "1 (a", "1 (a) S 1 2", "1 (a) S 1 2 3 4 5 6 7 8 9 10 x 45", "1 (a) S 1 2 3 4 5 6 7 8 9 10 -1 45"} {
		if u, err := parseStat([]byte(bad)); err == nil {
			t.Errorf("%q gave %v", bad, u)
		}
	}
}

func TestUsageDividesTheExactTotalByTicks(t *testing.T) {
	before := Meter{total: 100 * time.Millisecond, ticks: Usage{80 * time.Millisecond, 20 * time.Millisecond}}
	after := Meter{total: 504 * time.Millisecond, ticks: Usage{180 * time.Millisecond, 320 * time.Millisecond}}
	if u := after.Since(before); u.User != 101*time.Millisecond || u.System != 303*time.Millisecond || u.Total() != 404*time.Millisecond {
		t.Errorf("usage is %v", u)
	}
	if u := (Meter{total: time.Millisecond}).Since(Meter{}); u.Total() != time.Millisecond {
		t.Errorf("less than a tick is %v, want all of it", u)
	}
	if u := (Usage{1, 2}).Plus(Usage{10, 20}); u != (Usage{11, 22}) {
		t.Errorf("sum is %v", u)
	}
}

func TestRollupGivesPSS(t *testing.T) {
	text := "55d0-7fff ---p 00000000 00:00 0 [rollup]\nRss:    9000 kB\nPss:    4567 kB\nPss_Dirty:  1 kB\n"
	if n, err := parseRollup([]byte(text)); err != nil || n != 4567<<10 {
		t.Errorf("%d, %v", n, err)
	}
	for _, bad := range []string{"", "Rss: 1 kB\n", "Pss: 1\n", "Pss: x kB\n", "Pss: 1 MB\n"} {
		if n, err := parseRollup([]byte(bad)); err == nil {
			t.Errorf("%q gave %d", bad, n)
		}
	}
}

func TestTheKernelTellsOfOurselves(t *testing.T) {
	before, err := Read(os.Getpid())
	if err != nil {
		t.Fatal(err)
	}
	for n := 0; ; n++ {
		after, err := Read(os.Getpid())
		if err != nil {
			t.Fatal(err)
		}
		if spent := after.Since(before).Total(); spent > time.Millisecond {
			break
		}
		if n > 1_000_000 {
			t.Fatal("a million readings cost nothing")
		}
	}
	if n, err := PSS(os.Getpid()); err != nil || n < 1<<20 {
		t.Errorf("a Go program holds %d bytes, %v", n, err)
	}
	if _, err := Read(1 << 30); err == nil {
		t.Error("a process that does not exist has a meter")
	}
}
