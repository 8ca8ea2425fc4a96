package identity

import (
	"context"
	"crypto/x509"
	"errors"
	"os"
	"path/filepath"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/outrigger-mesh/outrigger/pkg/mesh"
	"github.com/outrigger-mesh/outrigger/pkg/meshtest/badcert"
)

func admitted(t *testing.T, m *Mutual, svid *SVID) *Peer {
	t.Helper()
	p, err := m.check([]*x509.Certificate{svid.Certificate.Leaf}, x509.ExtKeyUsageServerAuth, []mesh.Principal{svid.Principal})
	do(t, err)
	do(t, m.Recheck(&p))
	return &p
}

func TestRecheckFollowsTheRoots(t *testing.T) {
	old, new := newAuthority(t, local), newAuthority(t, local)
	m := newMutual(t, old, github)
	p := admitted(t, m, issue(t, old, planner, time.Hour))
	overlap := issue(t, old, github, time.Hour)
	overlap.Bundles[local].AppendCertsFromPEM(new.RootPEM())
	m.Source.(*Memory).Set(overlap)
	do(t, m.Recheck(p))
	m.Source.(*Memory).Set(issue(t, new, github, time.Hour))
	if err := m.Recheck(p); reason(err) != ReasonChain {
		t.Errorf("after the old root went: %v", err)
	}
	m.Source.(*Memory).Set(&SVID{Principal: github, NotAfter: time.Now().Add(time.Hour)})
	if err := m.Recheck(p); reason(err) != ReasonTrustDomain {
		t.Errorf("after the trust domain went: %v", err)
	}
}

func TestRecheckFollowsTheClock(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := newAuthority(t, local)
		m := newMutual(t, a, github)
		p := admitted(t, m, issue(t, a, planner, 10*time.Minute))
		time.Sleep(10 * time.Minute)
		do(t, m.Recheck(p)) // NotAfter itself is still valid
		time.Sleep(time.Second)
		if err := m.Recheck(p); reason(err) != ReasonValidity {
			t.Errorf("after its end: %v", err)
		}
		time.Sleep(time.Hour)
		if err := m.Recheck(p); !errors.Is(err, ErrNoIdentity) {
			t.Errorf("after our own end: %v", err)
		}
	})
}

func TestRecheckFollowsTheCRL(t *testing.T) {
	w := newWorld(t)
	path := filepath.Join(t.TempDir(), "crl.pem")
	crl := must(NewCRL(CRLConfig{Path: path, Logger: quiet})) // absent: revokes nothing
	w.mutual.CRL = crl
	leaf := must(x509.ParseCertificate(w.Root.Leaf(plannerID, badcert.NewKey(), nil).Certificate[0]))
	check := func() error {
		return w.mutual.Recheck(&Peer{Chain: []*x509.Certificate{leaf}, usage: x509.ExtKeyUsageClientAuth})
	}
	do(t, check())
	do(t, os.WriteFile(path, badcert.CRLPEM(w.Root.CRL(nil, leaf)), 0o600))
	changed := crl.Changed()
	crl.Reload()
	<-changed
	if err := check(); !errors.Is(err, ErrRevoked) || Flag(err) != "CERT_REVOKED" {
		t.Errorf("revoked: %v", err)
	}
	for name, content := range map[string][]byte{
		"corrupt": []byte("-----BEGIN X509 CRL-----\nAAAA\n-----END X509 CRL-----\n"),
		"cut off": badcert.CRLPEM(w.Root.CRL(nil))[:200],
		"garbage": []byte("hello"),
		"another": certPEM(w.Root.Cert),
	} {
		do(t, os.WriteFile(path, content, 0o600))
		crl.Reload()
		if err := check(); !errors.Is(err, ErrRevoked) || crl.Err() == nil {
			t.Errorf("%s: %v, alarm %v", name, err, crl.Err())
		}
	}
	do(t, os.Remove(path))
	crl.Reload()
	if err := check(); !errors.Is(err, ErrRevoked) || crl.Err() == nil {
		t.Errorf("removed: %v, alarm %v", err, crl.Err())
	}
	do(t, os.WriteFile(path, nil, 0o600))
	crl.Reload()
	do(t, errors.Join(check(), crl.Err()))
}

// TestAMomentOfEmptinessTakesNoRevocationBack: many writers truncate first.
func TestAMomentOfEmptinessTakesNoRevocationBack(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		path := filepath.Join(t.TempDir(), "crl.pem")
		leaf := must(x509.ParseCertificate(w.Root.Leaf(plannerID, badcert.NewKey(), nil).Certificate[0]))
		list := badcert.CRLPEM(w.Root.CRL(nil, leaf))
		do(t, os.WriteFile(path, list, 0o600))
		w.mutual.CRL = must(NewCRL(CRLConfig{Path: path, Logger: quiet}))
		check := func(want bool, when string) {
			t.Helper()
			err := w.mutual.Recheck(&Peer{Chain: []*x509.Certificate{leaf}, usage: x509.ExtKeyUsageClientAuth})
			if errors.Is(err, ErrRevoked) != want {
				t.Errorf("%s: %v", when, err)
			}
		}
		follow := func() <-chan struct{} {
			done := make(chan struct{})
			go func() { defer close(done); w.mutual.CRL.follow(t.Context()) }()
			synctest.Wait()
			return done
		}
		do(t, os.Truncate(path, 0))
		done := follow()
		check(true, "when truncated")
		do(t, os.WriteFile(path, list, 0o600))
		<-done
		check(true, "when written")
		do(t, os.Truncate(path, 0))
		<-follow()
		check(false, "when it stays empty")
	})
}

func TestACRLThatNeverCouldBeReadAdmitsNobody(t *testing.T) {
	w := newWorld(t)
	path := filepath.Join(t.TempDir(), "crl.pem")
	do(t, os.WriteFile(path, []byte("hello"), 0o600))
	w.mutual.CRL = must(NewCRL(CRLConfig{Path: path, Logger: quiet}))
	background(t, w.mutual.CRL.Run)
	leaf := must(x509.ParseCertificate(w.Root.Leaf(plannerID, badcert.NewKey(), nil).Certificate[0]))
	p := &Peer{Chain: []*x509.Certificate{leaf}, usage: x509.ExtKeyUsageClientAuth}
	if err := w.mutual.Recheck(p); reason(err) != ReasonRevocation {
		t.Fatalf("corrupt from the start: %v", err)
	}
	changed := w.mutual.CRL.Changed()
	do(t, os.WriteFile(path, w.Root.CRL(nil), 0o600)) // mended, and DER
	<-changed
	do(t, w.mutual.Recheck(p))
}

func TestRevocationStatusCanBeRequired(t *testing.T) {
	w := newWorld(t)
	leafOf := func(i *badcert.Issuer) []*x509.Certificate {
		c := i.Leaf(plannerID, badcert.NewKey(), nil)
		var chain []*x509.Certificate
		for _, der := range c.Certificate {
			chain = append(chain, must(x509.ParseCertificate(der)))
		}
		return chain
	}
	stale := func(l *x509.RevocationList) {
		l.ThisUpdate, l.NextUpdate = time.Now().Add(-2*time.Hour), time.Now().Add(-time.Hour)
	}
	partial := func(l *x509.RevocationList) {
		l.ExtraExtensions = append(l.ExtraExtensions, deltaIndicator)
	}
	direct, deep := leafOf(w.Root), leafOf(w.Signing)
	for _, c := range []struct {
		name     string
		lists    [][]byte
		chain    []*x509.Certificate
		optional Reason
		required Reason
	}{
		{"current list", [][]byte{w.Root.CRL(nil)}, direct, "", ""},
		{"no list", nil, direct, "", ReasonRevocation},
		{"list of another issuer", [][]byte{w.Partner.CRL(nil)}, direct, "", ReasonRevocation},
		{"list by a namesake of the issuer", [][]byte{w.Twin.CRL(nil, direct[0])}, direct, "", ReasonRevocation},
		{"stale list", [][]byte{w.Root.CRL(stale)}, direct, "", ReasonRevocation},
		{"stale list that revokes", [][]byte{w.Root.CRL(stale, direct[0])}, direct, ReasonRevoked, ReasonRevoked},
		{"stale and current list", [][]byte{w.Root.CRL(stale), w.Root.CRL(nil)}, direct, "", ""},
		{"delta list only", [][]byte{w.Root.CRL(partial)}, direct, "", ReasonRevocation},
		{"delta list that revokes", [][]byte{w.Root.CRL(partial, direct[0])}, direct, ReasonRevoked, ReasonRevoked},
		{"both issuers", [][]byte{w.Root.CRL(nil), w.Signing.CRL(nil)}, deep, "", ""},
		{"only the root's", [][]byte{w.Root.CRL(nil)}, deep, "", ReasonRevocation},
		{"only the intermediate's", [][]byte{w.Signing.CRL(nil)}, deep, "", ReasonRevocation},
		{"the intermediate is revoked", [][]byte{w.Root.CRL(nil, w.Signing.Cert), w.Signing.CRL(nil)}, deep, ReasonRevoked, ReasonRevoked},
	} {
		t.Run(c.name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "crl.pem")
			do(t, os.WriteFile(path, badcert.CRLPEM(c.lists...), 0o600))
			for required, want := range map[bool]Reason{false: c.optional, true: c.required} {
				m := &Mutual{Source: w.mutual.Source, CRL: must(NewCRL(CRLConfig{Path: path, Logger: quiet})), RequireRevocationStatus: required}
				for range 2 { // the second time from memory
					err := m.Recheck(&Peer{Chain: c.chain, usage: x509.ExtKeyUsageClientAuth})
					if reason(err) != want || (err == nil) != (want == "") {
						t.Errorf("required %v: %q, want %q: %v", required, reason(err), want, err)
					}
				}
			}
		})
	}
}

// TestARequiredStatusIsNotRememberedBeyondItsList: the list's end, not only the certificate's, ends the memory.
func TestARequiredStatusIsNotRememberedBeyondItsList(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		path := filepath.Join(t.TempDir(), "crl.pem")
		do(t, os.WriteFile(path, w.Root.CRL(func(l *x509.RevocationList) { l.NextUpdate = time.Now().Add(time.Minute) }), 0o600))
		m := &Mutual{Source: w.mutual.Source, CRL: must(NewCRL(CRLConfig{Path: path, Logger: quiet})), RequireRevocationStatus: true}
		leaf := must(x509.ParseCertificate(w.Root.Leaf(plannerID, badcert.NewKey(), nil).Certificate[0]))
		p := &Peer{Chain: []*x509.Certificate{leaf}, usage: x509.ExtKeyUsageClientAuth}
		do(t, m.Recheck(p))
		time.Sleep(time.Minute + time.Second)
		if err := m.Recheck(p); reason(err) != ReasonRevocation {
			t.Errorf("after the list's end: %v", err)
		}
	})
}

// TestWatchTellsOfTheEndOfARequiredList: nothing else would have an open
// connection checked again.
func TestWatchTellsOfTheEndOfARequiredList(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		path := filepath.Join(t.TempDir(), "crl.pem")
		do(t, os.WriteFile(path, w.Root.CRL(func(l *x509.RevocationList) { l.NextUpdate = time.Now().Add(time.Minute) }), 0o600))
		m := &Mutual{Source: w.mutual.Source, CRL: must(NewCRL(CRLConfig{Path: path, Logger: quiet})), RequireRevocationStatus: true}
		leaf := must(x509.ParseCertificate(w.Root.Leaf(plannerID, badcert.NewKey(), nil).Certificate[0]))
		p := &Peer{Chain: []*x509.Certificate{leaf}, usage: x509.ExtKeyUsageClientAuth}
		var verdicts []error
		background(t, func(ctx context.Context) error {
			return m.Watch(ctx, func() { verdicts = append(verdicts, m.Recheck(p)) })
		})
		time.Sleep(2 * time.Minute)
		synctest.Wait()
		if len(verdicts) != 2 || verdicts[0] != nil || reason(verdicts[1]) != ReasonRevocation {
			t.Errorf("verdicts: %v", verdicts)
		}
	})
}

// TestARevokedIntermediateCanBeAvoided: a second intermediate with the same
// name and key, which is not revoked, leads to the root as well.
func TestARevokedIntermediateCanBeAvoided(t *testing.T) {
	w := newWorld(t)
	leaf := w.Signing.Leaf(plannerID, badcert.NewKey(), nil)
	renewed := w.Root.Reissue(w.Signing)
	path := filepath.Join(t.TempDir(), "crl.pem")
	do(t, os.WriteFile(path, badcert.CRLPEM(w.Root.CRL(nil, w.Signing.Cert)), 0o600))
	m := &Mutual{Source: w.mutual.Source, CRL: must(NewCRL(CRLConfig{Path: path, Logger: quiet}))}
	chain := []*x509.Certificate{must(x509.ParseCertificate(leaf.Certificate[0])), w.Signing.Cert}
	p := &Peer{Chain: chain, usage: x509.ExtKeyUsageClientAuth}
	if err := m.Recheck(p); reason(err) != ReasonRevoked {
		t.Errorf("by the revoked intermediate alone: %v", err)
	}
	p.Chain = append(p.Chain, renewed)
	do(t, m.Recheck(p))
}

func TestAliasesAreEqualToOurOwnTrustDomainOnly(t *testing.T) {
	w := newWorld(t)
	byRoot := func(id string) *Peer {
		return &Peer{Chain: []*x509.Certificate{must(x509.ParseCertificate(w.Root.Leaf(id, badcert.NewKey(), nil).Certificate[0]))}, usage: x509.ExtKeyUsageServerAuth}
	}
	old := mesh.NewPrincipal(alias, "agents", "planner")
	for _, c := range []struct {
		name     string
		id       string
		expected mesh.Principal
		want     Reason
	}{
		{"alias where our own is expected", aliasID, planner, ""},
		{"our own where the alias is expected", plannerID, old, ""},
		{"another account of the alias", "spiffe://old.local/ns/agents/sa/x", planner, ReasonUnexpected},
		{"alias where the partner is expected", aliasID, mesh.NewPrincipal(remote, "agents", "planner"), ReasonUnexpected},
	} {
		p := byRoot(c.id)
		p.expected = []mesh.Principal{c.expected}
		if err := w.mutual.Recheck(p); reason(err) != c.want || (err == nil) != (c.want == "") {
			t.Errorf("%s: %q, want %q: %v", c.name, reason(err), c.want, err)
		}
	}
	// What has a bundle of its own is no alias, whatever the configuration says.
	w.mutual.Aliases = append(w.mutual.Aliases, remote)
	p := byRoot(partnerID)
	p.expected = []mesh.Principal{planner}
	if err := w.mutual.Recheck(p); reason(err) != ReasonChain {
		t.Errorf("a federated domain as alias: %v", err)
	}
	partner := &Peer{Chain: []*x509.Certificate{must(x509.ParseCertificate(w.Partner.Leaf(partnerID, badcert.NewKey(), nil).Certificate[0]))},
		usage: x509.ExtKeyUsageServerAuth, expected: []mesh.Principal{planner}}
	if err := w.mutual.Recheck(partner); reason(err) != ReasonUnexpected {
		t.Errorf("the partner as one of ours: %v", err)
	}
}

func TestWatchTellsOfEveryChange(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := newAuthority(t, local)
		source := NewMemory(issue(t, a, github, time.Hour))
		m := &Mutual{Source: source}
		ctx, cancel := context.WithCancel(t.Context())
		var calls atomic.Int64
		var ended [2]error
		go func() { ended[0] = source.Run(ctx) }()
		go func() { ended[1] = m.Watch(ctx, func() { calls.Add(1) }) }()
		expect := func(want int64, after string) {
			t.Helper()
			synctest.Wait()
			if n := calls.Load(); n != want {
				t.Errorf("%d calls after %s, want %d", n, after, want)
			}
		}
		expect(1, "the start")
		source.Set(issue(t, a, github, time.Minute))
		expect(2, "a new certificate")
		time.Sleep(61 * time.Second)
		expect(3, "its end")
		source.Set(issue(t, a, github, time.Hour))
		expect(4, "another")
		cancel()
		synctest.Wait()
		do(t, errors.Join(ended[:]...))
	})
}

func TestTheMemoryOfVerdictsIsBounded(t *testing.T) {
	var c cache
	for i := range 3 * maxVerified {
		c.put(cacheKey{digest: [32]byte{byte(i), byte(i >> 8), byte(i >> 16)}}, verdict{})
	}
	if n := len(c.verdicts); n > maxVerified || n < maxVerified/2 {
		t.Errorf("%d verdicts are kept, at most %d should be", n, maxVerified)
	}
}
