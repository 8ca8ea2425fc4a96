package identity

import (
	"context"
	"errors"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/outrigger-mesh/outrigger/pkg/authority"
	"github.com/outrigger-mesh/outrigger/pkg/mesh"
)

var errDown = errors.New("the CA is down")

// A fakeCA stands for the call to the CA, and notes when it was made.
type fakeCA struct {
	t   *testing.T
	ca  *authority.Authority
	ttl time.Duration

	mu    sync.Mutex // guards what follows
	down  bool
	calls []time.Time
}

func (f *fakeCA) fetch(context.Context, time.Duration) (*SVID, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.calls = append(f.calls, time.Now())
	if f.down {
		return nil, errDown
	}
	return issue(f.t, f.ca, planner, f.ttl), nil
}

func (f *fakeCA) set(down bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.down = down
}

// take answers the calls since the last take.
func (f *fakeCA) take() []time.Time {
	f.mu.Lock()
	defer f.mu.Unlock()
	calls := f.calls
	f.calls = nil
	return calls
}

// withFakeCA runs test in a bubble with a CA source that runs.
func withFakeCA(t *testing.T, ttl time.Duration, down bool, test func(t *testing.T, f *fakeCA, ca *CA)) {
	synctest.Test(t, func(t *testing.T) {
		f := &fakeCA{t: t, ca: newAuthority(t, local), ttl: ttl, down: down}
		ca := must(NewCA(CAConfig{ControlPlane: ControlPlane{Address: "ca:15012", RootCA: "SYSTEM"}, Principal: planner, Logger: quiet}))
		ca.fetch = f.fetch
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error, 1)
		go func() { done <- ca.Run(ctx) }()
		synctest.Wait()
		test(t, f, ca)
		cancel()
		do(t, <-done)
	})
}

func TestTheCertificateIsRenewedAtHalfOfItsLife(t *testing.T) {
	withFakeCA(t, 24*time.Hour, false, func(t *testing.T, f *fakeCA, ca *CA) {
		last := f.take()[0]
		for range 20 {
			first := must(ca.SVID())
			changed := ca.Changed()
			<-changed
			synctest.Wait()
			calls := f.take()
			if len(calls) != 1 {
				t.Fatalf("%d calls", len(calls))
			}
			if wait := calls[0].Sub(last); wait < 12*time.Hour*85/100 || wait > 12*time.Hour*115/100 {
				t.Errorf("renewed after %v", wait)
			}
			last = calls[0]
			if second := must(ca.SVID()); second == first || second.Bundles[local] != first.Bundles[local] {
				t.Error("not a new certificate with the same roots")
			}
		}
	})
}

func TestFailuresBackOffAndNeverBeyondTheEnd(t *testing.T) {
	withFakeCA(t, time.Hour, false, func(t *testing.T, f *fakeCA, ca *CA) {
		svid := must(ca.SVID())
		f.set(true)
		f.take()
		time.Sleep(time.Until(svid.NotAfter))
		synctest.Wait()
		if s, err := ca.SVID(); err != nil || s != svid {
			t.Fatalf("at its own end: %v", err)
		}
		calls := f.take()
		want := firstRetry
		for i := 1; i < len(calls); i++ {
			wait, remains := calls[i].Sub(calls[i-1]), svid.NotAfter.Sub(calls[i-1])
			low, high := want*8/10, want*12/10
			if bound := max(remains/2, firstRetry); low > bound {
				low, high = min(bound, remains), bound // the end is near
			}
			if wait < low || wait > min(high, lastRetry) {
				t.Errorf("wait %d was %v, want %v to %v", i, wait, low, high)
			}
			want = min(2*want, lastRetry)
		}
		if n := len(calls); n < 15 || n > 60 {
			t.Errorf("%d calls in half an hour", n)
		}
	})
}

func TestAnOutagePastTheEndFailsClosedAndHealsWithin5s(t *testing.T) {
	withFakeCA(t, 10*time.Minute, false, func(t *testing.T, f *fakeCA, ca *CA) {
		svid := must(ca.SVID())
		time.Sleep(time.Minute)
		f.set(true)
		changed := ca.Changed()
		<-changed // nothing but the end changes it
		if !time.Now().After(svid.NotAfter) || time.Since(svid.NotAfter) > time.Second {
			t.Errorf("the end was told %v after it", time.Since(svid.NotAfter))
		}
		for range 50 {
			if _, err := ca.SVID(); !errors.Is(err, ErrNoIdentity) || !errors.Is(err, errDown) {
				t.Fatalf("without a certificate: %v", err)
			}
			time.Sleep(7 * time.Second)
		}
		calls := f.take()
		for i := range calls[1:] {
			if wait := calls[i+1].Sub(calls[i]); calls[i].After(svid.NotAfter) && wait > 3*time.Second {
				t.Errorf("without a certificate it waited %v", wait)
			}
		}
		f.set(false)
		back := time.Now()
		<-ca.Changed()
		if took := time.Since(back); took > 3*time.Second {
			t.Errorf("recovered after %v", took)
		}
		do(t, ca.Err())
		must(ca.SVID())
	})
}

func TestACAThatIsAbsentAtTheStartIsFound(t *testing.T) {
	withFakeCA(t, time.Hour, true, func(t *testing.T, f *fakeCA, ca *CA) {
		if _, err := ca.SVID(); !errors.Is(err, ErrNoIdentity) || ca.Err() == nil {
			t.Errorf("at the start: %v", err)
		}
		time.Sleep(time.Hour)
		f.set(false)
		back := time.Now()
		<-ca.Changed()
		if took := time.Since(back); took > 3*time.Second {
			t.Errorf("found after %v", took)
		}
	})
}

func TestAVeryShortLifeIsNoBusyLoop(t *testing.T) {
	withFakeCA(t, 2*time.Second, false, func(t *testing.T, f *fakeCA, ca *CA) {
		for range 600 {
			time.Sleep(100 * time.Millisecond)
			synctest.Wait()
			must(ca.SVID())
		}
		if n := len(f.take()); n < 50 || n > 150 {
			t.Errorf("%d calls in a minute", n)
		}
	})
}

func TestNewCASaysWhatIsMissing(t *testing.T) {
	good := CAConfig{ControlPlane: ControlPlane{Address: "https://istiod:15012", RootCA: "SYSTEM"}, Principal: planner, Logger: quiet}
	must(NewCA(good))
	for name, change := range map[string]func(*CAConfig){
		"address":          func(c *CAConfig) { c.ControlPlane.Address = "" },
		"port":             func(c *CAConfig) { c.ControlPlane.Address = "istiod" },
		"clear text":       func(c *CAConfig) { c.ControlPlane.Address = "http://istiod:15012" },
		"root":             func(c *CAConfig) { c.ControlPlane.RootCA = "" },
		"principal":        func(c *CAConfig) { c.Principal = mesh.Principal{} },
		"lifetime":         func(c *CAConfig) { c.TTL = time.Millisecond },
		"logger":           func(c *CAConfig) { c.Logger = nil },
		"federated domain": func(c *CAConfig) { c.Federated = map[string]string{"Not A Domain": "x"} },
		"federated file":   func(c *CAConfig) { c.Federated = map[string]string{remote: ""} },
		"own domain":       func(c *CAConfig) { c.Federated = map[string]string{local: "x"} },
	} {
		c := good
		change(&c)
		if _, err := NewCA(c); err == nil {
			t.Errorf("%s: no error", name)
		}
	}
}
