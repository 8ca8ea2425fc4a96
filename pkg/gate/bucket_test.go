package gate

import (
	"testing"
	"testing/synctest"
	"time"
)

func TestABucketGivesItsWholeRateHoweverOftenItIsAsked(t *testing.T) {
	for _, every := range []time.Duration{time.Millisecond, 7 * time.Millisecond, 9900 * time.Microsecond} {
		synctest.Test(t, func(t *testing.T) {
			b := NewBucket(100, 200)
			b.Spend(200)
			begun, spent := time.Now(), 0
			for time.Since(begun) < 100*time.Second {
				time.Sleep(every)
				if b.Spend(1) {
					spent++
				}
				b.Level()
			}
			if spent < 9990 || spent > 10000 {
				t.Errorf("asked every %v: %d in 100 s, want 100 a second", every, spent)
			}
		})
	}
}

func TestAFullBucketKeepsNoTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := NewBucket(1, 2)
		time.Sleep(1900 * time.Millisecond)
		if b.Level(); !b.Spend(2) || b.Spend(1) {
			t.Error("not as much as its size")
		}
		time.Sleep(999 * time.Millisecond)
		if b.Spend(1) {
			t.Error("a token before its time")
		}
	})
}

// Who has waited may not spend what was left and then what has come meanwhile: more
// than the size never comes at once.
func TestNoMoreThanTheSizeComesAtOnce(t *testing.T) {
	for before := range 3 {
		synctest.Test(t, func(t *testing.T) {
			b, spent := NewBucket(100, 200), 0
			b.Spend(before)
			time.Sleep(time.Minute)
			for b.Spend(1) {
				spent++
			}
			if spent != 200 {
				t.Errorf("%d at once after %d and a minute, want 200", spent, before)
			}
		})
	}
}
