package identity

import (
	"errors"
	"os"
	"path/filepath"
	"testing"
	"testing/synctest"
	"time"

	"github.com/outrigger-mesh/outrigger/pkg/meshtest/badcert"
)

func TestTheTimeOfTheFirstFailureIsKept(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := newAuthority(t, local)
		m := NewMemory(issue(t, a, planner, 10*time.Minute))
		since := func(want time.Time, when string) {
			t.Helper()
			if got := m.FailingSince(); !got.Equal(want) {
				t.Errorf("%s: since %v, want %v", when, got, want)
			}
		}
		since(time.Time{}, "at first")
		time.Sleep(time.Minute)
		first := time.Now()
		m.fail(errDown)
		time.Sleep(time.Minute)
		m.fail(errors.New("another"))
		since(first, "after two failures")
		m.Set(issue(t, a, planner, 10*time.Minute))
		since(time.Time{}, "after success")
		end := must(m.SVID()).NotAfter
		time.Sleep(time.Hour)
		since(end, "after its end")
		if err := m.Err(); !errors.Is(err, ErrNoIdentity) {
			t.Errorf("after its end: %v", err)
		}
	})
}

func TestFilesThatAreMendedRaiseNoAlarm(t *testing.T) {
	a := newAuthority(t, local)
	v := &volume{t, t.TempDir()}
	good, _ := life(t, a, 1)
	v.project("..1", files(good))
	source := must(NewFiles(v.config()))
	source.load()
	v.project("..2", map[string][]byte{"cert.pem": []byte("garbage")})
	source.load()
	if source.Err() == nil || source.FailingSince().IsZero() {
		t.Error("garbage raised no alarm")
	}
	v.project("..3", files(good)) // what is in use already
	source.load()
	if err := source.Err(); err != nil || !source.FailingSince().IsZero() {
		t.Errorf("after it was mended: %v since %v", err, source.FailingSince())
	}
}

func TestAFederatedBundleThatCannotBeReadIsTold(t *testing.T) {
	a := newAuthority(t, local)
	v := &volume{t, t.TempDir()}
	svid, _ := life(t, a, 1)
	v.project("..1", files(svid))
	c := v.config()
	c.Federated = map[string]string{remote: v.path("partner.pem")}
	source := must(NewFiles(c))
	source.load()
	refresh := func() { source.federation.load(remote, c.Federated[remote], source.refresh) }
	refresh()
	says(t, source.Err(), remote, c.Federated[remote])
	if source.FailingSince().IsZero() {
		t.Error("it does not say since when")
	}
	do(t, os.WriteFile(c.Federated[remote], newAuthority(t, remote).RootPEM(), 0o600))
	refresh()
	if err := source.Err(); err != nil || !source.FailingSince().IsZero() {
		t.Errorf("after it came: %v since %v", err, source.FailingSince())
	}
}

func TestACRLTellsWhatIsInForceAndSinceWhenItIsStale(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		root, signing := badcert.NewRoot("mesh", nil), badcert.NewRoot("signing", nil)
		path := filepath.Join(t.TempDir(), "crl.pem")
		do(t, os.WriteFile(path, badcert.CRLPEM(root.CRL(nil), signing.CRL(nil)), 0o600))
		crl := must(NewCRL(CRLConfig{Path: path, Logger: quiet}))
		count, ends, ok := crl.Lists()
		if count != 2 || time.Until(ends).Round(time.Minute) != time.Hour || !ok {
			t.Errorf("%d lists until %v, %v", count, ends, ok)
		}
		do(t, os.WriteFile(path, []byte("garbage"), 0o600))
		broken := time.Now()
		crl.Reload()
		time.Sleep(time.Hour)
		crl.Reload()
		if count, _, ok = crl.Lists(); count != 2 || !ok || !crl.FailingSince().Equal(broken) {
			t.Errorf("%d lists, %v, failing since %v", count, ok, crl.FailingSince())
		}
		do(t, os.WriteFile(path, badcert.CRLPEM(root.CRL(nil)), 0o600))
		crl.Reload()
		if count, _, _ = crl.Lists(); count != 1 || !crl.FailingSince().IsZero() || crl.Err() != nil {
			t.Errorf("mended: %d lists, failing since %v: %v", count, crl.FailingSince(), crl.Err())
		}
	})
}

func TestWithoutACRLThereIsNoAlarm(t *testing.T) {
	var none *CRL
	if count, ends, ok := none.Lists(); count != 0 || !ends.IsZero() || !ok || none.Err() != nil || !none.FailingSince().IsZero() {
		t.Errorf("%d lists until %v, %v", count, ends, ok)
	}
}
